"""The command that asks where a sound comes from: localise."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from mavil_edu.commands.common import say
from mavil_edu.data.difficulty import DifficultyName

if TYPE_CHECKING:  # nothing heavy before the command runs
    from rich.table import Table

SEED = 8100  # of the clips that are scored: no training of this package uses it, and nothing was chosen on them
EXAMPLES = 3
COARSE = 4  # patches down or across a picture; maps of fewer hardly show a place


def _table(found: dict) -> "Table":
    from rich.table import Table

    rows = Table("", "pointing accuracy", "cIoU", "cIoU ≥ 0.5", "AUC")
    for name, scores in found["scores"].items():
        point, success = (f"{100 * s['mean']:.1f} ± {100 * s['interval95']:.1f} %" for s in (scores["pointing"], scores["success"]))
        rows.add_row(name, point, f"{scores['ciou']['mean']:.3f} ± {scores['ciou']['interval95']:.3f}", success, f"{scores['auc']:.3f}")
    return rows


def _verdict(found: dict, against: str, name: str) -> str:
    """Whether the model is above a baseline beyond the interval of the paired difference, both ways of scoring."""
    words = []
    for score, title, scale, unit in (("pointing", "pointing", 100, " points"), ("ciou", "cIoU", 1, "")):
        mean, half = (scale * found[against][score][key] for key in ("mean", "interval95"))
        place = "above" if mean - half > 0 else "below" if mean + half < 0 else "not told from"
        words.append(f"{title} {place} {name} ({mean:+.{1 if scale > 1 else 3}f} ± {half:.{1 if scale > 1 else 3}f}{unit})")
    return "; ".join(words)


def localise(
    clip: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="CLIP")]] = None,
    checkpoint: str = "tiny-squares",
    out: Path | None = None,
    clips: int = 300,
    seed: int = SEED,
    difficulty: DifficultyName = "default",
    method: Literal["views", "alone", "tokens"] = "views",
    position: float = 0.5,
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Shows where in the picture a clip's sound comes from; without CLIP, measures on generated clips how well that points.

    Example: mavil-edu localise holiday.mp4 --checkpoint runs/mine --out where

    Example: mavil-edu localise --checkpoint runs/demo --clips 300 --out where

    Args:
        clip: a media file with sound and picture.
        checkpoint: a run's folder, a model's folder or a name on the Hub; "tiny-squares" comes with the package.
        out: a new or empty folder for the film with its heat map, and a filmstrip; needed with CLIP; else for 3 examples and numbers.
        clips: how many clips are generated and scored.
        seed: of these clips.
        difficulty: of these clips.
        method: views: random views that show few tokens; alone: each token by itself; tokens: the complete clip's tokens.
        position: where in the clip the window lies, from 0 (start) to 1 (end).
        json: print an object.
    """
    from rich.console import Console

    from mavil_edu import MAViL, localise_files
    from mavil_edu.files import check_new, write_json
    from mavil_edu.localise_world import score_world

    if out is not None:
        check_new(out)
    if clip is not None and out is None:
        raise ValueError("Say where the film is to be written: --out FOLDER.")
    model = MAViL.from_pretrained(checkpoint)
    if min(grid := model.config.video.grid[1:]) < COARSE:
        say(f"{checkpoint} cuts each picture into {grid[0]} × {grid[1]} patches, and its maps are no finer: tiny-squares has 4 × 4.")
    if clip is not None:
        watched = localise_files.read(clip, model.config, position)
        found: dict = {"clip": str(clip), "checkpoint": checkpoint, "method": method}
        shown = [(watched, localise_files.generate(0, seed, model.config, difficulty))]
    else:
        found = {"checkpoint": checkpoint} | score_world(model, clips, seed, difficulty, method)
        made = [localise_files.generate(i, seed, model.config, difficulty) for i in range(min(EXAMPLES, clips) + 1)] if out else []
        shown = [*zip(made, made[1:], strict=False)]
    written = [item for pair in shown for item in localise_files.write_localised(model, *pair, out, method=method)]
    found |= {"files": written} if out else {}
    if out and clip is None:
        write_json(out / "localise.json", found)
    if json:
        print(json_module.dumps(found, indent=1, ensure_ascii=False))
        return
    if clip is None:
        say(f"{clips} generated clips (seed {seed}, {difficulty}); each map points at the hottest {100 * found['share']:.0f} % of a frame.")
        Console().print(_table(found))
        for against, name in (("over_centre", "the centre"), ("over_mean_place", "the mean place"), ("over_another_sound", "the control")):
            say(_verdict(found, against, name) + ".")
    for item in written:
        say(f"{out / item['file']}: {item['caption']}")
