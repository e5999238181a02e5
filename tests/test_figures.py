"""A figure's sentence is computed from its data, and a picture is the same bytes each time."""

import base64
import io
import math
import re

import numpy as np
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
