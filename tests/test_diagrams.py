"""The lessons' drawings put things where they are, and their sentences are computed."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from mavil_edu import diagrams


def test_lines_say_each_curves_range_and_where_it_is_highest():
    x = torch.linspace(0, 10, 101)
    picture = diagrams.lines({"hill": (x, 1 - (x - 3) ** 2), "slope": (x, 2 * x)}, "s", "m")
    assert picture.sentence == "m against s: hill from -48 to 1, highest at 3; slope from 0 to 20, highest at 10."
    many = {f"band {n}": (x, x * n) for n in range(1, 9)}
    assert "6 more" in diagrams.lines(many, "s", "m").sentence


def test_curves_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="hill: 4 places and 5 values"):
        diagrams.lines({"hill": (torch.zeros(4), torch.zeros(5))}, "s", "m")
    with pytest.raises(ValueError, match="no curve"):
        diagrams.lines({}, "s", "m")


def test_maps_share_one_scale_and_say_how_much_of_each_is_bright():
    half = torch.zeros(4, 6)
    half[:, :3] = 1
    picture = diagrams.maps({"half": half, "dark": torch.full((4, 6), 0.2)}, ("s", 0, 1), ("Hz", 0, 10))
    assert "half, 4 × 6, 50 % bright" in picture.sentence and "dark, 4 × 6, 0 % bright" in picture.sentence
    left, right = picture.figure.axes
    assert left.images[0].get_clim() == right.images[0].get_clim() == (0, 1)
    assert left.images[0].origin == "lower"


def test_stacked_bars_lie_end_to_end_in_one_colour_a_part_and_their_shares_are_said():
    rows = {"one": {"a": 3.0, "b": 1.0}, "two": {"b": 2.0, "c": 2.0}}
    picture = diagrams.stacked(rows, "share, %", shares=True)
    assert picture.sentence == "share, %. one: a 75 %, b 25 %; two: b 50 %, c 50 %."
    bars = picture.figure.axes[0].patches
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [(0, 75), (75, 25), (0, 50), (50, 50)]
    colours = [bar.get_facecolor() for bar in bars]
    assert colours[1] == colours[2] and len(set(colours)) == 3
    assert [text.get_text() for text in picture.figure.legends[0].get_texts()] == ["a", "b", "c"]
    plain = diagrams.stacked(rows, "hours")
    assert plain.sentence == "hours. one: a 3, b 1; two: b 2, c 2."
    assert [bar.get_width() for bar in plain.figure.axes[0].patches] == [3, 1, 2, 2]
    with pytest.raises(ValueError, match="give 1 to 5"):
        diagrams.stacked({"one": dict.fromkeys("abcdef", 1.0)}, "hours")
    with pytest.raises(ValueError, match="0 parts"):
        diagrams.stacked({}, "hours")


def test_the_ring_of_similar_places_is_at_the_place_and_its_neighbours_are_said():
    similarity = torch.zeros(2, 3, 4)
    similarity[1, 2, 0], similarity[1, 2, 1], similarity[1, 0, 0], similarity[0, 2, 0] = 1, 0.75, 0.5, 0.25
    picture = diagrams.similar_places(similarity, (1, 2, 0))
    assert picture.sentence.endswith(
        "itself 1.00, one place across 0.75, one place down 0.50, one step in time 0.25, the least similar 0.00."
    )
    marked = [ax for ax in picture.figure.axes if ax.lines]
    assert marked == [picture.figure.axes[1]] and marked[0].lines[0].get_xydata().tolist() == [[0, 2]]


def test_a_tubelet_is_marked_where_it_was_cut_and_its_change_is_said():
    frames = torch.zeros(4, 8, 12, 3, dtype=torch.uint8)
    frames[3, 4:8, 8:12] = 255  # appears in the second frame of time patch 1, row 1, column 2
    picture = diagrams.tubelets(frames, (2, 4, 4), {"moves": 6 + 3 + 2, "rests": 0})
    assert "moves: token 11 at (t 1, h 1, w 2), mean change between its frames 100 %" in picture.sentence
    assert "rests: token 0 at (t 0, h 0, w 0), mean change between its frames 0 %" in picture.sentence
    strip, below = picture.figure.axes
    assert [int(image.get_array().max()) for image in below.images] == [0, 255, 0, 0]
    corners = [patch.get_xy() for patch in strip.patches]
    assert corners[1] == (3 * 14 + 0.5 + 8, 4.5), "the last frame's mark"


def spectrogram_with(t: int, f: int) -> torch.Tensor:
    log_mel = torch.full((64, 32), -10.0) + torch.arange(32) * 1e-3
    log_mel[t * 16 : t * 16 + 16, f * 8 : f * 8 + 8] = 0.0
    return log_mel


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_a_patch_view_marks_the_loud_patch_around_its_bright_pixels():
    view = diagrams.PatchView(spectrogram_with(2, 3), (16, 8), 0.64)
    plain, marked = pixels(view.png(0, 0)), pixels(view.png(2, 3))
    assert "louder than 94 % of the tokens" in view.sentence(2, 3) and "Token 11 of 16" in view.sentence(2, 3)
    assert "0.32 to 0.48 s" in view.sentence(2, 3)
    near = marked[:, int(0.78 * marked.shape[1]) :]
    bright = (near.sum(2) > 600).nonzero()  # the enlarged patch stands in the middle of its neighbours
    assert abs(np.mean(bright[1]) / near.shape[1] - 0.5) < 0.06
    cyan = (np.abs(marked - [0, 229, 255]).sum(2) < 60) & (np.abs(plain - [0, 229, 255]).sum(2) >= 60)
    rows, columns = cyan[:, : int(0.74 * marked.shape[1])].nonzero()
    inside = marked[rows.min() + 4 : rows.max() - 3, columns.min() + 4 : columns.max() - 3]
    assert (inside.sum(2) > 500).mean() > 0.95, "the mark lies around the only loud patch"


@pytest.mark.parametrize(("chosen", "across", "up"), [((1, 2), 1 / 6, 5 / 6), ((2, 1), 3 / 6, 5 / 6), ((3, 2), 1 / 6, 3 / 6)])
def test_a_neighbour_is_shown_on_the_side_where_it_lies(chosen, across, up):
    loud = {(1, 2): (0, 3), (2, 1): (2, 2), (3, 2): (2, 2)}[chosen]
    view = pixels(diagrams.PatchView(spectrogram_with(*loud), (16, 8), 0.64).png(*chosen))
    near = view[int(0.1 * len(view)) :, int(0.78 * view.shape[1]) :]
    bright = (near.sum(2) > 600) & (np.abs(near[..., 0] - near[..., 2]) > 30) & (near[..., 0] > 200)
    rows, columns = bright.nonzero()
    assert abs(np.median(columns) / near.shape[1] - across) < 0.12
    shown = len(near) * 0.83  # the axes end above the label of the time axis
    assert abs((1 - np.median(rows) / shown) - up) < 0.2


def test_a_patch_view_leaves_no_trace_of_the_patch_before():
    view = diagrams.PatchView(spectrogram_with(1, 1), (16, 8), 0.64)
    first = view.png(0, 0)
    view.png(3, 2)
    assert view.png(0, 0) == first != view.png(3, 2)


def test_a_patch_view_refuses_what_cannot_be_cut_and_patches_that_are_not_there():
    with pytest.raises(ValueError, match="cannot be cut"):
        diagrams.PatchView(torch.zeros(60, 32), (16, 8), 0.6)
    with pytest.raises(ValueError, match=r"no patch \(4, 0\)"):
        diagrams.PatchView(spectrogram_with(0, 0), (16, 8), 0.64).png(4, 0)
