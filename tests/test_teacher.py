"""Stage 2: what the teacher says, what the student is asked, and which teachers are refused."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from mavil_edu import MAViL, cli, tiny
from mavil_edu import teacher as teacher_module
from mavil_edu.data.batch import evaluation_batch, to_inputs
from mavil_edu.data.source import Data
from mavil_edu.data.world import World
from mavil_edu.evaluate import HeldOut, position_means, scored_patches
from mavil_edu.losses import token_answers
from mavil_edu.mavil import draw_masks, losses_of, patch_targets
from mavil_edu.run import pretrain, pretrain_on, self_train_on
from mavil_edu.teacher import (
    Teacher,
    TeacherError,
    check_health,
    fingerprint,
    health,
    lineage,
    load_teacher,
    student_config,
    teachers_config,
)
from mavil_edu.train import train

SAMPLES = Path(__file__).parent.parent / "data_samples"
CPU = torch.device("cpu")


def few_steps(steps: int = 2, **changes):
    config = tiny()
    return replace(config, train=replace(config.train, steps=steps, batch=8, save_every=100, evaluate_every=100, **changes))


@pytest.fixture(scope="module")
def source() -> MAViL:
    return MAViL.from_pretrained("tiny")


@pytest.fixture(scope="module")
def clips() -> World:
    return World(24, 5, tiny().model, tiny().train.augment, quiet=True)


@pytest.fixture(scope="module")
def batch(clips):
    return evaluation_batch(clips)[0]


@pytest.fixture(scope="module")
def inputs(batch):
    return to_inputs(type(batch)(*(field[:6] for field in batch)), tiny().model)


@pytest.fixture(autouse=True)
def one_example(monkeypatch) -> None:
    """Runs write one example and not six: these tests are about other things."""
    monkeypatch.setattr("mavil_edu.run.EXAMPLES", 1)


@pytest.fixture(scope="module")
def student(source, clips, tmp_path_factory) -> Path:
    """A run of stage 2 on generated clips."""
    run = tmp_path_factory.mktemp("runs") / "student"
    data = Data(clips, clips, held_out=False, skipped=[])
    pretrain(data, few_steps(), run, seed=3, minutes=None, workers=0, resume=False, origin={"data": "24 generated clips"}, teacher="tiny")
    return run


def spread(model: MAViL, batch) -> dict:
    config = student_config(tiny(), model.config)
    teacher = Teacher(model, config.objective)
    return health(teacher, batch, position_means(batch, config.model, CPU, teacher), config.model)


# What the teacher says


@pytest.mark.parametrize("tokens", ["fused", "unimodal"])
@pytest.mark.parametrize("normalise", [True, False])
def test_targets_are_the_teachers_tokens_of_the_complete_clip(source, inputs, tokens, normalise):
    teacher = Teacher(source, replace(tiny().objective, target_tokens=tokens, normalise_targets=normalise))
    with torch.no_grad():
        encoded = source.encode(inputs.audio, inputs.video)
    wanted = (encoded.fused_audio_tokens, encoded.fused_video_tokens) if tokens == "fused" else (encoded.audio_tokens, encoded.video_tokens)
    targets = teacher(inputs.audio, inputs.video)
    for ours, theirs in zip((targets.audio, targets.video), wanted, strict=True):
        assert torch.equal(ours, F.layer_norm(theirs, theirs.shape[-1:]) if normalise else theirs)
        assert not ours.requires_grad
    assert targets.audio_statistics is targets.video_statistics is None


def test_targets_of_clips_that_come_again_are_looked_up_and_those_of_others_computed(source, inputs):
    teacher, plain = Teacher(source, tiny().objective), Teacher(source, tiny().objective, cache_bytes=0)
    first = teacher(inputs.audio, inputs.video)
    assert (teacher.asked, teacher.found) == (6, 0) and plain.kept is None
    order = [3, 1, 1, 5]
    again = teacher(inputs.audio[order], inputs.video[order])
    assert (teacher.asked, teacher.found) == (10, 4)
    assert torch.equal(again.audio, first.audio[order]) and torch.equal(again.video, first.video[order])
    mirrored = teacher(inputs.audio, inputs.video.flip(-1))
    assert teacher.found == 4, "another picture is another clip"
    wanted = plain(inputs.audio, inputs.video.flip(-1))
    assert torch.allclose(mirrored.audio, wanted.audio, atol=1e-5) and torch.allclose(mirrored.video, wanted.video, atol=1e-5)
    some = teacher(torch.cat([inputs.audio[:2], inputs.audio[:2].roll(7, dims=2)]), inputs.video[[0, 1, 0, 1]])
    assert torch.equal(some.audio[:2], first.audio[:2]) and not torch.allclose(some.audio[2:], first.audio[:2])


def test_a_cache_that_is_full_and_finds_little_is_given_up(source, inputs, monkeypatch):
    monkeypatch.setattr(teacher_module, "TRIAL", 20)
    one = sum(x[0].numel() * 4 for x in Teacher(source, tiny().objective)(inputs.audio, inputs.video)[:2])
    useless, useful = (Teacher(source, tiny().objective, cache_bytes=2 * one + 1) for _ in range(2))
    for i in range(5):
        useless(inputs.audio + 0.01 * i, inputs.video)
        useful(inputs.audio[[0, 1, 0, 1, 2, 3]], inputs.video[[0, 1, 0, 1, 2, 3]])
        assert useful.kept is not None and len(useful.kept) == 2
    assert useless.kept is None
    assert torch.isfinite(useless(inputs.audio, inputs.video).audio).all()


# What the student is asked


def test_only_hidden_places_are_scored_unless_all_are_asked_for(source, inputs):
    config = student_config(tiny(), source.config)
    masks = draw_masks(6, config.model, config.objective, torch.Generator().manual_seed(0))
    model, targets = MAViL(config).eval(), Teacher(source, config.objective)(inputs.audio, inputs.video)
    output = model(inputs.audio, inputs.video, masks)
    hidden = scored_patches(masks, inputs, config.objective)
    everywhere = scored_patches(masks, inputs, replace(config.objective, scored="all"))
    assert torch.equal(hidden[0], masks.audio & inputs.audio_content) and torch.equal(everywhere[0], inputs.audio_content)
    loss = losses_of(output, targets, *hidden, config.objective)
    changed = targets._replace(audio=torch.where(masks.audio[..., None], targets.audio, 100.0))
    assert torch.equal(losses_of(output, changed, *hidden, config.objective).audio, loss.audio)
    assert losses_of(output, changed, *everywhere, config.objective).audio > loss.audio
    assert loss.statistics is None and output.audio.statistics is None
    assert output.audio.patches.shape == (6, config.model.audio.tokens, source.config.encoder.width)


def test_the_students_of_other_front_ends_are_refused_and_other_widths_are_not(source):
    config = tiny()
    wider = replace(config, model=replace(config.model, encoder=replace(config.model.encoder, width=48)))
    found = student_config(wider, source.config).model
    assert (found.encoder.width, found.target_width, found.predict_statistics, found.target) == (48, 96, False, "teacher")
    other = replace(config, model=replace(config.model, audio=replace(config.model.audio, seconds=1.28, frames=128)))
    with pytest.raises(TeacherError, match="audio input is not the student's"):
        student_config(other, source.config)


def test_the_trivial_answers_are_one_vector_and_each_positions_mean():
    target = torch.tensor([[[1.0, 0.0], [3.0, 2.0]], [[3.0, 0.0], [5.0, 2.0]]])
    scored = torch.tensor([[True, True], [True, False]])
    found = token_answers(target, scored, target.mean(dim=0))
    assert found["position_mean"] == pytest.approx((0.5 + 0.5 + 0.5) / 3)
    assert found["constant_vector"] == pytest.approx(((4 + 1) / 2 + (0 + 1) / 2 + (0 + 1) / 2) / 3)


def test_a_student_starts_fresh_and_its_teacher_never_changes(source, clips, batch, tmp_path):
    config = student_config(few_steps(base_lr=1e-12), source.config)
    teacher, before = Teacher(source, config.objective), fingerprint(source)
    held_out = HeldOut(batch, position_means(batch, config.model, CPU, teacher), config.model, config.objective, make_targets=teacher)
    model, _ = train(config, clips, held_out, tmp_path / "run", seed=7)
    torch.manual_seed(7)
    fresh = MAViL(config)
    other, _ = train(config, clips, held_out, tmp_path / "second", seed=7, generation=1)
    assert not torch.allclose(other.audio_encoder.patch_embed.weight, fresh.audio_encoder.patch_embed.weight, atol=1e-3)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(model.state_dict().values(), fresh.state_dict().values(), strict=True))
    assert fingerprint(source) == before and all(p.grad is None and not p.requires_grad for p in source.parameters())


def test_a_run_of_stage_two_says_so_in_all_it_writes(student, capsys):
    summary = json.loads((student / "summary.json").read_text())
    assert summary["target"] == "teacher"
    for side in ("audio", "video"):
        assert set(summary[side]["trivial"]) == {"constant_vector", "position_mean"}
        assert summary[side]["best_trivial_mse"] == min(summary[side]["trivial"].values())
        assert summary[side]["trivial"]["position_mean"] < summary[side]["trivial"]["constant_vector"]
    stored = json.loads((student / "config.json").read_text())
    assert stored["lineage"] == [{"path": "tiny", "weights": fingerprint(MAViL.from_pretrained("tiny")), "steps": None}]
    page = (student / "report.html").read_text()
    assert "stage 2" in page and "no pictures and no sounds" in page and "<video" not in page
    model = MAViL.from_pretrained(student)
    assert model.config.target == "teacher" and model.config.target_width == 96
    assert cli.main(["reconstruct", str(SAMPLES / "003.mp4"), "--checkpoint", str(student), "--out", str(student / "drawn")]) == 2
    assert "teacher's tokens" in capsys.readouterr().err


# Who may teach


def test_a_collapsed_teacher_is_refused_and_nothing_is_written(clips, tmp_path):
    blind = MAViL(tiny())
    for encoder in (blind.audio_encoder, blind.video_encoder):
        torch.nn.init.zeros_(encoder.patch_embed.weight)  # its tokens tell the place and nothing of the clip
    blind.save_pretrained(tmp_path / "blind")
    data = Data(clips, clips, held_out=False, skipped=[])
    arguments = {"seed": 0, "minutes": None, "workers": 0, "resume": False, "origin": {}, "teacher": str(tmp_path / "blind")}
    with pytest.raises(TeacherError, match="collapsed.*--allow-collapsed"):
        pretrain(data, few_steps(), tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()
    assert pretrain(data, few_steps(1), tmp_path / "run", allow_collapsed=True, **arguments)["steps"] == 1


def test_a_teacher_whose_clips_lie_on_one_line_is_refused_whatever_their_variance():
    with pytest.raises(TeacherError, match="video tokens.*1.2 directions"):
        check_health({"audio": teacher_module.Health(0.5, 20.0), "video": teacher_module.Health(0.5, 1.2)})
    check_health({"audio": teacher_module.Health(0.5, 20.0)})


def test_health_tells_a_trained_teacher_from_a_constant_one(source, batch):
    found = spread(source, batch)
    assert all(part.variance > 0.1 and part.rank > 5 for part in found.values())
    same = batch._replace(waveform=batch.waveform[:1].expand_as(batch.waveform), frames=batch.frames[:1].expand_as(batch.frames))
    assert all(part.variance < 1e-6 for part in spread(source, same).values())


# Who taught whom


def test_iterations_make_each_student_the_next_ones_teacher(student, tmp_path, capsys):
    arguments = (None, few_steps(1))
    found = self_train_on(SAMPLES, tmp_path / "out", str(student), 2, False, *arguments, seed=1)
    assert [summary["steps"] for summary in found] == [1, 1]
    stored = [json.loads((tmp_path / "out" / str(k) / "config.json").read_text())["lineage"] for k in (1, 2)]
    assert [entry["path"] for entry in stored[1]] == ["tiny", str(student), str(tmp_path / "out" / "1")]
    assert [entry["steps"] for entry in stored[1]] == [None, 2, 1] and stored[1][:2] == stored[0]
    shutil.rmtree(tmp_path / "out" / "2")
    before = (tmp_path / "out" / "1" / "summary.json").stat().st_mtime_ns
    again = self_train_on(SAMPLES, tmp_path / "out", str(student), 2, True, *arguments, seed=1)
    assert (tmp_path / "out" / "1" / "summary.json").stat().st_mtime_ns == before, "a complete iteration stays"
    assert again[1]["audio"] == found[1]["audio"]
    capsys.readouterr()


def test_a_run_whose_teacher_has_changed_is_not_resumed(source, tmp_path):
    source.save_pretrained(tmp_path / "teacher")
    run = tmp_path / "run"
    pretrain_on(SAMPLES, None, few_steps(1), run, teacher=str(tmp_path / "teacher"))
    MAViL(tiny()).save_pretrained(tmp_path / "teacher")
    with pytest.raises(TeacherError, match="not the one that this run began with"):
        pretrain_on(SAMPLES, None, few_steps(1), run, resume=True)


def test_without_a_preset_a_student_is_made_as_its_teacher(student):
    config = teachers_config(str(student))
    assert config.train.steps == 2 and config.model == MAViL.from_pretrained(student).config
    shipped = teachers_config("tiny")
    assert shipped.model.target_width == 96 and shipped.train == tiny().train


def test_lineage_of_a_models_folder_in_a_run_is_its_runs(student):
    model = load_teacher(str(student / "model"))
    assert lineage(str(student / "model"), model)[0]["path"] == "tiny"
    assert lineage(str(student), model)[1]["weights"] == fingerprint(model)


def test_a_killed_student_resumes_to_the_weights_of_one_that_never_stopped(tmp_path):
    command = [sys.executable, "-m", "mavil_edu", "pretrain", "--data", str(SAMPLES), "--teacher", "tiny", "--steps", "6"]
    command += ["--config.train.batch", "4", "--config.train.save-every", "2"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run([*command, "--out", str(whole)], check=True, capture_output=True)
    process = subprocess.Popen([*command, "--out", str(broken)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(broken.glob("checkpoints/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (broken / "summary.json").exists(), "it was killed too late for this test to say anything"
    subprocess.run([*command[:6], "--resume", "--out", str(broken)], check=True, capture_output=True)
    ours, theirs = (MAViL.from_pretrained(run).state_dict() for run in (broken, whole))
    assert all(torch.equal(a, b) for a, b in zip(ours.values(), theirs.values(), strict=True))


def test_what_cannot_teach_is_told_in_a_sentence(tmp_path, capsys):
    arguments = ["pretrain", "--data", str(SAMPLES), "--out", str(tmp_path / "run"), "--steps", "1"]
    assert cli.main([*arguments, "--teacher", str(tmp_path / "nothing")]) == 2
    assert cli.main([*arguments, "--iterations", "3"]) == 2
    assert cli.main([*arguments, "--teacher", "tiny", "--config.model.video.seconds", "1.28"]) == 2
    assert cli.main([*arguments, "--teacher", "tiny", "--preset", "digits"]) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told and "first --teacher" in told and "video input is not the student's" in told
    assert not (tmp_path / "run").exists()


def test_without_a_teacher_its_model_makes_no_targets(student, inputs):
    config = MAViL.from_pretrained(student).config
    with pytest.raises(ValueError, match="made by its teacher"):
        patch_targets(inputs.audio, inputs.video, config)
