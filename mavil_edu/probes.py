"""What an embedding holds, asked with labels: linear probes and nearest neighbours, the raw features they must beat, and collapse."""

import math
import warnings
from typing import Literal, NamedTuple

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor
from torch.nn import functional as F

from mavil_edu.config import ModelConfig
from mavil_edu.data.batch import Batch
from mavil_edu.evaluate import input_chunks
from mavil_edu.mavil import MAViL

Method = Literal["linear", "knn"]
NEIGHBOURS = 10
FOLDS = 3  # of the training part, in which the regularisation is chosen
STRENGTHS = np.logspace(-3, 1, 5)  # of the logistic regression's inverse regularisation, C
PENALTIES = np.logspace(-2, 4, 13)  # of the ridge regression
ROUNDS = 200  # of the bootstrap
THUMBNAIL = 8  # pixels a side


class Score(NamedTuple):
    """How well test clips' values are told from an embedding."""

    value: float  # accuracy, R², or mean average precision
    error: float  # its standard error over the test clips
    chance: float  # of an answer that ignores the embedding
    metric: Literal["accuracy", "r2", "map"]
    clips: int  # test clips asked about: those whose value is known


class ProbeError(ValueError):
    """A column cannot be asked for with these clips; the message says why."""


def has_pictures(batch: Batch) -> bool:
    """Whether any clip of a batch has a picture."""
    return bool(batch.seen.any())


@torch.no_grad()
def features(model: MAViL, batch: Batch) -> dict[str, Tensor]:
    """What a model says of complete clips, (b, d) each: "audio" and "video" embeddings, and "fused".

    Fused is both modalities' fused patch tokens, the mean of each, one after the other: (b, 2 d). One mean over all of them would
    weigh the modality with more tokens more. A batch of sounds without any picture has "audio" alone.
    """
    device = next(model.parameters()).device
    if not has_pictures(batch):
        heard = [model.encode(inputs.audio).audio_embedding for _, inputs in input_chunks(batch, model.config, device)]
        return {"audio": torch.cat(heard).cpu()}
    parts: dict[str, list[Tensor]] = {"audio": [], "video": [], "fused": []}
    for _, inputs in input_chunks(batch, model.config, device):
        encoded = model.encode(inputs.audio, inputs.video)
        parts["audio"].append(encoded.audio_embedding)
        parts["video"].append(encoded.video_embedding)
        parts["fused"].append(torch.cat([encoded.fused_audio_tokens.mean(dim=1), encoded.fused_video_tokens.mean(dim=1)], dim=1))
    return {name: torch.cat(rows).cpu() for name, rows in parts.items()}


@torch.no_grad()
def raw_features(batch: Batch, model: ModelConfig) -> dict[str, Tensor]:
    """What needs no model: (b, values) each.

    "audio" is the log-mel spectrogram's mean over time; "audio, mean and std" has its standard deviation beside it. "video" is a
    thumbnail of 8 × 8 × 3 of the clip's mean frame; "video, mean and std" has that of the standard deviation over time beside it.
    "fused" is the plain two, one after the other. A batch of sounds without any picture has those of sound alone.
    """
    parts: dict[str, list[Tensor]] = {"audio": [], "audio, mean and std": [], "video": [], "video, mean and std": []}
    for _, inputs in input_chunks(batch, model, torch.device("cpu")):
        spectrogram = rearrange(inputs.audio, "b 1 t mel -> b t mel")
        small = F.adaptive_avg_pool2d(rearrange(inputs.video, "b c t h w -> (b t) c h w"), THUMBNAIL)
        small = rearrange(small, "(b t) c h w -> b t (c h w)", b=len(spectrogram))
        for name, values in (("audio", spectrogram), ("video", small)):
            mean, std = reduce(values, "b t x -> b x", "mean"), values.std(dim=1, correction=0)
            parts[name].append(mean)
            parts[f"{name}, mean and std"].append(torch.cat([mean, std], dim=1))
    found = {name: torch.cat(rows) for name, rows in parts.items()}
    if not has_pictures(batch):
        return {name: values for name, values in found.items() if name.startswith("audio")}
    return found | {"fused": torch.cat([found["audio"], found["video"]], dim=1)}


def untrained(config: ModelConfig, seed: int = 0) -> MAViL:
    """The same architecture with fresh weights: what its shape alone is worth."""
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(seed)
        return MAViL(config).eval()
    finally:
        torch.random.set_rng_state(state)


def effective_rank(x: Tensor) -> float:
    """In how many directions embeddings spread: exp of the entropy of their normalised singular values, 1 to d.

    x: (n, d), on any device, centred here. 0 where all rows are equal. Source: Roy & Vetterli, "The effective rank", 2007.
    """
    x = x.cpu()  # MPS has no float64
    values = torch.linalg.svdvals((x - x.mean(dim=0)).double())
    if float(values.sum()) <= 1e-9 * max(1.0, float(x.double().norm())):
        return 0.0
    share = values / values.sum()
    return float(torch.exp(-(share * share.clamp_min(1e-300).log()).sum()))


def embedding_std(x: Tensor) -> float:
    """The mean over dimensions of the standard deviation of length-1 embeddings, times √d: near 1 where they spread, 0 where collapsed.

    x: (n, d), on any device. Source: the collapse measure of SimSiam (Chen & He, 2021), scaled so that d does not matter.
    """
    return float(F.normalize(x.cpu().double(), dim=1).std(dim=0, correction=0).mean() * math.sqrt(x.shape[1]))


def known(values: list) -> list[int]:
    """The places of the values that are known: not "", NaN or ()."""
    return [i for i, v in enumerate(values) if v not in ("", ()) and not (isinstance(v, float) and math.isnan(v))]


def kind_of(values: list) -> Literal["class", "quantity", "classes"]:
    """What a column holds: text is a class, a number a quantity, a tuple of texts several classes. Raises ProbeError where they mix."""
    kinds = {"class" if isinstance(v, str) else "classes" if isinstance(v, tuple) else "quantity" for v in values}
    if len(kinds) != 1:
        raise ProbeError(f"A column must hold one kind of value, all text or all numbers; this one holds {', '.join(sorted(kinds))}.")
    return kinds.pop()


def _standardised(train: Tensor, test: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """By the training part's mean and standard deviation; a feature that never changes there becomes 0."""
    mean, std = train.double().mean(dim=0), train.double().std(dim=0, correction=0)
    scale = torch.where(std > 1e-9, std, torch.inf)
    return ((train - mean) / scale).numpy(), ((test - mean) / scale).numpy()


def _neighbours(train: Tensor, test: Tensor) -> Tensor:
    """The places of the 10 nearest training clips by cosine of centred features: (tests, 10)."""
    centre = train.mean(dim=0)
    similarity = F.normalize(test - centre, dim=1) @ F.normalize(train - centre, dim=1).T
    return similarity.topk(min(NEIGHBOURS, len(train)), dim=1).indices


def _bootstrap(score, truth: np.ndarray, said: np.ndarray) -> float:
    """The standard error of a score over test clips."""
    random = np.random.default_rng(0)
    found = [score(truth[rows], said[rows]) for rows in (random.integers(0, len(truth), len(truth)) for _ in range(ROUNDS))]
    return float(np.nanstd(found))


def _fit(estimator, x: np.ndarray, y: np.ndarray, what: str):
    """Fits, and says so in a sentence where the solver did not converge."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return estimator.fit(x, y)
        except ConvergenceWarning as warning:
            raise ProbeError(f"The probe of {what} did not converge: {warning}") from warning


def _classes(train: Tensor, train_values: list[str], test: Tensor, test_values: list[str], method: Method) -> Score:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    names, counts = np.unique(train_values, return_counts=True)
    if len(names) < 2:
        raise ProbeError(f"All training clips are {names[0]!r}; a probe needs two classes or more.")
    truth = np.asarray(test_values)
    if method == "knn":
        places = np.searchsorted(names, train_values)[_neighbours(train, test).numpy()]
        votes = np.stack([(places == i).sum(axis=1) for i in range(len(names))], axis=1)
        said = names[votes.argmax(axis=1)]
    else:
        x, unseen = _standardised(train, test)
        model = LogisticRegression(max_iter=5000)
        if counts.min() >= FOLDS:
            folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
            model = GridSearchCV(model, {"C": STRENGTHS}, cv=folds, error_score="raise")
        said = _fit(model, x, np.asarray(train_values), "a class").predict(unseen)
    accuracy = float((said == truth).mean())
    chance = float((truth == names[counts.argmax()]).mean())
    return Score(accuracy, math.sqrt(accuracy * (1 - accuracy) / len(truth)), chance, "accuracy", len(truth))


def _r2(truth: np.ndarray, said: np.ndarray) -> float:
    spread = ((truth - truth.mean()) ** 2).sum()
    return float(1 - ((truth - said) ** 2).sum() / spread) if spread else math.nan


def _quantity(train: Tensor, train_values: list[float], test: Tensor, test_values: list[float], method: Method) -> Score:
    from sklearn.linear_model import RidgeCV

    y, truth = np.asarray(train_values, dtype=float), np.asarray(test_values, dtype=float)
    if np.ptp(y) == 0 or np.ptp(truth) == 0:
        raise ProbeError("All clips have the same value; there is nothing to tell.")
    if method == "knn":
        said = y[_neighbours(train, test).numpy()].mean(axis=1)
    else:
        x, unseen = _standardised(train, test)
        said = RidgeCV(PENALTIES).fit(x, y).predict(unseen)
    return Score(_r2(truth, said), _bootstrap(_r2, truth, said), 0.0, "r2", len(truth))


def _several(train: Tensor, train_values: list[tuple], test: Tensor, test_values: list[tuple], method: Method) -> Score:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import MultiLabelBinarizer

    there = {name for values in test_values for name in values} & {name for values in train_values for name in values}
    if not there:
        raise ProbeError("No class occurs both in training and in test clips.")
    coder = MultiLabelBinarizer(classes=sorted(there))
    y, truth = (coder.fit_transform([[n for n in v if n in there] for v in values]) for values in (train_values, test_values))
    if method == "knn":
        said = y[_neighbours(train, test).numpy()].mean(axis=1)
    else:
        x, unseen = _standardised(train, test)
        said = _fit(OneVsRestClassifier(LogisticRegression(max_iter=5000)), x, y, "several classes").predict_proba(unseen)
        said = said[:, -y.shape[1] :]  # of a single class scikit-learn tells both sides, "not" first

    def mean_precision(truth: np.ndarray, said: np.ndarray) -> float:
        present = truth.any(axis=0)
        return float(average_precision_score(truth[:, present], said[:, present], average="macro")) if present.any() else math.nan

    return Score(mean_precision(truth, said), _bootstrap(mean_precision, truth, said), float(truth.mean(axis=0).mean()), "map", len(truth))


def probe(train: Tensor, train_values: list, test: Tensor, test_values: list, method: Method = "linear") -> Score:
    """Fits a probe on training clips and scores it on test clips; unknown values ("", NaN, ()) are left out of both.

    train, test: (n, d) features. values: one a clip; text is a class (logistic regression, accuracy, against the most frequent
    class), a number a quantity (ridge regression, R², against 0), a tuple of texts several classes (one logistic regression a
    class, mean average precision, against the share of positives). Features are standardised, and the regularisation chosen by
    cross-validation, on training clips alone. method "knn": 10 nearest by cosine; they vote, or their mean counts.
    Raises ProbeError where there is too little to fit or to ask, or not one value for each clip.
    """
    from threadpoolctl import threadpool_limits

    for part, x, values in (("training", train, train_values), ("test", test, test_values)):
        if len(values) != len(x):
            raise ProbeError(f"There are {len(values)} labels for {len(x)} {part} clips; give one for each.")
    fitted, asked = known(train_values), known(test_values)
    if len(fitted) < 2 * FOLDS or len(asked) < 2:
        raise ProbeError(f"{len(fitted)} training and {len(asked)} test clips have a value; a probe needs {2 * FOLDS} and 2 or more.")
    train_values, test_values = [train_values[i] for i in fitted], [test_values[i] for i in asked]
    ask = {"class": _classes, "quantity": _quantity, "classes": _several}[kind_of(train_values + test_values)]
    with threadpool_limits(1):  # such small products are 40 times slower where several threads wait for each other
        return ask(train[fitted].float(), train_values, test[asked].float(), test_values, method)
