"""The factor probe: what is planted is found where it was planted, and nowhere else; and what is drawn is what is said."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from mavil_edu.explorers.probe import probe_explorer

FITTED, N = 200, 300


def made():
    g = torch.Generator().manual_seed(0)
    size, kinds = torch.rand(N, generator=g), torch.randint(3, (N,), generator=g)
    noise = [torch.randn(N, 8, generator=g) for _ in range(4)]
    planted = torch.cat([size[:, None], torch.nn.functional.one_hot(kinds, 3)], dim=1)
    knows = noise[0].clone()
    knows[:, :4] = 100 * planted + 0.01 * noise[1][:, :4]
    features = {"knows": {"audio": knows, "video": noise[2]}, "knows nothing": {"audio": noise[3], "video": noise[1]}}
    return features, {"size": size.tolist(), "kind": [("red", "green", "blue")[k] for k in kinds]}


@pytest.fixture
def explorer():
    return probe_explorer(*made(), FITTED, "size")


def scores(explorer) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"(knows|knows nothing) (-?\d\.\d\d) ±", explorer.shown.sentence)}


def pixels(explorer) -> np.ndarray:
    data = re.search(r'src="data:image/png;base64,([^"]+)"', explorer.picture.value)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


def test_a_planted_quantity_and_class_are_found_in_the_sense_that_holds_them_alone(explorer):
    for cause, chance in (("size", 0.0), ("kind", 1 / 3)):
        explorer.controls["cause"].value = cause
        explorer.controls["sense"].value = "audio"
        assert scores(explorer)["knows"] > 0.95 and scores(explorer)["knows nothing"] < chance + 0.2
        explorer.controls["sense"].value = "video"
        assert max(scores(explorer).values()) < chance + 0.2


def test_the_sentence_names_the_measure_what_needs_no_look_and_how_many_were_asked(explorer):
    assert "size from audio, R²" in explorer.shown.sentence and "without looking 0.00" in explorer.shown.sentence
    assert "100 clips asked about" in explorer.shown.sentence
    explorer.controls["cause"].value = "kind"
    _, causes = made()
    commonest = max(set(causes["kind"][:FITTED]), key=causes["kind"][:FITTED].count)
    share = causes["kind"][FITTED:].count(commonest) / (N - FITTED)
    assert "accuracy: knows 1.00 ± 0.00" in explorer.shown.sentence and f"without looking {share:.2f}" in explorer.shown.sentence


def test_labels_of_the_clips_asked_about_never_help():
    features, causes = made()
    honest = probe_explorer(features, causes, FITTED, "kind").shown.sentence
    other = [*causes["kind"][:FITTED], *["red"] * (N - FITTED)]
    assert scores(probe_explorer(features, causes | {"kind": other}, FITTED, "kind"))["knows"] < 0.5 and "knows 1.00" in honest


def test_each_choice_has_its_picture_and_comes_back(explorer):
    first = pixels(explorer)
    explorer.controls["cause"].value = "kind"
    second = pixels(explorer)
    explorer.controls["cause"].value = "size"
    assert not np.array_equal(first, second) and np.array_equal(first, pixels(explorer))


def test_a_good_bar_is_longer_than_a_bad_one(explorer):
    def length(colour):
        near = (np.abs(pixels(explorer)[:, :520] - np.array(colour)) < 30).all(axis=-1)
        return int(near.any(axis=0).sum())

    assert length((27, 122, 75)) > 3 * max(length((11, 98, 164)), 1)  # green: knows; blue: knows nothing


def test_every_choice_is_shown_in_under_150_ms(explorer, seconds_until_shown):
    assert seconds_until_shown(explorer, ("cause", "kind"), ("sense", "video"), ("cause", "size")) < 0.15


def test_without_a_kernel_picture_and_sentence_remain(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/html"].count("<img") == 1 and "R²" in bundle["text/plain"]


def test_a_feature_that_never_changes_counts_for_nothing():
    features, causes = made()
    constant = {
        name: {sense: torch.cat([x, torch.full((N, 1), 7.0)], dim=1) for sense, x in parts.items()} for name, parts in features.items()
    }
    assert probe_explorer(constant, causes, FITTED).shown.sentence == probe_explorer(features, causes, FITTED).shown.sentence


def test_numbers_that_do_not_fit_are_refused():
    features, causes = made()
    for fitted, wrong in ((5, causes), (N - 5, causes), (FITTED, {"size": causes["size"][:-1]})):
        with pytest.raises(ValueError, match="10 or more to fit and to ask about"):
            probe_explorer(features, wrong, fitted)
