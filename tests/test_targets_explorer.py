"""The targets explorer: what is alike is found alike, a clip is never its own neighbour, and what is drawn is what is said."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from mavil_edu.config import tiny
from mavil_edu.explorers.targets import targets_explorer

CONFIG = tiny().model.audio
TIMES, PITCHES = CONFIG.grid
LABELS = ["bell", "drum"] * 15  # thirty clips


def made():
    """Tokens that know the label of their clip; and patches that know nothing but that they differ."""
    g = torch.Generator().manual_seed(0)
    n, tokens = len(LABELS), CONFIG.tokens
    kind = torch.tensor([LABELS.index(label) for label in LABELS])
    knows = torch.randn(2, 8, generator=g)[kind][:, None] + 0.1 * torch.randn(n, tokens, 8, generator=g)
    blind = torch.randn(n, tokens, 12, generator=g)
    place = 50 * torch.randn(tokens, 8, generator=g)  # what every clip says at a place
    spectrograms = torch.randn(n, CONFIG.frames, CONFIG.mel_bins, generator=g)
    return {"patches": blind, "tokens": knows + place}, spectrograms, 0.1 * torch.randn(n, CONFIG.samples, generator=g)


@pytest.fixture
def explorer():
    return targets_explorer(*made(), LABELS, CONFIG)


def found(explorer) -> dict[str, int]:
    return {name: int(count) for name, count in re.findall(r"(patches|tokens): (\d+) of 10", explorer.shown.sentence)}


def pixels(explorer) -> np.ndarray:
    data = re.search(r'src="data:image/png;base64,([^"]+)"', explorer.picture.value)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


def test_neighbours_are_of_the_same_class_where_the_targets_know_it_and_by_chance_where_not(explorer):
    counts = {"patches": [], "tokens": []}
    for clip in range(10):
        explorer.controls["clip"].value = clip
        for name, count in found(explorer).items():
            counts[name].append(count)
    assert min(counts["tokens"]) == 10  # although what all clips share at a place is fifty times as large
    assert 3 < sum(counts["patches"]) / 10 < 7


def test_the_sentence_names_clip_place_class_and_chance(explorer):
    explorer.controls["clip"].value, explorer.controls["time"].value, explorer.controls["pitch"].value = 3, 4, 1
    assert "Clip 3 (drum), time 4, pitch 1." in explorer.shown.sentence
    assert f"(by chance {10 * 14 / 29:.1f})" in explorer.shown.sentence


def test_a_clip_is_never_its_own_neighbour():
    targets, *media = made()
    alone = ["gong", *LABELS[1:]]  # the only one of its class
    assert found(targets_explorer(targets, *media, alone, CONFIG)) == {"patches": 0, "tokens": 0}


def test_the_place_itself_is_brightest_and_its_mark_moves_with_it(explorer):
    def mark():
        near = (np.abs(pixels(explorer) - np.array((0x00, 0xE5, 0xFF))) < 25).all(axis=-1)
        return np.flatnonzero(near.any(axis=0)).mean()

    before, first = mark(), pixels(explorer)
    explorer.controls["time"].value = TIMES - 1
    assert mark() > before + 100 and not np.array_equal(first, pixels(explorer))
    explorer.controls["time"].value = 0
    assert np.array_equal(first, pixels(explorer))


def test_the_map_shows_which_places_of_that_clip_are_alike():
    """Two places of clip 2 say the same: the map is bright at both of them, whichever is chosen, and nowhere in another clip."""
    targets, *media = made()
    g = torch.Generator().manual_seed(1)
    tokens = torch.randn(len(LABELS), TIMES, PITCHES, 64, generator=g)
    tokens[2, 20, 1] = tokens[2, 4, 0]
    explorer = targets_explorer({"tokens": tokens.flatten(1, 2)}, *media, LABELS, CONFIG, clip=2, time=4)

    def bright() -> list[tuple[int, bool]]:
        """(time, whether in the upper half) of each bright patch of the map."""
        shown = pixels(explorer)
        grey = np.abs(shown - shown[3, 3]).sum(axis=-1) < 12  # the page around the two panels
        columns = np.flatnonzero((~grey).mean(axis=0) > 0.6)
        start = columns[np.flatnonzero(np.diff(columns) > 5)[-1] + 1]
        rows = np.flatnonzero((~grey[:, columns]).mean(axis=1) > 0.6)
        panel = shown[rows[0] : rows[-1] + 1, start : columns[-1] + 1]
        yellow = (panel[..., 0] > 200) & (panel[..., 2] < 120)
        h, w = yellow.shape
        cells = {
            (f, t): yellow[f * h // 2 : (f + 1) * h // 2, t * w // TIMES : (t + 1) * w // TIMES].mean()
            for f in (0, 1)
            for t in range(TIMES)
        }
        return sorted((t, f == 0) for (f, t), share in cells.items() if share > 0.3)

    assert bright() == [(4, False), (20, True)]
    explorer.controls["time"].value, explorer.controls["pitch"].value = 20, 1
    assert bright() == [(4, False), (20, True)]
    explorer.controls["clip"].value = 3
    assert bright() == [(20, True)]


def test_a_map_is_dark_where_the_opposite_is_said():
    targets, *media = made()
    tokens = targets["tokens"].clone()
    tokens[0, 2 * PITCHES :] = tokens.mean(dim=0)[2 * PITCHES :] - 9 * (tokens[0, 0] - tokens.mean(dim=0)[0])  # from time 2 on
    shown = pixels(targets_explorer({"tokens": tokens}, *media, LABELS, CONFIG))
    right = shown[:, shown.shape[1] // 2 + 20 :]
    yellow, blue = ((right[..., 0] > 200) & (right[..., 2] < 120)).sum(), ((right[..., 0] < 40) & (right[..., 2] > 60)).sum()
    assert blue > 5 * yellow > 0


def test_buttons_walk_and_stop_at_the_ends(explorer):
    later, earlier, clip = explorer.buttons["later ▶"], explorer.buttons["◀ earlier"], explorer.buttons["next clip"]
    earlier.click()
    assert explorer.controls["time"].value == 0
    later.click()
    later.click()
    assert explorer.controls["time"].value == 2
    for _ in range(len(LABELS) + 3):
        clip.click()
    assert explorer.controls["clip"].value == len(LABELS) - 1


def test_a_move_is_shown_in_under_150_ms(explorer, seconds_until_shown):
    assert seconds_until_shown(explorer, ("time", 1), ("time", 2), ("time", 3)) < 0.15


def test_without_a_kernel_picture_player_and_sentence_remain(explorer):
    bundle = explorer._repr_mimebundle_()
    assert "<img" in bundle["text/html"] and "<audio" in bundle["text/html"] and "by chance" in bundle["text/plain"]


def test_what_does_not_belong_together_is_refused():
    targets, spectrograms, waveforms = made()
    for wrong in (
        (targets | {"tokens": targets["tokens"][:-1]}, spectrograms, waveforms, LABELS),
        (targets | {"tokens": targets["tokens"][:, :-1]}, spectrograms, waveforms, LABELS),
        (targets, spectrograms[:-1], waveforms, LABELS),
        (targets, spectrograms, waveforms[:5], LABELS),
        (targets, spectrograms, waveforms, LABELS[:-1]),
    ):
        with pytest.raises(ValueError, match="of as many"):
            targets_explorer(*wrong, CONFIG)
