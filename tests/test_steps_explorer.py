"""The steps explorer: each step of training has its picture, its sound and its sentence, quickly, by keyboard, and without a kernel."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from mavil_edu import audio
from mavil_edu.explorers.steps import Look, steps_explorer, two_rows

SOUND = torch.full((64, 128), audio.FLOOR)
SOUND[20:24] = -2.0  # one strike


def look(step: int, loud: float = 0.0, grey: int = 0, errors: tuple[float, float] = (0.9, 0.8)) -> Look:
    frames = torch.full((8, 32, 32, 3), grey, dtype=torch.uint8)
    return Look(step, SOUND + loud * (SOUND > audio.FLOOR), frames, *errors)


LOOKS = [look(0, -6.0, 128, (1.2, 1.3)), look(50, -3.0, 64), look(400, 0.0, 0, (0.4, 0.3))]


@pytest.fixture
def explorer():
    return steps_explorer(look(0), LOOKS, (0.7, 0.75), seconds=0.64)


def pixels(explorer) -> np.ndarray:
    data = re.search(r'src="data:image/png;base64,([^"]+)"', explorer.picture.value)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


def test_a_step_is_chosen_by_the_list_and_by_buttons_that_stop_at_both_ends(explorer):
    chosen = explorer.controls["number"]
    explorer.buttons["◀ earlier"].click()
    assert chosen.value == 0
    for expected in (1, 2, 2):
        explorer.buttons["later ▶"].click()
        assert chosen.value == expected
    assert "400 steps" in explorer.said.value


def test_the_sentence_says_whether_the_best_trivial_answer_is_beaten(explorer):
    assert explorer.shown.sentence == (
        "After 0 steps. Error on held-out clips: sound 1.20 (best trivial answer 0.70, not beaten); "
        "pictures 1.30 (best trivial answer 0.75, not beaten)."
    )
    explorer.controls["number"].value = 2
    assert "sound 0.40 (best trivial answer 0.70, beaten); pictures 0.30 (best trivial answer 0.75, beaten)" in explorer.said.value


def test_picture_and_sound_are_those_of_the_step(explorer):
    before, quiet = pixels(explorer), explorer.shown.sound.sentence
    explorer.controls["number"].value = 2
    after, loud = pixels(explorer), explorer.shown.sound.sentence
    assert quiet != loud and "After 400 steps" in loud
    middle, height = before.shape[1] // 2, before.shape[0]
    assert np.abs(before - after)[height // 2 :, middle - 100 : middle + 100].max() > 100, "the frames below went from grey to black"
    assert np.abs(before - after)[: height // 2 - 20, : middle + 100].max() < 40, "the original above stays, in colours of another palette"
    explorer.controls["number"].value = 0
    assert np.array_equal(pixels(explorer), before)


def test_every_choice_is_shown_in_under_150_ms(explorer, seconds_until_shown):
    assert seconds_until_shown(explorer, ("number", 1), ("number", 2)) < 0.15


def test_without_a_kernel_picture_player_and_sentence_remain(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/html"].count("<img") == 1 and "<audio" in bundle["text/html"] and "After 0 steps" in bundle["text/plain"]


def test_a_silent_clip_is_shown_too():
    silent = look(0)._replace(spectrogram=torch.full((64, 128), audio.FLOOR))
    assert "After 3 steps" in steps_explorer(silent, [silent._replace(step=3)], (1.0, 1.0), 0.64).shown.sentence


def test_steps_that_do_not_grow_and_no_looks_at_all_are_refused():
    for wrong in ([], [LOOKS[1], LOOKS[0]], [LOOKS[0], LOOKS[0]]):
        with pytest.raises(ValueError, match="each of a later step"):
            steps_explorer(look(0), wrong, (1.0, 1.0), 0.64)


def test_a_strip_in_two_rows_keeps_the_order_of_its_frames():
    frames = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 2, 3, 3)
    rows = two_rows(frames)
    assert rows.shape == (3, 5, 3, 3)
    assert rows[:, 0, 0, 0].tolist() == [0, 1, 2] and rows[:, 3, 0, 0].tolist() == [3, 4, 233]
