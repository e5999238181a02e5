"""The factor probe: which cause of a clip can be read from which embedding, and how well beside what needs no learning."""

import math
import warnings
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mavil_edu.explorers.widgets import Explorer, Shown, choice
from mavil_edu.figures import BLUE, GREEN, INK, ORANGE, _array, _axes
from mavil_edu.overlay import Overlay

PENALTIES = np.logspace(-2, 4, 7)
COLOURS = (GREEN, BLUE, ORANGE, "#6b4c9a", "#868d99")


class ProbeView:
    """A bar for each representation, and beside it what the first one's probe says of each test clip; drawn quickly again and again."""

    def __init__(self, names: list[str]):
        figure, axes = _axes(8.8, 2.9, 1, 2, width_ratios=[1.15, 1])
        self._bars, self._said = axes[0]
        self._names = names
        self._bars.set(ylim=(len(names) - 0.4, -0.6), xlim=(-0.05, 1.12), yticks=range(len(names)), yticklabels=names)
        self._bars.set_xlabel("score (1: perfect); dotted: told without looking", fontsize=8, color=INK)
        self._said.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])
        self._said.set_xlabel("true value: left to right", fontsize=8, color=INK)
        self._said.set_ylabel("what the probe says", fontsize=8, color=INK)
        self._overlay = Overlay(figure)

    def png(self, scores: list[float], errors: list[float], trivial: float, truth: Tensor, said: Tensor, title: str) -> bytes:
        """truth, said: (tests,) in [0, 1], the places of the points at the right."""
        places = range(len(scores))
        shown = [min(max(score, -0.05), 1.0) for score in scores]
        artists = list(self._bars.barh(places, shown, color=[COLOURS[place % len(COLOURS)] for place in places], height=0.7))
        for place, (score, error) in enumerate(zip(scores, errors, strict=True)):
            artists.append(
                self._bars.text(max(shown[place], 0) + 0.01, place, f"{score:.2f} ± {error:.2f}", fontsize=7, color=INK, va="center")
            )
        artists.append(self._bars.axvline(trivial, color=INK, linewidth=0.9, linestyle=":"))
        jitter = torch.rand(2, len(truth), generator=torch.Generator().manual_seed(0)) - 0.5
        artists += self._said.plot(_array(truth + 0.05 * jitter[0]), _array(said + 0.05 * jitter[1]), ".", markersize=3, color=COLOURS[0])
        artists += self._said.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        artists.append(self._said.text(0.02, 0.95, title, fontsize=8, color=INK, va="top"))
        return self._overlay.png(artists)


def _classes(train: np.ndarray, labels: list, test: np.ndarray, truth: list) -> tuple[float, float, float, Tensor, Tensor]:
    from sklearn.linear_model import RidgeClassifierCV

    names = sorted(set(labels) | set(truth))
    said = RidgeClassifierCV(PENALTIES).fit(train, labels).predict(test)
    accuracy = float((said == np.asarray(truth)).mean())
    commonest = max(set(labels), key=labels.count)
    among = max(len(names) - 1, 1)
    places = [torch.tensor([names.index(value) / among for value in values]) for values in (truth, list(said))]
    return accuracy, math.sqrt(accuracy * (1 - accuracy) / len(truth)), truth.count(commonest) / len(truth), *places


def _quantity(train: np.ndarray, values: list, test: np.ndarray, truth: list) -> tuple[float, float, float, Tensor, Tensor]:
    from sklearn.linear_model import RidgeCV

    said, true = RidgeCV(PENALTIES).fit(train, values).predict(test), np.asarray(truth, dtype=float)
    misses, spread = (true - said) ** 2, (true - true.mean()) ** 2
    r2 = float(1 - misses.sum() / spread.sum())
    low, high = true.min(), true.max()
    places = [torch.from_numpy((x - low) / (high - low)).clamp(0, 1).float() for x in (true, said)]
    return r2, float(np.std(misses / spread.mean()) / math.sqrt(len(true))), 0.0, *places


def probe_explorer(
    features: Mapping[str, Mapping[str, Tensor]], causes: Mapping[str, list], fitted: int, cause: str | None = None
) -> Explorer:
    """Choose a cause and a sense: how well a linear probe reads it from each representation, and what it says of each test clip.

    features: representation ("shipped", "untrained", "raw features", …) -> sense ("audio", "video", …) -> (n, d); the first one's answers
    are drawn clip by clip. causes: name -> n values; text is a class (accuracy, against the commonest class), a number a quantity (R²,
    against the mean). fitted: as many of the first clips fit the probes, the others are asked about. cause: what is shown first.
    Ridge regression, its penalty chosen by leave-one-out on the clips that fit; errors are standard errors over the clips asked about.
    Raises ValueError where numbers of clips do not agree, or fewer than ten fit or are asked about.
    """
    first, senses = next(iter(features)), list(next(iter(features.values())))
    counts = {len(x) for parts in features.values() for x in parts.values()} | {len(values) for values in causes.values()}
    if len(counts) > 1 or fitted < 10 or min(counts) - fitted < 10:
        raise ValueError(
            f"There are {sorted(counts)} clips, {fitted} of them to fit; give as many of each, 10 or more to fit and to ask about."
        )
    standard = {(name, sense): _standardised(features[name][sense].double(), fitted) for name in features for sense in senses}
    view = ProbeView(list(features))

    def show(cause: str, sense: str) -> Shown:
        values = causes[cause]
        ask = _classes if isinstance(values[0], str) else _quantity
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=RuntimeWarning)
            found = [ask(x[:fitted], values[:fitted], x[fitted:], values[fitted:]) for x in (standard[name, sense] for name in features)]
        metric = "accuracy" if ask is _classes else "R²"
        scores, errors, trivial = [one[0] for one in found], [one[1] for one in found], found[0][2]
        told = ", ".join(f"{name} {score:.2f} ± {error:.2f}" for name, score, error in zip(features, scores, errors, strict=True))
        sentence = f"{cause} from {sense}, {metric}: {told}; without looking {trivial:.2f}. {len(values) - fitted} clips asked about."
        return Shown(sentence, view.png(scores, errors, trivial, *found[0][3:], f"{cause} from {sense}, {first}"))

    controls = {
        "cause": choice(list(causes), cause or next(iter(causes)), "Cause"),
        "sense": choice(senses, senses[0], "From"),
    }
    return Explorer(controls, show)


def _standardised(x: Tensor, fitted: int) -> np.ndarray:
    """By the fitted clips' mean and standard deviation; a feature that never changes there becomes 0."""
    mean, std = x[:fitted].mean(dim=0), x[:fitted].std(dim=0, correction=0)
    return ((x - mean) / torch.where(std > 1e-9, std, torch.inf)).numpy()
