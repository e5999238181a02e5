"""The course's graders: each right answer passes, each known wrong one is named, and nothing a learner writes breaks them."""

import ast
import inspect
import math
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import made_clips
import nbformat
import numpy as np
import pytest
import torch

from mavil_edu import (
    MAViL,
    audio,
    classification,
    cost,
    exercises,
    footprint,
    fusion,
    layerwise,
    localise,
    losses,
    masking,
    media,
    mixing,
    multiply_adds,
    optimiser,
    patches,
    positions,
    probes,
    retrieval,
    solutions,
    transformer,
)
from mavil_edu.config import AudioConfig, TrainConfig, TransformerConfig, VideoConfig, paper, tiny
from mavil_edu.course import record
from mavil_edu.course.grading import difference, grade
from mavil_edu.course.registry import EXERCISES, LESSONS, QUIZZES
from mavil_edu.data.batch import evaluation_batch, to_inputs
from mavil_edu.data.labels import sampling_weights
from mavil_edu.data.world import World
from mavil_edu.encoder import Tokens
from mavil_edu.evaluate import position_means
from mavil_edu.exercises import check, exercise, quiz
from mavil_edu.lab import verdicts
from mavil_edu.recipe import FinetuneConfig
from mavil_edu.teacher import Teacher, health

ENTRIES = pytest.mark.parametrize("entry", EXERCISES.values(), ids=EXERCISES)
WRONG = [pytest.param(e, s, w, id=f"{e.name}-{i}") for e in EXERCISES.values() for i, (s, w) in enumerate(e.wrong.items())]
NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("MAVIL_EDU_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.setattr(exercises, "attempts", {})
    monkeypatch.setattr(exercises, "_told", set())


def stub(*arguments):
    raise NotImplementedError


# Every exercise


@ENTRIES
def test_a_stub_is_not_attempted_and_gets_the_first_hint(entry, capsys):
    exercise(entry.name)(stub)
    check(entry.name)
    said = capsys.readouterr().out
    assert said.startswith(f"{entry.name}: not attempted.") and entry.hints[0] in said
    assert entry.hints[1] not in said and "✗" not in said


@ENTRIES
def test_a_stub_falls_back_to_the_solution_with_a_visible_line_once(entry, capsys):
    function = exercise(entry.name)(stub)
    for case in entry.cases():
        assert difference(entry.reference(*case.arguments), function(*case.arguments), entry.tolerance) is None
    assert capsys.readouterr().out == f"{entry.name} is still a stub: the solution stands in for it here.\n"


@pytest.mark.parametrize("history", [True, False], ids=["notebook", "nbval keeps no history"])
def test_the_line_is_said_once_in_each_cell(history):
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", env=os.environ | {"MAVIL_EDU_PROGRESS": ""})
    said = []
    try:
        for cell in (
            "from mavil_edu.exercises import exercise\n@exercise('frames_in')\ndef frames_in(*given):\n    raise NotImplementedError",
            *["frames_in(16_000), frames_in(32_000);"] * 2,
        ):
            heard = []
            client.execute_interactive(cell, store_history=history, timeout=60, output_hook=heard.append)
            said.append("".join(message["content"].get("text", "") for message in heard))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    line = "frames_in is still a stub: the solution stands in for it here.\n"
    assert said == ["", line, line]


@ENTRIES
def test_the_solution_passes_and_so_does_an_answer_written_otherwise(entry):
    for answer in (entry.reference, entry.alternative):
        verdict = grade(entry, answer)
        assert verdict.status == "passed", verdict.message


@pytest.mark.parametrize("entry, sentence, wrong", WRONG)
def test_a_known_wrong_answer_gets_its_own_sentence_and_no_other(entry, sentence, wrong):
    verdict = grade(entry, wrong)
    assert verdict.status == "wrong" and verdict.misconceptions == (sentence,), verdict.message
    assert f"→ {sentence}" in verdict.message and verdict.message.count("→") == 1 and "✗" in verdict.message


@ENTRIES
def test_graders_are_quick_and_say_the_same_each_time(entry):
    first = grade(entry, next(iter(entry.wrong.values())))
    started = time.process_time()
    again = grade(entry, next(iter(entry.wrong.values())))
    assert time.process_time() - started < 0.25
    assert first == again and "0x" not in first.message


@ENTRIES
def test_an_entry_is_complete(entry):
    assert 1 <= entry.difficulty <= 3 and 1 <= entry.minutes <= 30
    assert len(entry.hints) >= 2 and len(entry.wrong) >= 3 and len(entry.cases()) >= 2
    sizes = {case.label for case in entry.cases()}
    assert len(sizes) >= 2 or entry.name == "power_of_frame", "cases of different sizes; a frame always has 400 samples"
    assert entry.task.endswith((".", "?", "`).")) and entry.name in entry.header
    assert entry.source.startswith(f"def {entry.name}(")


def test_every_lesson_has_exercises_of_three_difficulties_and_three_questions():
    for lesson in LESSONS:
        assert {entry.lesson for entry in (*lesson.EXERCISES, *lesson.QUIZZES)} == {lesson.__name__[-2:]}
        assert len(lesson.EXERCISES) >= 4 and {entry.difficulty for entry in lesson.EXERCISES} == {1, 2, 3}
        assert len(lesson.QUIZZES) >= 3
    assert len(EXERCISES) == sum(len(lesson.EXERCISES) for lesson in LESSONS), "two exercises have one name"
    assert len(QUIZZES) == sum(len(lesson.QUIZZES) for lesson in LESSONS), "two questions have one name"


def test_every_solution_belongs_to_an_exercise():
    written = [name for name, value in vars(solutions).items() if inspect.isfunction(value) and value.__module__ == solutions.__name__]
    assert written == list(dict.fromkeys(written)) and set(written) == set(EXERCISES)


# The solutions against the library


def cases(name: str) -> list[tuple]:
    return [case.arguments for case in EXERCISES[name].cases()]


def test_solutions_of_sound_agree_with_the_library():
    assert [solutions.frames_in(*a) for a in cases("frames_in")] == [audio.frame_count(*a) for a in cases("frames_in")]
    wave = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0)) * 0.1
    frames = (wave[0] - wave.mean()).unfold(0, 400, 160)
    power = torch.stack([solutions.power_of_frame(frame) for frame in frames])
    ours = solutions.log_floor(power @ audio.mel_bank(128))
    assert torch.allclose(ours, audio.log_mel(wave)[0], atol=2e-3)
    low, high = solutions.mel_of_hz(torch.tensor([20.0, 8000.0])).tolist()
    left, centre, right = (700 * (math.exp((low + (high - low) * n / 129) / 1127) - 1) for n in (60, 61, 62))
    weights = solutions.mel_filter(torch.arange(257) * 31.25, left, centre, right)
    assert torch.allclose(weights, audio.mel_bank(128)[:, 60], atol=1e-3)


def test_solutions_of_patches_agree_with_the_library():
    for (x,) in cases("patchify_audio"):
        config = AudioConfig(frames=x.shape[2], mel_bins=x.shape[3])
        cut = solutions.patchify_audio(x)
        assert torch.equal(cut, patches.patchify(x, config))
        assert torch.equal(solutions.unpatchify_audio(cut, *config.grid), patches.unpatchify(cut, config))
    for (x,) in cases("patchify_video"):
        config = VideoConfig(frames=x.shape[2], height=x.shape[3], width=x.shape[4])
        assert torch.equal(solutions.patchify_video(x), patches.patchify(x, config))
        assert solutions.tokens_of(*x.shape[2:]) == config.tokens
    for t, h, w, width in cases("sincos_3d"):
        assert torch.allclose(solutions.sincos_3d(t, h, w, width), positions.sincos_positions((t, h, w), width)[1:], atol=1e-5)
    for patch, kernel, bias in cases("conv_as_linear"):
        assert torch.equal(solutions.conv_as_linear(patch, kernel, bias), patch @ patches.kernel_to_linear(kernel).T + bias)


def test_solutions_of_masks_and_losses_agree_with_the_library():
    for similarity, k in cases("recall_at"):
        assert math.isclose(solutions.recall_at(similarity, k), retrieval.recall_at(similarity, k), rel_tol=1e-6)
    for sounds, pictures in cases("find_pictures"):
        assert torch.equal(solutions.find_pictures(sounds, pictures), retrieval.similarities(sounds, pictures).argmax(dim=1))
    assert [solutions.visible_count(*a) for a in cases("visible_count")] == [masking.visible_count(*a) for a in cases("visible_count")]
    noise = torch.rand(3, 20, generator=torch.Generator().manual_seed(5))
    assert torch.equal(solutions.mask_by_rank(noise, 4), masking.random_mask(3, 20, 0.8, torch.Generator().manual_seed(5)))
    for tokens, mask in cases("keep_visible"):
        assert torch.equal(solutions.keep_visible(tokens, mask), masking.keep_visible(tokens, mask))
    for visible, mask, fill in cases("put_back"):
        assert torch.equal(solutions.put_back(visible, mask, fill), masking.put_back(visible, mask, fill))
    for arguments in cases("masked_mse"):
        assert torch.allclose(solutions.masked_mse(*arguments), losses.masked_mse(*arguments))
    for (x,) in cases("normalise_patch"):
        assert torch.allclose(solutions.normalise_patch(x), losses.normalise_patches(x), atol=1e-3)
    settings = TrainConfig(steps=100, warmup=0.1)
    for step in (0, 9, 10, 50, 99):
        assert math.isclose(solutions.learning_rate(step, 100, 10, settings.peak_lr), optimiser.learning_rate(step, settings))


def test_solutions_of_contrast_agree_with_the_library():
    x, y, again_x, again_y = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(solutions.cosine_similarities(x, y).double(), retrieval.similarities(x, y), atol=1e-5)
    assert torch.allclose(solutions.info_nce(x, y, 0.1), losses.info_nce(x, y, 0.1))
    views = x, again_x, y, again_y
    assert torch.allclose(solutions.intra_modal(*views, 0.7), losses.intra_modal(*views, 0.7))
    assert solutions.loss_of_knowing_nothing(6) == losses.log_b(6)
    assert math.isclose(solutions.spread(x), probes.embedding_std(x), rel_tol=1e-5)


def test_solutions_of_probes_and_ranks_agree_with_the_library():
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score

    g = torch.Generator().manual_seed(0)
    x, asked, y, truth = (torch.randn(*shape, generator=g) for shape in ((40, 6), (20, 6), (40, 2), (20, 2)))
    said = solutions.ridge_probe(x, y, asked, 3.0)
    assert torch.allclose(said.double(), torch.from_numpy(Ridge(3.0).fit(x.double(), y.double()).predict(asked.double())), atol=1e-5)
    assert math.isclose(solutions.r_squared(said[:, 0], truth[:, 0]), r2_score(truth[:, 0], said[:, 0]), rel_tol=1e-4, abs_tol=1e-5)
    similarity = torch.randn(9, 9, generator=g)
    assert solutions.rank_of_partner(similarity).float().median() == retrieval.median_rank(similarity)


def test_solutions_of_self_training_agree_with_the_library():
    config = tiny()
    model, clips = MAViL.from_pretrained("tiny"), World(12, 5, config.model, config.train.augment, quiet=True)
    batch = evaluation_batch(clips)[0]
    frozen, inputs = Teacher(model, config.objective), to_inputs(batch, config.model)
    targets, encoded = frozen(inputs.audio, inputs.video), model.encode(inputs.audio, inputs.video)
    assert torch.allclose(solutions.normalise_tokens(encoded.fused_audio_tokens), targets.audio, atol=1e-4)
    means = position_means(batch, config.model, torch.device("cpu"), frozen)
    for name, found in health(frozen, batch, means, config.model).items():
        tokens = getattr(targets, name)
        assert math.isclose(solutions.variance_share(tokens), found.variance, rel_tol=1e-3)
        assert math.isclose(solutions.effective_rank(tokens.mean(dim=1)), found.rank, rel_tol=1e-3)
        mask = torch.rand(tokens.shape[:2], generator=torch.Generator().manual_seed(0)) < 0.8
        trivial = losses.token_answers(tokens, mask, getattr(means, name))
        assert any(math.isclose(solutions.mean_token_mse(tokens, tokens, mask), value, rel_tol=1e-4) for value in trivial.values())


def test_solutions_of_scaling_agree_with_the_library():
    model, (rows, devices) = paper().model, (8, 64)
    with torch.device("meta"):
        block = transformer.Transformer(model.encoder).blocks[0]
    assert solutions.block_weights(768, 4) == sum(p.numel() for p in block.parameters())
    assert math.isclose(solutions.peak_rate(2e-4, rows, devices, 1), paper().train.peak_lr)
    forward = sum(multiply_adds.forward_by_part(paper(), rows * devices).values())
    plan, rate = cost.Plan(2_000_000, 20, devices, gigabytes_a_second=25.0), cost.Rate(989 * 0.4)
    found, steps = cost.predict(paper(), plan, rate, cost.Reading()), 2_000_000 // 512 * 20
    hours = solutions.run_hours(forward, steps * 512, 1, 989, 0.4, devices)
    assert math.isclose(3600 * hours, found["seconds"]["arithmetic"], rel_tol=0.01)  # of patches no gradient is taken
    parameters, backward = sum(footprint.parameters_by_part(model).values()), cost.BACKWARD_SHARE * found["seconds"]["arithmetic"] / steps
    gathered = cost.exchanged_bytes(paper(), devices)[1] / 25e9
    wait = solutions.exchange_wait(parameters, devices, 25.0, backward)
    assert math.isclose(steps * (wait + gathered), found["seconds"]["exchange"], rel_tol=1e-6) and wait > 0
    for x, y, temperature in cases("gathered_info_nce"):
        whole = losses.info_nce(x.flatten(0, 1), y.flatten(0, 1), temperature)
        assert torch.allclose(solutions.gathered_info_nce(x, y, temperature), whole, atol=1e-5)
    for samples, _, ranks, _, workers in cases("own_samples"):
        readers = [(rank, ranks, worker, workers) for rank in range(ranks) for worker in range(workers)]
        read = [number for reader in readers for number in solutions.own_samples(samples, *reader)]
        assert sorted(read) == list(range(samples)), "each once"


def test_solutions_about_files_agree_with_what_is_read(tmp_path):
    times = [0.0, 0.04, 0.5, 0.52, 0.56, 1.2, 1.21, 1.9, 2.5, 2.54, 3.0, 3.6]
    path = made_clips.make_clip(tmp_path / "uneven.mkv", made_clips.pictures(len(times)), times=times, sound=made_clips.tone(3.64))
    for position in (0.0, 0.37, 1.0):
        clip = media.read_clip(path, 2.0, 2.0, 16, position)
        assert math.isclose(solutions.window_start(clip.seconds, 2.0, position), clip.video_start, abs_tol=1e-6)
        wanted = clip.video_start + (torch.arange(16) + 0.5) * 2 / 16
        shades = clip.frames.float().mean(dim=(1, 2, 3))[clip.seen]  # each picture has a grey of its own
        assert [round((float(shade) - 10) / 12) for shade in shades] == solutions.shown_at(torch.tensor(times), wanted[clip.seen]).tolist()
        assert clip.seen.sum() >= 15


def test_two_channels_are_read_as_their_mean(tmp_path):
    channels = np.stack([made_clips.tone(1), np.roll(made_clips.tone(1), 90)])
    path = made_clips.make_clip(tmp_path / "two.mka", sound=channels, layout="stereo", acodec="pcm_f32le")
    assert torch.allclose(media.read_clip(path, 1.0, 1.0, 1).waveform, solutions.mixed_down(torch.from_numpy(channels)), atol=1e-4)


def test_the_solution_of_fusion_joins_as_the_library_does():
    class RunningSum(torch.nn.Module):
        def forward(self, x, *_):
            return x.cumsum(dim=1)

    library = fusion.JointFusion(TransformerConfig(width=4, depth=1, heads=1))
    library.transformer = RunningSum()
    for audio_class, sound, video_class, picture, block in cases("fuse"):
        theirs = library.forward(Tokens(audio_class, sound), Tokens(video_class, picture))
        ours = solutions.fuse(audio_class, sound, video_class, picture, block)
        assert all(map(torch.equal, ours, [part for tokens in theirs for part in tokens]))


# What a learner may write


def masked_mse_by(answer, capsys) -> str:
    exercise("masked_mse")(answer)
    check("masked_mse")
    return capsys.readouterr().out


def test_the_misconception_of_averaging_over_all_patches_is_named(capsys):
    said = masked_mse_by(lambda prediction, target, mask: (prediction - target).square().mean(), capsys)
    assert "You averaged over all patches; the loss is over the hidden ones." in said
    assert "expected" in said and "got" in said


def test_an_unknown_mistake_is_shown_and_offers_a_hint(capsys):
    said = masked_mse_by(lambda prediction, target, mask: (prediction - target).square().mean() * 0.1234, capsys)
    assert said.startswith("masked_mse: not right yet, 0 of 4 cases.") and "→" not in said and 'check("masked_mse", hint=1)' in said


def test_a_learners_error_is_shown_in_one_block_with_their_line(capsys):
    def answer(prediction, target, mask):
        return prediction.nonsense()

    said = masked_mse_by(answer, capsys)
    assert "AttributeError" in said and "nonsense" in said and "in answer, line" in said and "return prediction.nonsense()" in said
    assert "case 1 (prediction (1, 6, 4) float32" in said and "grading.py" not in said
    said = masked_mse_by(lambda prediction: prediction, capsys)
    assert "TypeError" in said and "positional argument" in said


def test_an_exit_or_endless_recursion_is_an_error_like_any_other(capsys):
    def endless(*arguments):
        return endless(*arguments)

    def leave(*arguments):
        raise SystemExit(3)

    assert "RecursionError" in masked_mse_by(endless, capsys)
    assert "SystemExit" in masked_mse_by(leave, capsys)


def test_a_wrong_shape_type_or_kind_is_told(capsys):
    assert "expected a tensor () float32, got NoneType. Is a `return` missing?" in masked_mse_by(lambda *a: None, capsys)
    assert "expected shape (), got (1, 6, 4)" in masked_mse_by(lambda p, t, m: p, capsys)
    assert "expected float32, got float64" in masked_mse_by(lambda p, t, m: solutions.masked_mse(p, t, m).double(), capsys)
    assert "got float" in masked_mse_by(lambda p, t, m: float(solutions.masked_mse(p, t, m)), capsys)


def test_the_first_place_that_differs_is_told():
    expected = torch.zeros(2, 3)
    got = expected.clone()
    got[1, 2] = 0.5
    assert difference(expected, got, 1e-5) == "1 of 6 values differ; first at [1, 2]: expected 0, got 0.5"
    got[0, 1] = torch.nan
    assert difference(expected, got, 1e-5) == "2 of 6 values differ; first at [0, 1]: expected 0, got nan"
    assert difference([expected, expected], [expected, got], 1e-5).startswith("result 2 of 2: ")
    assert difference([expected, expected], [expected], 1e-5) == "expected 2 results, got 1 of them"
    assert difference([expected, expected], expected, 1e-5) == "expected 2 results, got Tensor"
    assert difference(torch.tensor([True]), torch.tensor([False]), 1e-5) == "1 of 1 values differ; first at [0]: expected True, got False"


def test_numbers_are_compared_as_numbers():
    assert difference(3, torch.tensor(3), 1e-5) is None and difference(3, 3, 1e-5) is None
    assert difference(3, 3.0, 1e-5) == "expected the whole number 3, got float 3"
    assert difference(3, 4, 1e-5) == "expected 3, got 4"
    assert difference(0.5, torch.tensor(0.5), 1e-5) is None
    assert difference(0.5, 0.6, 1e-5) == "expected 0.5, got 0.6"
    assert difference(0.5, float("nan"), 1e-5) == "expected 0.5, got nan"
    assert difference(0.5, None, 1e-5) == "expected the number 0.5, got NoneType"
    assert difference(0.5, torch.zeros(2), 1e-5) == "expected the number 0.5, got Tensor"


def test_an_answer_that_changes_its_arguments_is_told_and_harms_nothing(capsys):
    def answer(prediction, target, mask):
        result = solutions.masked_mse(prediction, target, mask)
        prediction.zero_()
        return result

    for _ in range(2):
        assert "changed its argument" in masked_mse_by(answer, capsys)
    assert grade(EXERCISES["masked_mse"], solutions.masked_mse).status == "passed"


def test_a_not_implemented_error_of_a_library_is_no_stub(capsys):
    def answer(prediction, target, mask):
        return torch.empty(2, device="meta").nonzero().tolist()

    said = masked_mse_by(answer, capsys)
    assert "not attempted" not in said and "NotImplementedError" in said
    with pytest.raises(NotImplementedError):
        exercise("masked_mse")(answer)(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.zeros(1, 1, dtype=torch.bool))


def test_a_stub_may_say_something(capsys):
    def answer(prediction, target, mask):
        raise NotImplementedError("write me")

    assert "not attempted" in masked_mse_by(answer, capsys)


def test_a_decorated_answer_stays_the_learners(capsys):
    @exercise("frames_in")
    def my_frames(samples):
        """Mine."""
        return 42

    assert my_frames(1) == 42 and my_frames.__doc__ == "Mine." and capsys.readouterr().out == ""


def test_the_newest_answer_counts(capsys):
    exercise("frames_in")(lambda samples: 0)
    exercise("frames_in")(solutions.frames_in)
    check("frames_in")
    assert capsys.readouterr().out == "frames_in: right in all 7 cases.\n"


def test_an_answer_that_lost_its_mark_is_graded_and_not_the_older_one(capsys, monkeypatch):
    notebook = {"frames_in": exercise("frames_in")(solutions.frames_in)}
    monkeypatch.setattr(exercises, "_shell", lambda: SimpleNamespace(user_ns=notebook))
    check("frames_in")
    assert capsys.readouterr().out == "frames_in: right in all 7 cases.\n"
    notebook["frames_in"] = lambda samples: 3
    check("frames_in")
    said = capsys.readouterr().out
    assert 'has no @exercise("frames_in") above it' in said and "right in all" not in said
    notebook["frames_in"] = 3  # no function: the marked one counts
    check("frames_in")
    assert capsys.readouterr().out == "frames_in: right in all 7 cases.\n"


def test_solutions_of_transfer_agree_with_the_library():
    g = torch.Generator().manual_seed(0)
    fitted, asked, labels = torch.randn(60, 8, generator=g), torch.randn(20, 8, generator=g), torch.arange(60) % 3
    truth = torch.randint(3, (20,), generator=g)
    centre = fitted.mean(dim=0)
    said = solutions.knn_vote(fitted - centre, labels, asked - centre, 10)
    found = probes.probe(fitted, [str(n) for n in labels.tolist()], asked, [str(n) for n in truth.tolist()], method="knn")
    assert float((said == truth).float().mean()) == pytest.approx(found.value)
    assert solutions.margin(found.value, found.clips) == pytest.approx(1.96 * found.error)
    config = replace(tiny().model, decoder=None, projection=None, predict_statistics=False, classes=3, classes_from="both")
    model = MAViL(config).eval()
    clips = {"audio": torch.randn(2, 1, 256, 128, generator=g), "video": torch.randn(2, 3, 8, 32, 32, generator=g)}
    encoded, (norm, linear) = model.encode(**clips), model.classifier
    tokens = encoded.fused_audio_tokens, encoded.fused_video_tokens
    scores = solutions.class_scores(*tokens, norm.weight, norm.bias, linear.weight, linear.bias)
    assert torch.allclose(scores, model.classify(**clips), atol=1e-5)
    recipe = FinetuneConfig()
    scales = sorted({group["scale"] for group in layerwise.make_optimiser(model, recipe, "fine-tuned").param_groups})
    assert torch.allclose(torch.tensor(scales), solutions.layer_rates(1.0, len(scales), recipe.layer_decay).float())
    drawn = mixing.draw_mixing(6, recipe, 0, 0)
    assert torch.equal(solutions.mixed_up(asked[:6], *drawn), mixing.blend(asked[:6], drawn))
    one_hot = torch.nn.functional.one_hot(truth, 3)
    assert torch.allclose(solutions.balanced_weights(truth), sampling_weights(one_hot.float()))
    chances = torch.rand(20, 3, generator=g)
    by_hand = [float(solutions.average_precision(chances[:, n], truth == n)) for n in range(3)]
    assert by_hand == pytest.approx(classification.metrics(chances, one_hot, multi_label=True)["per_class_ap"], abs=1e-5)
    heat, there = torch.rand(3, 2, 5, 5, generator=g), torch.rand(3, 2, 5, 5, generator=g) < 0.4
    assert torch.allclose(solutions.pointing(heat, there).double(), localise.localised(heat, there, 0.1).pointing)


def test_solutions_of_the_lab_agree_with_the_library():
    values = [2.8, 2.6, 0.8, 5.3, 2.0]
    low, high = solutions.interval_over_seeds(torch.tensor(values, dtype=torch.float64), 2.7764451051977934).tolist()
    found = verdicts.difference(values)
    assert (low, high) == pytest.approx((found.low, found.high))
    words = {1: "holds", 0: "undecided", -1: "does not hold"}
    for low, mean, high in ((0.5, 2, 3.5), (0.1, 0.6, 1.1), (-1, 0.2, 0.9), (-1, 1.5, 4), (-4, -3, -2), (0.2, 0.5, 0.8)):
        assert words[solutions.verdict_by_rule(low, mean, high, 1.0)] == verdicts.verdict_of(
            verdicts.Interval(mean, low, high, 5), "more", 1.0
        )
    ten, random = np.random.default_rng(3).normal(50, 5, 10), np.random.default_rng(0)
    deals = torch.tensor(np.stack([random.permutation(10) for _ in range(1000)])).reshape(1000, 2, 5)
    share = solutions.share_of_false_findings(torch.tensor(ten), deals, 2.7764451051977934)
    assert float(share) == pytest.approx(verdicts.false_findings(ten.tolist(), 5, 1000, 0), abs=1e-6)


def test_hints_come_one_by_one_and_end(capsys):
    entry = EXERCISES["masked_mse"]
    for number, text in enumerate(entry.hints, 1):
        check("masked_mse", hint=number)
        assert text in capsys.readouterr().out
    for nonsense in (0, 4, -1, "two", 1.5):
        check("masked_mse", hint=nonsense)
        assert "has hints 1 to 3" in capsys.readouterr().out


def test_an_unknown_name_is_refused_with_the_nearest(capsys):
    for call in (exercise, check):
        with pytest.raises(ValueError, match="no exercise 'maskd_mse'; did you mean masked_mse"):
            call("maskd_mse")
    with pytest.raises(ValueError, match="no quiz question 'why_ration'; did you mean why_ratio"):
        quiz("why_ration")
    with pytest.raises(ValueError, match="no exercise None"):
        check(None)
    check("masked_mse")
    assert "there is no answer yet" in capsys.readouterr().out


# Questions


@pytest.mark.parametrize("entry", QUIZZES.values(), ids=QUIZZES)
def test_a_question_is_asked_and_each_choice_answered_with_its_reason(entry, capsys):
    quiz(entry.name)
    asked = capsys.readouterr().out
    assert entry.question in asked and all(f"{letter}) {text}" in asked for letter, (text, _) in zip("abc", entry.choices, strict=True))
    assert not any(reason in asked for _, reason in entry.choices)
    for letter, (_, reason) in zip(entry.letters, entry.choices, strict=True):
        quiz(entry.name, f" {letter.upper()}) ")
        said = capsys.readouterr().out
        assert said == f"{letter}) is {'right' if letter == entry.right else 'not right'}. {reason}\n"
    assert entry.right in entry.letters


@pytest.mark.parametrize("nonsense", ["", "d", "ab", 7, "80 %", [], "ä", "a b"])
def test_a_nonsense_answer_is_met_with_the_choices(nonsense, capsys):
    quiz("why_ratio", nonsense)
    assert capsys.readouterr().out == f"There is no answer {nonsense!r}; choose a, b or c.\n"


def test_the_right_letter_is_not_always_the_same():
    for lesson in LESSONS:
        assert len({entry.right for entry in lesson.QUIZZES}) >= 2


# Progress


def test_tries_are_counted_and_what_was_passed_stays_passed(tmp_path):
    exercise("frames_in")(stub)
    check("frames_in")
    assert record.load() == {"exercises": {}, "quizzes": {}}
    for answer in (lambda samples: 0, solutions.frames_in, lambda samples: 0):
        exercise("frames_in")(answer)
        check("frames_in")
    quiz("why_ratio")
    quiz("why_ratio", "a")
    assert record.load() == {
        "exercises": {"frames_in": {"tries": 3, "passed": True}},
        "quizzes": {"why_ratio": {"tries": 1, "passed": False}},
    }
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_an_unwritable_or_damaged_file_is_told_once_and_breaks_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    for path, words in ((tmp_path / "file" / "progress.json", "File exists"), (tmp_path / "damaged.json", "delete it to begin anew")):
        if path.name == "damaged.json":
            path.write_text('{"exercises": {"frames_in": 3}}')
        monkeypatch.setenv("MAVIL_EDU_PROGRESS", str(path))
        exercise("frames_in")(solutions.frames_in)
        check("frames_in")
        said = capsys.readouterr().out
        assert said.startswith("frames_in: right") and "Progress is not kept" in said and words in said
        check("frames_in")
        assert capsys.readouterr().out == "frames_in: right in all 7 cases.\n"
    assert (tmp_path / "damaged.json").read_text() == '{"exercises": {"frames_in": 3}}'


def test_nothing_is_kept_where_the_variable_is_empty(monkeypatch):
    monkeypatch.setenv("MAVIL_EDU_PROGRESS", "")
    assert record.progress_file() is None and record.note("exercises", "frames_in", True) is None
    monkeypatch.delenv("MAVIL_EDU_PROGRESS")
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert record.progress_file() == Path("/somewhere/mavil_edu/progress.json")


# The exercises in the notebooks


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebooks_exercises_are_known_and_take_the_solutions_arguments(path):
    used, asked = set(), set()
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(cell.source)):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
            if name == "quiz":
                asked.add(ast.literal_eval(node.args[0]))
            for decorator in getattr(node, "decorator_list", []):
                if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "exercise":
                    entry = EXERCISES[ast.literal_eval(decorator.args[0])]
                    used.add(entry.name)
                    assert [a.arg for a in node.args.args] == list(inspect.signature(entry.reference).parameters), entry.name
    lesson = path.stem[:2]
    assert {EXERCISES[name].lesson for name in used} <= {lesson} and {QUIZZES[name].lesson for name in asked} <= {lesson}
    assert len(used) >= 4 and {EXERCISES[name].difficulty for name in used} == {1, 2, 3} and len(asked) >= 3
