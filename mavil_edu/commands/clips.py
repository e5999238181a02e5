"""Commands about clips: inspect, world."""

import json as json_module
from pathlib import Path

import tyro

from mavil_edu.commands.common import Preset, say
from mavil_edu.config import PRESETS
from mavil_edu.data.difficulty import DifficultyName


def inspect(
    paths: tyro.conf.Positional[list[Path]],
    preset: Preset = "tiny",
    min_seconds: float = 1.0,
    full: tyro.conf.FlagCreatePairsOff[bool] = False,
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> int:
    """Tells of each media file whether it can be trained on, and why not. Exit 0 when all can be, else 1.

    Example: mavil-edu inspect clips/ holiday.mp4 --json

    Args:
        paths: files, or folders that are searched for media files.
        preset: whose windows count the tokens.
        min_seconds: least length of sound and picture together.
        full: decode all of a file longer than 10 minutes, and not parts of it.
        json: print a list of objects in place of a table.
    """
    from dataclasses import asdict

    from mavil_edu import media
    from mavil_edu.inspection import inspect_paths, table
    from mavil_edu.progress import tracked

    if not paths:
        raise ValueError("Name one or more files or folders: mavil-edu inspect my_clips")
    found = media.find_media(paths)
    if not found:
        raise ValueError(f"There is no media file in {', '.join(map(str, paths))}.")
    verdicts = list(tracked(inspect_paths(found, PRESETS[preset]().model, min_seconds, full), "inspecting", len(found)))
    if json:
        print(json_module.dumps([asdict(v) | {"path": str(v.path)} for v in verdicts], indent=1, ensure_ascii=False))
    else:
        table(verdicts)
    return 0 if all(v.trainable for v in verdicts) else 1


def world(
    out: Path,
    clips: int = 64,
    seed: int = 0,
    seconds: float = 2.56,
    size: int = 96,
    difficulty: DifficultyName = "default",
    tour: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Makes clips whose causes are known, as MP4 files with a labels.csv; the same seed gives the same bytes.

    Example: mavil-edu world --clips 64 --seed 1 --out my_clips

    Args:
        clips: how many.
        out: a new or empty folder.
        seed: of all that is drawn.
        seconds: length of a clip.
        size: width and height in pixels.
        tour: in place of clips, a page that shows and plays one clip with each of its causes varied alone.
        difficulty: how many objects sound, how much stands about, how loud the background sound is.
    """
    if tour:
        from mavil_edu.tour import write_tour

        page, picture = write_tour(out)
        say(f"Open {page} in a browser to see and hear it; {picture} shows all at once.")
        return

    from mavil_edu.data.world import write_world

    write_world(out, clips, seed, seconds=seconds, size=size, difficulty=difficulty)
    say(f"{clips} clips and labels.csv are in {out}.")
