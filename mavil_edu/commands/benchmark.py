"""Commands that measure: benchmark data."""

import json as json_module
from pathlib import Path

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
