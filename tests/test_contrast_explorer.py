"""The contrast explorer: rows are probabilities at the chosen temperature, the partner is marked, and what is said is so."""

import base64
import io
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from mavil_edu.explorers.contrast import TEMPERATURES, contrast_explorer

AUDIO = torch.eye(8)
VIDEO = torch.eye(8)
VIDEO[3] = torch.tensor([1.0, 0, 0, 0.5, 0, 0, 0, 0])  # picture 3 is more like sound 0 than like its own
FRAMES = (torch.arange(8, dtype=torch.uint8) * 30)[:, None, None, None].expand(8, 16, 16, 3)


@pytest.fixture
def explorer():
    sounds = torch.sin(torch.arange(8000)[None] * 0.05 * torch.arange(1, 9)[:, None])
    return contrast_explorer(AUDIO, VIDEO, sounds, FRAMES, clip=2)


def pixels(explorer) -> np.ndarray:
    data = re.search(r'src="data:image/png;base64,([^"]+)"', explorer.picture.value)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_partners_share_and_losses_are_those_of_the_temperature(explorer, temperature):
    explorer.controls["temperature"].value = temperature
    odds = math.exp(1 / temperature) if temperature > 0.02 else math.inf
    share = 1.0 if odds == math.inf else odds / (odds + 7)
    said = explorer.shown.sentence
    assert f"gives its own picture {100 * share:.0f} %" in said and f"its loss is {abs(math.log(share)):.2f}" in said
    assert f"knowing nothing: {math.log(8):.2f}" in said


def test_the_place_of_the_partner_and_those_who_find_theirs_do_not_depend_on_the_temperature(explorer):
    explorer.controls["clip"].value = 0
    for temperature in TEMPERATURES:
        explorer.controls["temperature"].value = temperature
        assert "place 1 of 8" in explorer.shown.sentence and "8 of 8 sounds like their own picture best" in explorer.shown.sentence
    swapped = contrast_explorer(VIDEO, AUDIO, torch.ones(8, 100), FRAMES, clip=3)
    for temperature in TEMPERATURES:
        swapped.controls["temperature"].value = temperature
        assert "place 2 of 8" in swapped.shown.sentence and "7 of 8 sounds" in swapped.shown.sentence


def test_buttons_go_from_clip_to_clip_and_stop_at_both_ends(explorer):
    for button, expected in (("◀ before", [1, 0, 0]), ("next ▶", [1, 2, 3])):
        for number in expected:
            explorer.buttons[button].click()
            assert explorer.controls["clip"].value == number
    explorer.controls["clip"].value = 7
    explorer.buttons["next ▶"].click()
    assert explorer.controls["clip"].value == 7 and "sound of clip 7" in explorer.said.value


def test_picture_and_sound_change_with_the_clip_and_come_back(explorer):
    before, heard = pixels(explorer), explorer.shown.sound.sentence
    explorer.controls["clip"].value = 6
    assert not np.array_equal(pixels(explorer), before) and explorer.shown.sound.sentence != heard
    explorer.controls["clip"].value = 2
    assert np.array_equal(pixels(explorer), before)


def test_a_cold_row_is_a_single_bar_and_a_hot_one_is_even(explorer):
    explorer.controls["temperature"].value = 0.01
    cold = pixels(explorer)
    explorer.controls["temperature"].value = 1.0
    hot = pixels(explorer)
    green = [((p[..., 1] > p[..., 0] + 40) & (p[..., 1] > p[..., 2] + 30)).sum() for p in (cold, hot)]
    assert green[0] > 1.8 * green[1], "the partner's bar is high, then low; the frame round its picture stays"


def test_every_choice_is_shown_in_under_150_ms(explorer, seconds_until_shown):
    assert seconds_until_shown(explorer, ("clip", 3), ("clip", 4), ("clip", 5)) < 0.15


def test_without_a_kernel_picture_player_and_sentence_remain(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/html"].count("<img") == 1 and "<audio" in bundle["text/html"] and "Temperature 0.1" in bundle["text/plain"]


def test_a_silent_clip_and_two_clips_are_shown_too():
    explorer = contrast_explorer(AUDIO[:2], VIDEO[:2], torch.zeros(2, 100), FRAMES[:2])
    assert "place 1 of 2" in explorer.shown.sentence


def test_counts_that_differ_and_a_single_clip_are_refused():
    for audio, frames in ((AUDIO[:7], FRAMES), (AUDIO, FRAMES[:5]), (AUDIO[:1], FRAMES[:1])):
        with pytest.raises(ValueError, match="as many of each, two or more"):
            contrast_explorer(audio, VIDEO[: len(audio)], torch.ones(len(audio), 9), frames)
