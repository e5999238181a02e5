"""Masked MSE and InfoNCE as pure functions of tensors, and the trivial answer that each has to beat."""

import math
from typing import NamedTuple

import torch
from einops import einsum, rearrange
from torch import Tensor
from torch.nn import functional as F

PATCH_EPS = 1e-6  # added to a patch's variance before the square root [A]


class PatchStatistics(NamedTuple):
    """What per-patch normalisation takes out of a patch."""

    mean: Tensor  # (b, n, 1)
    std: Tensor  # (b, n, 1), sqrt(variance + PATCH_EPS)


def patch_statistics(patches: Tensor) -> PatchStatistics:
    """The mean and standard deviation of each patch: (b, n, values) -> two times (b, n, 1)."""
    mean = patches.mean(dim=-1, keepdim=True)
    variance = (patches - mean).square().sum(dim=-1, keepdim=True) / (patches.shape[-1] - 1)  # twice as fast as torch.var_mean
    return PatchStatistics(mean, (variance + PATCH_EPS).sqrt())


def normalise_patches(patches: Tensor, statistics: PatchStatistics | None = None) -> Tensor:
    """Each patch with zero mean and unit variance, MAE's `norm_pix_loss` target: (b, n, values) -> the same shape."""
    mean, std = statistics or patch_statistics(patches)
    return (patches - mean) / std


def _alike(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two tensors in the finer of their precisions, float32 at least."""
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    return x.to(dtype), y.to(dtype)


def patch_errors(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean squared error of each patch: two times (b, n, values) -> (b, n)."""
    return F.mse_loss(*_alike(prediction, target), reduction="none").mean(dim=-1)


def scored_mean(errors: Tensor, scored: Tensor) -> Tensor:
    """The mean over the scored patches of a batch; 0, with zero gradient, where none is scored. errors: (b, n). scored: (b, n) bool."""
    return (errors * scored).sum() / scored.sum().clamp(min=1)


def masked_mse(prediction: Tensor, target: Tensor, scored: Tensor) -> Tensor:
    """The mean squared error over the scored patches of a batch; 0, with zero gradient, where none is scored.

    prediction, target: (b, n, values). scored: (b, n) bool, True where a patch counts: hidden, and content where padding
    is left out. Returns a scalar.
    """
    return scored_mean(patch_errors(prediction, target), scored)


def info_nce(x: Tensor, y: Tensor, temperature: float) -> Tensor:
    """How badly row i of y is told from the other rows, given row i of x, by cosine similarity.

    L_c(x, y) = −1/B Σ_i log( exp(S(x_i, y_i)/τ) / Σ_j exp(S(x_i, y_j)/τ) ). x, y: (B, d). Returns a scalar;
    log B where all embeddings are equal, 0 for a batch of one.
    """
    x, y = (F.normalize(side, dim=-1) for side in _alike(x, y))
    logits = einsum(x, y, "i d, j d -> i j") / temperature
    return F.cross_entropy(logits, torch.arange(len(x), device=x.device))


def inter_modal(audio: Tensor, video: Tensor, temperature: float) -> Tensor:
    """½ [L_c(a, v) + L_c(v, a)]: the positives are the sound and the picture of one clip."""
    return (info_nce(audio, video, temperature) + info_nce(video, audio, temperature)) / 2


def intra_modal(
    audio: Tensor | None, audio_again: Tensor | None, video: Tensor | None, video_again: Tensor | None, temperature: float
) -> Tensor | None:
    """½ [L_c(a, a′) + L_c(v, v′)]: the positives are two masked views of one clip, in one modality.

    A modality of which nothing is visible is None and left out; None where both are.
    """
    terms = [info_nce(x, y, temperature) for x, y in ((audio, audio_again), (video, video_again)) if x is not None and y is not None]
    return sum(terms) / len(terms) if terms else None


def log_b(batch: int) -> float:
    """InfoNCE of an encoder that knows nothing, for a batch of this many clips."""
    return math.log(batch)


def _grid_places(grid: tuple[int, ...], device: torch.device) -> Tensor:
    axes = torch.meshgrid(*(torch.arange(size, device=device) for size in grid), indexing="ij")
    return rearrange(torch.stack(axes), "dims ... -> (...) dims").float()


def nearest_visible(target: Tensor, mask: Tensor, grid: tuple[int, ...]) -> Tensor:
    """A trivial answer: each place gets a copy of the visible patch nearest to it on the grid (the first of equals).

    target: (b, n, values). mask: (b, n) bool, True = hidden. Returns (b, n, values), zeros where a row has nothing visible.
    """
    places = _grid_places(grid, target.device)
    distance = torch.cdist(places, places)
    distance = rearrange(distance, "i j -> 1 i j").masked_fill(rearrange(mask, "b j -> b 1 j"), float("inf"))
    nearest = distance.argmin(dim=-1, keepdim=True)
    copied = target.gather(1, nearest.expand(-1, -1, target.shape[-1]))
    return copied * (~mask).any(dim=1)[:, None, None]


def mean_plus_residual(target: Tensor, mask: Tensor, grid: tuple[int, ...], position_mean: Tensor) -> Tensor:
    """A trivial answer: the position's mean over the training set, plus what its visible neighbours differ from theirs.

    Neighbours touch on the grid, edges and corners alike; the mean is taken of their residuals, 0 where none is visible.
    target: (b, n, values). mask: (b, n) bool. position_mean: (n, values). Returns (b, n, values).
    """
    places = _grid_places(grid, target.device)
    touch = (torch.cdist(places, places, p=float("inf")) <= 1).float().fill_diagonal_(0)
    weight = rearrange(touch, "i j -> 1 i j") * rearrange(~mask, "b j -> b 1 j")
    residual = einsum(weight, target - position_mean, "b i j, b j values -> b i values")
    return position_mean + residual / weight.sum(dim=-1, keepdim=True).clamp(min=1)


def token_answers(target: Tensor, scored: Tensor, position_mean: Tensor) -> dict[str, float]:
    """The masked MSE of stage 2's trivial answers, by name: one constant vector for all places, and each position's mean token.

    target: (b, n, d), a teacher's tokens. scored: (b, n) bool. position_mean: (n, d), over the training clips; its mean is the constant.
    """
    answers = {"constant_vector": position_mean.mean(dim=0), "position_mean": position_mean}
    return {name: float(masked_mse(answer.expand_as(target), target, scored)) for name, answer in answers.items()}


def trivial_answers(target: Tensor, mask: Tensor, scored: Tensor, grid: tuple[int, ...], position_mean: Tensor) -> dict[str, float]:
    """The masked MSE of each trivial answer, by name, on the same patches as the model's: what learning has to beat."""
    answers = {
        "position_mean": position_mean.expand_as(target),
        "nearest_visible": nearest_visible(target, mask, grid),
        "mean_plus_residual": mean_plus_residual(target, mask, grid, position_mean),
    }
    return {name: float(masked_mse(answer, target, scored)) for name, answer in answers.items()}
