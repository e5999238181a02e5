"""Whether a sound finds its picture, and a picture its sound: recall and rank of the clip itself, precision of its class."""

import math

import torch
from einops import einsum
from torch import Tensor

PLACES = (1, 5, 10)


def recall_at(similarity: Tensor, k: int) -> float:
    """The share of rows i whose own column i is among their k most similar; equals share the places they fill.

    similarity: (i, j), square. Rows whose scores are all equal get k / N, chance, and not 1.
    """
    own = similarity.diagonal()[:, None]
    above, level = (similarity > own).sum(dim=1), (similarity == own).sum(dim=1)
    return float(((k - above).clamp(min=0) / level).clamp(max=1).mean())


def median_rank(similarity: Tensor) -> float:
    """The median over rows i of the place of column i, from 1; equals share their places: (N + 1) / 2 where all scores are equal."""
    own = similarity.diagonal()[:, None]
    above, level = (similarity > own).sum(dim=1), (similarity == own).sum(dim=1)
    return float((above + (level + 1) / 2).quantile(0.5))


def similarities(audio: Tensor, video: Tensor) -> dict[str, Tensor]:
    """Cosine similarities both ways, (N, N) with the queries as rows; audio, video: (N, e) of length 1."""
    similarity = einsum(audio, video, "i d, j d -> i j")
    return {"audio_to_video": similarity, "video_to_audio": similarity.T}


def retrieval(audio: Tensor, video: Tensor) -> dict:
    """R@1, R@5, R@10 and the median rank, both ways, among N clips by cosine similarity, with chance beside them.

    audio, video: (N, e) of length 1, row i of both from clip i.
    """
    n = len(audio)
    found: dict = {
        way: {f"r{k}": recall_at(s, k) for k in PLACES} | {"median_rank": median_rank(s)} for way, s in similarities(audio, video).items()
    }
    return found | {f"chance_r{k}": min(k, n) / n for k in PLACES} | {"chance_median_rank": (n + 1) / 2, "clips": n}


def _average_precision(similarity: Tensor, relevant: Tensor) -> float:
    """The mean over rows of the average precision; a row's equals are ordered at random, as the mean over many orders would be."""
    found = []
    shuffle = torch.randperm(similarity.shape[1], generator=torch.Generator().manual_seed(0))
    for scores, wanted in zip(similarity[:, shuffle], relevant[:, shuffle], strict=True):
        if not bool(wanted.any()):
            continue
        hits = wanted[scores.argsort(descending=True, stable=True)].double()
        precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
        found.append(float((precision * hits).sum() / hits.sum()))
    return sum(found) / len(found) if found else math.nan


def by_class(audio: Tensor, video: Tensor, values: list) -> dict:
    """Whether what is found is of the query's class: precision at 1, 5, 10 and mean average precision, both ways, with chance.

    audio, video: (N, e) of length 1. values: each clip's class, or a tuple of several, of which one in common is enough; clips whose
    class is unknown ("" or ()) are left out. The query's own clip counts as found: it is of the same class.
    Raises ValueError where fewer than two clips have a class.
    """
    rows = [i for i, value in enumerate(values) if value not in ("", ())]
    if len(rows) < 2:
        raise ValueError(f"{len(rows)} of {len(values)} clips have a class; retrieval by class needs 2 or more.")
    sets = [{values[i]} if isinstance(values[i], str) else set(values[i]) for i in rows]
    relevant = torch.tensor([[bool(a & b) for b in sets] for a in sets])
    shuffle = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))  # equals in a random order, and not the file's
    found: dict = {"clips": len(rows), "chance": float(relevant.double().mean())}
    for way, similarity in similarities(audio[rows], video[rows]).items():
        best = relevant[:, shuffle].gather(1, similarity[:, shuffle].argsort(dim=1, descending=True, stable=True)).double()
        found[way] = {f"precision_at_{k}": float(best[:, :k].mean()) for k in PLACES} | {"map": _average_precision(similarity, relevant)}
    return found
