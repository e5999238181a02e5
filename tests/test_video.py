"""Claims about the way from frames to the normalised clip, and back."""

import subprocess
import sys

import pytest
import torch
from einops import rearrange
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mavil_edu import video
from mavil_edu.config import AugmentConfig, VideoConfig, paper, tiny
from mavil_edu.patches import patchify

TINY, PAPER = tiny().model.video, paper().model.video
SQUARE = VideoConfig(frames=4, height=32, width=32, patch_height=8, patch_width=8)
WIDE = VideoConfig(frames=4, height=32, width=64, patch_height=8, patch_width=8)
STILL = AugmentConfig(crop=(1.0, 1.0), flip=False)


def random_frames(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def coordinates(size):
    """One frame of (size, size) pixels; red tells how far across, green how far down, from 0 to 255."""
    ramp = torch.linspace(0, 255, size).round().to(torch.uint8)
    across, down = torch.meshgrid(ramp, ramp, indexing="xy")
    return torch.stack([across, down, torch.zeros_like(across)], -1)[None]


# The target's size


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([SQUARE, WIDE]))
@example(70, 1, WIDE)  # half a pixel high, before rounding
def test_frames_of_any_size_fill_the_target_without_borders(height, width, config):
    found = video.fit(torch.full((2, height, width, 3), 200, dtype=torch.uint8), config)
    assert found.shape == (2, config.height, config.width, 3) and found.dtype == torch.uint8
    assert (found == 200).all()


def test_frames_of_the_right_size_come_back_as_they_are():
    frames = random_frames(4, 32, 32, 3)
    assert torch.equal(video.fit(frames, SQUARE), frames)


@pytest.mark.parametrize("axis", [1, 2])
def test_the_middle_of_a_long_picture_is_kept(axis):
    thirds = [torch.full((2, 60, 60, 3), value, dtype=torch.uint8) for value in (10, 100, 250)]
    assert (video.fit(torch.cat(thirds, axis), SQUARE) == 100).all()


def test_the_scale_is_the_same_in_both_directions():
    frame = coordinates(120)[:, :, :60]  # 120 down, 60 across: the full width, and the middle half of the height
    found = video.fit(frame, SQUARE)[0].float()
    across, down = (found[..., colour].amax() - found[..., colour].amin() for colour in (0, 1))
    assert abs(across - down) <= 2 and across > 110


def test_cutting_first_gives_the_same_picture_as_resizing_first():
    from torchvision.transforms.v2 import functional

    frames = random_frames(2, 64, 96, 3)
    other = functional.resize(rearrange(frames, "t h w c -> t c h w"), [32], antialias=True)
    other = rearrange(functional.center_crop(other, [32, 32]), "t c h w -> t h w c")
    inner = (slice(None), slice(None), slice(1, -1))  # at the cut itself, resizing first mixes in what lies beyond
    assert (video.fit(frames, SQUARE)[inner].int() - other[inner].int()).abs().max() <= 1


def test_fine_stripes_become_grey_not_coarse_stripes():
    frames = torch.zeros(1, 160, 160, 3, dtype=torch.uint8)
    frames[:, :, ::2] = 255
    found = video.fit(frames, SQUARE).float()
    assert (found - 127.5).abs().max() < 30


def test_a_very_wide_picture_costs_no_memory():
    assert video.fit(random_frames(1, 1, 200_000, 3), PAPER).shape == (1, 224, 224, 3)


def test_neither_the_import_nor_ready_frames_load_torchvision():
    code = (
        "import sys, torch; from mavil_edu import video; from mavil_edu.config import tiny, AugmentConfig; c = tiny().model.video\n"
        "f = torch.zeros(8, 32, 32, 3, dtype=torch.uint8)\n"
        "video.fit(f, c); video.augment(f, c, tiny().train.augment, torch.Generator()); video.normalise(f[None], c)\n"
        "sys.exit('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Augmentation


@settings(deadline=None, max_examples=20)
@given(st.integers(20, 60), st.integers(20, 60), st.integers(0, 10_000))
def test_no_crop_and_no_flip_is_fit(height, width, seed):
    frames = random_frames(2, height, width, 3)
    assert torch.equal(video.augment(frames, SQUARE, STILL, seeded(seed)), video.fit(frames, SQUARE))


@pytest.mark.parametrize("seed", range(10))
def test_all_frames_of_a_clip_get_the_same_crop(seed):
    frames = random_frames(1, 50, 70, 3).expand(5, -1, -1, -1)
    found = video.augment(frames, SQUARE, AugmentConfig(crop=(0.3, 0.8)), seeded(seed))
    assert (found == found[:1]).all()


def test_half_of_the_clips_are_mirrored_left_to_right_and_the_others_not():
    frames = random_frames(2, 32, 32, 3)
    found = [video.augment(frames, SQUARE, AugmentConfig(crop=(1.0, 1.0)), seeded(seed)) for seed in range(300)]
    mirrored = sum(torch.equal(x, frames.flip(2)) for x in found)
    assert mirrored + sum(torch.equal(x, frames) for x in found) == 300
    assert 110 < mirrored < 190


@pytest.mark.parametrize("share", [(0.3, 0.3), (0.5, 0.5), (0.2, 0.6)])
def test_the_crop_keeps_the_share_it_was_given(share):
    frame, kept, shapes, centres = coordinates(256), [], [], []
    for seed in range(100):
        found = video.augment(frame, SQUARE, AugmentConfig(crop=share, flip=False), seeded(seed))[0].float()
        sides = [(found[..., c].amax() - found[..., c].amin()) / 255 * 32 / 31 for c in (0, 1)]  # from middle to middle of 32 pixels
        shapes.append((sides[0] / sides[1]).item())
        kept.append((sides[0] * sides[1]).item())
        centres.append(found[..., :2].mean((0, 1)) / 255)
    assert share[0] - 0.03 < min(kept) and max(kept) < share[1] + 0.03
    assert max(kept) - min(kept) >= 0.8 * (share[1] - share[0])
    assert 0.7 < min(shapes) < 0.85 and 1.2 < max(shapes) < 1.4
    assert (torch.stack(centres).mean(0) - 0.5).abs().max() < 0.05
    assert torch.stack(centres).std(0).min() > 0.03


def test_a_crop_that_cannot_fit_falls_back_to_the_middle():
    frames = random_frames(1, 10, 1000, 3)
    found = video.augment(frames, SQUARE, AugmentConfig(crop=(0.9, 0.95), flip=False), seeded(0))
    assert torch.equal(found, video.fit(frames, SQUARE))


def test_augmentation_draws_from_its_generator_alone():
    frames, config, state = random_frames(2, 50, 70, 3), AugmentConfig(), torch.get_rng_state()
    one, two, three = (video.augment(frames, SQUARE, config, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, three)
    assert torch.equal(state, torch.get_rng_state())


# Numbers


def test_normalisation_is_torchvisions():
    from torchvision.transforms.v2 import functional

    frames = random_frames(2, 8, 32, 32, 3)
    pictures = functional.to_dtype(rearrange(frames, "b t h w c -> b t c h w"), torch.float32, scale=True)
    wanted = functional.normalize(pictures, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    found = video.normalise(frames, TINY)
    assert found.shape == (2, 3, 8, 32, 32) and found.dtype == torch.float32
    torch.testing.assert_close(found, rearrange(wanted, "b t c h w -> b c t h w"))


def test_every_shade_of_every_colour_survives_the_way_there_and_back():
    shades = torch.arange(256, dtype=torch.uint8)
    frames = torch.stack([shades, shades.flip(0), shades.roll(100)], -1).reshape(1, 1, 16, 16, 3)
    assert torch.equal(video.denormalise(video.normalise(frames, TINY), TINY), frames)


def test_what_no_picture_can_show_is_clamped():
    found = video.denormalise(torch.tensor([-100.0, 100.0]).expand(1, 3, 1, 1, 2), TINY)
    assert found[0, 0, 0].tolist() == [[0, 0, 0], [255, 255, 255]]


# What was seen


@settings(deadline=None, max_examples=30)
@given(st.lists(st.booleans(), min_size=TINY.frames, max_size=TINY.frames))
def test_a_token_has_content_exactly_if_a_frame_of_its_tubelet_was_seen(seen):
    clip = torch.tensor(seen).float()[None, None, :, None, None].expand(1, 3, -1, 32, 32)
    found = video.video_content(torch.tensor([seen]), TINY)
    assert torch.equal(found, (patchify(clip, TINY) > 0).any(-1))


def test_content_of_one_clip_says_nothing_of_another():
    seen = torch.zeros(2, 8, dtype=torch.bool)
    seen[1, 3] = True
    found = video.video_content(seen, PAPER)
    assert found.shape == (2, 784) and not found[0].any()
    assert found[1].nonzero().flatten().tolist() == list(range(196, 392))


# Mistakes are told


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (lambda: video.fit(torch.zeros(2, 32, 32, 3), SQUARE), "torch.float32"),
        (lambda: video.fit(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), SQUARE), "colours last"),
        (lambda: video.fit(torch.zeros(0, 32, 32, 3, dtype=torch.uint8), SQUARE), "no picture"),
        (lambda: video.augment(torch.zeros(32, 32, 3, dtype=torch.uint8), SQUARE, STILL, torch.Generator()), "t h w c"),
        (lambda: video.normalise(torch.zeros(2, 32, 32, 3, dtype=torch.uint8), SQUARE), "b t h w c"),
        (lambda: video.video_content(torch.zeros(2, 5, dtype=torch.bool), SQUARE), "give \\(clips, 4\\)"),
    ],
)
def test_a_wrong_shape_is_told_in_a_sentence(action, sentence):
    with pytest.raises(ValueError, match=sentence):
        action()
