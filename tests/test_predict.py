"""The prediction: its memory is what torch keeps, its hours follow from the arithmetic, and a run takes what it says."""

import json
import time
import weakref
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mavil_edu import cost, large, logbook, paper, small, tiny, train
from mavil_edu.benchmarks import predict as benchmark_predict
from mavil_edu.benchmarks import predict_check
from mavil_edu.benchmarks import step as benchmark_step
from mavil_edu.cli import main
from mavil_edu.config import Config
from mavil_edu.cost import Plan, Rate, Reading, exchanged_bytes, predict, sent_weights
from mavil_edu.data.batch import to_inputs
from mavil_edu.data.source import open_run
from mavil_edu.evaluate import scored_patches
from mavil_edu.footprint import activations_by_part, block_weights, footprint, gathered_weights, parameters_by_part
from mavil_edu.hardware import Peak
from mavil_edu.mavil import Losses, MAViL, draw_asked, draw_masks, draw_second_masks, losses_of, patch_targets
from mavil_edu.multiply_adds import forward_by_part, step_by_part
from mavil_edu.run import pretrain_on
from mavil_edu.teacher import Teacher, student_config
from mavil_edu.transformer import Block

SAMPLES = Path(__file__).resolve().parents[1] / "data_samples"
ROWS, PEAK = 3, Peak(0.05, 512, "float32")


pytestmark = pytest.mark.usefixtures("one_thread")


def changed(base: Config, **changes) -> Config:
    """A config with other numbers of its model, its objective or its training."""
    parts = {
        part: replace(getattr(base, part), **{name: value for name, value in changes.items() if hasattr(getattr(base, part), name)})
        for part in ("model", "objective", "train")
    }
    return Config(**parts)


def shallow_paper() -> Config:
    """ViT-B's widths and tokens, with few blocks."""
    base = paper()
    return changed(
        base, encoder=replace(base.model.encoder, depth=2), decoder=replace(base.model.decoder, depth=1), batch=2, fusion_depth=1
    )


def kept_by_torch(config: Config) -> int:
    """Bytes of the storages that autograd keeps of a step's forward pass; weights and buffers are not counted."""
    model, target = MAViL(config), partial(patch_targets, config=config.model)
    if config.model.target == "teacher":
        target = Teacher(MAViL(replace(config.model, target="normalised", target_width=None)), config.objective)
    inputs, found, alive = to_inputs(benchmark_step.random_batch(config, ROWS), config.model), {}, []
    masks, second = draw_masks(ROWS, config.model, config.objective), draw_second_masks(ROWS, config.model, config.objective)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)  # so that no storage's place is given away
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    targets = target(inputs.audio, inputs.video)
    with saved_tensors_hooks(note, lambda tensor: tensor):
        output = model(inputs.audio, inputs.video, masks, second, draw_asked(masks, config.model, config.objective))
        losses_of(output, targets, *scored_patches(masks, inputs, config.objective), config.objective)
    return sum(found.values())


@pytest.mark.parametrize(
    "config",
    [
        tiny(),
        student_config(tiny(), tiny().model),
        changed(tiny(), fusion_kind="bottleneck"),
        changed(tiny(), fusion_kind="none", projection=None),
        changed(tiny(), beta=0.0, inter_views=1),
        changed(tiny(), audio_masking="time", audio_ratio=0.5, second_ratio=None),
        shallow_paper(),
        changed(shallow_paper(), decoded_share=0.25),
        changed(shallow_paper(), decoder_attention="cross"),
        changed(shallow_paper(), decoder_attention="cross", decoded_share=0.25),
    ],
    ids=["tiny", "stage 2", "bottlenecks", "no fusion, no heads", "one view", "other masks", "ViT-B, shallow", "a part", "cross", "both"],
)
def test_the_formula_tells_the_activations_that_torch_keeps(config):
    not_in_the_graph = (
        2 * 4 * sum(one.tokens * one.patch_values for one in (config.model.audio, config.model.video))
    )  # clip, and its patches
    if draw_asked(draw_masks(1, config.model, config.objective), config.model, config.objective):  # nor are all the targets then
        not_in_the_graph *= 1.5
    formula = sum(activations_by_part(config).values()) - not_in_the_graph
    assert formula == pytest.approx(kept_by_torch(config) / ROWS, rel=0.03)


def test_the_weights_of_all_parts_are_the_models():
    for config in (tiny(), changed(tiny(), fusion_kind="none", projection=None)):
        parameters_by_part(config.model).clear()  # what is remembered is nobody's to change
        assert sum(parameters_by_part(config.model).values()) == sum(p.numel() for p in MAViL(config).parameters())


def test_the_peak_lies_where_gradients_come_as_activations_go():
    config = paper()
    weights, kept = parameters_by_part(config.model), activations_by_part(config)
    few, many = footprint(config, 1), footprint(config, 64)
    assert few.weights == few.gradients == few.moments / 2 == 4 * sum(weights.values())
    assert many.activations == 64 * sum(kept.values())
    assert many.peak == many.weights + many.moments + many.activations + many.working, "activations outweigh gradients: all at the start"
    sparse = changed(tiny(), width=8)
    assert footprint(sparse, 1).peak >= 16 * sum(parameters_by_part(sparse.model).values()), "… and at the end all gradients are there"
    rounds = footprint(changed(config, accumulate=2), 64)
    assert rounds.peak - many.peak == many.gradients, "with several rounds they are there throughout"
    assert footprint(config, 64, devices=2).peak - many.peak == many.gradients, "DDP has buckets"


def test_sharded_weights_take_their_part_of_the_memory_and_go_round_more_often():
    usual, shared = large(), changed(large(), shard_weights=True)
    alone, one, eight = footprint(usual, 1), footprint(shared, 1), footprint(shared, 1, devices=8)
    assert one == alone, "a device that is alone holds all"
    assert (eight.weights, eight.moments) == (alone.weights // 8, alone.moments // 8)
    blocks = [sum(p.numel() for p in part.parameters()) for part in MAViL(tiny()).modules() if isinstance(part, Block)]
    all_of_tiny = sum(parameters_by_part(tiny().model).values())
    assert gathered_weights(tiny().model) == all_of_tiny - sum(blocks) + 2 * max(blocks)
    assert eight.exchange == 8 * gathered_weights(shared.model)
    eighths = (alone.weights + alone.gradients + alone.moments) / 8
    assert eight.peak < eighths + eight.activations + eight.exchange + eight.working < 0.5 * footprint(usual, 1, devices=8).peak
    rounds = footprint(changed(shared, accumulate=2), 1, devices=8)
    assert rounds.gradients == alone.gradients, "several rounds add up whole gradients"
    one_view, all_weights = (
        replace(shared, objective=replace(shared.objective, beta=0.0, inter_views=1)),
        sum(parameters_by_part(shared.model).values()),
    )
    encoders, inside = (
        sum(sum(block_weights(shared.model)[kind]) for kind in kinds) for kinds in (["encoders"], ["encoders", "fusion", "decoders"])
    )
    assert sent_weights(usual) == 2 * all_weights
    assert sent_weights(one_view) == 2 * all_weights + inside, "a block's weights are gathered a second time for the way back"
    assert sent_weights(shared) == sent_weights(one_view) + 3 * encoders, "two views: gathered twice more, and gradients once more"
    assert exchanged_bytes(shared, 8)[0] == 4 * 7 / 8 * sent_weights(shared)


class Live(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, and the most there were."""

    def __init__(self, tensors: Iterable[torch.Tensor]):
        super().__init__()
        self.known, self.now, self.peak = set(), 0, 0
        for tensor in tensors:
            self.note(tensor.untyped_storage())

    def note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.gone, key, size)

    def gone(self, key: int, size: int) -> None:
        self.known.remove(key)
        self.now -= size

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        answer = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(answer):
            if isinstance(leaf, torch.Tensor):
                self.note(leaf.untyped_storage())
        return answer


@pytest.mark.parametrize(
    "config",
    [
        changed(tiny(), batch=2),
        changed(tiny(), batch=16),
        changed(tiny(), batch=4, beta=0.0, inter_views=1),
        changed(small(), batch=4),
        changed(small(), batch=8, accumulate=2),
    ],
    ids=["gradients count", "activations count", "one view", "small", "two rounds"],
)
def test_the_formula_tells_the_most_memory_that_a_training_step_holds(config):
    case = benchmark_step.case_of(config, 1)
    case.whole()  # the moments are made
    moments = (tensor for state in case.optimiser.state.values() for tensor in state.values())
    with Live([*case.bare.parameters(), *case.bare.buffers(), *moments]) as live:
        case.whole()
    assert footprint(config, config.train.batch // config.train.accumulate).peak == pytest.approx(live.peak, rel=0.05)


PLAN = Plan(clips=6400, epochs=3, held_out=100)


def test_the_hours_are_the_arithmetic_over_the_rate():
    config = tiny()
    found = predict(config, PLAN, Rate(tflops=0.5), Reading())
    assert found["steps"] == 3 * 200 and found["operations"] == 600 * 2 * sum(step_by_part(config, 32).values())
    assert found["seconds"]["arithmetic"] == pytest.approx(found["operations"] / 0.5e12)
    assert found["seconds"]["held-out clips"] == pytest.approx(2 * 100 * 2 * sum(forward_by_part(config, 1).values()) / 0.5e12)
    assert found["hours"] == pytest.approx(sum(found["seconds"].values()) / 3600) == found["device_hours"]
    slower = predict(config, PLAN, Rate(tflops=0.5, front_ms=2.0, optimiser_ms=30.0), Reading())["seconds"]
    assert slower["front ends"] == pytest.approx(600 * 32 * 0.002) and slower["optimiser"] == pytest.approx(600 * 0.03)
    assert slower["held-out clips"] - found["seconds"]["held-out clips"] == pytest.approx(2 * 100 * 0.002)


def test_a_part_of_an_epoch_that_is_no_batch_is_no_step():
    assert predict(paper(), Plan(2_000_000, 20), Rate(400.0), Reading())["steps"] == 78_120, "the recipe's 78,125, less what is left over"
    assert predict(tiny(), Plan(63, 5), Rate(1.0), Reading())["steps"] == 5


def test_devices_share_the_work_and_wait_for_what_cannot_hide_behind_it():
    config, rate = paper(), Rate(400.0)
    one = predict(config, Plan(2_000_000, 20), rate, Reading())["seconds"]
    weights = 4 * sum(parameters_by_part(config.model).values())
    for devices, speed in ((2, 25.0), (64, 25.0), (64, 1e9)):
        plan = Plan(2_000_000, 20, devices, gigabytes_a_second=speed)
        many = predict(config, plan, rate, Reading())
        assert many["seconds"]["arithmetic"] == pytest.approx(one["arithmetic"] / devices)
        assert many["clips_at_once"] == 512 // devices and many["device_hours"] == pytest.approx(devices * many["hours"])
        gradients, gathered = cost.exchanged_bytes(config, devices)
        assert gradients == pytest.approx(2 * (devices - 1) / devices * weights)
        backward = 2 / 3 * many["seconds"]["arithmetic"] / many["steps"]
        waited = gathered / (speed * 1e9) + max(0.0, gradients / (speed * 1e9) - backward)
        assert many["seconds"]["exchange"] == pytest.approx(78_120 * waited)
    assert one["exchange"] == 0


def test_clips_are_waited_for_where_they_come_too_slowly():
    rate = Rate(0.5)
    step = predict(tiny(), PLAN, rate, Reading())["step_seconds"]
    for speed, behind, waited in ((1e9, True, 0), (16 / step, True, step), (16 / step, False, 2 * step), (64 / step, False, step / 2)):
        found = predict(tiny(), PLAN, rate, Reading(speed, behind))["seconds"]["waiting for clips"]
        assert found == pytest.approx(600 * waited, abs=1e-3)


class Clock:
    """A clock that goes on only where it is told to."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def short_end(monkeypatch):
    """A run without its probes, examples and report."""
    for name in ("_scorecard", "write_examples", "report.write_report"):
        monkeypatch.setattr(f"mavil_edu.run.{name}", lambda *_: {})


def test_a_run_has_the_steps_looks_and_checkpoints_that_are_predicted(short_end, monkeypatch, tmp_path):
    """A step takes 5 s by the clock, a look 7 s, a checkpoint 11 s; so do they in the prediction."""
    clock, config = Clock(), changed(tiny(), batch=4, evaluate_every=3, save_every=4)
    monkeypatch.setattr(train, "time", clock)

    def step(*_):
        clock.now += 5
        return Losses(*[torch.zeros(())] * 6), torch.ones(())

    def takes(seconds, answer):
        def act(*_):
            clock.now += seconds
            return answer

        return act

    monkeypatch.setattr(train, "update", step)
    monkeypatch.setattr(logbook.Logbook, "look", takes(7, 0.0))
    monkeypatch.setattr(logbook.Logbook, "save", takes(11, None))
    monkeypatch.setattr(cost, "step_seconds", lambda *_: {"arithmetic": 5.0})
    monkeypatch.setattr(cost, "look_seconds", lambda *_: 7.0)
    monkeypatch.setattr(cost, "DISK", 16e-9 * sum(parameters_by_part(config.model).values()) / 11)
    data = open_run(SAMPLES, None, config.model, config.train.augment, seed=0)
    found = predict(config, benchmark_predict.plan_of(data, epochs=2), Rate(1.0), Reading())
    assert found["steps"] == 10
    config = changed(config, steps=found["steps"])
    summary = pretrain_on(SAMPLES, None, config, tmp_path / "run", workers=0)
    assert summary["seconds"] == pytest.approx(3600 * found["hours"]) == 10 * 5 + 3 * 7 + 2 * 11, "the last step's come after"


def test_the_command_states_where_its_rate_comes_from(monkeypatch, capsys):
    stated = "benchmark predict --preset paper --clips 2000000 --devices 64 --precision bf16-mixed --peak-tflops 989 --share 0.4"
    assert main([*stated.split(), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["rate"] == {
        "from": "stated", "peak_tflops": 989, "share": 0.4, "tflops": pytest.approx(395.6), "front_ms": 0, "optimiser_ms": 0
    }  # fmt: skip
    assert answer["memory_megabytes"]["peak"] > answer["memory_megabytes"]["weights"] > 0
    assert main(stated.split()) == 0
    text = capsys.readouterr().out
    assert "rate, stated: 40 % of a matrix peak of 989" in text and "78,120 steps on 64 devices, 8 clips at once" in text

    monkeypatch.setattr(benchmark_predict, "matrix_peak", lambda *_: PEAK)
    assert main("benchmark predict --clips 96 --epochs 1 --batch 4 --repetitions 1 --json".split()) == 0
    answer = json.loads(capsys.readouterr().out)
    rate = answer["rate"]
    assert rate["from"] == "measured" and rate["measured_clips"] == 4 and answer["steps"] == 24
    step = answer["step_seconds"]
    assert step == pytest.approx(rate["step_ms"]["median"] / 1000), "of the same clips, it is the measured step"
    assert rate["share"] == pytest.approx(answer["operations"] / 24 / step / 0.05e12)


def test_few_clips_make_a_smaller_batch_as_in_training(capsys):
    few = "benchmark predict --preset tiny --clips 21 --devices 2 --peak-tflops 1 --share 0.5"
    assert main([*few.split(), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["batch"] == 20 and "the batch is 20 and not 32" in said.err
    assert main([*few.split(), "--devices", "0"]) == 2 and "1 clip, epoch and device or more" in capsys.readouterr().err


def test_the_check_runs_what_it_predicts(short_end, monkeypatch, capsys):
    monkeypatch.setattr(benchmark_predict, "matrix_peak", lambda *_: PEAK)
    assert main("benchmark predict --check 1 --clips 12 --steps 3 --repetitions 1 --json".split()) == 0
    answer = json.loads(capsys.readouterr().out)
    (one,) = answer["rounds"]
    assert answer["batch"] == 11 and answer["steps"] == 3 and one["run_seconds"] > 0
    assert one["ratio"] == answer["median_ratio"] == pytest.approx(sum(one["predicted_seconds"]) / 2 / one["run_seconds"])
    assert one["cpu_ratio"] == pytest.approx(sum(one["predicted_cpu_seconds"]) / 2 / one["run_cpu_seconds"])
    assert 0 < one["run_cpu_seconds"] <= 1.5 * one["run_seconds"], "one thread computes"


def test_the_share_of_a_core_is_that_which_the_process_got():
    assert predict_check.with_share(lambda: time.sleep(0.2) or "slept")[1] < 0.5


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("--clips 100 --peak-tflops 989", "both --peak-tflops and --share"),
        ("--clips 100 --peak-tflops 989 --share 1.5", "up to 1"),
        ("", "Give --clips"),
        ("--clips 10 --batch 32 --peak-tflops 1 --share 0.5", "cannot be drawn from 10 clips"),
        ("--clips 100 --devices 3 --peak-tflops 1 --share 0.5", "cannot be shared by 3 devices"),
        ("--clips 100 --epochs 0 --peak-tflops 1 --share 0.5", "1 clip, epoch and device or more"),
        ("--clips 100 --stage 3", "--stage 1 or 2"),
        ("--clips 100 --clips-per-second 0", "above 0"),
        ("--check 1 --steps 0", "1 clip, step, round"),
    ],
)
def test_what_cannot_be_is_told(wrong, told, capsys):
    assert main(["benchmark", "predict", *wrong.split()]) == 2
    assert told in capsys.readouterr().err
