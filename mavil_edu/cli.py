"""The command line: one command per thing people do. Nothing heavy is imported before a command is known."""

import io
import json as json_module
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from functools import partial, wraps
from pathlib import Path
from typing import Literal

import tyro

from mavil_edu import __version__
from mavil_edu.config import PRESETS, Config, tiny

Preset = Literal["tiny", "small", "paper"]
TINY = tiny()
DESCRIPTION = "Learn, teach and reproduce self-supervised audio-visual learning (MAViL). Begin with: mavil-edu demo"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def demo(out: Path = Path("runs/demo"), minutes: float = 5.5, clips: int = 6000, seed: int = 0) -> None:
    """Trains the tiny model on generated clips and shows, on held-out ones, what it learnt.

    Example: mavil-edu demo --minutes 2 --out runs/quick

    Args:
        out: the run's folder; what an earlier demo left there is kept under a new name.
        minutes: of training.
        clips: generated clips to train on; they are kept in runs/cache for the next time.
        seed: of the model, the masks and the order of the clips.
    """
    from mavil_edu.run import demo

    summary = demo(out, minutes, clips, seed)
    _tell(out, summary)


def inspect_(
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


def world(clips: int, out: Path, seed: int = 0, seconds: float = 2.56, size: int = 96) -> None:
    """Makes clips whose causes are known, as MP4 files with a labels.csv; the same seed gives the same clips.

    Example: mavil-edu world --clips 64 --seed 1 --out my_clips

    Args:
        clips: how many.
        out: a new or empty folder.
        seed: of all that is drawn.
        seconds: length of a clip.
        size: width and height in pixels.
    """
    from mavil_edu.data.world import write_world

    write_world(out, clips, seed, seconds=seconds, size=size)
    _say(f"{clips} clips and labels.csv are in {out}.")


def pretrain(
    data: Path,
    out: Path,
    eval_data: Path | None = None,
    preset: Preset = "tiny",
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    workers: int | None = None,
    min_seconds: float = 1.0,
    resume: tyro.conf.FlagCreatePairsOff[bool] = False,
    config: Config = TINY,
) -> None:
    """Pre-trains a model on any folder of clips, without labels.

    Example: mavil-edu pretrain --data my_clips --preset tiny --minutes 10 --out runs/mine

    Args:
        data: a folder of clips; files that cannot be trained on are left out and named in the report.
        out: the run's folder, new or empty.
        eval_data: a folder of other clips for evaluation; without it a tenth of the clips is held out.
        preset: the config to start from; every number of it can be changed by the options below.
        steps: steps of training, in place of the preset's.
        minutes: of training, in place of steps: 30 steps are timed, and the number of steps is fixed from that.
        seed: of the model, the masks, the order and the windows of the clips.
        workers: processes that decode clips; by default 1, or 0 where clips are few.
        min_seconds: least length of a clip's sound and picture together.
        resume: go on with the run in OUT, from its newest checkpoint.
        config: the run's numbers.
    """
    from dataclasses import replace

    from mavil_edu import run

    if steps is not None and minutes is not None:
        raise ValueError("Give --steps or --minutes, not both.")
    if steps is not None:
        config = replace(config, train=replace(config.train, steps=steps))
    summary = run.pretrain_folder(
        data, eval_data, config, out, seed=seed, minutes=minutes, workers=workers, min_seconds=min_seconds, resume=resume
    )
    _tell(out, summary)


def reconstruct(
    clip: tyro.conf.Positional[Path],
    out: Path,
    checkpoint: str | None = None,
    audio_ratio: float = 0.8,
    video_ratio: float = 0.8,
    position: float = 0.5,
    seed: int = 0,
) -> None:
    """Hides most of a clip's sound and picture and lets a model fill them in: pictures, sounds and videos.

    Example: mavil-edu reconstruct --checkpoint runs/demo holiday.mp4 --out holiday

    Args:
        clip: any media file with sound, picture or both.
        out: a folder for the results.
        checkpoint: a run's folder, a model's folder or a name on the Hub; by default the small model that comes with the package.
        audio_ratio: share of the sound's patches that is hidden.
        video_ratio: share of the picture's patches that is hidden.
        position: where in the clip the window lies, from 0 (start) to 1 (end).
        seed: of the masks.
    """
    from mavil_edu.examples import reconstruct_file

    for line in reconstruct_file(checkpoint, clip, out, audio_ratio, video_ratio, position, seed):
        _say(line)


def _tell(out: Path, summary: dict) -> None:
    """A run's verdict in the terminal."""
    for name in ("audio", "video"):
        ours, best = summary[name]["masked_mse"], summary[name]["best_trivial_mse"]
        gain = 100 * (1 - ours / best) if best else 0.0
        _say(f"{name}: masked MSE {ours:.3f}, {abs(gain):.0f} % {'below' if gain > 0 else 'ABOVE'} the best trivial answer's {best:.3f}")
    r = summary["retrieval"]
    for way, label in (("audio_to_video", "sound to picture"), ("video_to_audio", "picture to sound")):
        _say(f"{label}, {r['clips']} clips: R@1 {100 * r[way]['r1']:.1f} % (chance {100 * r['chance_r1']:.1f}), "
             f"R@5 {100 * r[way]['r5']:.1f} % (chance {100 * r['chance_r5']:.1f})")  # fmt: skip
    _say(f"Open {out / 'report.html'} in a browser to see and hear it.")


def _preset_in(arguments: Sequence[str]) -> Config:
    """The preset that the arguments name, so that its numbers are the defaults of all the others."""
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        name = following if argument == "--preset" else argument.removeprefix("--preset=")
        if name in PRESETS and argument.startswith("--preset"):
            return PRESETS[name]()
    return TINY


def _deferred(command: Callable) -> Callable:
    """The same signature, but a call only binds its arguments: parsing is one thing, doing another."""

    @wraps(command)
    def bind(*arguments, **options):
        return partial(command, *arguments, **options)

    return bind


def _parsed(arguments: Sequence[str]) -> Callable[[], int | None]:
    """The command that the arguments ask for, bound to them; exits by itself, with a sentence, where they cannot be."""
    commands = {
        "demo": _deferred(demo),
        "inspect": _deferred(inspect_),
        "world": _deferred(world),
        "pretrain": partial(_deferred(pretrain), config=_preset_in(arguments)),
        "reconstruct": _deferred(reconstruct),
    }
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.extras.subcommand_cli_from_dict(commands, args=arguments, prog="mavil-edu", description=DESCRIPTION)
    finally:
        if text := said.getvalue():
            _say(text.replace("__tyro-dummy-inner__.", "--").rstrip())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status: 0 done, 1 a verdict against, 2 an error told in one sentence, 130 stopped."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments == ["--version"]:
        print(__version__)
        return 0
    try:
        return _parsed(arguments or ["--help"])() or 0
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as stop:
        resume = " To go on: the same command with --resume." if arguments[:1] == ["pretrain"] else ""
        _say(f"\n{str(stop) or 'stopped'}. What is saved is whole.{resume}")
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("MAVIL_EDU_TRACEBACK"):
            raise
        _say(f"error: {error}\n(MAVIL_EDU_TRACEBACK=1 shows where it arose.)")
        return 2
