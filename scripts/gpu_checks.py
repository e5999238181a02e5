"""Checks of a device: does it compute what the CPU computes, how fast is a step, how large may a batch be. See gpu_checklist.sh.

    python scripts/gpu_checks.py numerics WORK       # against the CPU, in float32 and bf16
    python scripts/gpu_checks.py speed WORK          # benchmark step, at paper and small
    python scripts/gpu_checks.py batches WORK        # share of the matrix peak over batch sizes, and the largest batch

Each writes WORK/NAME.json as it goes; the exit code is 1 where a check fails. --dry: small sizes, on whatever device there is.
"""

import argparse
import gc
import json
import platform
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mavil_edu import MAViL, audio
from mavil_edu.benchmarks.step import benchmark_stage, benchmark_step, random_batch, table
from mavil_edu.checkpoint import versions
from mavil_edu.config import PRESETS, Config, TransformerConfig, paper, tiny
from mavil_edu.data.batch import to_inputs
from mavil_edu.data.factors import sample_factors
from mavil_edu.data.world_sound import render_audio
from mavil_edu.files import write_json
from mavil_edu.hardware import DTYPES, matrix_peak
from mavil_edu.mavil import draw_masks, draw_second_masks, losses_of, patch_targets
from mavil_edu.processes import join, machine

ROWS = 4  # clips of a comparison
# The largest error that passes, ‖x − reference‖ / ‖reference‖; the reference is the CPU's float64.
TOLERANCES = {
    "float32": {"outputs": 1e-4, "losses": 1e-4, "gradients": 1e-3},
    "bf16": {"outputs": 3e-2, "losses": 1e-2, "gradients": 1e-1},
}
LOG_MEL = {"within": 1e-3, "share": 0.999, "at_most": 0.05}  # float32 sums in another order; louder where a band is nearly empty


def shallow_paper() -> Config:
    """The paper's inputs, widths and heads on few blocks."""
    config, encoder = paper(), replace(paper().model.encoder, depth=2)
    return replace(config, model=replace(config.model, encoder=encoder, fusion_depth=1, decoder=TransformerConfig(512, 1, 16)))


def relative(found: Tensor, reference: Tensor) -> float:
    """‖found − reference‖ / ‖reference‖, in float64 on the CPU."""
    found, reference = found.detach().cpu().double(), reference.detach().cpu().double()
    return float((found - reference).norm() / reference.norm().clamp(min=1e-300))


def log_mel_check(device: torch.device) -> dict[str, Any]:
    """The spectrograms of generated sounds on the device against the CPU's."""
    waveform = render_audio(sample_factors(32, 5, 2.56), 2.56)
    apart = (audio.log_mel(waveform.to(device)).cpu() - audio.log_mel(waveform)).abs()
    share, largest = float((apart <= LOG_MEL["within"]).float().mean()), float(apart.max())
    return {"share_within": share, "largest": largest, **LOG_MEL, "passed": share >= LOG_MEL["share"] and largest <= LOG_MEL["at_most"]}


def stage_one(model: MAViL, config: Config, device: torch.device, dtype: torch.dtype) -> dict[str, list[Tensor]]:
    """Outputs, losses and gradients of one batch of noise, always the same; bfloat16: float32 weights under autocast."""
    mixed = dtype == torch.bfloat16
    model = deepcopy(model).to(device, torch.float32 if mixed else dtype)
    inputs = to_inputs(random_batch(config, ROWS), config.model)  # on the CPU: front ends are compared by themselves
    sound, pictures = (x.to(device, torch.float32 if mixed else dtype) for x in (inputs.audio, inputs.video))
    masks = draw_masks(ROWS, config.model, config.objective, torch.Generator().manual_seed(1))
    second = draw_second_masks(ROWS, config.model, config.objective, torch.Generator().manual_seed(2))
    scored = [mask.to(device) for mask in masks]
    with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
        output = model(sound, pictures, masks, second)
    losses = losses_of(output, patch_targets(sound, pictures, config.model), *scored, config.objective)
    losses.total.backward()
    embeddings = [one for one in output[2:] if one is not None]
    return {
        "outputs": [output.audio.patches, output.video.patches, *embeddings],
        "losses": [torch.stack([one for one in losses if one is not None])],
        "gradients": [p.grad for p in model.parameters() if p.grad is not None],
    }


def numerics(device: torch.device, dry: bool) -> Iterator[tuple[str, dict]]:
    """Names and verdicts; each holds the CPU's own float32 error beside the device's. Before them, what computes."""
    yield "versions", versions() | {"platform": platform.platform()}
    yield "device", {"name": machine(device), "type": device.type, "cuda": torch.version.cuda, "threads": torch.get_num_threads()}
    yield "log-mel", log_mel_check(device)
    for name, config in (("tiny", tiny()), ("paper width, shallow", shallow_paper()))[: 1 if dry else 2]:
        torch.manual_seed(0)
        model, cpu = MAViL(config), torch.device("cpu")
        reference = stage_one(model, config, cpu, torch.float64)
        by_cpu = stage_one(model, config, cpu, torch.float32)
        for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
            found, verdict = stage_one(model, config, device, dtype), {"passed": True}
            for part, tolerance in TOLERANCES[precision].items():
                flat, wanted, cpus = (torch.cat([x.flatten().cpu().double() for x in one[part]]) for one in (found, reference, by_cpu))
                error = relative(flat, wanted)
                verdict[part] = {"error": error, "cpu_float32_error": relative(cpus, wanted), "tolerance": tolerance}
                verdict["passed"] &= error <= tolerance  # False for NaN too
            yield f"{name}, {precision}", verdict


def speed(device: torch.device, dry: bool) -> Iterator[tuple[str, dict]]:
    """`benchmark step` of both stages, eager and compiled."""
    precision = "bf16-mixed" if device.type == "cuda" else "32-true"
    cases = [("tiny", 2, 1, True)] if dry else _cases()
    for preset, batch, repetitions, compile_blocks in cases:
        answer = benchmark_step(PRESETS[preset](), batch, repetitions, [1] if dry else [1, 2], precision, compile_blocks, _say)
        print(f"\n{preset}, {table(answer)}\n", flush=True)
        yield f"{preset}, {'compiled' if compile_blocks else 'eager'}", answer


def _cases() -> list[tuple[str, int, int, bool]]:
    return [(preset, batch, 10, compile_blocks) for compile_blocks in (False, True) for preset, batch in (("paper", 64), ("small", 256))]


def batches(device: torch.device, dry: bool) -> Iterator[tuple[str, dict]]:
    """Stage 1's share of the matrix peak at several batch sizes, eager; a size that memory does not hold ends its preset's row."""
    precision = "bf16-mixed" if device.type == "cuda" else "32-true"
    peak = matrix_peak(device, DTYPES[precision], 0.2 if dry else 1.0)
    yield "peak", peak._asdict()
    sizes = {"tiny": (1, 2)} if dry else {"paper": (8, 16, 32, 64, 128), "small": (32, 128, 512, 1024)}
    for preset, wanted in sizes.items():
        for batch in wanted:
            found = _stage(PRESETS[preset](), batch, 1 if dry else 5, precision)
            if found is None:
                yield f"{preset}, {batch}", {"out_of_memory": True}
                break
            operations = 2e-9 * sum(found["multiply_adds"].values())
            share = {name: operations / found[f"{name}_ms"]["median"] / peak.tflops for name in ("forward_backward", "step")}
            answer = {"batch": batch, "step_ms": found["step_ms"], "mfu": share, "peak_megabytes": found["peak_megabytes"]}
            answer["clips_per_second"] = 1000 * batch / found["step_ms"]["median"]
            print(f"{preset}, {batch} clips: {answer['clips_per_second']:.1f} clips/s, {100 * share['step']:.1f} % of the peak", flush=True)
            yield f"{preset}, {batch}", answer


def _stage(config: Config, batch: int, repetitions: int, precision: str) -> dict | None:
    """Stage 1 at a batch size; None where the device's memory does not hold it."""
    config = replace(config, train=replace(config.train, batch=batch, accumulate=1, precision=precision))
    gc.collect()  # what an earlier size held
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        return benchmark_stage(config, 1, repetitions, compiled=False, parts=False)
    except torch.OutOfMemoryError:
        return None


def memory(device: torch.device, dry: bool) -> Iterator[tuple[str, dict]]:
    """The largest batch of stage 1: foretold from two small ones, then tried."""
    precision = "bf16-mixed" if device.type == "cuda" else "32-true"
    for preset, (low, high) in {"tiny": (2, 8)}.items() if dry else {"paper": (8, 24), "small": (64, 192)}.items():
        used = {batch: _stage(PRESETS[preset](), batch, 1, precision) for batch in (low, high)}
        if None in used.values():
            yield f"{preset}, memory", {"error": f"not even {high} clips fit"}
            continue
        a, b = (one["peak_megabytes"] for one in used.values())
        each = (b - a) / (high - low)
        answer: dict[str, Any] = {"megabytes_a_clip": each, "megabytes_without_clips": a - low * each}
        if device.type == "cuda":
            total = torch.cuda.get_device_properties(device).total_memory / 2**20
            guess = int((total - answer["megabytes_without_clips"]) / each)
            tried = {
                batch: _stage(PRESETS[preset](), batch, 1, precision) for batch in (int(guess * share) for share in (0.9, 0.95, 1.0, 1.05))
            }
            fits = [batch for batch, found in tried.items() if found]
            answer |= {"megabytes": total, "foretold": guess, "largest_that_ran": max(fits, default=high)}
            answer["smallest_that_did_not"] = min((batch for batch, found in tried.items() if not found), default=None)
        print(preset, answer, flush=True)
        yield f"{preset}, memory", answer


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def batches_and_memory(device: torch.device, dry: bool) -> Iterator[tuple[str, dict]]:
    yield from batches(device, dry)
    yield from memory(device, dry)


STAGES: dict[str, Callable] = {"numerics": numerics, "speed": speed, "batches": batches_and_memory}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("work", type=Path)
    parser.add_argument("--dry", action="store_true", help="small sizes, seconds each")
    asked = parser.parse_args()
    device, answer = join().device, {}
    tell = partial(write_json, asked.work / f"{asked.stage}.json")
    for name, found in STAGES[asked.stage](device, asked.dry):
        answer[name] = found
        tell(answer)
        if asked.stage == "numerics":
            print(name, json.dumps(found, indent=1), flush=True)
    failed = [name for name, found in answer.items() if found.get("passed") is False or "error" in found]
    if failed:
        print(f"failed: {'; '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
