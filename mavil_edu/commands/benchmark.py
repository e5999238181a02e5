"""Commands that measure: benchmark data, benchmark step."""

import json as json_module
from pathlib import Path
from typing import Literal

import tyro

from mavil_edu.commands.common import Preset, say
from mavil_edu.config import PRESETS


def benchmark() -> None:
    """Measures this machine and this program; a second word says what.

    Example: mavil-edu benchmark data --preset tiny
    """


def data(
    data: Path | None = None,
    shards: Path | None = None,
    preset: Preset = "tiny",
    clips: int = 192,
    seconds: float = 4.0,
    steps: int = 40,
    workers: tuple[int, ...] = (0, 1, 2),
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> int:
    """Measures how fast clips come from files, shards and memory, and how long training waits for them.

    Example: mavil-edu benchmark data --preset tiny

    Args:
        data: a folder of clips; without it clips of the generated world are made for the occasion.
        shards: a folder of shards of them; without it they are written for the occasion.
        preset: the model that the clips are for.
        clips: how many are generated where no data are given.
        seconds: each way of reading is timed at least so long.
        steps: of training that are timed, for each way and number of workers.
        workers: numbers of loader processes to compare.
        json: print all numbers as JSON in place of a table.
    """
    from mavil_edu.benchmark import benchmark_data, table

    answer = benchmark_data(PRESETS[preset](), data, shards, clips=clips, seconds=seconds, steps=steps, workers=list(workers), say=say)
    print(json_module.dumps(answer, indent=1) if json else table(answer))
    return 0


def step(
    preset: Preset = "tiny",
    batch: int = 8,
    repetitions: int = 10,
    stages: tuple[int, ...] = (1, 2),
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    compile: tyro.conf.FlagCreatePairsOff[bool] = False,
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> int:
    """Measures a training step: its time, part by part, and its share of what the machine's matrix products reach.

    Example: mavil-edu benchmark step --preset paper --batch 2 --repetitions 3

    Args:
        preset: the model, and how it is trained.
        batch: clips of a step.
        repetitions: steps that are timed; the median counts.
        stages: of the paper: 1 predicts patches, 2 a teacher's tokens.
        precision: as Lightning Fabric names it; refused where the device would emulate it.
        compile: compile the blocks first (torch.compile).
        json: print all numbers as JSON in place of a table.
    """
    from mavil_edu.benchmark_step import benchmark_step, table

    answer = {"preset": preset} | benchmark_step(PRESETS[preset](), batch, repetitions, list(stages), precision, compile, say)
    print(json_module.dumps(answer, indent=1) if json else f"{preset}, {table(answer)}")
    return 0
