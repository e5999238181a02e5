"""The step's benchmark: its arithmetic is what torch counts, its watch sees the parts, and its shares follow from both."""

import json
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mavil_edu import hardware, stopwatch
from mavil_edu.benchmarks import step as benchmark_step
from mavil_edu.cli import main
from mavil_edu.config import Config, tiny
from mavil_edu.data.batch import to_inputs
from mavil_edu.mavil import MAViL, draw_asked, draw_masks, draw_second_masks, losses_of, patch_targets
from mavil_edu.multiply_adds import step_by_part
from mavil_edu.stopwatch import Stopwatch, watching
from mavil_edu.teacher import Teacher, student_config

BATCH = 3


pytestmark = pytest.mark.usefixtures("one_thread")


def losses(config: Config, model: MAViL) -> torch.Tensor:
    """The total loss of one batch of noise, with a teacher of the student's sizes in stage 2."""
    inputs = to_inputs(benchmark_step.random_batch(config, BATCH), config.model)
    masks = draw_masks(BATCH, config.model, config.objective, torch.Generator().manual_seed(0))
    second = draw_second_masks(BATCH, config.model, config.objective, torch.Generator().manual_seed(1))
    make_targets = partial(patch_targets, config=config.model)
    if config.model.target == "teacher":
        make_targets = Teacher(MAViL(replace(config.model, target="normalised", target_width=None)), config.objective)
    with FlopCounterMode(display=False) as counter:
        output = model(inputs.audio, inputs.video, masks, second, draw_asked(masks, config.model, config.objective))
        found = losses_of(output, make_targets(inputs.audio, inputs.video), *masks, config.objective).total
        found.backward()
    losses.counted = counter.get_total_flops()
    return found


def changed(**changes) -> Config:
    """`tiny` with other numbers, of its model or its objective."""
    base = tiny()
    model = {name: value for name, value in changes.items() if hasattr(base.model, name)}
    objective = {name: value for name, value in changes.items() if hasattr(base.objective, name)}
    return Config(replace(base.model, **model), replace(base.objective, **objective), base.train)


@pytest.mark.parametrize(
    "config",
    [
        changed(),
        student_config(tiny(), tiny().model),
        changed(fusion_kind="bottleneck"),
        changed(fusion_kind="none", projection=None),
        changed(beta=0.0, inter_views=1),
        changed(video_masking="tube", audio_masking="time", audio_ratio=0.5),
        changed(decoded_share=0.3),
        changed(decoder_attention="cross"),
        changed(decoder_attention="cross", decoded_share=0.01),
    ],
    ids=[
        "stage 1",
        "stage 2",
        "bottlenecks",
        "no fusion, no heads",
        "one view",
        "other masks",
        "a part decoded",
        "cross",
        "cross, one patch",
    ],
)
def test_the_config_tells_as_many_multiply_adds_as_torch_counts(config):
    model = MAViL(config)
    with sdpa_kernel(SDPBackend.MATH):  # the others compute attention anew on the way back, which is no work of the model's
        losses(config, model)
    assert 2 * sum(step_by_part(config, BATCH).values()) == losses.counted


def test_watching_a_step_changes_no_gradient():
    torch.manual_seed(0)
    model = MAViL(tiny())
    plain = torch.autograd.grad(_total(model), list(model.parameters()))
    watch = Stopwatch(torch.device("cpu"))
    with watching(model, watch):
        watched = torch.autograd.grad(_total(model), list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert set(watch.take()) == {"embed", "encoders", "fusion", "decoders", "heads", "the rest"}
    _total(model)
    assert set(watch.take()) == {"the rest"}, "the hooks are gone"


def _total(model: MAViL) -> torch.Tensor:
    config = tiny()
    inputs = to_inputs(benchmark_step.random_batch(config, BATCH), config.model)
    masks, second = (draw_masks(BATCH, config.model, config.objective, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    output = model(inputs.audio, inputs.video, masks, second)
    return losses_of(output, patch_targets(inputs.audio, inputs.video, config.model), *masks, config.objective).total


class Clock:
    """A clock that goes on only where it is told to."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


class Slow(torch.autograd.Function):
    """Takes one second forward and ten backward, by the clock."""

    @staticmethod
    def forward(ctx, x, clock):
        ctx.clock = clock
        clock.now += 1
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.clock.now += 10
        return gradient, None


@pytest.mark.parametrize(
    ("slowed", "part", "passes"),
    [
        ("fusion.transformer.blocks.0.norm1", "fusion", 1),
        ("audio_decoder.predict", "decoders", 1),
        ("video_encoder.transformer.blocks.2", "encoders", 2),
        ("audio_encoder.patch_embed", "embed", 2),
        ("video_head.1", "heads", 2),
    ],
)
def test_the_watch_gives_each_part_its_time_forward_and_backward(monkeypatch, slowed, part, passes):
    clock, model = Clock(), MAViL(tiny())
    monkeypatch.setattr(stopwatch, "time", clock)
    model.get_submodule(slowed).register_forward_hook(lambda _module, _arguments, output: Slow.apply(output, clock))
    watch = Stopwatch(torch.device("cpu"))
    with watching(model, watch):
        _total(model).backward()
    seconds = watch.take()
    assert seconds[part] == 11 * passes
    assert sum(seconds.values()) == seconds[part]


def test_the_peak_is_the_fastest_of_the_sizes(monkeypatch):
    clock, real = Clock(), torch.mm

    def product(a, b, out=None):
        clock.now += {8: 0.001, 16: 0.002, 32: 0.5}[len(a)]
        return real(a, b)

    monkeypatch.setattr(hardware, "time", clock)
    monkeypatch.setattr(hardware, "MATRICES", {"cpu": (8, 16, 32)})
    monkeypatch.setattr(torch, "mm", product)
    peak = hardware.matrix_peak(torch.device("cpu"), torch.float32, seconds=0.01)
    assert peak == (pytest.approx(2e-12 * 16**3 / 0.002), 16, "float32")


def test_each_call_has_its_share_of_the_peaks_right_before_and_after_it(monkeypatch):
    clock, took, peaks = Clock(), iter([9.0, 9.0, 9.0, 2.0, 3.0, 4.0]), iter([0.4, 0.4, 0.2, 0.1])
    monkeypatch.setattr(benchmark_step, "time", clock)

    def act():
        clock.now += next(took)

    def measure_peak():
        clock.now += 100  # is in no call's time
        return hardware.Peak(next(peaks), 512, "float32")

    timed = benchmark_step._timed(act, 3, torch.device("cpu"), measure_peak)
    assert timed == (pytest.approx([2000, 3000, 4000]), pytest.approx([0.4, 0.3, 0.15]))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the high-water mark cannot be lowered")
def test_the_peak_of_memory_is_that_since_it_was_last_asked():
    memory = hardware.Memory(torch.device("cpu"))
    memory.reset()
    before = memory.peak()
    torch.ones(200, 2**18).sum()  # 200 MB
    assert 190 <= memory.peak() - before <= 260
    memory.reset()
    assert memory.peak() - before < 100


def test_a_cpu_without_units_for_bf16_is_told_and_one_with_them_is_not(monkeypatch, capsys):
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: {"avx2", "avx512f"})
    assert main("benchmark step --precision bf16-mixed".split()) == 2
    assert "no units for bf16-mixed" in capsys.readouterr().err
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: {"avx512_bf16"})
    hardware.check_precision("bf16-mixed", torch.device("cpu"))
    with pytest.raises(ValueError, match="16-mixed"):
        hardware.check_precision("16-mixed", torch.device("cpu"))


def test_the_command_measures_both_stages(monkeypatch, capsys):
    monkeypatch.setattr(benchmark_step, "matrix_peak", lambda *_, **__: hardware.Peak(0.05, 512, "float32"))
    assert main("benchmark step --batch 2 --repetitions 2 --json".split()) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["preset"] == "tiny" and answer["batch"] == 2 and set(answer["stages"]) == {"1", "2"}
    for stage, one in answer["stages"].items():
        operations = 2 * sum(one["multiply_adds"].values())
        for name in ("forward_backward", "step"):
            took = one[f"{name}_ms"]
            assert 0 < took["low"] <= took["median"] <= took["high"]
            assert one["mfu"][name] == pytest.approx(operations / (took["median"] / 1000) / 0.05e12)
            two = [2 * took[quartile] - took["median"] for quartile in ("low", "high")]  # ms: quartiles lie half-way from the median
            shares = [operations / (ms / 1000) / 0.05e12 for ms in two]
            assert one["mfu_beside"][name]["median"] == pytest.approx(sum(shares) / 2)
        assert ("teacher" in one["parts_ms"]) == (stage == "2")
        assert {"front ends", "masks", "embed", "encoders", "fusion", "decoders", "losses", "optimiser"} <= set(one["parts_ms"])
        assert one["peak_megabytes"] > 50
    assert "of peak" in benchmark_step.table(answer)


@pytest.mark.parametrize("wrong", ["--batch 0", "--repetitions 0", "--stages 3", "--stages 0"])
def test_numbers_that_cannot_be_are_told(wrong, capsys):
    assert main(f"benchmark step {wrong}".split()) == 2
    assert "needs 1 clip and repetition or more" in capsys.readouterr().err
