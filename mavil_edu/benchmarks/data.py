"""Measures the program itself: how fast clips come from each place where they may lie, and how long training waits for them."""

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import torch

from mavil_edu.config import Config
from mavil_edu.data.batch import Clips
from mavil_edu.data.folder import FolderClips
from mavil_edu.data.loader import training_steps
from mavil_edu.data.shard_files import Settings
from mavil_edu.data.shard_writer import write_shards
from mavil_edu.data.shards import Shards
from mavil_edu.data.source import usable_files
from mavil_edu.data.windows import short_side
from mavil_edu.data.world import World, write_world
from mavil_edu.mavil import MAViL
from mavil_edu.processes import machine
from mavil_edu.train import make_fabric, set_up, update

WARM_UP = 3  # steps before the clock starts
LOOP_CLIPS = 32  # clips of the plain loop, at most


def clips_per_second(clips: Clips, batch: int, workers: int, seconds: float) -> dict[str, float]:
    """How fast training batches come when nothing is done with them, for `seconds` at least: of the first epoch, which reads
    every clip for the first time, and of what follows.
    """
    started = time.perf_counter()
    epoch = len(clips) // batch
    ends = []
    with closing(training_steps(clips, batch, seed=0, workers=workers)) as stream:
        for _ in stream:
            ends.append(time.perf_counter() - started)
            if ends[-1] >= seconds and len(ends) >= epoch + 2:
                break
    first = ends[epoch - 1]
    return {"first_epoch": epoch * batch / first, "later": (len(ends) - epoch) * batch / (ends[-1] - first)}


def plain_loop(paths: list[Path]) -> float:
    """Clips a second of what one would write first: PyAV decodes all of every clip, every frame to RGB and every sound to 16 kHz."""
    started = time.perf_counter()
    for path in paths:
        with av.open(str(path)) as container:
            resampler = av.AudioResampler("flt", "mono", 16_000)
            for frame in container.decode():
                if isinstance(frame, av.VideoFrame):
                    frame.to_ndarray(format="rgb24")
                else:
                    resampler.resample(frame)
    return len(paths) / (time.perf_counter() - started)


def _phase(waits: list[float], ends: list[float], start: float) -> dict[str, float]:
    total = ends[-1] - start
    return {"waiting": sum(waits) / total, "step_ms": 1000 * total / len(waits)}


def waiting(config: Config, clips: Clips, workers: int, steps: int) -> dict[str, dict[str, float]]:
    """Trains a throw-away model through the first epoch, and `steps` steps more: of each, the share of the time spent waiting
    for batches, and the milliseconds of a step. The first 3 steps, in which processes start, are not counted.
    """
    fabric = make_fabric(config)
    torch.manual_seed(0)
    model, optimiser = set_up(fabric, MAViL(config), config.train)
    batch = config.train.batch
    epoch = len(clips) // batch
    waits, ends = [], []
    with closing(training_steps(clips, batch, seed=0, workers=workers)) as stream:
        asked = time.perf_counter()
        for step, data in zip(range(epoch + steps), stream, strict=False):
            waits.append(time.perf_counter() - asked)
            losses, _ = update(fabric, model, optimiser, data, config, 0, step)
            float(losses.total)  # waits for a device that computes on its own
            asked = time.perf_counter()
            ends.append(asked)
    later = _phase(waits[epoch:], ends[epoch:], ends[epoch - 1])
    if epoch < WARM_UP + 2:
        return {"later": later}
    return {"first_epoch": _phase(waits[WARM_UP:epoch], ends[WARM_UP:epoch], ends[WARM_UP - 1]), "later": later}


def benchmark_data(
    config: Config,
    data: Path | None,
    shards: Path | None,
    clips: int,
    seconds: float,
    steps: int,
    workers: list[int],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """`mavil-edu benchmark data`: clips a second from MP4, shards and memory, and the share of training steps spent waiting.

    data: a folder of clips, or None: generated ones. shards: of these clips, or None: they are written to a temporary folder.
    seconds, steps: how long each case is timed. Raises ValueError where a folder cannot be used.
    """
    model, augment = config.model, config.train.augment
    if min(clips, steps, *workers, 1) < 0 or steps < 1 or clips < 1:
        raise ValueError(f"A benchmark needs 1 clip and step or more ({clips}, {steps}), and no fewer than 0 workers ({workers}).")
    with tempfile.TemporaryDirectory(prefix="mavil-edu-benchmark-") as place:
        if data is None:
            data = Path(place) / "clips"
            write_world(data, clips, seed=0, seconds=model.video.seconds)
        paths, _ = usable_files(data, model, 1.0)
        if shards is None:
            shards = Path(place) / "shards"
            settings = Settings(short_side(model, augment), 4 * model.video.frame_rate, 60.0, 1.0, 90, 64)
            write_shards(data, shards, settings, lambda: (paths, []), workers=os.cpu_count() or 1)
        sources: dict[str, Callable[[], Clips]] = {
            "files": lambda: FolderClips(paths, model, augment),
            "shards": lambda: Shards(shards, model, augment),
        }
        if model.audio.seconds == model.video.seconds:
            world = World(len(paths), 0, model, augment)
            sources["memory"] = lambda: world
        batch = min(config.train.batch, len(paths))
        config = replace(config, train=replace(config.train, batch=batch, accumulate=min(config.train.accumulate, batch)))
        answer: dict[str, Any] = {"machine": machine(make_fabric(config).device), "clips": len(paths), "batch": batch}
        answer["plain_loop"] = plain_loop(paths[:LOOP_CLIPS])
        for name, opened in sources.items():
            for number in workers:
                say(f"timing {name}, {number} workers")
                answer.setdefault("clips_per_second", {}).setdefault(name, {})[number] = clips_per_second(opened(), batch, number, seconds)
                answer.setdefault("training", {}).setdefault(name, {})[number] = waiting(config, opened(), number, steps)
    return answer


def table(answer: dict[str, Any]) -> str:
    """The numbers as text, a line a case."""
    lines = [
        f"{answer['clips']} clips, batches of {answer['batch']}, {answer['machine']}",
        f"a plain PyAV loop that decodes everything: {answer['plain_loop']:.0f} clips/s",
        "",
        "from     workers   clips/s: first epoch   later   training waits: first epoch    later   ms a step",
    ]
    for name, cases in answer["clips_per_second"].items():
        for workers, rates in cases.items():
            trained = answer["training"][name][workers]
            first = f"{100 * trained['first_epoch']['waiting']:.1f} %" if "first_epoch" in trained else "–"
            later = trained["later"]
            lines.append(
                f"{name:<8} {workers:>7} {rates['first_epoch']:>22.0f} {rates['later']:>7.0f} {first:>28} "
                f"{100 * later['waiting']:>6.1f} % {later['step_ms']:>11.0f}"
            )
    return "\n".join(lines)
