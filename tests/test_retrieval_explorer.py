"""The retrieval explorer: what is asked, what comes first, and what can be heard and watched, is that of the embeddings."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from mavil_edu.explorers.retrieval import ANSWERS, retrieval_explorer

N = 6
AUDIO = torch.eye(N)
VIDEO = torch.eye(N)
VIDEO[3] = torch.tensor([1.0, 0, 0, 0.5, 0, 0])  # film 3 is more like sound 0 than like its own sound
FRAMES = (40 * torch.arange(N, dtype=torch.uint8))[:, None, None, None, None].expand(N, 4, 16, 16, 3).contiguous()
SOUNDS = 0.1 * torch.sin(torch.arange(8000) * 0.05 * torch.arange(1, N + 1)[:, None])


@pytest.fixture
def explorer():
    return retrieval_explorer(AUDIO, VIDEO, SOUNDS, FRAMES, 4.0, clip=2)


def pixels(explorer) -> np.ndarray:
    data = re.search(r'src="data:image/png;base64,([^"]+)"', explorer.picture.value)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


def test_a_sounds_films_come_in_the_order_of_their_cosines(explorer):
    explorer.controls["clip"].value = 3
    assert "with the sound of clip 3" in explorer.shown.sentence and "its own picture at place 1 of 6" in explorer.shown.sentence
    explorer.controls["clip"].value = 0
    assert "First come clips 0, 3, 1, 2." in explorer.shown.sentence  # equals in the order of their numbers


def test_the_other_way_asks_with_the_film(explorer):
    explorer.controls["clip"].value = 3
    explorer.controls["way"].value = "video_to_audio"
    said = explorer.shown.sentence
    assert "with the picture of clip 3" in said and "its own sound at place 2 of 6 (chance 3.5)" in said and "First come clips 0, 3" in said


@pytest.mark.parametrize("answer", range(1, ANSWERS + 1))
def test_the_answer_that_is_played_is_the_one_chosen_and_its_own_is_called_so(explorer, answer):
    explorer.controls["clip"].value = 0
    explorer.controls["answer"].value = answer
    expected = (0, 3, 1, 2)[answer - 1]
    said = explorer.shown.sound.sentence
    assert f"Answer {answer}, clip {expected}" in said and (", its own" in said) == (expected == 0)
    assert explorer.sound.value.count("<audio") == 1 and explorer.sound.value.count("<video") == 1


def test_the_row_of_the_question_and_of_each_answer_shows_that_clip(explorer):
    explorer.controls["clip"].value = 0
    picture = pixels(explorer)
    rows = [picture[round((place + 0.5) / (ANSWERS + 1) * picture.shape[0]), -60] for place in range(ANSWERS + 1)]
    assert [int(row.mean().round(-1) / 40) for row in rows] == [0, 0, 3, 1, 2]


def test_only_the_own_film_is_framed(explorer):
    explorer.controls["clip"].value = 0

    def green(rows):
        return int(((rows[..., 1] > rows[..., 0] + 40) & (rows[..., 1] > rows[..., 2] + 30)).sum())

    bands = np.array_split(pixels(explorer), ANSWERS + 1)
    greens = [green(band) for band in bands]
    assert min(greens[:2]) > 3 * max(greens[2:]), "the question's row and its own; a frame's edge reaches into the next row"


def test_buttons_move_and_stop_at_both_ends_and_any_stays_within(explorer):
    for button, expected in (("◀ before", [1, 0, 0]), ("next ▶", [1, 2])):
        for number in expected:
            explorer.buttons[button].click()
            assert explorer.controls["clip"].value == number
    for _ in range(20):
        explorer.buttons["any"].click()
        assert 0 <= explorer.controls["clip"].value < N


def test_every_choice_is_shown_in_under_150_ms(explorer, seconds_until_shown):
    assert seconds_until_shown(explorer, ("clip", 3), ("clip", 4), ("clip", 5)) < 0.15


def test_without_a_kernel_the_picture_the_players_and_the_sentence_remain(explorer):
    bundle = explorer._repr_mimebundle_()
    assert all(part in bundle["text/html"] for part in ("<img", "<audio", "<video")) and "at place 1 of 6" in bundle["text/plain"]


def test_a_silent_clip_is_shown_too():
    assert "place 1" in retrieval_explorer(AUDIO, AUDIO, torch.zeros_like(SOUNDS), FRAMES, 4.0).shown.sentence


def test_counts_that_differ_and_too_few_clips_are_refused():
    for count, films in ((N - 1, N), (N, N - 1), (3, 3)):
        with pytest.raises(ValueError, match="as many of each, 4 or more"):
            retrieval_explorer(AUDIO[:count], VIDEO[:count], SOUNDS[:count], FRAMES[:films], 4.0)
