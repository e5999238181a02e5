"""Retrieval across modalities, the picture of a sound and the sound of a picture: by instance, by class, and for one clip of your own."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from einops import einsum
from torch import Tensor
from torch.nn.functional import normalize

RECALLS = (1, 5, 10)
DECIMALS = 6  # similarities that differ by less are equal: that much is rounding, and must not rank a collapsed model's clips
HALF = 0.5 * 10**-DECIMALS
ENTRIES = 2**23  # similarities that are held at once: 64 MiB, so that 100,000 clips need no 100,000 × 100,000 matrix
WAYS = {"audio_to_video": "sound to picture", "video_to_audio": "picture to sound"}


def _directions(embeddings: Tensor) -> Tensor:
    """Unit vectors in float64 on the CPU. Raises ValueError where an embedding is not finite."""
    if not torch.isfinite(embeddings).all():
        raise ValueError("Some embeddings are not finite numbers, so nothing can be ranked by them; the model's training has diverged.")
    return normalize(embeddings.detach().cpu().double(), dim=-1)


def _cosines(x: Tensor, y: Tensor) -> Tensor:
    return einsum(x, y, "i e, j e -> i j").round(decimals=DECIMALS)


def similarities(queries: Tensor, gallery: Tensor) -> Tensor:
    """Cosine similarities to 6 decimals, so that equal embeddings are equally similar however a product was rounded.

    queries: (i, e). gallery: (j, e). Returns (i, j) float64, on the CPU. Raises ValueError where an embedding is not finite.
    """
    return _cosines(_directions(queries), _directions(gallery))


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of the rows of a matrix, none with more than ENTRIES entries unless a single row has."""
    step = max(1, ENTRIES // max(columns, 1))
    yield from (slice(start, min(start + step, rows)) for start in range(0, rows, step))


class Rivals(NamedTuple):
    """For each query how many of the gallery lie above its own one, and how many level with it, itself included."""

    above: Tensor  # (n,)
    level: Tensor  # (n,)

    def recall_at(self, k: int) -> float:
        """The share of queries whose own is among their k most similar; equals share the places they fill."""
        return float(((k - self.above).clamp(min=0).double() / self.level).clamp(max=1).mean())

    def ranks(self) -> Tensor:
        """(n,) The rank of each query's own one, 1 being best; equals share the mean of the places they fill."""
        return (self.above + (self.level + 1) / 2).double()

    def median_rank(self) -> float:
        """The median of the ranks; of an even number, the mean of the middle two."""
        ranks = self.ranks().sort().values
        return float(ranks[[(len(ranks) - 1) // 2, len(ranks) // 2]].mean())


def _rivals(similarity: Tensor) -> Rivals:
    own = similarity.diagonal()[:, None]
    return Rivals((similarity > own).sum(dim=1), (similarity == own).sum(dim=1))


def recall_at(similarity: Tensor, k: int) -> float:
    """The share of rows i whose own column i is among their k most similar; equals share the places they fill.

    similarity: (i, j), square. Rows whose scores are all equal get k / N, chance, and not 1.
    """
    return _rivals(similarity).recall_at(k)


def median_rank(similarity: Tensor) -> float:
    """The median over rows i of the rank of their own column i, 1 being best; equals share the mean of the places they fill.

    similarity: (i, j), square. Rows whose scores are all equal get (N + 1) / 2, chance, and not 1. Of an even number of rows, the mean of
    the middle two.
    """
    return _rivals(similarity).median_rank()


def rivals(audio: Tensor, video: Tensor) -> dict[str, Rivals]:
    """Both ways at once, chunk by chunk, equal to the whole matrix: (N, e) twice, row i of both from clip i -> by way.

    Raises ValueError for embeddings that are not finite, or no pairs.
    """
    x, y = _paired(audio, video)
    n = len(x)
    own = einsum(x, y, "n e, n e -> n").round(decimals=DECIMALS)
    low, high = own - HALF, own + HALF  # what rounds to the same lies between them: cheaper than to round all
    mine, theirs = (Rivals(*torch.zeros(2, n, dtype=torch.long)) for _ in WAYS)  # written in place: small results between large ones
    for rows in _chunks(n, n):  # … would keep the allocator from using freed memory again
        cosine = einsum(x[rows], y, "i e, j e -> i j")
        places = torch.arange(rows.start, rows.stop)
        cosine[torch.arange(len(places)), places] = own[rows]  # however a product of another shape was rounded
        mine.above[rows] = (cosine > high[rows, None]).sum(dim=1)
        mine.level[rows] = (cosine >= low[rows, None]).sum(dim=1) - mine.above[rows]
        above = (cosine > high).sum(dim=0)
        theirs.above.add_(above)
        theirs.level.add_((cosine >= low).sum(dim=0) - above)
    return dict(zip(WAYS, (mine, theirs), strict=True))


def _paired(audio: Tensor, video: Tensor) -> tuple[Tensor, Tensor]:
    if len(audio) != len(video) or not len(audio):
        raise ValueError(f"Retrieval pairs sounds with pictures; {len(audio)} and {len(video)} embeddings are no pairs.")
    return _directions(audio), _directions(video)


def retrieval(audio: Tensor, video: Tensor) -> dict:
    """R@1, R@5, R@10 and the median rank of the own clip both ways among N clips, by cosine similarity, with chance beside them.

    audio, video: (N, e), row i of both from clip i; exact, and in chunks that fit memory. Returns "audio_to_video" and "video_to_audio",
    each with "r1", "r5", "r10" in [0, 1] and "median_rank" in [1, N]; "chance_r1", …, "chance_median_rank"; "clips".
    Raises ValueError for embeddings that are not finite.
    """
    n = len(audio)
    found: dict = {
        way: {f"r{k}": one.recall_at(k) for k in RECALLS} | {"median_rank": one.median_rank()} for way, one in rivals(audio, video).items()
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


def _class_scores(x: Tensor, y: Tensor, member: Tensor, queries: Tensor) -> dict[str, float]:
    """The means over the queries; a query's own clip is taken out of what it searches. member: (n, classes) of 0 and 1."""
    total = dict.fromkeys((*(f"precision_at_{k}" for k in RECALLS), "map"), 0.0)
    for rows in _chunks(len(queries), len(y)):
        places = queries[rows]
        others = places[:, None] != torch.arange(len(y))
        shared = einsum(member[places], member, "i c, j c -> i j") > 0
        found = _mean([ranked(*(m[others].view(len(places), -1) for m in (_cosines(x[places], y), shared)))])
        total = {name: total[name] + value * len(places) / len(queries) for name, value in found.items()}
    return total


def _class_chance(member: Tensor, queries: Tensor) -> dict[str, float]:
    """What a random order of the others gives: it depends only on how many of them share the query's class."""
    relevant = torch.zeros(len(queries), dtype=torch.long)
    for rows in _chunks(len(queries), len(member)):
        shared = einsum(member[queries[rows]], member, "i c, j c -> i j") > 0
        relevant[rows] = shared.sum(dim=1) - 1  # all but itself
    counts, times = relevant.unique(return_counts=True)
    others, found = len(member) - 1, dict.fromkeys((*(f"precision_at_{k}" for k in RECALLS), "map"), 0.0)
    for count, weight in zip(counts.tolist(), (times / times.sum()).tolist(), strict=True):
        level = ranked(torch.zeros(1, others, dtype=torch.float64), (torch.arange(others) < count)[None])
        found = {name: found[name] + weight * value for name, value in _mean([level]).items()}
    return found


def _queries(member: Tensor) -> Tensor:
    """The clips that share a class with another one."""
    shares = torch.zeros(len(member), dtype=torch.long)
    for rows in _chunks(len(member), len(member)):
        shares[rows] = (einsum(member[rows], member, "i c, j c -> i j") > 0).sum(dim=1)
    return (shares > 1).nonzero()[:, 0]


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
    x, y = (side[known] for side in _paired(audio, video))
    queries = _queries(member)
    if not len(queries):
        raise ValueError(f"No two of the {len(audio)} clips share a class, so nothing can be found by class; label more clips.")
    found: dict = {way: _class_scores(*sides, member, queries) for way, sides in zip(WAYS, ((x, y), (y, x)), strict=True)}
    chance = {f"chance_{name}": value for name, value in _class_chance(member, queries).items()}
    counts = {"clips": len(known), "queries": len(queries), "classes": len(classes), "left_out": len(audio) - len(known)}
    return found | chance | counts


def closest(query: Tensor, gallery: Tensor, top: int) -> list[tuple[int, float]]:
    """The numbers of the `top` most similar rows and their cosine similarity, the most similar first; of equals the first first.

    query: (e,). gallery: (n, e).
    """
    [places], [similarity] = top_matches(query[None], gallery, top)
    return list(zip(places.tolist(), similarity.tolist(), strict=True))


class Matches(NamedTuple):
    """The closest rows of a gallery to each query, the most similar first; of equals the first first."""

    places: Tensor  # (queries, top) long
    similarity: Tensor  # (queries, top) float64, cosines to 6 decimals


def top_matches(queries: Tensor, gallery: Tensor, top: int) -> Matches:
    """The `top` most similar rows of a gallery, exact, in chunks that fit memory: equal to sorting the whole matrix.

    queries: (i, e). gallery: (j, e). Where the gallery holds fewer than `top` rows, all of them. Raises ValueError where an embedding is
    not finite, or `top` is below 1.
    """
    if top < 1:
        raise ValueError(f"The closest {top} cannot be listed; ask for one or more.")
    x, y = _directions(queries), _directions(gallery)
    later = torch.arange(len(y) - 1, -1, -1)  # of equals, the first is the largest key
    found = torch.zeros(len(x), min(top, len(y)), dtype=torch.long)
    for rows in _chunks(len(x), len(y)):
        keys = (_cosines(x[rows], y) * 10**DECIMALS).round().long() * len(y) + later  # whole numbers, all different
        found[rows] = keys.topk(found.shape[1], dim=1).values
    return Matches(len(y) - 1 - found % len(y), (found // len(y)).double() / 10**DECIMALS)


def rank_of(query: Tensor, gallery: Tensor, own: int) -> float:
    """The rank of row `own` of a gallery for a query (e,), 1 being best; equals share the mean of the places they fill."""
    similarity = similarities(query[None], gallery)[0]
    return float((similarity > similarity[own]).sum() + ((similarity == similarity[own]).sum() + 1) / 2)
