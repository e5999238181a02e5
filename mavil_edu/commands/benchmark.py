"""Commands that measure: benchmark data, benchmark step, benchmark predict."""

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
    from mavil_edu.benchmarks.data import benchmark_data, table

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
    from mavil_edu.benchmarks.step import benchmark_step, table

    answer = {"preset": preset} | benchmark_step(PRESETS[preset](), batch, repetitions, list(stages), precision, compile, say)
    print(json_module.dumps(answer, indent=1) if json else f"{preset}, {table(answer)}")
    return 0


def fast(
    preset: Preset = "tiny",
    batch: int = 8,
    repetitions: int = 10,
    stage: int = 1,
    only: tuple[str, ...] = (),
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> int:
    """Measures what each option of less work saves: steps of the paper's way and steps with the option, in turns.

    Example: mavil-edu benchmark fast --preset paper --batch 2 --repetitions 3 --only fast

    Args:
        preset: the model, and how it is trained.
        batch: clips of a step.
        repetitions: steps of each that are timed; the median of their ratios counts.
        stage: of the paper: 1 predicts patches, 2 a teacher's tokens.
        only: options, by the names that the table has; by default all.
        json: print all numbers as JSON in place of a table.
    """
    from mavil_edu.benchmarks.fast import benchmark_fast, table

    answer = {"preset": preset} | benchmark_fast(PRESETS[preset](), batch, repetitions, stage, only, say)
    print(json_module.dumps(answer, indent=1) if json else f"{preset}, {table(answer)}")
    return 0


def predict(
    preset: Preset = "tiny",
    clips: int | None = None,
    epochs: int = 20,
    data: Path | None = None,
    devices: int = 1,
    batch: int | None = None,
    accumulate: int = 1,
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    stage: int = 1,
    peak_tflops: float | None = None,
    share: float | None = None,
    clips_per_second: float | None = None,
    bandwidth: float = 25.0,
    held_out: int | None = None,
    measured_clips: int | None = None,
    repetitions: int = 10,
    check: int = 0,
    steps: int = 60,
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> int:
    """Predicts a run's hours and memory, from this machine's measured rate or from a stated device.

    Example: mavil-edu benchmark predict --preset tiny --data my_clips --epochs 100

    Example: mavil-edu benchmark predict --preset paper --clips 2000000 --devices 64 --peak-tflops 989 --share 0.4 --precision bf16-mixed

    Example: mavil-edu benchmark predict --preset tiny --check 3    # real runs beside their predictions

    Args:
        preset: the model, and how it is trained.
        clips: to train on; by default those of DATA.
        epochs: times that each clip is trained on.
        data: a folder of clips or shards: how fast they come is measured too, by one loader process.
        devices: that share each batch, all like the measured or the stated one.
        batch: clips of a step, over all devices and rounds; by default the preset's, or fewer where there are not so many, as in training.
        accumulate: rounds that a step is computed in: fewer clips at once, less memory.
        precision: as Lightning Fabric names it; a measured device has to have units for it.
        stage: of the paper: 1 predicts patches, 2 a teacher's tokens.
        peak_tflops: of a device that is not at hand: 10^12 operations a second of its matrix products in this precision; with --share.
        share: of that peak that a whole step reaches.
        clips_per_second: that reach each device, made ready while it computes; by default no step waits for clips.
        bandwidth: GB a second that each device sends.
        held_out: clips that are looked at during training; by default those of DATA, else a tenth of the clips, 1000 at most.
        measured_clips: clips of a measured step; by default a device's share of the batch, less where that takes more than seconds.
        repetitions: measured steps; the median counts.
        check: so many real runs on 64 generated clips, each beside its prediction, in place of a prediction.
        steps: of such a run, at least.
        json: print all numbers as JSON in place of a table.
    """
    from dataclasses import replace

    from mavil_edu.benchmarks import predict as predicting
    from mavil_edu.cost import Plan, Reading
    from mavil_edu.data.source import open_run
    from mavil_edu.run import with_fitting_batch

    config = PRESETS[preset]()
    if check:
        from mavil_edu.benchmarks.predict_check import check_against_run, check_table

        answer = {"preset": preset} | check_against_run(config, clips or 64, steps, check, repetitions, say)
        print(json_module.dumps(answer, indent=1) if json else f"{preset}, {check_table(answer)}")
        return 0
    if (peak_tflops is None) != (share is None):
        raise ValueError("A stated device needs both --peak-tflops and --share; without them this machine is measured.")
    if data is None and clips is None:
        raise ValueError("Give --clips, how many there are to train on, or --data, the folder that holds them.")
    if clips_per_second is not None and (data is not None or clips_per_second <= 0):
        raise ValueError(f"--clips-per-second is {clips_per_second:g}; give a rate above 0, and no --data, whose rate is measured.")
    asked = config.train.batch if batch is None else batch
    config = replace(config, train=replace(config.train, batch=asked, accumulate=accumulate, precision=precision))
    reading = Reading(clips_per_second)
    if data is not None:
        found = open_run(data, None, config.model, config.train.augment, seed=0)
        clips, held_out = clips or len(found.training), len(found.evaluation) if held_out is None else held_out
    if batch is None and min(clips, devices) >= 1:
        config, note = with_fitting_batch(config, clips, devices)
        if note:
            say(note)
    if data is not None:
        at_once = min(config.train.batch, len(found.training))
        say(f"reading clips from {data}")
        reading = predicting.reading_of(found.training, at_once, epochs, workers=1)
    looked = min(1000, clips // 10 if held_out is None else held_out)
    plan = Plan(clips, epochs, devices, looked, bandwidth)
    stated = None if peak_tflops is None else (peak_tflops, share)
    answer = predicting.benchmark_predict(
        config, plan, stage=stage, stated=stated, reading=reading, repetitions=repetitions, measured_clips=measured_clips, say=say
    )
    answer = {"preset": preset} | answer
    print(json_module.dumps(answer, indent=1) if json else f"{preset}, {predicting.table(answer)}")
    return 0
