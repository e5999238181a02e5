"""In-painting across modalities: the same patches filled from each partner; and training with whole modalities hidden."""

import json
from dataclasses import replace

import pytest
import torch

from mavil_edu import MAViL, cli, tiny
from mavil_edu.config import AugmentConfig, ObjectiveConfig
from mavil_edu.data.batch import Batch, evaluation_batch, to_inputs
from mavil_edu.data.world import World
from mavil_edu.evaluate import PositionMeans, position_means
from mavil_edu.inpaint import PARTNERS, Filled, fill, hiding, next_clips, summary_of, with_partner
from mavil_edu.inpaint_files import filled_in
from mavil_edu.losses import masked_mse
from mavil_edu.mavil import Masks, draw_masks, patch_targets, terms_left_out
from mavil_edu.train import first_view_at, objective_at

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> MAViL:
    return MAViL.from_pretrained("tiny")


@pytest.fixture(scope="module")
def batch(model) -> Batch:
    return evaluation_batch(World(70, 31, model.config, AugmentConfig(), quiet=True))[0]  # more than are evaluated at once


@pytest.fixture(scope="module")
def means(model) -> PositionMeans:
    return position_means(evaluation_batch(World(40, 32, model.config, AugmentConfig(), quiet=True))[0], model.config, CPU)


def test_only_the_asked_modality_is_hidden_and_only_the_partner_changes(model, batch):
    few = Batch(*(field[:4] for field in batch))
    inputs, others = (to_inputs(b, model.config) for b in (few, next_clips(few)))
    masks = draw_masks(4, model.config, hiding("video", 0.8))
    assert masks.video.float().mean() == pytest.approx(51 / 64) and not masks.audio.any()
    given, shown = with_partner(inputs, others, masks, "video", "another's")
    assert torch.equal(given.video, inputs.video) and torch.equal(given.audio[:3], inputs.audio[1:]) and shown is masks
    assert torch.equal(given.audio[3], inputs.audio[0]), "the last clip gets the first one's"
    given, shown = with_partner(inputs, others, masks, "video", "none")
    assert given is inputs and shown.audio.all() and torch.equal(shown.video, masks.video)


def test_what_is_filled_from_none_is_deaf_to_the_partner_and_from_the_own_is_not(model, batch, means):
    few = Batch(*(field[:6] for field in batch))
    quiet = few._replace(waveform=0.3 * few.waveform.flip(1))
    one, two = (fill(model, b, means, "video", hiding("video", 0.8)) for b in (few, quiet))
    assert torch.equal(one.partners["none"], two.partners["none"])
    assert not torch.allclose(one.partners["own"], two.partners["own"], atol=1e-4)


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_errors_are_the_masked_mse_of_the_hidden_patches_with_the_true_and_the_next_clips_partner(model, batch, means, modality):
    objective = hiding(modality, 0.8)
    found = fill(model, batch, means, modality, objective, seed=3)
    inputs, others = (to_inputs(b, model.config) for b in (batch, next_clips(batch)))
    masks = draw_masks(70, model.config, objective, torch.Generator().manual_seed(3))
    mask, target = getattr(masks, modality), getattr(patch_targets(inputs.audio, inputs.video, model.config), modality)
    other = {"audio": "video", "video": "audio"}[modality]
    stranger = inputs._replace(**{other: getattr(others, other)})
    with torch.no_grad():
        for name, given in (("own", inputs), ("another's", stranger)):
            predicted = getattr(model(given.audio, given.video, masks), modality).patches
            for i in (0, 63, 64, 69):  # on both sides of the border between two chunks
                expected = masked_mse(predicted[i : i + 1], target[i : i + 1], mask[i : i + 1])
                assert float(found.partners[name][i]) == pytest.approx(float(expected), rel=1e-3)
    naive = masked_mse(getattr(means, modality)[None], target[5:6], mask[5:6])
    assert float(found.trivial["position mean"][5]) == pytest.approx(float(naive), rel=1e-4)


def test_a_hidden_clip_has_no_nearest_patch_and_a_partial_one_has(model, batch, means):
    few = Batch(*(field[:3] for field in batch))
    assert "nearest visible" not in fill(model, few, means, "audio", hiding("audio", 1.0)).trivial
    assert "nearest visible" in fill(model, few, means, "audio", hiding("audio", 0.5)).trivial


def test_the_summary_is_paired_relative_to_the_own_partner_and_leaves_out_what_has_no_hidden_patch():
    own = torch.tensor([1.0, 3.0, float("nan")])
    trivial = {"position mean": own + 1, "mean plus residual": own + torch.tensor([0, 1, 0])}
    filled = Filled({"own": own, "another's": own + 0.5, "none": own - 0.2}, trivial)
    found = summary_of(filled)
    assert found["clips"] == 2 and found["partners"]["own"]["mean"] == 2 and found["best_trivial"] == "mean plus residual"
    assert found["worse_with_another's"] == pytest.approx({"mean": 25.0, "interval95": 0.0}, abs=1e-4)
    assert found["worse_with_none"]["mean"] == pytest.approx(-10.0, abs=1e-4)
    assert found["worse_with_best_trivial"]["mean"] == pytest.approx(25.0)
    with pytest.raises(ValueError, match="hide more"):
        summary_of(Filled({name: own[1:] for name in PARTNERS}, {"position mean": own[1:]}))


def test_the_shipped_model_fills_pictures_better_with_their_own_sound_than_with_anothers(model, batch, means):
    found = summary_of(fill(model, batch, means, "video", hiding("video", 0.8)))
    stranger = found["worse_with_another's"]
    assert stranger["mean"] - stranger["interval95"] > 0
    assert found["partners"]["own"]["mean"] < found["trivial"][found["best_trivial"]]["mean"]


def test_examples_are_filled_as_the_scored_clips_are(model, batch):
    [one, _] = filled_in(model, batch, "video", hiding("video", 0.8), clips=2, seed=4)
    masks = draw_masks(70, model.config, hiding("video", 0.8), torch.Generator().manual_seed(4))
    assert torch.equal(one["own"].masks.video, masks.video[0])
    assert torch.equal(one["own"].frames.original, one["none"].frames.original)
    assert not torch.equal(one["own"].frames.completed, one["another's"].frames.completed)


def test_what_cannot_be_filled_is_refused_with_the_remedy(model, batch, means, capsys, tmp_path):
    with pytest.raises(ValueError, match="choose audio"):
        hiding("text")
    for ratio in (0.0, 1.5):
        with pytest.raises(ValueError, match="above 0, and 1 at most"):
            hiding("audio", ratio)
    with pytest.raises(ValueError, match="two clips or more"):
        fill(model, Batch(*(field[:1] for field in batch)), means, "audio", hiding("audio"))
    assert cli.main(["inpaint", "--clips", "1"]) == 2 and "2 or more" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert cli.main(["inpaint", "--out", str(tmp_path / "file")]) == 2 and "is a file" in capsys.readouterr().err


@pytest.mark.parametrize("hide", ["audio", "video"])
def test_the_command_writes_its_numbers_and_what_they_look_or_sound_like(capsys, tmp_path, hide):
    assert cli.main(["inpaint", "--hide", hide, "--ratio", "0.8", "--clips", "4", "--out", str(tmp_path / "filled"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "filled" / "inpaint.json").read_text())
    assert set(found["partners"]) == set(PARTNERS) and found["clips"] == 4 and found["hidden"] == hide
    suffixes = [item["file"].rsplit(".", 1)[1] for item in found["files"]]
    assert suffixes == (["png", "wav", "wav", "wav", "wav"] if hide == "audio" else ["png", "mp4"]) * 3
    assert all((tmp_path / "filled" / item["file"]).stat().st_size > 100 for item in found["files"])


# Training so


def objective(**options) -> ObjectiveConfig:
    return replace(tiny().objective, **options)


def test_by_default_no_modality_is_hidden_wholly_and_steps_are_as_before():
    config = tiny()
    assert config.objective.whole_hidden == 0 and ObjectiveConfig().whole_hidden == 0
    assert all(first_view_at(step, config, 0) == objective_at(step, config) == config.objective for step in range(50))


def test_a_share_of_the_steps_hides_one_modality_wholly_either_as_often_and_the_same_for_the_same_seed():
    config = replace(tiny(), objective=objective(whole_hidden=0.5))
    ratios = [(view.audio_ratio, view.video_ratio) for view in (first_view_at(step, config, 7) for step in range(2000))]
    counts = {pair: ratios.count(pair) for pair in set(ratios)}
    assert set(counts) == {(0.8, 0.8), (1.0, 0.8), (0.8, 1.0)}
    assert abs(counts[0.8, 0.8] - 1000) < 100 and abs(counts[1.0, 0.8] - 500) < 80
    assert first_view_at(11, config, 7) == first_view_at(11, config, 7)
    assert ratios != [(view.audio_ratio, view.video_ratio) for view in (first_view_at(step, config, 8) for step in range(2000))]


def test_a_step_with_a_modality_hidden_wholly_trains_its_decoder_and_keeps_the_second_views_contrast(batch):
    from mavil_edu.data.loader import Step, generator_for
    from mavil_edu.train import make_fabric, set_up, update

    config = replace(tiny(), objective=objective(whole_hidden=1.0))
    fabric, model = make_fabric(config), MAViL(config)
    before = model.audio_decoder.predict.weight.clone(), model.video_decoder.predict.weight.clone()
    trained, optimiser = set_up(fabric, model, config.train)
    data = Step(Batch(*(field[:8] for field in batch)), drawn=8, skipped=[], dropped=0, numbers=list(range(8)))
    view, inputs = first_view_at(0, config, 0), to_inputs(data.batch, config.model)
    masks = draw_masks(8, config.model, view, generator_for(0, 2, 0, 0))
    assert masks.audio.all() != masks.video.all(), "one of them wholly hidden"
    with torch.no_grad():
        predicted = model(inputs.audio, inputs.video, masks)
        targets = patch_targets(inputs.audio, inputs.video, config.model)
    losses, norm = update(fabric, trained, optimiser, data, config, seed=0, step=0)
    for name in ("audio", "video"):
        expected = masked_mse(getattr(predicted, name).patches, getattr(targets, name), getattr(masks, name))
        assert float(getattr(losses, name)) == pytest.approx(float(expected), rel=1e-4), "that is what the step is trained on"
    assert losses.inter is not None and losses.intra is not None and torch.isfinite(norm)
    after = model.audio_decoder.predict.weight, model.video_decoder.predict.weight
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_hiding_a_modality_at_every_step_without_a_second_view_leaves_contrast_out_and_says_so():
    model = tiny().model
    assert any("between modalities is left out" in s for s in terms_left_out(model, objective(whole_hidden=1.0, inter_views=1)))
    assert not terms_left_out(model, objective(whole_hidden=1.0)) and not terms_left_out(model, objective(whole_hidden=0.9, inter_views=1))
    with pytest.raises(ValueError, match="whole_hidden is 1.5"):
        objective(whole_hidden=1.5)


def test_with_a_modality_wholly_hidden_nothing_of_it_reaches_the_prediction(model, batch):
    inputs = to_inputs(Batch(*(field[:2] for field in batch)), model.config)
    masks = draw_masks(2, model.config, hiding("audio"))
    with torch.no_grad():
        one, two = (model(audio, inputs.video, Masks(*masks)).audio.patches for audio in (inputs.audio, torch.zeros_like(inputs.audio)))
    assert torch.equal(one, two)
