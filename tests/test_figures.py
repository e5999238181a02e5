"""A figure's sentence is computed from its data, and a picture is the same bytes each time."""

import base64
import io
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from mavil_edu import figures
from mavil_edu.audio import log_mel
from mavil_edu.masking import random_mask


def tone(frequency: float) -> torch.Tensor:
    time = torch.arange(40_960) / 16_000
    return log_mel(0.5 * torch.sin(2 * math.pi * frequency * time)[None])[0]


def test_the_loudest_band_said_is_the_one_that_sounds():
    for frequency in (440, 2000):
        sentence = figures.spectrogram_panels({"tone": tone(frequency)}, 2.54).sentence
        said = int(re.search(r"near (\d+) Hz", sentence)[1])
        assert abs(said - frequency) / frequency < 0.06


def test_the_hidden_share_said_is_the_masks():
    mask = random_mask(1, 64, 0.8, torch.Generator().manual_seed(0))[0]
    hidden = figures.hidden_cells(mask, (8, 8), (32, 16))
    assert hidden.shape == (256, 128)
    assert f"{int(mask.sum())} of 64 hidden" in figures.patch_grid(torch.randn(256, 128), (32, 16), 2.56, hidden).sentence
    assert "80 % hidden" in figures.spectrogram_panels({"m": torch.randn(256, 128)}, 2.56, {"m": hidden}).sentence


def test_hidden_cells_cover_exactly_the_patches_that_the_model_hides():
    mask = torch.zeros(64, dtype=torch.bool)
    mask[3 * 8 + 5] = True  # time patch 3, frequency patch 5
    hidden = figures.hidden_cells(mask, (8, 8), (32, 16))
    assert hidden[96:128, 80:96].all() and int(hidden.sum()) == 32 * 16


def test_a_sentence_changes_when_the_data_change():
    dark, light = (torch.full((4, 16, 16, 3), v, dtype=torch.uint8) for v in (10, 240))
    assert figures.frame_panels({"f": dark}, 1).sentence != figures.frame_panels({"f": light}, 1).sentence
    eye = torch.eye(6)
    assert "6 of 6 sounds" in figures.similarity(eye).sentence
    assert "0 of 6 sounds" in figures.similarity(eye.roll(1, 0)).sentence


def test_curves_say_the_last_held_out_value_beside_its_trivial_answer():
    rows = [{"step": s, "audio_mse": 1 - s / 10, "audio_mse_trivial": 0.8, "intra": None} for s in range(5)]
    rows.append({"step": 5, "audio_mse": 0.33, "audio_mse_trivial": 0.8, "held_out": True})
    sentence = figures.curves(rows, {"audio_mse": "audio", "intra": "intra"}).sentence
    assert "audio 0.33 (trivial 0.80)" in sentence and "intra" not in sentence


def test_a_loss_stands_beside_the_trivial_answer_of_its_own_batch():
    training = [{"step": s, "inter": 4.5, "inter_trivial": math.log(128)} for s in range(4)]
    looks = [{"step": 3, "inter": 4.4, "inter_trivial": math.log(64), "held_out": True}]
    picture = figures.curves([*training[:3], *looks, training[3]], {"inter": "InfoNCE"})
    assert "InfoNCE 4.40 (trivial 4.16)" in picture.sentence
    lines = [line for line in picture.figure.axes[0].lines if line.get_label().startswith("trivial answer")]
    assert sorted(round(line.get_ydata()[0], 2) for line in lines) == [4.16, 4.85]


def test_the_legend_of_curves_lies_below_all_panels_and_names_each_line_once():
    rows = [{"step": s, "audio_mse": 1.0, "audio_mse_trivial": 0.8, "inter": 4.5, "inter_trivial": 4.85} for s in range(4)]
    rows.append({"step": 3, "audio_mse": 0.9, "audio_mse_trivial": 0.8, "inter": 4.4, "inter_trivial": 4.16, "held_out": True})
    figure = figures.curves(rows, {"audio_mse": "audio", "inter": "InfoNCE"}).figure
    figure.draw_without_rendering()
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["training", "held-out clips", "best trivial answer", "trivial answer, training", "trivial answer, held-out clips"]
    assert legend.get_window_extent().y1 <= min(ax.get_window_extent().y0 for ax in figure.axes)
    assert 0 <= legend.get_window_extent().x0 and legend.get_window_extent().x1 <= figure.bbox.width


def test_where_nothing_is_hidden_no_error_is_said():
    views = {name: torch.zeros(4, 8, 8, 3, dtype=torch.uint8) for name in "abcd"}
    spectrograms = {name: torch.randn(32, 16) for name in "abcd"}
    sentence = figures.reconstruction(views, spectrograms, torch.zeros(32, 16, dtype=torch.bool), 1.0, 0.0, borrowed=False).sentence
    assert "0 % of the sound hidden" in sentence and "nan" not in sentence and "off by" not in sentence


def test_padding_does_not_set_the_colours():
    quiet = torch.randn(100, 16) - 12
    padded = torch.cat([quiet, torch.zeros(10, 16)])
    limits = [figures.spectrogram_panels({"a": x}, 1.0).figure.axes[0].images[0].get_clim() for x in (quiet, padded)]
    assert limits[0] == limits[1]


def test_a_mask_and_a_waveform_say_what_they_hold():
    for grid in ((8, 8), (4, 4, 4)):
        mask = random_mask(1, 64, 0.8, torch.Generator().manual_seed(0))[0]
        assert f"{int(mask.sum())} of 64 hidden" in figures.mask_grid(mask, grid).sentence
    click = torch.zeros(16_000)
    click[4000] = -0.5
    assert figures.waveform(click).sentence == "Waveform, 16000 samples over 1.00 s, peak 0.50 of 1 at 0.25 s."
    assert "silent" in figures.waveform(torch.zeros(100)).sentence
    with pytest.raises(ValueError, match="no samples"):
        figures.waveform(torch.zeros(0))


def test_a_mask_is_drawn_where_it_hides():
    mask = torch.zeros(64, dtype=torch.bool)
    mask[3 * 8 + 5] = True  # time patch 3, frequency patch 5: column 3, row 5 from below
    ax = figures.mask_grid(mask, (8, 8)).figure.axes[0]
    assert ax.collections[0].get_array().nonzero() == ([5], [3]) and not ax.yaxis_inverted()
    mask = torch.zeros(64, dtype=torch.bool)
    mask[2 * 16 + 1 * 4 + 3] = True  # time patch 2, row 1 from above, column 3
    drawn = figures.mask_grid(mask, (4, 4, 4)).figure.axes
    assert [int(ax.collections[0].get_array().sum()) for ax in drawn] == [0, 0, 1, 0]
    assert drawn[2].collections[0].get_array().nonzero() == ([1], [3]) and drawn[2].yaxis_inverted()


def test_masks_are_drawn_over_what_they_hide_and_their_counts_said():
    spectrogram, frames = torch.randn(64, 32), torch.randint(256, (2, 16, 16, 3), dtype=torch.uint8)
    column, corner = torch.zeros(8, 4, dtype=torch.bool), torch.zeros(2, 4, 4, dtype=torch.bool)
    column[3], corner[1, 0, 3] = True, True  # time patch 3; the second frame's upper right corner
    masks = {"column": {0.1: column.flatten()}}, {"corner": {0.1: corner.flatten()}}
    picture = figures.masking(spectrogram, frames, *masks, (8, 4), (2, 4, 4), 1.0)
    assert "column 4 of 32 at 0.1" in picture.sentence and "corner 1 of 32 at 0.1" in picture.sentence
    sound, strip = picture.figure.axes
    assert sound.get_title(loc="left") == "column, 0.1: 4 of 32 hidden"
    drawn = sound.images[0].get_array().mask
    assert drawn[:, 24:32].all() and drawn.sum() == 32 * 8
    shown = strip.images[0].get_array()
    grey = (shown == [int(figures.HIDDEN[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1)
    assert grey[:4, -5:-1].all() and grey.sum() < 16 + 5  # a pixel of noise may be that grey by chance


def test_a_matrix_without_a_diagonal_of_pairs_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 6\)"):
        figures.similarity(torch.zeros(4, 6))


def test_pictures_that_borrow_say_so():
    views = {name: torch.randint(256, (4, 8, 8, 3), dtype=torch.uint8) for name in "abcd"}
    spectrograms = {name: torch.randn(32, 16) for name in "abcd"}
    hidden = torch.zeros(32, 16, dtype=torch.bool)
    hidden[:16] = True
    own = figures.reconstruction(views, spectrograms, hidden, 1.0, 0.8, borrowed=False).sentence
    borrowed = figures.reconstruction(views, spectrograms, hidden, 1.0, 0.8, borrowed=True).sentence
    assert "nothing borrowed" in own and "own mean and std" in borrowed
    assert "50 % of the sound" in own


def test_the_same_data_give_the_same_bytes_and_an_opaque_picture(tmp_path):
    data = {"tone": tone(440)}
    one, two = (figures.spectrogram_panels(data, 2.54) for _ in range(2))
    assert one.png() == two.png()
    image = np.asarray(Image.open(io.BytesIO(one.png())).convert("RGBA"))
    assert (image[..., 3] == 255).all()
    assert one.save(tmp_path / "deep" / "a.png").read_bytes() == one.png()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.png"]


def test_a_notebook_gets_alt_text_a_caption_and_a_plain_text_twin():
    picture = figures.patch_grid(tone(440)[:128], (32, 16), 1.28)
    bundle = picture._repr_mimebundle_()
    assert bundle["text/plain"] == picture.sentence
    assert bundle["text/html"].count(picture.sentence) == 2
    data = re.search(r"base64,([^\"]+)", bundle["text/html"])[1]
    assert base64.b64decode(data) == picture.png()
