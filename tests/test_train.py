"""The training loop: what it writes, how it stops, and that a resumed run equals one that never stopped."""

import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from safetensors import SafetensorError
from safetensors.torch import load_file

from mavil_edu import checkpoint, tiny
from mavil_edu.checkpoint import list_checkpoints, versions
from mavil_edu.config import AudioConfig, Config, ModelConfig, TransformerConfig, VideoConfig, from_dict
from mavil_edu.data.batch import Sample, augment_sample, evaluation_batch
from mavil_edu.evaluate import HeldOut, position_means
from mavil_edu.mavil import MAViL
from mavil_edu.run import RunError, _check_writable
from mavil_edu.train import TrainingError, learning_rate, objective_at, steps_for, train


def small_config(**changes):
    config = tiny()
    model = ModelConfig(
        audio=AudioConfig(seconds=0.64, frames=64, patch_frames=32, patch_bins=32),
        video=VideoConfig(seconds=0.64, frames=4, height=16, width=16, patch_height=8, patch_width=8),
        encoder=TransformerConfig(24, 1, 2),
        decoder=TransformerConfig(16, 1, 2),
        fusion_depth=1,
        projection=16,
        predict_statistics=True,
    )
    return replace(config, model=model, train=replace(config.train, steps=8, batch=4, evaluate_every=4, save_every=4, **changes))


class Noise:
    """Random clips, the same each time."""

    def __init__(self, count: int, config, poison: int | None = None):
        self.count, self.config, self.poison = count, config, poison

    def __len__(self):
        return self.count

    def sample(self, index, generator):
        own = torch.Generator().manual_seed(index)
        samples = self.config.model.audio.samples
        waveform = 0.1 * torch.randn(samples, generator=own)
        if index == self.poison and generator is not None:
            waveform[0] = math.nan
        frames = torch.randint(256, (4, 16, 16, 3), generator=own, dtype=torch.uint8)
        sample = Sample(waveform, torch.tensor([0, samples]), frames, torch.ones(4, dtype=torch.bool))
        return sample if generator is None else augment_sample(sample, self.config.model, self.config.train.augment, generator)


def held_out_of(config, clips):
    batch, _, _ = evaluation_batch(clips, 6)
    return HeldOut(batch, position_means(batch, config.model, torch.device("cpu")), config.model, config.objective)


def run_of(config, run, clips=None, **options):
    clips = clips or Noise(10, config)
    return train(config, clips, held_out_of(config, Noise(6, config)), run, **options)


def rows_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_learning_rate_rises_linearly_and_falls_by_half_a_cosine():
    schedule = replace(tiny().train, steps=100, warmup=0.1)
    rates = [learning_rate(step, schedule) for step in range(101)]
    assert max(rates) == rates[10] == pytest.approx(schedule.peak_lr)
    assert all(b > a for a, b in zip(rates[:10], rates[1:11], strict=True))
    assert rates[55] == pytest.approx(schedule.peak_lr / 2)
    assert rates[100] == pytest.approx(0)


def test_mask_ratios_go_from_their_start_to_the_objectives_own_by_the_last_step():
    config = small_config()
    assert objective_at(3, config) == config.objective, "without a start they stay"
    rising = replace(config, objective=replace(config.objective, ratio_start=0.2, audio_ratio=0.9, video_ratio=0.6))
    shares = [(objective_at(step, rising).audio_ratio, objective_at(step, rising).video_ratio) for step in range(8)]
    assert shares[0] == (0.2, 0.2) and shares[7] == (0.9, 0.6)
    assert all(a < c and b < d for (a, b), (c, d) in zip(shares, shares[1:], strict=False))


def test_a_run_with_a_ratio_schedule_hides_by_its_step_and_is_measured_at_the_final_ratios(tmp_path, monkeypatch):
    import mavil_edu.train as module

    config = small_config()
    config = replace(config, objective=replace(config.objective, ratio_start=0.0, audio_ratio=0.5, video_ratio=0.5, second_ratio=None))
    drawn, original = [], module.draw_masks

    def watched(rows, model, objective, generator):
        masks = original(rows, model, objective, generator)
        drawn.append([round(float(mask.float().mean()), 3) for mask in masks])
        return masks

    monkeypatch.setattr(module, "draw_masks", watched)
    held_out = held_out_of(config, Noise(6, config))
    train(config, Noise(10, config), held_out, tmp_path)
    tokens = config.model.audio.tokens, config.model.video.tokens
    assert drawn == [[round(round(n * 0.5 * step / 7) / n, 3) for n in tokens] for step in range(8)]
    assert [float(mask.float().mean()) for mask in held_out.masks] == [0.5, 0.5]
    logged = [row["audio_ratio"] for row in rows_of(tmp_path) if not row.get("held_out")]
    assert logged == pytest.approx([0.5 * step / 7 for step in range(8)])
    assert "audio_ratio" not in rows_of(tmp_path)[-1] and rows_of(tmp_path)[-1]["held_out"]


@pytest.mark.parametrize("hidden", ["audio_ratio", "video_ratio"])
def test_a_run_with_all_of_one_modality_hidden_trains_and_leaves_out_what_it_must(tmp_path, hidden):
    config = small_config()
    config = replace(config, objective=replace(config.objective, **{hidden: 1.0}, second_ratio=None, inter_views=1))
    run_of(config, tmp_path)
    for row in rows_of(tmp_path):
        assert row["inter"] is None
        assert all(math.isfinite(row[name]) for name in ("audio_mse", "video_mse", "intra", "total"))


def test_every_step_is_logged_once_with_each_loss_and_its_trivial_answer(tmp_path):
    run_of(small_config(), tmp_path)
    training = [row for row in rows_of(tmp_path) if not row.get("held_out")]
    assert [row["step"] for row in training] == list(range(8))
    for row in training:
        for name in ("audio_mse", "video_mse", "inter", "intra"):
            assert math.isfinite(row[name]) and row[f"{name}_trivial"] > 0
    assert training[0]["inter_trivial"] == pytest.approx(math.log(4))
    assert [row["step"] for row in rows_of(tmp_path) if row.get("held_out")] == [4, 8]
    assert (tmp_path / "model" / "model.safetensors").exists()
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_resumed_run_equals_one_that_never_stopped_bit_for_bit(tmp_path, monkeypatch):
    config = small_config()
    whole, _ = run_of(config, tmp_path / "whole")
    seen = []
    import mavil_edu.train as module

    original = module.learning_rate

    def killed(step, schedule):
        seen.append(step)
        if len(seen) == 7:
            raise MemoryError("as if the process were killed in step 6")
        return original(step, schedule)

    monkeypatch.setattr(module, "learning_rate", killed)
    with pytest.raises(MemoryError):
        run_of(config, tmp_path / "parts")
    monkeypatch.setattr(module, "learning_rate", original)
    parts, progress = run_of(config, tmp_path / "parts", resume=True)
    assert seen == list(range(7)) and progress.step == 8
    assert torch.equal(weights(whole), weights(parts))
    strip = [{k: v for k, v in row.items() if k != "seconds"} for row in rows_of(tmp_path / "whole")]
    assert strip == [{k: v for k, v in row.items() if k != "seconds"} for row in rows_of(tmp_path / "parts")]


def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path):
    whole, _ = run_of(small_config(), tmp_path / "whole")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "metrics.jsonl").write_text('{"step": 0, "audio_mse": 1.0}\n{"step": 1, "aud')
    parts, _ = run_of(small_config(), tmp_path / "parts", resume=True)
    assert torch.equal(weights(whole), weights(parts))
    assert [row["step"] for row in rows_of(tmp_path / "parts") if not row.get("held_out")] == list(range(8))


def test_seeds_decide_everything_and_differ(tmp_path):
    one, _ = run_of(small_config(), tmp_path / "1", seed=1)
    again, _ = run_of(small_config(), tmp_path / "2", seed=1)
    other, _ = run_of(small_config(), tmp_path / "3", seed=2)
    assert torch.equal(weights(one), weights(again))
    assert not torch.equal(weights(one), weights(other))


def test_a_loss_that_is_not_finite_stops_the_run_with_a_sentence_and_keeps_the_checkpoint(tmp_path):
    config = small_config()
    run_of(replace(config, train=replace(config.train, steps=4)), tmp_path / "good")
    with pytest.raises(TrainingError, match=r"The audio loss is nan at step \d+"):
        run_of(config, tmp_path, clips=Noise(10, config, poison=3))


def test_ctrl_c_finishes_the_step_saves_and_can_be_resumed(tmp_path, monkeypatch):
    config = small_config()
    whole, _ = run_of(config, tmp_path / "whole")
    import mavil_edu.train as module

    original = module.learning_rate

    def pressed(step, schedule):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(step, schedule)

    monkeypatch.setattr(module, "learning_rate", pressed)
    with pytest.raises(KeyboardInterrupt, match=r"SIGINT after step \d"):
        run_of(config, tmp_path / "parts")
    monkeypatch.setattr(module, "learning_rate", original)
    parts, _ = run_of(config, tmp_path / "parts", resume=True)
    assert torch.equal(weights(whole), weights(parts))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def broken_off(config, run, monkeypatch, step, do):
    """A run in which something is done before a step; its error."""
    import mavil_edu.train as module

    original = module.learning_rate
    monkeypatch.setattr(module, "learning_rate", lambda now, schedule: (do() if now == step else None, original(now, schedule))[1])
    with pytest.raises(TrainingError) as told:
        run_of(config, run)
    monkeypatch.setattr(module, "learning_rate", original)
    return str(told.value)


def goes_on_as_if_nothing_had_happened(config, run, tmp_path):
    whole, _ = run_of(config, tmp_path / "whole")
    parts, _ = run_of(config, run, resume=True)
    assert torch.equal(weights(whole), weights(parts))
    assert [row["step"] for row in rows_of(run)] == [row["step"] for row in rows_of(tmp_path / "whole")]
    assert not [*run.glob(".*"), *(run / "checkpoints").glob(".*")]


@pytest.mark.parametrize("after", [0, 1])
def test_a_full_disk_is_told_with_the_way_out_and_the_run_goes_on_when_there_is_room(tmp_path, monkeypatch, after):
    """However far the writing of a checkpoint comes: with 0 the weights do not fit, with 1 the moments."""
    config, run, original = small_config(), tmp_path / "run", checkpoint.save_file
    written = []

    def fill_up():
        def full(tensors, path):
            written.append(path.name)
            if len(written) > after:
                path.write_bytes(b"a part of it")
                raise SafetensorError("I/O error: No space left on device (os error 28)")
            original(tensors, path)

        monkeypatch.setattr(checkpoint, "save_file", full)

    told = broken_off(config, run, monkeypatch, 6, fill_up)
    monkeypatch.setattr(checkpoint, "save_file", original)
    assert len(written) == after + 1
    assert "there is no space left" in told and "The last checkpoint, step-0000004, is whole" in told and "--resume" in told
    goes_on_as_if_nothing_had_happened(config, run, tmp_path)


def test_a_disk_that_is_full_from_the_start_says_that_nothing_was_saved(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(TrainingError, match="no space left.*No checkpoint had been saved"):
        run_of(small_config(), tmp_path / "run")
    assert not list((tmp_path / "run").glob(".*"))


@contextmanager
def without_root_s_rights():
    """Root may write into read-only folders; so, where a test is run by root, it goes on as nobody."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.fixture
def open_folder():
    """A folder that nobody can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        yield Path(place)
        subprocess.run(["chmod", "-R", "u+w", place], check=True)


@pytest.mark.skipif(os.name == "nt", reason="folders are not made read-only so on Windows")
def test_a_folder_that_becomes_read_only_is_told_and_the_run_goes_on_when_that_is_mended(open_folder, tmp_path, monkeypatch):
    config, run, scope = small_config(), open_folder / "run", ExitStack()

    def close():
        for folder in (run, run / "checkpoints", run / "model"):
            folder.chmod(0o555)
        scope.enter_context(without_root_s_rights())

    with scope:
        told = broken_off(config, run, monkeypatch, 6, close)
    assert "writing is refused" in told and "The last checkpoint, step-0000004, is whole" in told
    for folder in (run, run / "checkpoints", run / "model"):
        folder.chmod(0o755)
    goes_on_as_if_nothing_had_happened(config, run, tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="folders are not made read-only so on Windows")
def test_a_run_does_not_begin_in_a_read_only_folder(open_folder):
    open_folder.chmod(0o555)
    with without_root_s_rights(), pytest.raises(RunError, match="cannot be written .Permission denied.*another folder"):
        _check_writable(open_folder / "run")


def test_what_a_killed_process_left_half_written_is_removed_when_the_run_goes_on(tmp_path):
    config, run = small_config(), tmp_path / "run"
    run_of(replace(config, train=replace(config.train, steps=4)), run)
    left = [run / "checkpoints" / ".step-0000008.x1", run / "checkpoints" / ".step-0000002.old", run / ".model.x2"]
    for folder in left:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
    (run / ".metrics.jsonl.x3").write_text("half")
    other = run / ".notes"  # somebody's own
    other.write_text("keep")
    for path in (run / "checkpoints").glob("step-*"):
        shutil.rmtree(path)
    run_of(config, run, resume=True)
    assert [path.name for path in run.glob(".*")] == [".notes"]
    assert not list((run / "checkpoints").glob(".*"))


def test_a_run_killed_between_its_last_checkpoint_and_its_end_has_its_model(tmp_path, monkeypatch):
    import mavil_edu.logbook as module

    config, run, original = small_config(), tmp_path / "run", module.save_checkpoint

    def then_killed(folder, model, optimiser, state, random):
        original(folder, model, optimiser, state, random)
        if state["step"] == 8:
            raise MemoryError("as if the process were killed here")

    monkeypatch.setattr(module, "save_checkpoint", then_killed)
    with pytest.raises(MemoryError):
        run_of(config, run)
    monkeypatch.setattr(module, "save_checkpoint", original)
    model, _ = run_of(config, run, resume=True)
    assert torch.equal(weights(model), weights(MAViL.from_pretrained(run)))


def test_a_checkpoint_holds_all_that_a_run_follows_from(tmp_path):
    config, run = small_config(), tmp_path / "run"
    run_of(config, run, seed=3)
    newest = list_checkpoints(run / "checkpoints")[-1]
    assert {path.name for path in newest.iterdir()} == {"model.safetensors", "optimiser.safetensors", "random.safetensors", "state.json"}
    state = json.loads((newest / "state.json").read_text())
    assert state["step"] == 8 and state["drawn"] == 32 and state["seed"] == 3 and state["processes"] == 1
    assert from_dict(Config, state["config"]) == config and state["versions"] == versions() and state["versions"]["torch"]
    assert state["held_out"] > 0 and state["scaler"] == {} and len(state["param_groups"]) == 2
    assert torch.equal(load_file(newest / "random.safetensors")["cpu"], torch.get_rng_state())


def test_a_checkpoint_of_another_config_is_refused_but_not_one_from_before_a_field_was_added(tmp_path):
    config, run = small_config(), tmp_path / "run"
    run_of(replace(config, train=replace(config.train, steps=4)), run)
    with pytest.raises(TrainingError, match="another config"):
        run_of(config, run, resume=True)
    file = list_checkpoints(run / "checkpoints")[-1] / "state.json"
    state = json.loads(file.read_text())
    state["config"]["train"]["steps"] = 8
    del state["config"]["train"]["clip_norm"]
    file.write_text(json.dumps(state))
    run_of(config, run, resume=True)


def test_other_versions_of_libraries_are_told_on_resuming(tmp_path, capsys):
    config, run = small_config(), tmp_path / "run"
    run_of(config, run)
    file = list_checkpoints(run / "checkpoints")[-1] / "state.json"
    state = json.loads(file.read_text())
    run_of(config, run, resume=True)
    assert "other versions" not in capsys.readouterr().err
    file.write_text(json.dumps(state | {"versions": state["versions"] | {"torch": "1.0"}}))
    run_of(config, run, resume=True)
    assert "other versions of its libraries" in capsys.readouterr().err


def test_accumulation_gives_the_gradient_of_the_rounds_mean(tmp_path):
    config = small_config(accumulate=2)
    run_of(config, tmp_path)
    row = rows_of(tmp_path)[0]
    assert row["inter_trivial"] == pytest.approx(math.log(2))
    assert row["step"] == 0


def test_minutes_become_a_number_of_steps_that_fits():
    config = small_config()
    few, _ = steps_for(0.2, config, Noise(10, config), seed=0, workers=0)
    many, _ = steps_for(2.0, config, Noise(10, config), seed=0, workers=0)
    assert 1 <= few < many
    assert isinstance(few, int)


def test_a_model_learns_to_tell_pairs_apart_when_sound_and_picture_share_a_cause(tmp_path):
    """The smallest end to end: tone height and brightness go together; held-out retrieval by class must be found."""
    config = small_config()
    config = replace(config, objective=replace(config.objective, alpha=1.0), train=replace(config.train, steps=300, evaluate_every=500))

    class Pairs(Noise):
        def sample(self, index, generator):
            sample = super().sample(index, None)
            cause = (index * 0.618034) % 1
            time = torch.arange(len(sample.waveform)) / 16_000
            tone = 0.3 * torch.sin(2 * math.pi * (200 + 4000 * cause) * time)
            frames = torch.full_like(sample.frames, int(40 + 200 * cause)) + sample.frames // 16
            return sample._replace(waveform=0.05 * sample.waveform + tone, frames=frames)

    config = replace(config, train=replace(config.train, batch=16), model=replace(config.model, target="raw", predict_statistics=False))
    run_of(config, tmp_path, clips=Pairs(64, config))
    inter = [row["inter"] for row in rows_of(tmp_path) if not row.get("held_out")]
    assert sum(inter[-10:]) / 10 < 0.75 * math.log(16) < 0.95 * inter[0]
    assert isinstance(MAViL.from_pretrained(tmp_path), MAViL)


COUNT_FAULTS = """
import resource, sys
import torch
from mavil_edu import MAViL, tiny, train
torch.set_num_threads(1)
if sys.argv[1] == "by default":
    train.keep_freed_memory = lambda: None
config = tiny()
fabric = train.make_fabric(config)
model, optimiser = train.set_up(fabric, MAViL(config), config.train)
from mavil_edu.data.loader import training_steps
from mavil_edu.data.world import World
data = next(training_steps(World(32, 0, config.model, config.train.augment), 32, 0))
for step in range(8):  # the first four find room for what all need
    if step == 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    train.update(fabric, model, optimiser, data, config, 0, step)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc hands freed blocks back to the system so eagerly")
def test_freed_memory_is_kept_for_the_next_step():
    def faults(how: str) -> int:
        return int(subprocess.run([sys.executable, "-c", COUNT_FAULTS, how], check=True, stdout=subprocess.PIPE, text=True).stdout)

    assert 10 * faults("kept") < faults("by default"), "pages fetched anew in four steps"


# 16-mixed


def scaled(first_scale: float):
    """What `make_fabric` gives for 16-mixed, with a scaler for the CPU, where Fabric itself has none."""
    scaler = torch.amp.GradScaler("cpu", init_scale=first_scale, growth_interval=3)
    return lambda config: Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)])


def norms_of(run) -> list[float | None]:
    """The gradients' norms in `metrics.jsonl`, which has to be JSON: no Infinity in it."""
    rows = [json.loads(line, parse_constant=pytest.fail) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["gradient_norm"] for row in rows if not row.get("held_out")]


def test_in_16_mixed_a_step_whose_gradient_overflows_is_left_out_and_training_goes_on(tmp_path, monkeypatch):
    config = small_config(precision="16-mixed")
    torch.manual_seed(0)
    fresh = weights(MAViL(config))
    monkeypatch.setattr("mavil_edu.train.make_fabric", scaled(2.0**60))
    model, _ = run_of(config, tmp_path / "left-out")
    assert norms_of(tmp_path / "left-out") == [None] * 8 and torch.equal(weights(model), fresh)
    monkeypatch.setattr("mavil_edu.train.make_fabric", scaled(2.0**8))
    model, _ = run_of(config, tmp_path / "moved")
    assert all(0 < norm < 100 for norm in norms_of(tmp_path / "moved")) and not torch.equal(weights(model), fresh)


def test_in_16_mixed_a_gradient_that_overflows_even_unscaled_ends_the_run(tmp_path, monkeypatch):
    config = small_config(precision="16-mixed")
    monkeypatch.setattr("mavil_edu.train.make_fabric", scaled(4.0))
    with pytest.raises(TrainingError, match=r"norm is (inf|nan) at step 2; start anew with a lower learning rate"):
        run_of(replace(config, objective=replace(config.objective, reconstruction=1e30)), tmp_path)


def test_a_run_in_16_mixed_is_resumed_with_its_scale_and_ends_as_if_it_had_never_stopped(tmp_path, monkeypatch):
    import mavil_edu.train as module

    config = small_config(precision="16-mixed")
    monkeypatch.setattr(module, "make_fabric", scaled(2.0**24))
    whole, _ = run_of(config, tmp_path / "whole")
    monkeypatch.setattr(module, "make_fabric", scaled(2.0**24))
    with monkeypatch.context() as stopping:
        original = module.learning_rate
        press = lambda step, schedule: (step == 4 and os.kill(os.getpid(), signal.SIGINT), original(step, schedule))[1]  # noqa: E731
        stopping.setattr(module, "learning_rate", press)
        with pytest.raises(KeyboardInterrupt):
            run_of(config, tmp_path / "parts")
    monkeypatch.setattr(module, "make_fabric", scaled(2.0**24))
    parts, _ = run_of(config, tmp_path / "parts", resume=True)
    assert torch.equal(weights(whole), weights(parts))
    assert None in norms_of(tmp_path / "whole") and norms_of(tmp_path / "whole") == norms_of(tmp_path / "parts")
