"""How long a training step takes, and what share of the machine's own matrix speed it reaches."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import mean, median
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import nn

from mavil_edu.benchmarks.interleaved import spread, told
from mavil_edu.blocks import compile_blocks
from mavil_edu.config import Config
from mavil_edu.data.batch import Batch, Inputs, to_inputs
from mavil_edu.data.loader import Step
from mavil_edu.evaluate import MakeTargets, scored_patches
from mavil_edu.hardware import DTYPES, Memory, Peak, Precision, check_precision, matrix_peak
from mavil_edu.mavil import Asked, Masks, MAViL, draw_asked, draw_masks, draw_second_masks, losses_of, patch_targets
from mavil_edu.multiply_adds import step_by_part
from mavil_edu.processes import join, machine
from mavil_edu.stopwatch import Stopwatch, wait_for, watching
from mavil_edu.teacher import Teacher, student_config
from mavil_edu.train import make_fabric, set_up, update

WARM_UP = 3  # steps before the clock starts, at most
BESIDE = 0.3  # seconds of matrix products between two calls that are timed


def random_batch(config: Config, rows: int, seed: int = 0) -> Batch:
    """Noise as clips: (rows, samples) waveforms and (rows, t, height, width, 3) frames, of the model's sizes."""
    generator, audio, video = torch.Generator().manual_seed(seed), config.model.audio, config.model.video
    return Batch(
        waveform=0.1 * torch.randn(rows, audio.samples, generator=generator),
        heard=torch.tensor([[0, audio.samples]]).repeat(rows, 1),
        frames=torch.randint(0, 256, (rows, video.frames, video.height, video.width, 3), generator=generator, dtype=torch.uint8),
        seen=torch.ones(rows, video.frames, dtype=torch.bool),
    )


class Case(NamedTuple):
    """One stage at one size, ready to be stepped."""

    config: Config
    fabric: Fabric
    bare: MAViL
    model: nn.Module
    optimiser: torch.optim.Optimizer
    make_targets: MakeTargets
    data: Step

    def draws(self) -> tuple[Masks, Masks | None, Asked | None]:
        model, objective, rows = self.config.model, self.config.objective, len(self.data.batch.waveform)
        masks = draw_masks(rows, model, objective)
        return masks, draw_second_masks(rows, model, objective), draw_asked(masks, model, objective)

    def forward_backward(
        self, inputs: Inputs, masks: Masks, second: Masks | None, asked: Asked | None, watch: Stopwatch | None = None
    ) -> None:
        """The gradients of one batch, of which inputs and masks are ready."""
        switch = watch.switch if watch else (lambda part: None)
        switch("targets" if self.config.model.target != "teacher" else "teacher")
        scored = scored_patches(masks, inputs, self.config.objective)
        with self.fabric.autocast():
            targets = self.make_targets(inputs.audio, inputs.video)

        def losses_from(output: Any) -> Any:
            switch("losses")  # and their way back, until the first mark
            return losses_of(output, targets, *scored, self.config.objective)

        switch("the rest")
        self.fabric.backward(self.model(inputs.audio, inputs.video, masks, second, losses_from, asked).total)

    def gradients(self) -> None:
        """From waveforms and frames to gradients: a step without the optimiser."""
        self.forward_backward(to_inputs(self.data.batch, self.config.model), *self.draws())

    def whole(self) -> None:
        """What training does in one step, from waveforms and frames to moved weights."""
        update(self.fabric, self.model, self.optimiser, self.data, self.config, 0, 0, self.make_targets)


def case_of(config: Config, stage: int) -> Case:
    fabric = make_fabric(config)
    torch.manual_seed(0)
    make_targets: MakeTargets = partial(patch_targets, config=config.model)
    if stage == 2:
        config = student_config(config, config.model)
        make_targets = Teacher(MAViL(replace(config.model, target="normalised", target_width=None)), config.objective)
    bare = MAViL(config)
    model, optimiser = set_up(fabric, bare, config.train)
    for group in optimiser.param_groups:
        group["lr"] = 0.0  # the same arithmetic, and weights that stay: noise teaches nothing
    data = Step(random_batch(config, config.train.batch).to(fabric.device), 0, [], 0, [])
    return Case(config, fabric, bare, model, optimiser, make_targets, data)


class Timed(NamedTuple):
    """The calls that count, in order."""

    milliseconds: list[float]
    peaks: list[float]  # the mean of the matrix peaks right before and right after each, TFLOP/s; empty where nothing measures them


def _timed(act: Callable[[], None], repetitions: int, device: torch.device, measure_peak: Callable[[], Peak] | None) -> Timed:
    """Times calls one by one; the first, 3 or as many as repetitions, are not counted."""
    took, peaks = [], []
    for _ in range(min(WARM_UP, repetitions)):
        act()
    wait_for(device)
    if measure_peak:
        peaks.append(measure_peak().tflops)
    for _ in range(repetitions):
        started = time.perf_counter()
        act()
        wait_for(device)
        took.append(1000 * (time.perf_counter() - started))
        if measure_peak:
            peaks.append(measure_peak().tflops)
    return Timed(took, [mean(two) for two in pairwise(peaks)])


def by_part(case: Case, repetitions: int) -> dict[str, float]:
    """Milliseconds of each part of a whole step, forward and backward together: the median of each over repetitions."""
    watch, found = Stopwatch(case.fabric.device), []
    with watching(case.bare, watch):
        for _ in range(repetitions + 1):
            watch.take()
            watch.switch("front ends")
            inputs = to_inputs(case.data.batch, case.config.model)
            watch.switch("masks")
            drawn = case.draws()
            case.forward_backward(inputs, *drawn, watch)
            watch.switch("optimiser")
            case.fabric.clip_gradients(case.model, case.optimiser, max_norm=case.config.train.clip_norm, error_if_nonfinite=False)
            case.optimiser.step()
            case.optimiser.zero_grad()
            found.append(watch.take())
    names = dict.fromkeys(name for one in found for name in one)
    return {name: 1000 * median(one.get(name, 0.0) for one in found[1:]) for name in names}


def benchmark_stage(
    config: Config, stage: int, repetitions: int, compiled: bool, parts: bool = True, measure_peak: Callable[[], Peak] | None = None
) -> dict[str, Any]:
    """One stage's times, arithmetic and memory, of batches of `config.train.batch`.

    parts: also the time of each part; it is taken before blocks are compiled, which would hide their edges.
    measure_peak: called between the calls that are timed; each call's share of the peaks around it is then in `mfu_beside`.
    """
    case = case_of(config, stage)
    device, memory = case.fabric.device, Memory(case.fabric.device)
    case.whole()  # the optimiser's moments are made
    answer: dict[str, Any] = {"parts_ms": by_part(case, min(repetitions, 10))} if parts else {}
    if compiled:
        compile_blocks(case.bare)
    started = time.perf_counter()
    case.whole()
    wait_for(device)
    answer["first_step_seconds"] = time.perf_counter() - started  # with what compiling takes
    memory.reset()
    timed = {"step": _timed(case.whole, repetitions, device, measure_peak)}
    answer |= {"peak_megabytes": memory.peak(), "memory": memory.kind}
    inputs, drawn = to_inputs(case.data.batch, case.config.model), case.draws()
    timed["forward_backward"] = _timed(lambda: case.forward_backward(inputs, *drawn), repetitions, device, measure_peak)
    case.optimiser.zero_grad()
    answer |= {f"{name}_ms": spread(one.milliseconds) for name, one in timed.items()}
    answer["multiply_adds"] = step_by_part(case.config, config.train.batch)
    answer["parameters"] = sum(p.numel() for p in case.bare.parameters())
    if measure_peak:
        operations = _tera_operations(answer)
        answer["mfu_beside"] = {
            name: spread([operations / ms / peak for ms, peak in zip(*one, strict=True)]) for name, one in timed.items()
        }
    return answer


def _tera_operations(stage: dict[str, Any]) -> float:
    """A step's floating-point operations, so that over milliseconds they are TFLOP/s."""
    return 2e-9 * sum(stage["multiply_adds"].values())


def benchmark_step(
    config: Config, batch: int, repetitions: int, stages: list[int], precision: Precision, compiled: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """`mavil-edu benchmark step`: of each stage the time of a step on `batch` clips of noise, and its share of the matrix peak.

    The peak is measured before and after, in the same precision, and the better one counts. `mfu` (model FLOPs utilisation) is what
    `step_by_part` counts over the time, over the peak: of the forward and backward pass, and of all that training does in a step.
    `mfu_beside` is the same with each call over the peaks right before and after it: on a machine whose speed comes and goes, which
    others share, the best second of ten minutes says little of the others.
    Raises ValueError for numbers below 1, and for a precision that the device would emulate.
    """
    if min(batch, repetitions, *stages) < 1 or max(stages) > 2:
        raise ValueError(f"A benchmark needs 1 clip and repetition or more ({batch}, {repetitions}), and stages 1, 2 or both ({stages}).")
    device = join().device
    check_precision(precision, device)
    config = replace(config, train=replace(config.train, batch=batch, accumulate=1, precision=precision, compile=False))
    say(f"timing matrix products in {precision}")
    measure_peak = partial(matrix_peak, device, DTYPES[precision])
    peak, found = measure_peak(), {}
    for stage in stages:
        say(f"timing stage {stage}")
        found[str(stage)] = benchmark_stage(config, stage, repetitions, compiled, measure_peak=partial(measure_peak, seconds=BESIDE))
    peak = max(peak, measure_peak())
    for one in found.values():
        one["tflops"] = {name: _tera_operations(one) / one[f"{name}_ms"]["median"] for name in ("forward_backward", "step")}
        one["mfu"] = {name: value / peak.tflops for name, value in one["tflops"].items()}
    return {
        "machine": machine(device),
        "torch": torch.__version__,
        "batch": batch,
        "repetitions": repetitions,
        "precision": precision,
        "compiled": compiled,
        "peak": peak._asdict(),
        "stages": found,
    }


def table(answer: dict[str, Any]) -> str:
    """The numbers as text: for each stage two lines of totals, and a line a part."""
    peak = answer["peak"]
    how = f"{answer['precision']}, {'compiled' if answer['compiled'] else 'eager'}"
    lines = [
        f"batches of {answer['batch']}, {how}, {answer['machine']}, torch {answer['torch']}",
        f"matrix products reach {peak['tflops']:.3g} TFLOP/s ({peak['dtype']}, {peak['size']} × {peak['size']})",
    ]
    for stage, one in answer["stages"].items():
        lines += [
            "",
            f"stage {stage}: {one['parameters'] / 1e6:.1f} M parameters",
            f"{'':<22}{'ms (quartiles)':>26}{'TFLOP/s':>10}{'of peak':>10}{'of the peak beside it':>27}",
        ]
        for name, text in (("forward_backward", "forward and backward"), ("step", "the whole step")):
            took = one[f"{name}_ms"]
            beside = {key: 100 * value for key, value in one["mfu_beside"][name].items()}
            rate = f"{one['tflops'][name]:>10.3g}{100 * one['mfu'][name]:>8.1f} %"
            lines.append(f"{text:<22}{told(took, 1):>26}{rate}{told(beside, 1):>25} %")
        lines.append(f"{one['peak_megabytes']:.0f} MB at most ({one['memory']})")
        total = sum(one["parts_ms"].values())
        lines += ["", f"{'part, eager':<22}{'ms':>10}{'share':>10}{'G multiply-adds':>18}"]
        for part, milliseconds in sorted(one["parts_ms"].items(), key=lambda item: -item[1]):
            counted = one["multiply_adds"].get(part)
            work = "" if counted is None else f"{counted / 1e9:.3g}"
            lines.append(f"{part:<22}{milliseconds:>10.1f}{100 * milliseconds / total:>8.1f} %{work:>18}")
    return "\n".join(lines)
