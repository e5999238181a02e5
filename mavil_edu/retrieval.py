"""Retrieval across modalities, the picture of a sound and the sound of a picture: by instance, by class, and for one clip of your own."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import einsum
from torch import Tensor
from torch.nn.functional import normalize

RECALLS = (1, 5, 10)
DECIMALS = 6  # similarities that differ by less are equal: that much is rounding, and must not rank a collapsed model's clips
ROWS = 256  # queries ranked at once by class
WAYS = {"audio_to_video": "sound to picture", "video_to_audio": "picture to sound"}


def similarities(queries: Tensor, gallery: Tensor) -> Tensor:
    """Cosine similarities to 6 decimals, so that equal embeddings are equally similar however a product was rounded.

    queries: (i, e). gallery: (j, e). Returns (i, j) float64, on the CPU. Raises ValueError where an embedding is not finite.
    """
    if not (torch.isfinite(queries).all() and torch.isfinite(gallery).all()):
        raise ValueError("Some embeddings are not finite numbers, so nothing can be ranked by them; the model's training has diverged.")
    x, y = (normalize(side.detach().cpu().double(), dim=-1) for side in (queries, gallery))
    return einsum(x, y, "i e, j e -> i j").round(decimals=DECIMALS)


def _rivals(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """For each row how many columns lie above its own one, and how many level with it, itself included."""
    own = similarity.diagonal()[:, None]
    return (similarity > own).sum(dim=1), (similarity == own).sum(dim=1)


def recall_at(similarity: Tensor, k: int) -> float:
    """The share of rows i whose own column i is among their k most similar; equals share the places they fill.

    similarity: (i, j), square. Rows whose scores are all equal get k / N, chance, and not 1.
    """
    above, level = _rivals(similarity)
    return float(((k - above).clamp(min=0) / level).clamp(max=1).mean())


def median_rank(similarity: Tensor) -> float:
    """The median over rows i of the rank of their own column i, 1 being best; equals share the mean of the places they fill.

    similarity: (i, j), square. Rows whose scores are all equal get (N + 1) / 2, chance, and not 1. Of an even number of rows, the mean of
    the middle two.
    """
    above, level = _rivals(similarity)
    return float((above + (level + 1) / 2).double().quantile(0.5))


def _both_ways(audio: Tensor, video: Tensor) -> dict[str, Tensor]:
    if len(audio) != len(video) or not len(audio):
        raise ValueError(f"Retrieval pairs sounds with pictures; {len(audio)} and {len(video)} embeddings are no pairs.")
    similarity = similarities(audio, video)
    return dict(zip(WAYS, (similarity, similarity.T), strict=True))


def retrieval(audio: Tensor, video: Tensor) -> dict:
    """R@1, R@5, R@10 and the median rank of the own clip both ways among N clips, by cosine similarity, with chance beside them.

    audio, video: (N, e), row i of both from clip i. Returns "audio_to_video" and "video_to_audio", each with "r1", "r5", "r10" in [0, 1]
    and "median_rank" in [1, N]; "chance_r1", …, "chance_median_rank"; "clips". Raises ValueError for embeddings that are not finite.
    """
    n = len(audio)
    found: dict = {
        way: {f"r{k}": recall_at(similarity, k) for k in RECALLS} | {"median_rank": median_rank(similarity)}
        for way, similarity in _both_ways(audio, video).items()
    }
    return found | {f"chance_r{k}": min(k, n) / n for k in RECALLS} | {"chance_median_rank": (n + 1) / 2, "clips": n}


class Ranked(NamedTuple):
    """How good each query's ranking is."""

    precision: dict[int, Tensor]  # (queries,) by k: the share of relevant ones among the first k
    average_precision: Tensor  # (queries,)


def ranked(similarity: Tensor, relevant: Tensor) -> Ranked:
    """Precision at 1, 5, 10 and average precision of each row; among equals, the mean over all their orders, in closed form.

    similarity: (queries, gallery). relevant: the same, bool, one True or more a row. Where the gallery holds fewer than k, k is its size.
    Source: McSherry and Najork 2008, "Computing information retrieval performance measures efficiently in the presence of tied scores".
    """
    scores, order = similarity.sort(dim=1, descending=True, stable=True)
    hits = relevant.gather(1, order).double().cumsum(dim=1)
    places = torch.arange(scores.shape[1]).expand_as(scores)
    begins = torch.ones_like(relevant)
    begins[:, 1:] = scores[:, 1:] != scores[:, :-1]
    ends = begins.roll(-1, dims=1)  # a run of equals ends where the next begins, and the last with the row
    start = torch.where(begins, places, 0).cummax(dim=1).values
    stop = torch.where(ends, places, scores.shape[1]).flip(1).cummin(dim=1).values.flip(1)
    before = torch.where(start > 0, hits.gather(1, (start - 1).clamp(min=0)), 0)  # relevant ones above the run
    within, size = hits.gather(1, stop) - before, stop - start + 1  # … and in it
    chance_here = within / size  # that this place holds a relevant one
    earlier = before + (places - start) * (within - 1) / (size - 1).clamp(min=1)  # above this place, if it does
    average_precision = (chance_here * (earlier + 1) / (places + 1)).sum(dim=1) / hits[:, -1]
    return Ranked({k: chance_here[:, :k].mean(dim=1) for k in RECALLS}, average_precision)


def classes_of(values: Sequence) -> list[frozenset]:
    """Each clip's classes as a set, empty where they are not known ("", NaN or ()).

    values: a column of `Labels`: texts, tuples of texts, or whole numbers (digits, counts). Raises ValueError for other numbers.
    """
    sets = []
    for value in values:
        if isinstance(value, tuple | list):
            sets.append(frozenset(value))
        elif value == "" or value != value:  # NaN alone differs from itself
            sets.append(frozenset())
        elif isinstance(value, str) or float(value).is_integer():
            sets.append(frozenset([value]))
        else:
            raise ValueError(f"Retrieval by class needs classes, and {value!r} is a quantity; choose a column of texts or whole numbers.")
    return sets


def _mean(scores: list[Ranked]) -> dict[str, float]:
    precision = {f"precision_at_{k}": float(torch.cat([s.precision[k] for s in scores]).mean()) for k in RECALLS}
    return precision | {"map": float(torch.cat([s.average_precision for s in scores]).mean())}


def _scores(similarity: Tensor, shared: Tensor, queries: Tensor) -> dict[str, float]:
    """The means over the queries; a query's own clip is taken out of what it searches."""
    own = torch.eye(len(shared), dtype=torch.bool)
    chunks = []
    for rows in queries.split(ROWS):
        others = ~own[rows]
        chunks.append(ranked(*(m[rows][others].view(len(rows), -1) for m in (similarity, shared))))
    return _mean(chunks)


def by_class(audio: Tensor, video: Tensor, values: Sequence) -> dict:
    """How many of the closest clips of the other modality share the query's class, both ways, with chance beside them.

    audio, video: (N, e), row i of both from clip i. values: N classes (see `classes_of`); of several classes, one shared is enough. A
    query's own clip is left out, so that finding the instance is not counted as knowing the class. Clips of unknown class are left out,
    and those that share theirs with no other clip are no queries. Returns "audio_to_video" and "video_to_audio", each with
    "precision_at_1", "precision_at_5", "precision_at_10" and "map" (mean average precision over queries) in [0, 1]; the same keys after
    "chance_", what a random order gives: for precision the class prior; "clips", "queries", "classes", "left_out". A class
    of few clips cannot fill the first k, so read precision beside its chance.
    Raises ValueError where no two clips share a class, or the values are quantities.
    """
    if len(values) != len(audio):
        raise ValueError(f"There are {len(values)} labels for {len(audio)} clips; give one for each.")
    sets = classes_of(values)
    known = [i for i, names in enumerate(sets) if names]
    classes = sorted({name for i in known for name in sets[i]}, key=str)
    number = {name: j for j, name in enumerate(classes)}
    member = torch.zeros(len(known), len(classes), dtype=torch.float32)
    for row, i in enumerate(known):
        member[row, [number[name] for name in sets[i]]] = 1
    shared = einsum(member, member, "i c, j c -> i j") > 0
    queries = (shared.sum(dim=1) > 1).nonzero()[:, 0]
    if not len(queries):
        raise ValueError(f"No two of the {len(audio)} clips share a class, so nothing can be found by class; label more clips.")
    found: dict = {way: _scores(s, shared, queries) for way, s in _both_ways(audio[known], video[known]).items()}
    chance = {f"chance_{name}": value for name, value in _scores(torch.zeros_like(shared, dtype=torch.float64), shared, queries).items()}
    counts = {"clips": len(known), "queries": len(queries), "classes": len(classes), "left_out": len(audio) - len(known)}
    return found | chance | counts


def closest(query: Tensor, gallery: Tensor, top: int) -> list[tuple[int, float]]:
    """The numbers of the `top` most similar rows and their cosine similarity, the most similar first; of equals the first first.

    query: (e,). gallery: (n, e).
    """
    similarity = similarities(query[None], gallery)[0]
    order = similarity.argsort(descending=True, stable=True)[:top]
    return [(int(i), float(similarity[i])) for i in order]
