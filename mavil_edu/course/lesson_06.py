"""Exercises and questions of lesson 06: contrast."""

import math

import torch
from einops import rearrange
from torch import Generator
from torch.nn.functional import cross_entropy, normalize

from mavil_edu.course.entry import Exercise, Quiz, normal


def _pairs(g: Generator) -> list[tuple]:
    return [(normal(g, 2, 3), normal(g, 2, 3)), (normal(g, 5, 4), 3 * normal(g, 5, 4)), (normal(g, 8, 2) + 1, normal(g, 8, 2) + 1)]


def _contrasts(g: Generator) -> list[tuple]:
    return [(x, y, temperature) for (x, y), temperature in zip(_pairs(g), (0.5, 0.1, 1.0), strict=True)]


def _views(g: Generator) -> list[tuple]:
    return [(*(normal(g, b, d) for _ in range(4)), temperature) for b, d, temperature in ((3, 4, 1.0), (6, 2, 0.5), (4, 8, 0.1))]


def _embeddings(g: Generator) -> list[tuple]:
    return [(normal(g, 6, 3),), (5 * normal(g, 9, 8) + 2,), (normal(g, 1, 4).expand(7, 4).contiguous(),), (0.1 * normal(g, 12, 2) + 1,)]


def _labels(g: Generator) -> list[tuple]:
    return [(torch.tensor([0, 1, 0, 2, 0]),), (torch.arange(4),), (torch.randint(3, (12,), generator=g),), (torch.zeros(5).long(),)]


def _scores(x, y, temperature):
    return normalize(x, dim=-1) @ normalize(y, dim=-1).T / temperature


def _info_nce(x, y, temperature):
    return cross_entropy(_scores(x, y, temperature), torch.arange(len(x)))


def _without_the_partner(x, y, temperature):
    """The partner left out of the sum below."""
    scores = _scores(x, y, temperature)
    others = scores.masked_fill(torch.eye(len(x), dtype=torch.bool), -torch.inf)
    return (others.logsumexp(1) - scores.diagonal()).mean()


EXERCISES = (
    Exercise(
        name="loss_of_knowing_nothing",
        lesson="06",
        minutes=4,
        difficulty=1,
        task="A model finds all pairs of a batch equally alike. What InfoNCE does it have, with `clips` clips in the batch?",
        draw=lambda g: [(2,), (32,), (128,), (4096,)],
        hints=(
            "Each of the clips gets the same probability: 1 / clips.",
            "The loss is minus the natural logarithm of the partner's share.",
        ),
        wrong={
            "That is the probability of the partner; the loss is minus its logarithm.": lambda clips: 1 / clips,
            "That is in bits; the loss takes the natural logarithm.": lambda clips: math.log2(clips),
            "The partner is in the sum, too: it is one of all clips, not of the others.": lambda clips: math.log(max(clips - 1, 1)),
            "The sign is turned round: a logarithm of a probability is negative, the loss is minus that.": lambda clips: -math.log(clips),
        },
        alternative=lambda clips: float(cross_entropy(torch.zeros(1, clips, dtype=torch.float64), torch.tensor([0]))),
    ),
    Exercise(
        name="cosine_similarities",
        lesson="06",
        minutes=6,
        difficulty=1,
        task="How alike is row i of x (b, d) to row j of y (b, d)? The cosine of the angle between them, for all pairs: (b, b).",
        draw=_pairs,
        hints=("torch.nn.functional.normalize(x, dim=-1) gives each row the length 1.", "Then the product of x with y transposed."),
        wrong={
            "The lengths still count; bring each row to length 1 first.": lambda x, y: x @ y.T,
            "You normalised each column; each row is an embedding, dim=-1.": lambda x, y: normalize(x, dim=0) @ normalize(y, dim=0).T,
            "Rows and columns are swapped: row i belongs to x.": lambda x, y: normalize(y, dim=-1) @ normalize(x, dim=-1).T,
            "Only x has length 1; y's rows need it as well.": lambda x, y: normalize(x, dim=-1) @ y.T,
            "These are distances, small where alike.": lambda x, y: torch.cdist(normalize(x, dim=-1), normalize(y, dim=-1)),
        },
        alternative=lambda x, y: torch.cosine_similarity(x[:, None], y[None], dim=-1),
    ),
    Exercise(
        name="info_nce",
        lesson="06",
        minutes=12,
        difficulty=2,
        task="InfoNCE: cosine similarities divided by the temperature; a softmax over each row says how probable each y_j is as the "
        "partner of x_i; the loss is the mean of −log of the true partner's probability. A scalar.",
        draw=_contrasts,
        hints=(
            "Your cosine_similarities(x, y) / temperature are the scores.",
            "scores.log_softmax(dim=1) has the logarithms of the probabilities, row by row.",
            "The true partners stand on the diagonal.",
        ),
        wrong={
            "The temperature is missing: divide the similarities by it.": lambda x, y, t: _info_nce(x, y, 1.0),
            "You multiplied by the temperature; divide by it.": lambda x, y, t: _info_nce(x, y, 1 / t),
            "Your columns sum to 1: that asks each y for its x. Softmax over the row, dim=1.": lambda x, y, t: _info_nce(y, x, t),
            "The embeddings need length 1 first: cosines, not products.": lambda x, y, t: cross_entropy(x @ y.T / t, torch.arange(len(x))),
            "You left the partner out of the sum; the softmax runs over all, the partner included.": _without_the_partner,
            "You summed over the clips; take the mean.": lambda x, y, t: len(x) * _info_nce(x, y, t),
            "The logarithm is missing.": lambda x, y, t: 1 - _scores(x, y, t).softmax(1).diagonal().mean(),
            "The sign is turned round: this grows as the partner gets likelier.": lambda x, y, t: -_info_nce(x, y, t),
            "You averaged over all pairs; only the partners, on the diagonal, count.": lambda x, y, t: (
                -_scores(x, y, t).log_softmax(1).mean()
            ),
        },
        alternative=lambda x, y, t: (_scores(x, y, t).logsumexp(dim=1) - (normalize(x, dim=-1) * normalize(y, dim=-1)).sum(1) / t).mean(),
    ),
    Exercise(
        name="false_negatives",
        lesson="06",
        minutes=6,
        difficulty=2,
        task="Each clip of a batch has a cause, `causes` (b,) of whole numbers. For each clip: how many of the *other* clips have the same "
        "cause? (b,) of whole numbers.",
        draw=_labels,
        hints=("causes[:, None] == causes[None, :] compares each with each.", "A clip is no negative of itself."),
        wrong={
            "You counted the clip itself, too.": lambda c: (c[:, None] == c).sum(1),
            "Those are the others with another cause.": lambda c: (c[:, None] != c).sum(1),
            "That is the sum over the batch; each clip has its own count.": lambda c: (c[:, None] == c).sum() - len(c),
            "You counted only the clips that come later.": lambda c: (c[:, None] == c).triu(1).sum(1),
        },
        alternative=lambda c: torch.bincount(c)[c] - 1,
    ),
    Exercise(
        name="spread",
        lesson="06",
        minutes=8,
        difficulty=3,
        task="Do embeddings (n, d) point in many directions, or all in one? Bring each to length 1; take the standard deviation of each of "
        "the d numbers over the n clips (divide by n, not n − 1), the mean of these, and multiply by √d: about 1 where they spread evenly, "
        "0 where all are the same.",
        draw=_embeddings,
        hints=("normalize(x, dim=-1).", ".std(dim=0, correction=0) is over the clips.", "Then .mean() times d ** 0.5."),
        wrong={
            "Bring each embedding to length 1 first: only directions matter.": lambda x: x.std(0, correction=0).mean() * x.shape[1] ** 0.5,
            "You took the deviation within each embedding; it is over the clips, dim=0.": lambda x: (
                normalize(x, dim=-1).std(1, correction=0).mean() * x.shape[1] ** 0.5
            ),
            "The root of d is missing: the measure would depend on the width.": lambda x: normalize(x, dim=-1).std(0, correction=0).mean(),
            "You multiplied by the root of the number of clips; d is the width.": lambda x: (
                normalize(x, dim=-1).std(0, correction=0).mean() * len(x) ** 0.5
            ),
            "One deviation for all numbers together: take it for each of the d, over the clips.": lambda x: (
                normalize(x, dim=-1).std(correction=0) * x.shape[1] ** 0.5
            ),
        },
        alternative=lambda x: (normalize(x, dim=-1) - normalize(x, dim=-1).mean(0)).square().mean(0).sqrt().sum() / x.shape[1] ** 0.5,
    ),
    Exercise(
        name="intra_modal",
        lesson="06",
        minutes=8,
        difficulty=2,
        task="Two masked views of a batch: audio and audio_again, video and video_again, each (b, d). The contrast *within* modalities: a "
        "view of a sound is to find the other view of the same sound, a view of a picture the other view of the same picture; the mean "
        "of both.",
        draw=_views,
        hints=("Your info_nce(audio, audio_again, temperature) is the sound's half.", "The mean, not the sum."),
        wrong={
            "Those are the pairs across the senses; here a sound is to find itself.": lambda a, a2, v, v2, t: (
                (_info_nce(a, v, t) + _info_nce(a2, v2, t)) / 2
            ),
            "You added the two; take the mean.": lambda a, a2, v, v2, t: _info_nce(a, a2, t) + _info_nce(v, v2, t),
            "Only the sound's half.": lambda a, a2, v, v2, t: _info_nce(a, a2, t),
            "Each view finds itself: that is too easy. Contrast a view with the other one.": lambda a, a2, v, v2, t: (
                (_info_nce(a, a, t) + _info_nce(v, v, t)) / 2
            ),
            "You put sounds and pictures into one contrast; each modality has its own.": lambda a, a2, v, v2, t: _info_nce(
                torch.cat([a, v]), torch.cat([a2, v2]), t
            ),
        },
        alternative=lambda a, a2, v, v2, t: torch.stack(
            [_info_nce(*rearrange([x, y], "s b d -> s b d"), t) for x, y in ((a, a2), (v, v2))]
        ).mean(),
    ),
)

QUIZZES = (
    Quiz(
        name="cold_softmax",
        lesson="06",
        question="The temperature goes towards 0. What does the loss of a clip then depend on?",
        choices=(
            ("On all the other clips alike.", "That is what a high temperature does: everything counts a little."),
            (
                "On the partner and the most similar stranger alone.",
                "The softmax becomes a maximum: only who is first counts, and by how much.",
            ),
            ("On nothing; it is log B.", "That is a temperature towards infinity: all scores become equal."),
        ),
        right="b",
    ),
    Quiz(
        name="larger_batch",
        lesson="06",
        question="A model has an InfoNCE of 1.4 in batches of 32. In batches of 256 it has 2.6. What has happened?",
        choices=(
            ("It has become worse.", "It is the same model; it was asked a harder question, one of 256 in place of one of 32."),
            ("It has become better.", "Nothing was trained in between."),
            ("Nothing: losses of different batch sizes cannot be compared.", "Set each beside its own log B: 3.5 and 5.5."),
        ),
        right="c",
    ),
    Quiz(
        name="why_negatives",
        lesson="06",
        question="Why does contrast need negatives at all?",
        choices=(
            ("Without them one answer for everything is perfect.", "All embeddings the same: every pair agrees, and nothing is known."),
            ("To make training faster.", "They make it slower: each row is compared with the whole batch."),
            (
                "To tell the classes apart; they are labels.",
                "There are no labels here; a stranger is any other clip, even one of the same class.",
            ),
        ),
        right="a",
    ),
)
