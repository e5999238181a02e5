"""The masking explorer: what it says, draws and plays is what the masks hide; by keyboard, and without a kernel too."""

import base64
import io
import math
import re

import numpy as np
import pytest
import torch
from einops import rearrange
from ipywidgets import BoundedIntText, Button, ToggleButtons, Widget
from PIL import Image
from torch.nn.functional import max_pool2d

from mavil_edu import audio
from mavil_edu.config import AudioConfig, VideoConfig
from mavil_edu.explorers.masking import MaskView, beside_visible, masked_sound, masking_explorer
from mavil_edu.figures import HIDDEN, hidden_cells
from mavil_edu.masking import AUDIO_STRATEGIES, VIDEO_STRATEGIES, random_mask, visible_count

SOUND = AudioConfig(seconds=2.56, frames=256)  # 16 × 8 patches
PICTURE = VideoConfig(seconds=2.56, height=48, width=48)  # 4 × 3 × 3 patches
TONE = slice(96, 160)  # time patches 6 to 9


@pytest.fixture(scope="module")
def log_mel() -> torch.Tensor:
    """A tone of 1 kHz that sounds from 0.96 to 1.60 s, over quiet noise."""
    seconds = torch.arange(SOUND.samples) / 16_000
    tone = 0.1 * torch.sin(2 * math.pi * 1000 * seconds) * ((seconds > 1.0) & (seconds < 1.56))
    noise = 1e-3 * torch.randn(SOUND.samples, generator=torch.Generator().manual_seed(0))
    return audio.to_log_mel(audio.spectrogram((tone + noise)[None], SOUND), SOUND)[0]


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return torch.full((8, 48, 48, 3), 30, dtype=torch.uint8)


@pytest.fixture
def explorer(log_mel, frames):
    return masking_explorer(log_mel, frames, SOUND, PICTURE)


@pytest.fixture(scope="module")
def view(log_mel, frames):
    return MaskView(log_mel, frames, SOUND, PICTURE)


def grey(png: bytes) -> np.ndarray:
    """Where a picture has the colour of what is hidden, (height, width) bool, without specks under 5 pixels (edges of letters)."""
    colour = [int(HIDDEN[i : i + 2], 16) for i in (1, 3, 5)]
    found = (np.abs(np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int) - colour) <= 2).all(axis=2)
    kept = 1 - max_pool2d(1 - torch.from_numpy(found).float()[None], 5, 1, 2)
    return max_pool2d(kept, 5, 1, 2)[0].bool().numpy()


def level(waveform: torch.Tensor, start: float, stop: float) -> float:
    """dB of full scale between two moments."""
    return 10 * float(waveform[round(start * 16_000) : round(stop * 16_000)].square().mean().clamp_min(1e-12).log10())


def test_it_starts_with_four_fifths_of_both_hidden_at_random(explorer):
    assert explorer.shown.sentence.startswith("80 % asked for. Sound, random: 102 of 128 patches (16 × 8) hidden, 26 visible;")
    assert "Picture, random: 29 of 36 patches (4 × 3 × 3) hidden, 7 visible;" in explorer.shown.sentence
    assert explorer.shown.sentence in explorer.said.value
    assert "image/png" in explorer.picture.value and "audio/mpeg" in explorer.sound.value


@pytest.mark.parametrize("name", AUDIO_STRATEGIES)
def test_each_way_of_hiding_sound_hides_as_many_as_it_says(explorer, name):
    explorer.controls["sound"].value = name
    for ratio in (30, 80):
        explorer.controls["ratio"].value = ratio
        assert f"Sound, {name}: {128 - visible_count((16, 8), ratio / 100, name)} of 128" in explorer.said.value


@pytest.mark.parametrize("name", VIDEO_STRATEGIES)
def test_each_way_of_hiding_pictures_hides_as_many_as_it_says(explorer, name):
    explorer.controls["picture"].value = name
    for ratio in (30, 80):
        explorer.controls["ratio"].value = ratio
        assert f"Picture, {name}: {36 - visible_count((4, 3, 3), ratio / 100, name)} of 36" in explorer.said.value


def test_the_masks_that_are_shown_are_the_librarys(log_mel, frames, view):
    explorer = masking_explorer(log_mel, frames, SOUND, PICTURE, ratio=50, seed=7)
    sound, picture = (random_mask(1, part.grid, 0.5, torch.Generator().manual_seed(7))[0] for part in (SOUND, PICTURE))
    assert explorer.shown.png == view.png(sound, picture)


def test_how_the_sound_is_hidden_changes_nothing_of_the_picture(log_mel, frames, view):
    explorer = masking_explorer(log_mel, frames, SOUND, PICTURE, ratio=50, seed=7)
    picture = random_mask(1, PICTURE.grid, 0.5, torch.Generator().manual_seed(7))[0]
    for name, strategy in AUDIO_STRATEGIES.items():
        explorer.controls["sound"].value = name
        sound = strategy(1, SOUND.grid, 0.5, torch.Generator().manual_seed(7))[0]
        assert explorer.shown.png == view.png(sound, picture)


def test_buttons_hide_more_and_less_and_draw_again(explorer):
    first = explorer.shown
    explorer.buttons["hide more ▶"].click()
    assert explorer.shown.sentence.startswith("90 % asked for")
    for _ in range(3):
        explorer.buttons["hide more ▶"].click()
    assert explorer.shown.sentence.startswith("100 % asked for")
    for _ in range(2):
        explorer.buttons["◀ hide less"].click()
    assert explorer.shown == first, "back where it was: the same"
    explorer.buttons["draw again"].click()
    assert explorer.controls["seed"].value == 1 and explorer.shown.png != first.png
    assert "102 of 128" in explorer.shown.sentence, "other patches, as many"


@pytest.mark.parametrize(("ratio", "words"), [(100, "128 of 128 patches (16 × 8) hidden, 0 visible."), (0, "0 of 128 patches")])
def test_all_and_nothing_can_be_hidden(explorer, ratio, words):
    explorer.controls["ratio"].value = ratio
    assert words in explorer.said.value and "share a side" not in explorer.said.value
    assert ("silence" in explorer.sound.value) == (ratio == 100)
    explorer.controls["hear"].value = 1
    assert ("silence" in explorer.sound.value) == (ratio == 0)


def test_what_is_hidden_is_silent_and_the_rest_as_loud_as_it_was(log_mel):
    nothing = torch.zeros_like(log_mel, dtype=torch.bool)
    tone = nothing.clone()
    tone[TONE] = True
    whole, without, alone = (masked_sound(log_mel, hidden, SOUND.samples) for hidden in (nothing, tone, ~tone))
    assert len(whole) == SOUND.samples
    assert level(whole, 1.1, 1.5) == pytest.approx(10 * math.log10(0.1**2 / 2), abs=1.5), "as loud as it was recorded"
    assert level(alone, 1.1, 1.5) == pytest.approx(level(whole, 1.1, 1.5), abs=1)
    assert level(without, 1.1, 1.5) < level(whole, 1.1, 1.5) - 50
    assert level(without, 0.1, 0.8) == pytest.approx(level(whole, 0.1, 0.8), abs=1.5)
    assert not masked_sound(log_mel, ~nothing, SOUND.samples).any()


def test_every_part_is_raised_by_the_same_and_it_is_said_how_much(explorer, log_mel):
    said = set()
    for hear in (0, 1, 2):
        explorer.controls["hear"].value = hear
        said.add(re.search(r"played (-?\d+) dB louder", explorer.shown.sound.sentence)[1])
    assert len(said) == 1
    assert float(said.pop()) == pytest.approx(20 * math.log10(0.8 / 0.1), abs=2.5), "the tone of 0.1 is brought to 0.8"
    whole = masked_sound(log_mel, torch.zeros_like(log_mel, dtype=torch.bool), SOUND.samples)
    raised = level(whole * 0.8 / whole.abs().max(), 0, 2.56)
    assert float(re.search(r"The whole sound.*?(-\d+) dB of full scale", explorer.shown.sound.sentence)[1]) == pytest.approx(
        raised, abs=0.6
    )


def test_grey_covers_the_share_and_the_places_that_are_hidden(view):
    none, all_of_it = torch.zeros(128, dtype=torch.bool), torch.ones(128, dtype=torch.bool)
    no_picture = torch.zeros(36, dtype=torch.bool)
    assert not grey(view.png(none, no_picture)).any()
    area = grey(view.png(all_of_it, no_picture)).sum()
    half = random_mask(1, SOUND.grid, 0.5, torch.Generator().manual_seed(0))[0]
    assert grey(view.png(half, no_picture)).sum() / area == pytest.approx(0.5, abs=0.02)
    grid = torch.zeros(16, 8, dtype=torch.bool)
    grid[0] = True  # the first moment, all pitches
    _, across = grey(view.png(grid.flatten(), no_picture)).nonzero()
    width = grey(view.png(all_of_it, no_picture)).any(axis=0).nonzero()[0]
    assert across.max() < width.min() + 0.08 * len(width)
    grid = torch.zeros(16, 8, dtype=torch.bool)
    grid[:, 0] = True  # the lowest pitches, all moments
    down, _ = grey(view.png(grid.flatten(), no_picture)).nonzero()
    rows = grey(view.png(all_of_it, no_picture)).any(axis=1).nonzero()[0]
    assert down.min() > rows.max() - 0.15 * len(rows), "low pitches are drawn below"


def test_grey_covers_the_hidden_places_of_the_frames(view):
    no_sound = torch.zeros(128, dtype=torch.bool)

    def covered(places: torch.Tensor) -> np.ndarray:
        return grey(view.png(no_sound, places.flatten()))

    whole = covered(torch.ones(4, 3, 3, dtype=torch.bool))
    top, left = whole.any(axis=1).nonzero()[0], whole.any(axis=0).nonzero()[0]
    last_time, first_row = torch.zeros(2, 4, 3, 3, dtype=torch.bool)
    last_time[3], first_row[:, 0] = True, True
    assert covered(last_time).sum() / whole.sum() == pytest.approx(1 / 4, abs=0.03)
    assert covered(last_time).nonzero()[1].min() > left.min() + 0.73 * len(left)
    assert covered(first_row).sum() / whole.sum() == pytest.approx(1 / 3, abs=0.03)
    assert covered(first_row).nonzero()[0].max() < top.min() + 0.36 * len(top)


def test_what_is_visible_is_the_clips_own(view):
    def dark(png: bytes) -> float:
        """The share of the picture with the frames' colour, nearly black."""
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
        return float((np.abs(pixels - 30) <= 2).all(axis=2).mean())

    none, picture = torch.zeros(128, dtype=torch.bool), torch.zeros(36, dtype=torch.bool)
    assert dark(view.png(none, picture)) > 0.2 and dark(view.png(none, ~picture)) < 0.02


def test_pictures_leave_nothing_behind(view):
    masks = torch.ones(128, dtype=torch.bool), torch.ones(36, dtype=torch.bool)
    once = [view.png(*masks), *(view.png(~masks[0], ~masks[1]) for _ in range(3))]
    assert once[1] == once[2] == once[3] != once[0]
    assert [len(ax.get_images()) for ax in (view._sound, view._strip)] == [1, 1]


def test_what_can_be_copied_is_what_shares_a_side_with_a_visible_patch():
    corner = torch.ones(3, 3, dtype=torch.bool)
    corner[0, 0] = False
    assert beside_visible(corner.flatten(), (3, 3)) == pytest.approx(2 / 8)
    middle = torch.ones(3, 3, 3, dtype=torch.bool)
    middle[1, 1, 1] = False
    assert beside_visible(middle.flatten(), (3, 3, 3)) == pytest.approx(6 / 26)
    assert beside_visible(torch.zeros(9, dtype=torch.bool), (3, 3)) == beside_visible(torch.ones(9, dtype=torch.bool), (3, 3)) == 0
    for grid, sides in (((100, 100), 4), ((40, 40, 40), 6)):
        mask = random_mask(1, grid, 0.8, torch.Generator().manual_seed(0))[0]
        assert beside_visible(mask, grid) == pytest.approx(1 - 0.8**sides, abs=0.02)


def test_the_share_that_can_be_copied_is_said(explorer):
    explorer.controls["sound"].value = "frequency"
    generator = torch.Generator().manual_seed(0)
    mask = AUDIO_STRATEGIES["frequency"](1, SOUND.grid, 0.8, generator)[0]
    rows = rearrange(mask, "(t f) -> t f", t=16)[0].tolist()
    beside = [hidden and not all(rows[max(f - 1, 0) : f + 2]) for f, hidden in enumerate(rows)]
    assert f"{100 * sum(beside) / sum(rows):.0f} % of the hidden ones share a side" in explorer.said.value


def test_without_a_kernel_there_are_the_same_picture_sound_and_sentence(explorer):
    explorer.controls["picture"].value = "tube"
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/plain"] == f"{explorer.shown.sentence} {explorer.shown.sound.sentence}" and "Picture, tube" in bundle["text/plain"]
    picture = re.search(r"image/png;base64,([^\"]+)", bundle["text/html"])[1]
    assert base64.b64decode(picture) == explorer.shown.png and explorer.shown.sound.html in bundle["text/html"]
    assert "<figcaption>" in bundle["text/html"] and "application/vnd.jupyter.widget-view+json" in bundle
    assert len(bundle["text/html"]) < 80_000


def everything(widget: Widget) -> list[Widget]:
    return [widget, *(inner for child in getattr(widget, "children", ()) for inner in everything(child))]


def test_every_control_has_a_name_of_its_own_and_is_reached_by_keyboard(explorer):
    controls = [widget for widget in everything(explorer) if isinstance(widget, BoundedIntText | ToggleButtons | Button)]
    assert set(explorer.controls.values()) | set(explorer.buttons.values()) == set(controls)
    assert all(len(widget.description) > 3 and not widget.disabled and widget.tabbable is not False for widget in controls)
    assert len({widget.description for widget in controls}) == len(controls)
    assert not [widget for widget in everything(explorer) if "Slider" in type(widget).__name__ or type(widget).__name__ == "Output"]


def test_every_choice_is_shown_in_under_150_ms(explorer, seconds_until_shown):
    assert seconds_until_shown(explorer, *(("seed", seed) for seed in range(1, 7))) < 0.15


def test_a_silent_black_clip_can_be_explored():
    silent = torch.full((256, 128), audio.FLOOR)
    explorer = masking_explorer(silent, torch.zeros(8, 48, 48, 3, dtype=torch.uint8), SOUND, PICTURE)
    assert "silence" in explorer.sound.value and "102 of 128" in explorer.said.value


@pytest.mark.parametrize("what", ["log-mel", "frames"])
def test_tensors_of_another_size_are_refused(log_mel, frames, what):
    given = (log_mel[:254], frames) if what == "log-mel" else (log_mel, frames[:4])
    with pytest.raises(ValueError, match=f"shape of the {what} is .*; this config's is"):
        masking_explorer(*given, SOUND, PICTURE)


@pytest.mark.parametrize(("ratio", "seed"), [(101, 0), (-1, 0), (80, 1000), (80, -1)])
def test_a_share_or_a_draw_that_does_not_exist_is_brought_to_its_limit(log_mel, frames, ratio, seed):
    explorer = masking_explorer(log_mel, frames, SOUND, PICTURE, ratio=ratio, seed=seed)
    assert explorer.controls["ratio"].value == min(max(ratio, 0), 100) and explorer.controls["seed"].value == min(max(seed, 0), 999)


def test_patches_of_other_sizes_are_covered_too(log_mel, frames):
    coarse = AudioConfig(seconds=2.56, frames=256, patch_frames=8, patch_bins=64)
    cells = hidden_cells(torch.arange(64) < 2, coarse.grid, (8, 64))
    assert bool(cells[:8].all()) and not cells[8:].any()
    assert "51 of 64 patches (32 × 2)" in masking_explorer(log_mel, frames, coarse, PICTURE).said.value
