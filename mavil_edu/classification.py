"""How well classes are told: metrics of scores (by scikit-learn), the answers that need no learning, predictions as a table, a picture."""

import csv
import io
import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from mavil_edu.figures import GRID, INK, Picture, _axes
from mavil_edu.files import write_text

MOST_NAMED = 30  # classes whose names a confusion matrix still shows
SURE = 0.5  # score from which a clip of several classes is said to have one


def loss_of(logits: Tensor, target: Tensor, bce: bool) -> Tensor:
    """Cross-entropy, or with `bce` binary cross-entropy, a mean over clips (and classes): scalar.

    logits: (b, classes), before softmax or sigmoid. target: (b, classes), shares of the classes, mixed clips between 0 and 1.
    Source: cross-entropy for one class a clip, binary for several [A, R].
    """
    return F.binary_cross_entropy_with_logits(logits, target) if bce else F.cross_entropy(logits, target)


def probabilities(logits: Tensor, bce: bool) -> Tensor:
    """(b, classes) in [0, 1]; with softmax each row sums to 1."""
    return logits.sigmoid() if bce else logits.softmax(dim=-1)


def metrics(scores: Tensor, target: Tensor, multi_label: bool) -> dict:
    """Metrics of clips' scores, ready for JSON.

    scores: (n, classes) in [0, 1]. target: (n, classes) of 0 and 1. Returns, where a clip has one class, `accuracy` (of the highest score),
    its standard error over clips and `top5`; `map`, the mean over those classes that any clip has; `per_class_ap`, None for the others.
    """
    from sklearn.metrics import accuracy_score, average_precision_score, top_k_accuracy_score

    scores, target = scores.detach().cpu(), target.detach().cpu()
    n, classes = target.shape
    present = target.any(dim=0)
    precision = torch.full((classes,), math.nan)
    found = average_precision_score(target[:, present].long().numpy(), scores[:, present].numpy(), average=None)
    precision[present] = torch.atleast_1d(torch.as_tensor(found)).float()
    said = {"map": float(precision[present].mean()), "per_class_ap": [None if math.isnan(p) else p for p in precision.tolist()]}
    if multi_label:
        return said
    truth = target.argmax(dim=1).numpy()
    accuracy = float(accuracy_score(truth, scores.argmax(dim=1).numpy()))
    top = {"top5": float(top_k_accuracy_score(truth, scores.numpy(), k=5, labels=range(classes)))} if classes > 5 else {}
    return {"accuracy": accuracy, "error": math.sqrt(accuracy * (1 - accuracy) / n)} | top | said


def confusion(scores: Tensor, target: Tensor) -> Tensor:
    """How often class i was taken for class j: (classes, classes) long, of clips with one class.

    scores, target: as `metrics` takes them.
    """
    from sklearn.metrics import confusion_matrix

    said, truth = (one.detach().cpu().argmax(dim=1).numpy() for one in (scores, target))
    return torch.from_numpy(confusion_matrix(truth, said, labels=range(target.shape[1])))


def trivial_answers(training: Tensor, asked: Tensor, multi_label: bool, bce: bool) -> dict[str, float]:
    """What is reached without looking at a clip, by metric: an answer that is the same for all of them.

    training, asked: (n, classes) of 0 and 1. `chance` (1 / classes) and `majority` (training's most frequent class) are accuracies, where a
    clip has one class; `map` is the share of clips that have a class, mean over classes; `loss` that of the training clips' shares.
    """
    prior = training.mean(dim=0).clamp(1e-6, 1 - 1e-6)
    logits = (prior.logit() if bce else prior.log()).expand_as(asked)
    present = asked.any(dim=0)
    answers = {"map": float(asked[:, present].mean()), "loss": float(loss_of(logits, asked, bce))}
    if multi_label:
        return answers
    return {"chance": 1 / asked.shape[1], "majority": float(asked[:, int(prior.argmax())].mean())} | answers


def write_predictions(path: Path, names: list[str], target: Tensor, scores: Tensor, classes: list[str], multi_label: bool) -> None:
    """A CSV file, whole or not at all: clip, label, prediction, and a column of scores for each class; several classes parted by " | ".

    names: (n,) of the clips. target, scores: as `metrics` takes them. A clip of several classes is said to have those of 0.5 and more.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["clip", "label", "prediction", *(f"score {name}" for name in classes)])
    for name, truth, scored in zip(names, target, scores, strict=True):
        said = scored >= SURE if multi_label else F.one_hot(scored.argmax(), len(classes)).bool()
        both = (" | ".join(classes[i] for i in one.nonzero()[:, 0].tolist()) for one in (truth, said))
        rows.writerow([name, *both, *(f"{value:.6g}" for value in scored.tolist())])
    write_text(path, text.getvalue())


def confusion_picture(matrix: Tensor, classes: list[str]) -> Picture:
    """A confusion matrix, each row as shares of its class; (classes, classes) of counts, row = what it is, column = what was said.

    Raises ValueError where the matrix does not fit the classes.
    """
    if tuple(matrix.shape) != (len(classes), len(classes)):
        raise ValueError(f"A confusion matrix of {len(classes)} classes is square with as many rows; this one is {tuple(matrix.shape)}.")
    counts = matrix.detach().cpu().float()
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    side = min(8.0, 2.2 + 0.32 * len(classes))
    figure, axes = _axes(side + 0.8, side)
    image = axes[0, 0].imshow(shares.numpy(), cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, ax=axes[0, 0], shrink=0.8, label="share of the class").ax.tick_params(colors=INK, labelsize=8)
    if len(classes) <= MOST_NAMED:
        axes[0, 0].set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
        axes[0, 0].set_yticks(range(len(classes)), classes, fontsize=7)
    if len(classes) <= 12:
        for i, j in counts.nonzero().tolist():
            colour = INK if shares[i, j] > 0.6 else GRID
            axes[0, 0].text(j, i, f"{int(counts[i, j])}", ha="center", va="center", fontsize=7, color=colour)
    axes[0, 0].set_xlabel("said", fontsize=8, color=INK)
    axes[0, 0].set_ylabel("is", fontsize=8, color=INK)
    right, total = int(counts.diagonal().sum()), int(counts.sum())
    wrong = counts.clone().fill_diagonal_(0)
    sentence = f"Confusion matrix of {total} clips in {len(classes)} classes: {right} right"
    largest = float(counts.sum(dim=1).max())
    sentence += f" (always saying the most frequent class: {largest:.0f})"
    if bool(wrong.any()):
        i, j = divmod(int(wrong.argmax()), len(classes))
        sentence += f"; most often, {int(wrong[i, j])} times, {classes[i]!r} was taken for {classes[j]!r}"
    return Picture(figure, f"{sentence}.")
