"""What each option of less work saves: steps of the paper's way and steps with the option, in turns on the same machine."""

import gc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import torch

from mavil_edu.benchmarks.interleaved import interleaved, ratio, told
from mavil_edu.benchmarks.step import Case, case_of
from mavil_edu.config import Config
from mavil_edu.fast import DECODED_SHARE, SECOND_RATIO, fast
from mavil_edu.footprint import footprint
from mavil_edu.hardware import MEGABYTE
from mavil_edu.multiply_adds import step_by_part
from mavil_edu.processes import join, machine


def options(config: Config, device: torch.device) -> dict[str, Config]:
    """The config with one option at a time, and with all of them, by name; what a config has already is left out."""
    model, objective, train = config.model, config.objective, config.train
    cross, share = replace(model, decoder_attention="cross"), replace(objective, decoded_share=DECODED_SHARE)
    found = {
        "cross-attention decoders": replace(config, model=cross),
        "a quarter decoded": replace(config, objective=share),
        "both": replace(config, model=cross, objective=share),
        "second view at nine tenths": replace(config, objective=replace(objective, second_ratio=SECOND_RATIO)),
        "fast": fast(config, device),
        "recomputed blocks": replace(config, train=replace(train, recompute=True)),
        "compiled blocks": replace(config, train=replace(train, compile=True)),
    }
    return {name: one for name, one in found.items() if one != config}


def _pair(usual: Config, other: Config, stage: int, repetitions: int) -> dict[str, Any]:
    """Both configs' steps in turns: the ratio of each turn's times, and each one's median; memory by formula, for both are held at once.

    On a CPU it is the processor's time that counts: what other programs take meanwhile is not in it.
    """
    cases = {"usual": case_of(usual, stage), "option": case_of(other, stage)}
    device = cases["usual"].fabric.device

    def act(case: Case) -> None:
        case.gradients()
        case.optimiser.zero_grad()

    took = interleaved({name: partial(act, case) for name, case in cases.items()}, repetitions, device)
    used = {name: one.cpu if device.type == "cpu" else one.wall for name, one in took.items()}
    counted = [sum(step_by_part(case.config, usual.train.batch).values()) for case in cases.values()]
    return {
        "seconds": {name: median(some) for name, some in used.items()},
        "times_as_fast": ratio(used["usual"], used["option"]),
        "times_less_arithmetic": counted[0] / counted[1],
        "footprint_megabytes": {name: footprint(case.config, usual.train.batch).peak / MEGABYTE for name, case in cases.items()},
    }


def benchmark_fast(
    config: Config, batch: int, repetitions: int, stage: int, only: tuple[str, ...], say: Callable[[str], None]
) -> dict[str, Any]:
    """`mavil-edu benchmark fast`: of each option how many times as fast a step is, from waveforms and frames to gradients.

    The optimiser, which takes as long with each, is left out.

    A pair's two models take their steps in turns, so that a busy machine is busy for both. only: options, by name; by default all.
    Raises ValueError for numbers below 1, and for a name that is none.
    """
    if min(batch, repetitions, stage) < 1 or stage > 2:
        raise ValueError(f"A benchmark needs 1 clip and repetition or more ({batch}, {repetitions}), and stage 1 or 2 ({stage}).")
    device = join().device
    config = replace(config, train=replace(config.train, batch=batch, accumulate=1))
    found = options(config, device)
    if unknown := [name for name in only if name not in found]:
        raise ValueError(f"There is no option {unknown[0]!r} here; choose from {', '.join(found)}.")
    answer: dict[str, Any] = {"machine": machine(device), "torch": torch.__version__}
    answer |= {"batch": batch, "repetitions": repetitions, "stage": stage, "options": {}}
    for name, one in found.items():
        if not only or name in only:
            say(f"in turns: the usual way, {name}")
            answer["options"][name] = _pair(config, one, stage, repetitions)
            gc.collect()  # two models less
    return answer


def table(answer: dict[str, Any]) -> str:
    """The numbers as text, a line an option."""
    lines = [
        f"stage {answer['stage']}, batches of {answer['batch']}, {answer['machine']}, torch {answer['torch']}",
        "",
        f"{'option':<28}{'s, usual':>12}{'s':>10}{'times as fast (quartiles)':>28}{'less arithmetic':>18}{'MB, usual':>12}{'MB':>8}",
    ]
    for name, one in answer["options"].items():
        took, held = one["seconds"], one["footprint_megabytes"]
        lines.append(
            f"{name:<28}{took['usual']:>12.3g}{took['option']:>10.3g}{told(one['times_as_fast']):>28}{one['times_less_arithmetic']:>18.2f}"
            f"{held['usual']:>12.0f}{held['option']:>8.0f}"
        )
    return "\n".join(lines)
