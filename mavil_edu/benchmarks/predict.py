"""How long a run would take and what memory it would need: this machine's measured rate or a stated one, through `mavil_edu.cost`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from mavil_edu.benchmarks.data import clips_per_second
from mavil_edu.benchmarks.step import benchmark_stage
from mavil_edu.config import Config
from mavil_edu.cost import Plan, Rate, Reading, check, predict
from mavil_edu.data.batch import Clips
from mavil_edu.data.source import Data
from mavil_edu.footprint import footprint
from mavil_edu.hardware import DTYPES, Memory, check_precision, matrix_peak
from mavil_edu.memory import give_back
from mavil_edu.multiply_adds import step_by_part
from mavil_edu.processes import join, machine
from mavil_edu.run import EVALUATION_CLIPS
from mavil_edu.teacher import student_config

MEASURED = {"cpu": 2e12, "mps": 2e13, "cuda": 2e14}  # operations of a measured step, at most: seconds of each kind of device
UNCOUNTED = ("front ends", "masks")  # parts of a step that multiply_adds does not count
Say = Callable[[str], None]


class Measured(NamedTuple):
    """What was found on this machine."""

    rate: Rate
    facts: dict[str, Any]


def rows_to_measure(config: Config, rows: int, device: torch.device) -> int:
    """As many of `rows` clips as a measured step may have, 1 at least."""
    one = 2 * sum(step_by_part(config, 1).values())
    return max(1, min(rows, int(MEASURED.get(device.type, MEASURED["cpu"]) / one)))


def measure(config: Config, stage: int, rows: int, repetitions: int) -> Measured:
    """The rate of this machine's device, from steps on `rows` clips of noise; its facts hold the memory beside the formula's.

    config: as the stage's model is described before it has a target (`benchmark_stage` makes a student's of it).
    """
    device = join().device
    check_precision(config.train.precision, device)
    config = replace(config, train=replace(config.train, batch=rows, accumulate=1))
    counted = config if stage == 1 else student_config(config, config.model)
    peak, memory = matrix_peak(device, DTYPES[config.train.precision]), Memory(device)
    give_back()
    memory.reset()
    before = memory.peak()
    found = benchmark_stage(config, stage, repetitions, compiled=False)
    peak = max(peak, matrix_peak(device, DTYPES[config.train.precision]))
    step, parts = found["step_ms"]["median"], found["parts_ms"]
    share = {name: value / sum(parts.values()) for name, value in parts.items()}
    front, optimiser = step * sum(share[name] for name in UNCOUNTED), step * share["optimiser"]
    operations = 2 * sum(found["multiply_adds"].values())
    rate = Rate(operations / (step - front - optimiser) / 1e9, front / rows, optimiser)
    facts = {
        "from": "measured",
        "machine": machine(device),
        "torch": torch.__version__,
        "measured_clips": rows,
        "repetitions": repetitions,
        "step_ms": found["step_ms"],
        "peak_tflops": peak.tflops,
        "share": operations / step / 1e9 / peak.tflops,
        "memory": {
            "measured": found["peak_megabytes"] - before,
            "before": before,
            "formula": footprint(counted, rows).peak / 2**20,
            "what": found["memory"],
        },
    }
    return Measured(rate, facts | rate._asdict())


def reading_of(clips: Clips, batch: int, epochs: int, workers: int, seconds: float = 3.0) -> Reading:
    """How fast a data set's clips come: the first epoch opens every file, the later ones may find them in memory."""
    rates = clips_per_second(clips, batch, workers, seconds)
    return Reading(epochs / (1 / rates["first_epoch"] + (epochs - 1) / rates["later"]), behind=workers > 0)


def benchmark_predict(
    config: Config,
    plan: Plan,
    *,
    stage: int = 1,
    stated: tuple[float, float] | None = None,
    reading: Reading | None = None,
    repetitions: int = 10,
    measured_clips: int | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """`mavil-edu benchmark predict`: hours and memory of a plan.

    stated: a device's matrix peak in TFLOP/s and the share of it that a whole step reaches; None: this machine is measured, with as many
    clips of a device's share as fit into a step of seconds, or `measured_clips`. reading: None: no step waits for its clips.
    Raises ValueError for a plan that cannot be, and for a precision that a measured device would emulate.
    """
    if stage not in (1, 2) or repetitions < 1 or (measured_clips or 1) < 1:
        raise ValueError(f"Give --stage 1 or 2 ({stage}), and 1 repetition and measured clip or more ({repetitions}, {measured_clips}).")
    check(config, plan)
    reading = reading or Reading()
    counted = config if stage == 1 else student_config(config, config.model)
    if stated:
        peak, share = stated
        if peak <= 0 or not 0 < share <= 1:
            raise ValueError(f"A device needs a peak above 0 TFLOP/s ({peak:g}) and a share of it above 0 and up to 1 ({share:g}).")
        rate, facts = Rate(peak * share), {"from": "stated", "peak_tflops": peak, "share": share} | Rate(peak * share)._asdict()
    else:
        rows = plan_rows(config, plan)
        rows = measured_clips or rows_to_measure(counted, rows, join().device)
        say(f"timing stage {stage} on {rows} clips")
        rate, facts = measure(config, stage, rows, repetitions)
    return {"stage": stage, "rate": facts, "reading": reading._asdict()} | predict(counted, plan, rate, reading)


def plan_rows(config: Config, plan: Plan) -> int:
    """Clips that a device computes at once."""
    return config.train.batch // plan.devices // config.train.accumulate


def plan_of(data: Data, epochs: int) -> Plan:
    """The plan that a run on these clips would follow on one device."""
    return Plan(len(data.training), epochs, held_out=min(len(data.evaluation), EVALUATION_CLIPS))


def _told(rate: dict[str, Any]) -> list[str]:
    """Where a rate comes from."""
    if rate["from"] == "stated":
        return [f"rate, stated: {100 * rate['share']:g} % of a matrix peak of {rate['peak_tflops']:g} TFLOP/s, in whole steps"]
    memory = rate["memory"]
    gap = 100 * (memory["formula"] / memory["measured"] - 1) if memory["measured"] > 0 else float("nan")
    return [
        f"rate, measured: {rate['machine']}, torch {rate['torch']}, steps of {rate['measured_clips']} clips: "
        f"{100 * rate['share']:.0f} % of its matrix peak of {rate['peak_tflops']:.3g} TFLOP/s",
        f"memory, measured on {rate['measured_clips']} clips: {memory['measured']:.0f} MB beside the {memory['before']:.0f} MB held before "
        f"({memory['what']}); the formula says {memory['formula']:.0f} MB ({gap:+.0f} %)",
    ]


def table(answer: dict[str, Any]) -> str:
    """The prediction as text."""
    total, steps = sum(answer["seconds"].values()), answer["steps"]
    devices = f"{answer['devices']} device" + ("s" if answer["devices"] > 1 else "")
    reading = answer["reading"]["clips_per_second"]
    lines = [
        f"stage {answer['stage']}, {answer['precision']}: {answer['clips']:,} clips × {answer['epochs']} epochs in batches of "
        f"{answer['batch']}: {steps:,} steps on {devices}, {answer['clips_at_once']} clips at once on each",
        f"{answer['operations']:.3g} operations",
        *_told(answer["rate"]),
        "",
        f"{'':<20}{'ms a step':>12}{'hours':>12}{'share':>9}",
    ]
    for name, seconds in answer["seconds"].items():
        lines.append(f"{name:<20}{1000 * seconds / steps:>12.4g}{seconds / 3600:>12.4g}{100 * seconds / total:>7.1f} %")
    lines.append(f"{'together':<20}{1000 * total / steps:>12.4g}{answer['hours']:>12.4g}")
    if answer["devices"] > 1:
        lines.append(f"{answer['device_hours']:.4g} hours of one device")
    lines += ["", f"{'memory of a device':<20}{'MB':>12}"]
    lines += [f"{name:<20}{value:>12.0f}" for name, value in answer["memory_megabytes"].items() if value]
    told = "none is waited for" if reading is None else f"{reading:.0f} a second"
    return "\n".join(
        [
            *lines,
            "",
            "Assumed: "
            f"clips come: {told}; a device sends {answer['gigabytes_a_second']:g} GB/s, gradients during the backward pass, of which only "
            "what is left is waited for; process 0 looks at "
            f"{answer['held_out']} held-out clips and writes checkpoints at 1 GB/s while the others wait. Not counted: a run's beginning "
            "and end, latency, what a process holds anyway.",
        ]
    )
