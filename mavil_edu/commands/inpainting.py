"""The command that fills one modality from the other: inpaint."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from mavil_edu.commands.common import say

if TYPE_CHECKING:  # nothing heavy before the command runs
    from rich.table import Table

    from mavil_edu.data.batch import Clips
    from mavil_edu.inpaint import Modality

WORLD = "world"  # as --data: generated clips
SEED, MEANS_SEED = 8101, 8070  # of the scored clips, and of those whose mean patches are a trivial answer
MEANS_CLIPS = 300
EXAMPLES = 3


def _table(found: dict, modality: "Modality") -> "Table":
    """Each way to fill the hidden patches, the partner's first, and by how much it is worse than the own partner."""
    from rich.table import Table

    from mavil_edu.inpaint import PARTNER, PARTNERS, WORDS

    rows = Table("the hidden patches, filled", "mean squared error", "worse than with its own, %")
    for name, words in PARTNERS.items():
        error = found["partners"][name]
        worse = found.get(f"worse_with_{name}")
        told = "" if worse is None else f"{worse['mean']:+.1f} ± {worse['interval95']:.1f}"
        rows.add_row(words.format(partner=WORDS[PARTNER[modality]]), f"{error['mean']:.3f} ± {error['interval95']:.3f}", told)
    for name, error in found["trivial"].items():
        worse = found["worse_with_best_trivial"]
        told = f"{worse['mean']:+.1f} ± {worse['interval95']:.1f}" if name == found["best_trivial"] else ""
        rows.add_row(f"without a model: {name}", f"{error['mean']:.3f} ± {error['interval95']:.3f}", told)
    return rows


def _clips(data: str, clips: int, model, split: str) -> "tuple[Clips, Clips]":
    """The clips that are scored, and others for the mean patch: of a folder all clips serve for both, for it has no split."""
    from mavil_edu.config import AugmentConfig
    from mavil_edu.data.avmnist import is_avmnist
    from mavil_edu.data.source import open_data
    from mavil_edu.data.world import World

    if data == WORLD:
        scored, others = (World(n, seed, model, AugmentConfig(), quiet=True) for n, seed in ((clips, SEED), (MEANS_CLIPS, MEANS_SEED)))
        return scored, others
    opened = open_data(Path(data), model, AugmentConfig(), split=split)
    for note in opened.notes:
        say(note)
    if is_avmnist(Path(data)):
        return opened.clips, open_data(Path(data), model, AugmentConfig(), split="train").clips
    say(f"{data} has no split: the mean patch is taken over the scored clips themselves, which flatters that answer.")
    return opened.clips, opened.clips


def inpaint(
    out: Path | None = None,
    hide: Literal["audio", "video"] = "video",
    ratio: float = 1.0,
    partner_ratio: float = 0.0,
    data: str = WORLD,
    checkpoint: str = "tiny",
    clips: int = 200,
    split: Literal["train", "val", "test"] = "test",
    seed: int = 0,
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Hides most or all of one modality and fills it from the other, beside another clip's, none, and answers without a model.

    Example: mavil-edu inpaint --hide video --ratio 0.8 --out filled

    Example: mavil-edu inpaint --hide audio --checkpoint runs/mine --data my_clips --json

    Args:
        out: a new or empty folder for the pictures, films and sounds of 3 clips, and inpaint.json.
        hide: the modality that is hidden: audio (the sound) or video (the picture).
        ratio: share of its patches that is hidden.
        partner_ratio: share of the other modality's patches that is hidden.
        data: a folder of clips, or what `mavil-edu avmnist` wrote; "world": clips generated for this.
        checkpoint: a run's folder, a model's folder or a name on the Hub; by default the small model that comes with the package.
        clips: how many clips are scored, at most.
        split: of AV-MNIST.
        seed: of the masks.
        json: print an object.
    """
    from rich.console import Console

    from mavil_edu import MAViL
    from mavil_edu.data.batch import evaluation_batch
    from mavil_edu.evaluate import position_means
    from mavil_edu.files import check_new, write_json
    from mavil_edu.inpaint import WORDS, fill, hiding, summary_of
    from mavil_edu.inpaint_files import write_inpainted

    if out is not None:
        check_new(out)
    if clips < 2:
        raise ValueError(f"--clips is {clips}; each clip is compared with another's partner, which needs 2 or more.")
    objective = hiding(hide, ratio, partner_ratio)
    model = MAViL.from_pretrained(checkpoint)
    if model.config.target == "teacher":
        raise ValueError("This model predicts its teacher's tokens, which are no pictures and no sounds; take a model of stage 1.")
    scored, others = _clips(data, clips, model.config, split)
    batch, numbers, skipped = evaluation_batch(scored, clips)
    for one in skipped:
        say(f"left out: {one.path}: {one.reason}")
    means = position_means(evaluation_batch(others, MEANS_CLIPS)[0], model.config, next(model.parameters()).device)
    found = {"checkpoint": checkpoint, "data": data, "hidden": hide, "ratio": ratio, "partner_ratio": partner_ratio}
    found |= summary_of(fill(model, batch, means, hide, objective, seed)) | {"target": model.config.target}
    if out is not None:
        names = [scored.name(i) for i in numbers]
        found["files"] = write_inpainted(model, batch, names, hide, objective, out, EXAMPLES, seed)
        write_json(out / "inpaint.json", found)
    if json:
        print(json_module.dumps(found, indent=1, ensure_ascii=False))
        return
    say(f"{100 * ratio:.0f} % of the {WORDS[hide]} hidden, {found['clips']} clips; mean ± half of the 95 % interval.")
    Console().print(_table(found, hide))
    for item in found.get("files", []):
        say(f"{out / item['file']}: {item['caption']}")
