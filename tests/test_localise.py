"""Where a sound comes from: the world's truth against its pictures, scores worked out by hand, and heat maps with their controls."""

import dataclasses
import json
import math

import pytest
import torch
from made_clips import make_clip, pictures, tone

from mavil_edu import MAViL, cli, media
from mavil_edu.config import AugmentConfig, tiny_squares
from mavil_edu.data.batch import evaluation_batch, to_inputs
from mavil_edu.data.factors import sample_factors
from mavil_edu.data.world import World, write_world
from mavil_edu.data.world_picture import object_mask, object_place, render_video
from mavil_edu.localise import (
    Localised,
    centre,
    contrast,
    draw_views,
    frame_difference,
    heat_maps,
    localised,
    mean_and_interval,
    over,
    over_frames,
    smooth_in_time,
    summary_of,
    token_means,
)
from mavil_edu.localise_files import generate, overlay
from mavil_edu.localise_world import score_world, truth_of

CONFIG = tiny_squares().model
TIMES = (torch.arange(8, dtype=torch.float64) + 0.5) * 0.32


# The truth


@pytest.mark.parametrize("difficulty", ["default", "hard"])
def test_the_true_place_is_where_the_picture_changes_with_the_material_in_every_frame(difficulty):
    f = sample_factors(60, seed=3, difficulty=difficulty)
    other = dataclasses.replace(f, material=(f.material + 1) % 6)  # another colour and texture: nothing but the object changes
    changed = (render_video(f, TIMES, 64, 64).int() - render_video(other, TIMES, 64, 64).int()).abs().amax(-1) > 2
    mask = object_mask(f, TIMES, 64, 64)
    overlap = (changed & mask).sum(dim=(2, 3)) / (changed | mask).sum(dim=(2, 3))
    assert overlap.min() > 0.5  # a mallet's stick or head hides some, and some texels look alike
    assert overlap.mean() > 0.9
    assert not (changed & ~mask).flatten(2).sum(dim=2).gt(0.2 * mask.flatten(2).sum(dim=2)).any(), "but for its soft edge, nothing outside"


def test_the_place_of_one_clip_equals_its_place_among_many_and_the_mask_a_naive_loop():
    f = sample_factors(9, seed=4)
    place, alone = object_place(f, TIMES), object_place(f[5:6], TIMES)
    assert all(torch.equal(x[5:6], y) for x, y in zip(place, alone, strict=True))
    assert place.across.shape == place.down.shape == (9, 8) and place.radius.shape == (9, 1)
    mask = object_mask(f[5:6], TIMES, 16, 16)[0]
    for t in range(8):
        for y in range(16):
            for x in range(16):
                away = math.hypot((x + 0.5) / 16 - float(alone.across[0, t]), (y + 0.5) / 16 - float(alone.down[0, t]))
                if abs(away - float(alone.radius)) > 1e-5:
                    assert bool(mask[t, y, x]) == (away < float(alone.radius))


def test_written_clips_tell_the_box_of_their_object_in_every_frame(tmp_path):
    write_world(tmp_path, 2, seed=6, size=96)
    lines = (tmp_path / "places.csv").read_text().splitlines()
    assert lines[0] == "clip,frame,seconds,left,top,right,bottom" and len(lines) == 1 + 2 * 64
    times = torch.arange(64, dtype=torch.float64) / 25
    mask = object_mask(sample_factors(2, 6), times, 96, 96)
    for clip, number in ((0, 0), (1, 17)):
        name, frame, seconds, *box = lines[1 + 64 * clip + number].split(",")
        assert (name, int(frame), float(seconds)) == (f"{clip:03d}.mp4", number, pytest.approx(number / 25))
        down, across = mask[clip, number].nonzero().unbind(dim=1)
        seen = (across.min(), down.min(), across.max() + 1, down.max() + 1)
        for told, pixel in zip(map(float, box), seen, strict=True):
            assert 96 * min(max(told, 0), 1) == pytest.approx(float(pixel), abs=1.01)


# Scores


def test_pointing_and_overlap_of_maps_worked_out_by_hand():
    truth = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    truth[:, :, :2, :2] = True
    heat = torch.zeros(1, 2, 4, 4)
    heat[0, 0, 0, :] = torch.tensor([4.0, 3, 2, 1])  # of the 4 hottest, 2 on the object: 2 / (4 + 4 − 2)
    heat[0, 1, 3, 3] = 5  # its maximum is beside; the other 3 of 4 are drawn from 15 equals, 4 of them on the object
    found = localised(heat, truth, share=0.25)
    assert float(found.pointing) == pytest.approx(0.5)
    second = 3 * 4 / 15
    assert float(found.ciou) == pytest.approx((2 / 6 + second / (8 - second)) / 2)


def test_a_perfect_map_scores_1_an_even_one_chance_and_a_map_gains_nothing_by_its_scale():
    truth = object_mask(sample_factors(5, 1), TIMES, 32, 32)
    share = float(truth.float().mean())
    perfect = localised(truth.float(), truth, share)
    assert (perfect.pointing == 1).all()
    even = localised(torch.zeros(truth.shape), truth, share)
    assert torch.allclose(even.pointing, truth.float().mean(dim=(1, 2, 3)).double(), atol=1e-6)
    heat = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    for one, same in zip(localised(heat, truth, share), localised(3 * heat + 7, truth, share), strict=True):
        assert torch.allclose(one, same)


def test_frames_without_an_object_are_left_out():
    truth = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    truth[0, 0, 0, 0] = True
    heat = torch.tensor([[[[1.0, 0], [0, 0]], [[0, 0], [0, 1]]]])
    assert float(localised(heat, truth, 0.25).pointing) == float(localised(heat, truth, 0.25).ciou) == 1


def test_the_summary_is_that_of_the_definitions():
    ciou = torch.tensor([0.12, 0.63, 0.71, 0.22], dtype=torch.float64)
    found = summary_of(Localised(ciou, ciou))
    assert found["success"]["mean"] == 0.5
    naive = [float((ciou >= i / 20).double().mean()) for i in range(21)]
    assert found["auc"] == pytest.approx(sum((a + b) / 2 * 0.05 for a, b in zip(naive, naive[1:], strict=False)), abs=1e-9)
    assert found["pointing"]["interval95"] == pytest.approx(3.18245 * float(ciou.std()) / 2, rel=1e-5)  # Student's t for 4 clips
    assert over(Localised(ciou, ciou), Localised(ciou - 0.1, ciou))["pointing"] == pytest.approx({"mean": 0.1, "interval95": 0.0}, abs=1e-9)
    assert mean_and_interval(ciou[:1])["interval95"] == math.inf


@pytest.mark.parametrize("clips", [3, 30])
def test_an_interval_of_95_per_cent_holds_the_mean_as_often_however_few_clips_there_are(clips):
    draws = torch.randn(2000, clips, generator=torch.Generator().manual_seed(clips))
    inside = [abs(found["mean"]) < found["interval95"] for found in map(mean_and_interval, draws)]
    assert sum(inside) / len(inside) == pytest.approx(0.95, abs=0.015)


def test_scores_of_other_shapes_and_shares_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        localised(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 8, 8, dtype=torch.bool), 0.1)
    with pytest.raises(ValueError, match=r"share \(0\)"):
        localised(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4, dtype=torch.bool), 0)


# Maps


def test_a_tokens_heat_is_the_mean_over_the_views_that_show_it():
    shown = torch.tensor([[True, True, False, False], [True, False, True, False]])
    heat = token_means(torch.tensor([[1.0, 3.0]]), shown)
    assert heat.tolist() == [[2.0, 1.0, 3.0, 2.0]]  # the last is never shown: the mean of all
    views = draw_views(CONFIG.video, 50, 3, torch.Generator().manual_seed(0))
    assert views.shape == (50, 64) and (views.sum(dim=1) == 3).all()
    with pytest.raises(ValueError, match="1 to 64"):
        draw_views(CONFIG.video, 50, 65)


def test_smoothing_keeps_what_stands_still_and_never_leaves_the_range():
    heat = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    still = heat[:, :1].expand(-1, 4, -1, -1)
    assert torch.allclose(smooth_in_time(still), still)
    moved = smooth_in_time(heat)
    assert torch.allclose(moved[:, 1], (heat[:, 0] + 2 * heat[:, 1] + heat[:, 2]) / 4)
    assert moved.max() <= heat.max() and moved.min() >= heat.min()


def test_a_hot_token_is_hottest_in_its_own_pixels_and_its_own_frames():
    heat = torch.zeros(1, 4, 4, 4)
    heat[0, 2, 1, 3] = 1
    wide = over_frames(heat, 8, 32, 32)
    t, y, x = (int(i[0]) for i in torch.where(wide[0] == wide.max()))
    assert t // 2 == 2 and y // 8 == 1 and x // 8 == 3
    assert float(wide[0, [0, 1, 2, 3, 6, 7]].abs().max()) == 0


def test_baselines_see_what_they_are_called_after():
    assert torch.where(centre(torch.zeros(1, 1, 5, 5))[0, 0] == 0) == (torch.tensor([2]), torch.tensor([2]))
    video = torch.zeros(1, 3, 8, 32, 32)
    video[0, :, 5, 8:16, 24:32] = 1  # flashes once: in the third time patch, and gone in the next
    assert frame_difference(video, CONFIG.video)[0, 2].argmax() == 1 * 4 + 3
    assert contrast(video, CONFIG.video)[0, 2].argmax() == 1 * 4 + 3 and contrast(video, CONFIG.video)[0, 0].abs().max() == 0


@pytest.fixture(scope="module")
def model() -> MAViL:
    return MAViL.from_pretrained("tiny-squares")


@pytest.fixture(scope="module")
def inputs(model):
    return to_inputs(evaluation_batch(World(3, 5, model.config, AugmentConfig(), quiet=True))[0], model.config)


@pytest.mark.parametrize("method", ["views", "alone", "tokens"])
def test_maps_are_cosines_repeat_themselves_and_a_clip_is_mapped_alike_alone_or_among_others(model, inputs, method):
    heat = heat_maps(model, inputs.audio, inputs.video, method, views=40)
    assert heat.shape == (3, 4, 4, 4) and heat.abs().max() <= 1 and heat.std() > 0
    assert torch.equal(heat, heat_maps(model, inputs.audio, inputs.video, method, views=40))
    assert torch.allclose(heat[1:2], heat_maps(model, inputs.audio[1:2], inputs.video[1:2], method, views=40), atol=1e-5)
    assert not torch.allclose(heat, heat_maps(model, inputs.audio.roll(1, dims=0), inputs.video, method, views=40), atol=1e-2), (
        "the sound counts"
    )


def test_the_heat_of_a_token_alone_is_deaf_to_every_other_token(model, inputs):
    changed = inputs.video.clone()
    changed[:, :, :, :8, :8] = 0  # the first column of tokens
    one, two = (heat_maps(model, inputs.audio, video, "alone", smooth=False) for video in (inputs.video, changed))
    assert torch.allclose(one[:, :, 1:], two[:, :, 1:], atol=1e-6) and not torch.allclose(one[:, :, 0, 0], two[:, :, 0, 0], atol=1e-3)
    with pytest.raises(ValueError, match="views, alone, tokens"):
        heat_maps(model, inputs.audio, inputs.video, "attention")


def test_the_shipped_model_points_at_the_object_more_than_the_centre_another_sound_and_no_training(model):
    found = score_world(model, clips=48, seed=21, views=128)
    scores = {name: summary["ciou"]["mean"] for name, summary in found["scores"].items()}
    assert scores["model"] > max(scores["centre"], scores["another clip's sound"], scores["untrained"], scores["random"]) + 0.05
    ciou = found["over_centre"]["ciou"]
    assert ciou["mean"] - ciou["interval95"] > 0
    assert 0.05 < found["share"] < 0.3


def test_truth_and_pictures_of_a_scored_world_are_of_the_same_clips_and_moments(model):
    world = World(3, 7, model.config, AugmentConfig(), quiet=True)
    clip = generate(2, 7, model.config)
    assert torch.equal(clip.sample.frames, world.sample(2, None).frames)
    assert torch.equal(clip.sample.waveform, world.sample(2, None).waveform)
    small = torch.nn.functional.avg_pool2d(clip.truth[3::8].float()[:, None], 6)[:, 0] > 0.5
    agree = (small == truth_of(world)[2]).float().mean()
    assert agree > 0.97


# Files and the command


def test_an_overlay_leaves_the_coldest_place_covers_the_hottest_and_draws_the_truths_edge():
    frames = torch.full((2, 32, 32, 3), 100, dtype=torch.uint8)
    heat = torch.zeros(2, 4, 4)
    heat[:, 0, 0] = 1
    shown = overlay(frames, heat)
    assert (
        shown.dtype == torch.uint8 and (shown[:, 3, 3].float() - 100).abs().max() > 30 and (shown[:, 28, 28].float() - 100).abs().max() < 12
    )
    truth = torch.zeros(2, 32, 32, dtype=torch.bool)
    truth[:, 10:20, 10:20] = True
    edged = overlay(frames, torch.zeros(2, 4, 4), truth)
    assert (edged[:, 10, 10] == 255).all() and (edged[:, 15, 15] < 255).all()


def told(capsys, *arguments: object) -> dict:
    assert cli.main(["localise", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_clips_heat_map_is_written_as_a_film_with_its_sound_and_a_filmstrip(capsys, tmp_path):
    write_world(tmp_path / "world", 1, seed=9)
    found = told(capsys, tmp_path / "world" / "000.mp4", "--out", tmp_path / "where", "--method", "alone")
    assert [item["file"] for item in found["files"]] == ["000-heat.mp4", "000-heat.png"]
    assert "another's" in found["files"][1]["caption"]
    clip = media.read_clip(tmp_path / "where" / "000-heat.mp4", 2.56, 2.56, 8)
    assert clip.seen.all() and clip.frames.shape[1:3] == (192, 192)
    own = media.read_clip(tmp_path / "world" / "000.mp4", 2.56, 2.56, 8).waveform
    assert torch.corrcoef(torch.stack([clip.waveform, own]))[0, 1] > 0.8


def test_scores_stand_beside_their_baselines_in_the_object_and_in_the_terminal(capsys, tmp_path):
    found = told(capsys, "--clips", 4, "--method", "tokens", "--out", tmp_path / "scores")
    names = {"model", "another clip's sound", "untrained", "centre", "random", "frame difference", "contrast", "mean place"}
    assert set(found["scores"]) == names and len(found["files"]) == 6
    assert json.loads((tmp_path / "scores" / "localise.json").read_text()) == found
    assert cli.main(["localise", "--clips", "4", "--method", "tokens"]) == 0
    shown = capsys.readouterr()
    assert f"{found['scores']['model']['ciou']['mean']:.3f}" in shown.out and "the centre" in shown.err


def test_a_model_whose_patches_are_columns_is_said_to_map_coarsely(capsys):
    assert cli.main(["localise", "--clips", "3", "--method", "tokens", "--checkpoint", "tiny"]) == 0
    assert "1 × 8 patches" in capsys.readouterr().err
    assert cli.main(["localise", "--clips", "3", "--method", "tokens"]) == 0
    assert "patches" not in capsys.readouterr().err


def test_what_cannot_be_localised_is_refused_with_the_remedy(capsys, tmp_path):
    def refused(*arguments: object) -> str:
        assert cli.main(["localise", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    mute = make_clip(tmp_path / "mute.mp4", images=pictures(70))
    blind = make_clip(tmp_path / "blind.m4a", sound=tone(2.6))
    assert "no sound" in refused(mute, "--out", tmp_path / "a") and "no picture" in refused(blind, "--out", tmp_path / "a")
    assert "--out FOLDER" in refused(mute) and "is a file" in refused(mute, "--out", mute)
    assert "--clips is 1" in refused("--clips", 1) and "--position is 2" in refused(mute, "--out", tmp_path / "a", "--position", 2)
    assert "no such file" in refused(tmp_path / "nowhere.mp4", "--out", tmp_path / "a").lower()
