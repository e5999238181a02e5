"""Pictures of attention and of partners: what they say is what their numbers hold, and what cannot be drawn is refused in a sentence."""

import pytest
import torch

from mavil_edu.fusion_pictures import attention_table, places_looked_at, worth_of_a_partner


def blocks_of(own: float, n: int = 6, audio: int = 2) -> torch.Tensor:
    """Attention that gives `own` to a token's own modality, evenly."""
    is_audio = torch.arange(n) < audio
    same = is_audio[:, None] == is_audio[None]
    return torch.where(same, own / same.sum(1, keepdim=True), (1 - own) / (~same).sum(1, keepdim=True))


def test_a_table_says_how_much_each_modality_gives_to_the_other():
    assert "a sound token gives 25 % of its attention to the picture" in attention_table(blocks_of(0.75), 2).sentence
    rows = blocks_of(0.75)
    rows[2:] = blocks_of(0.4)[2:]
    sentence = attention_table(rows, 2).sentence
    assert "gives 25 % of its attention" in sentence and "a picture token 60 % of its own to the sound" in sentence


@pytest.mark.parametrize(("shape", "audio"), [((4, 5), 2), ((4, 4), 0), ((4, 4), 4)])
def test_a_map_that_is_not_square_or_of_one_modality_is_refused(shape, audio):
    with pytest.raises(ValueError, match="square map with tokens of both modalities"):
        attention_table(torch.ones(shape), audio)


def frames(t: int = 8) -> torch.Tensor:
    return torch.full((t, 32, 32, 3), 120, dtype=torch.uint8)


def pixels(picture) -> torch.Tensor:
    return torch.tensor([ax.images[0].get_array().data for ax in picture.figure.axes][1]).float()


def test_the_place_looked_at_most_is_named_and_coloured_and_an_even_map_colours_nothing():
    even = torch.full((4, 4, 4), 1 / 64)
    looked = torch.zeros(4, 4, 4)
    looked[2, 1, 3] = 0.5
    looked += 0.5 / 64
    picture = places_looked_at(frames(), {"it looks": looked, "even": even})
    assert (
        "it looks most at (t 2, h 1, w 3), 32.5 times an even share" in picture.sentence
        and "even most at (t 0, h 0, w 0), 1.0" in picture.sentence
    )
    strip = pixels(picture)  # of "it looks": the frames stand beside one another, 34 pixels each with their gaps
    colour = (strip[..., 0] - strip[..., 2]) > 0.1
    down, across = colour.nonzero(as_tuple=True)
    assert (int(down.min()), int(down.max())) == (1 + 8, 1 + 15)
    assert (int(across.min()), int(across.max())) == (2 * 34 + 1 + 24, 2 * 34 + 1 + 31)
    only_even = pixels(places_looked_at(frames(), {"even": even}))[1:-1]
    assert float((only_even[..., 0] - only_even[..., 2]).abs().max()) < 1e-6


def test_a_map_that_does_not_fit_the_frames_is_refused():
    with pytest.raises(ValueError, match="8 × 32 × 32 cannot be cut into a grid of 4 × 5 × 4"):
        places_looked_at(frames(), {"wrong": torch.ones(4, 5, 4) / 80})


def test_partners_are_told_as_whole_percents_of_the_first_line_and_drawn_to_scale():
    picture = worth_of_a_partner(
        {"sound": {"own": 0.5, "stranger": 1.004}, "picture": {"own": 0.9}},
        {"sound": {"mean": 1.0, "best": 0.25}, "picture": {"mean": 2.0, "best": 1.0}},
    )
    assert "sound: own 50 %, stranger 100 %, best 25 % (of mean's error)" in picture.sentence
    assert "picture: own 45 %, best 50 % (of mean's error)" in picture.sentence
    first = picture.figure.axes[0]
    assert [round(bar.get_height(), 3) for bar in first.patches] == [0.5, 1.004]
    assert [line.get_ydata()[0] for line in first.lines] == [1.0, 0.25]


def test_of_a_model_trained_on_the_spot_only_who_is_below_the_line_is_told():
    found = {"sound": {"own": 0.98, "stranger": 1.04, "nothing": 1.0}}
    sentence = worth_of_a_partner(found, {"sound": {"mean patch": 1.0}}, percents=False).sentence
    assert "sound: below mean patch: own; not below: stranger, nothing" in sentence and "%" not in sentence
    none = worth_of_a_partner({"sound": {"own": 2.0}}, {"sound": {"mean patch": 1.0}}, percents=False).sentence
    assert "below mean patch: none; not below: own" in none
