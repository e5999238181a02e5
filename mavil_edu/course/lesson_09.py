"""Exercises and questions of lesson 09: transfer."""

import torch
from torch import Generator
from torch.nn.functional import layer_norm, normalize, one_hot

from mavil_edu import solutions
from mavil_edu.course.entry import Exercise, Quiz, normal, uniform


def _neighbours(g: Generator) -> list[tuple]:
    sizes = ((12, 5, 4, 3, 3), (30, 9, 6, 5, 4), (20, 7, 3, 1, 5), (25, 8, 5, 25, 3))
    return [(normal(g, n, d), torch.randint(classes, (n,), generator=g), 3 * normal(g, m, d), k) for n, m, d, k, classes in sizes]


def _nearest(train, labels, asked, k, by_cosine=True, largest=True):
    if by_cosine:
        train, asked = normalize(train, dim=1), normalize(asked, dim=1)
    return labels[(asked @ train.T).topk(k, dim=1, largest=largest).indices]


def _read_out(g: Generator) -> list[tuple]:
    sizes = ((3, 4, 6, 5, 4), (2, 9, 3, 4, 7), (4, 1, 2, 8, 3))
    return [
        (normal(g, b, n, d) + 1, normal(g, b, k, d) - 1, uniform(g, 2 * d) + 0.5, normal(g, 2 * d), normal(g, c, 2 * d), normal(g, c))
        for b, n, k, d, c in sizes
    ]


def _pooled_together(audio, video):
    mean = torch.cat([audio, video], dim=1).mean(dim=1)
    return torch.cat([mean, mean], dim=1)


def _classify(pooled, scale, shift, weight, bias):
    return layer_norm(pooled, pooled.shape[1:], scale, shift, 1e-6) @ weight.T + bias


def _with(pool):
    return lambda a, v, scale, shift, weight, bias: _classify(pool(a, v), scale, shift, weight, bias)


def _means(a, v):
    return torch.cat([a.mean(1), v.mean(1)], dim=1)


def _mixing(g: Generator) -> list[tuple]:
    shapes = ((4, 3), (5, 2, 3), (3, 1, 2, 2))
    return [(normal(g, *shape), torch.randperm(shape[0], generator=g), uniform(g, shape[0])) for shape in shapes]


def _mix(x, partner, share):
    share = share.reshape(-1, *[1] * (x.ndim - 1))
    return share * x + (1 - share) * x[partner]


def _labels(g: Generator) -> list[tuple]:
    return [(torch.cat([torch.arange(c), torch.randint(c, (n,), generator=g).clamp(max=1)]),) for c, n in ((3, 5), (2, 9), (6, 20))]


def _ranked(g: Generator) -> list[tuple]:
    cases = []
    for n, positives in ((6, 2), (10, 1), (25, 7), (8, 8)):
        truth = torch.zeros(n, dtype=torch.bool)
        truth[torch.randperm(n, generator=g)[:positives]] = True
        cases.append((uniform(g, n), truth))
    return cases


def _precision_by_loop(scores, truth):
    ranked = truth[scores.argsort(descending=True)].tolist()
    found, total = 0, 0.0
    for place, right in enumerate(ranked, 1):
        if right:
            found += 1
            total += found / place
    return torch.tensor(total / found)


def _maps(g: Generator) -> list[tuple]:
    shapes = ((1, 2, 3, 4), (3, 4, 5, 5), (2, 3, 4, 2))
    return [(uniform(g, *shape), uniform(g, *shape) < 0.35) for shape in shapes]


EXERCISES = (
    Exercise(
        name="knn_vote",
        lesson="09",
        minutes=8,
        difficulty=2,
        task="The k nearest training clips, by cosine, vote on each clip that is asked about; of equal votes the lowest class wins. train "
        "(n, d), labels (n,) of whole numbers, asked (m, d): (m,).",
        draw=_neighbours,
        hints=(
            "(asked @ train.T).topk(k, dim=1).indices of rows of length 1: the places of the k most similar.",
            "one_hot(labels[places], classes) is (m, k, classes); its sum over k counts the votes.",
        ),
        wrong={
            "Only the nearest one is asked; let k of them vote.": lambda t, y, a, k: _nearest(t, y, a, 1)[:, 0],
            "By product a long embedding is near to everybody; take the cosine.": lambda t, y, a, k: _nearest(
                t, y, a, k, by_cosine=False
            ).mode(1)[0],
            "Those are the k least similar.": lambda t, y, a, k: _nearest(t, y, a, k, largest=False).mode(1)[0],
            "A class is a name and no quantity: the mean of class 0 and class 4 is not class 2. Count votes.": lambda t, y, a, k: (
                _nearest(t, y, a, k).float().mean(1).round().long()
            ),
            "That is the commonest label of all, whatever the clip.": lambda t, y, a, k: y.mode()[0].expand(len(a)),
        },
        alternative=lambda t, y, a, k: _nearest(t, y, a, k).mode(dim=1)[0],
    ),
    Exercise(
        name="margin",
        lesson="09",
        minutes=4,
        difficulty=1,
        task="Of n clips a share p is right. How far may the share of all clips be from that, at 95 %? 1.96 √(p (1 − p) / n).",
        draw=lambda g: [(0.5, 100), (0.9, 1000), (0.02, 50), (float(uniform(g, 1)), 256)],
        hints=("n stands under the root.", "1.96 * (share * (1 - share) / clips) ** 0.5"),
        wrong={
            "n stands under the root, too: four times the clips halve it.": lambda p, n: 1.96 * (p * (1 - p)) ** 0.5 / n,
            "That is one standard error; 95 % lie within 1.96 of them.": lambda p, n: (p * (1 - p) / n) ** 0.5,
            "The spread of right and wrong is p (1 − p), not p.": lambda p, n: 1.96 * (p / n) ** 0.5,
            "You left the root out.": lambda p, n: 1.96 * p * (1 - p) / n,
        },
        alternative=lambda p, n: float(1.96 * torch.tensor(p * (1 - p) / n, dtype=torch.float64).sqrt()),
    ),
    Exercise(
        name="class_scores",
        lesson="09",
        minutes=10,
        difficulty=2,
        task="The classifier on top: the mean of the audio tokens (b, n, d) beside the mean of the video tokens (b, k, d), then LayerNorm "
        "(eps 1e-6) with scale and shift (2 d,), then a linear layer with weight (c, 2 d) and bias (c,): scores (b, c).",
        draw=_read_out,
        hints=(
            "torch.cat([audio.mean(dim=1), video.mean(dim=1)], dim=1) is what it reads.",
            "torch.nn.functional.layer_norm(pooled, pooled.shape[1:], scale, shift, eps=1e-6)",
            "A linear layer is x @ weight.T + bias.",
        ),
        wrong={
            "One mean over all tokens weighs the sense with more tokens more, and mixes the two; pool each by itself.": _with(
                _pooled_together
            ),
            "The picture stands first in yours; the sound comes first.": _with(lambda a, v: _means(v, a)),
            "LayerNorm is missing.": lambda a, v, s, h, w, b: _means(a, v) @ w.T + b,
            "LayerNorm's scale and shift are missing; they are learnt.": lambda a, v, s, h, w, b: _classify(
                _means(a, v), torch.ones_like(s), torch.zeros_like(h), w, b
            ),
            "The bias is missing.": lambda a, v, s, h, w, b: _classify(_means(a, v), s, h, w, torch.zeros_like(b)),
            "You took the largest of each number over the tokens; the mean is asked for.": _with(
                lambda a, v: torch.cat([a.amax(1), v.amax(1)], dim=1)
            ),
        },
        alternative=lambda a, v, s, h, w, b: (
            lambda x: ((x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-6).sqrt() * s + h) @ w.T + b
        )(_means(a, v)),
    ),
    Exercise(
        name="layer_rates",
        lesson="09",
        minutes=5,
        difficulty=1,
        task="Layer-wise learning rates: the top layer learns with `rate`, each layer below with `decay` times the rate of the one above. "
        "From the lowest layer to the top: (layers,).",
        draw=lambda g: [(1.0, 5, 0.75), (0.002, 3, 0.5), (0.1, 7, 1.0), (float(uniform(g, 1)), 4, 0.9)],
        hints=(
            "How many layers are above each? layers − 1 for the lowest, 0 for the top.",
            "rate * decay ** torch.arange(layers - 1, -1, -1)",
        ),
        wrong={
            "It is upside down: the top learns fastest.": lambda rate, n, decay: rate * decay ** torch.arange(n),
            "The top layer itself is not slowed down.": lambda rate, n, decay: rate * decay ** torch.arange(n, 0, -1),
            "Each layer multiplies again: 1, 0.75, 0.5625 …; yours falls by equal steps.": lambda rate, n, decay: (
                rate * (1 - (1 - decay) * torch.arange(n - 1, -1, -1))
            ),
        },
        alternative=lambda rate, n, decay: torch.tensor([rate * decay ** (n - 1 - layer) for layer in range(n)]),
    ),
    Exercise(
        name="mixed_up",
        lesson="09",
        minutes=6,
        difficulty=2,
        task="Mixup: each row of x (b, …) becomes share · itself + (1 − share) · its partner. partner (b,) of places, share (b,). The same "
        "function mixes sounds, pictures and targets.",
        draw=_mixing,
        hints=("x[partner] are the partners.", "share must have as many axes as x: share.reshape(-1, *[1] * (x.ndim - 1))."),
        wrong={
            "The shares are swapped: share is what a row keeps of itself.": lambda x, p, s: _mix(x, p, 1 - s),
            "Every row is mixed by the first row's share; each has its own.": lambda x, p, s: _mix(x, p, s[:1].expand(len(x))),
            "The partner is added whole; together the shares make 1.": lambda x, p, s: s.reshape(-1, *[1] * (x.ndim - 1)) * x + x[p],
            "Half and half, whatever the share says.": lambda x, p, s: (x + x[p]) / 2,
        },
        alternative=lambda x, p, s: torch.stack([torch.lerp(x[j], x[i], s[i]) for i, j in enumerate(p.tolist())]),
    ),
    Exercise(
        name="balanced_weights",
        lesson="09",
        minutes=6,
        difficulty=2,
        task="How often should each clip be drawn, so that every class is met equally often? labels (n,) of whole numbers, each class "
        "at least once: weights (n,) of sum 1.",
        draw=_labels,
        hints=("labels.bincount() counts each class.", "A clip's weight is 1 / (clips of its class), then all are divided by their sum."),
        wrong={
            "So the common classes are met still more often; it is 1 over the count.": lambda y: (lambda w: w / w.sum())(
                y.bincount()[y].float()
            ),
            "The weights must sum to 1.": lambda y: 1 / y.bincount()[y],
            "That is one weight for each class; give one for each clip.": lambda y: (lambda w: w / w.sum())(1 / y.bincount()),
            "All clips are drawn equally often in yours, and so the common classes more.": lambda y: torch.full((len(y),), 1 / len(y)),
        },
        alternative=lambda y: (one_hot(y).float() / one_hot(y).sum(0)).sum(1) / len(y.unique()),
    ),
    Exercise(
        name="average_precision",
        lesson="09",
        minutes=15,
        difficulty=3,
        task="Average precision, AudioSet's measure, for one class. Rank the clips by score, highest first. At each clip of the class, "
        "take the share of such clips among all ranked so far; the mean of these. scores (n,), truth (n,) bool: a scalar tensor.",
        draw=_ranked,
        hints=(
            "right = truth[scores.argsort(descending=True)].float() is the ranked truth.",
            "right.cumsum(dim=0) / torch.arange(1, n + 1) is the precision at each place.",
            "Only the places of clips of the class count: weigh the precision by `right`.",
        ),
        wrong={
            "Rank from the highest score down.": lambda s, t: solutions.average_precision(-s, t),
            "Only places at which a clip of the class stands count.": lambda s, t: (
                t[s.argsort(descending=True)].float().cumsum(0) / torch.arange(1, len(t) + 1)
            ).mean(),
            "That is the precision among as many as there are clips of the class.": lambda s, t: (
                t[s.argsort(descending=True)[: int(t.sum())]].float().mean()
            ),
            "That is the share of clips of the class: what a random order has.": lambda s, t: t.float().mean(),
            "Places are counted from 1.": lambda s, t: (lambda r: (r.cumsum(0) / torch.arange(len(r)).clamp(min=0.5) * r).sum() / r.sum())(
                t[s.argsort(descending=True)].float()
            ),
        },
        alternative=_precision_by_loop,
    ),
    Exercise(
        name="pointing",
        lesson="09",
        minutes=8,
        difficulty=2,
        task="Pointing accuracy: in which share of a clip's frames does the hottest pixel lie on the object? heat (b, t, h, w), truth "
        "(b, t, h, w) bool: (b,).",
        draw=_maps,
        hints=(
            'Flatten each frame: rearrange(heat, "b t h w -> b t (h w)"), then argmax over the last axis.',
            "gather takes from each frame of the flattened truth what stands at that place.",
        ),
        wrong={
            "One hottest pixel for the whole clip; each frame has its own.": lambda h, t: (
                t.flatten(1).gather(1, h.flatten(1).argmax(1, keepdim=True))[:, 0].float()
            ),
            "That is the coldest pixel.": lambda h, t: solutions.pointing(-h, t),
            "That is the mean over all clips; give one for each.": lambda h, t: solutions.pointing(h, t).mean(),
            "That is the heat's overlap with the object; only the hottest pixel counts.": lambda h, t: (
                ((h > 0.5) & t).flatten(1).float().mean(1)
            ),
        },
        alternative=lambda h, t: ((h == h.amax((2, 3), keepdim=True)) & t).any(3).any(2).float().mean(1),
    ),
)

QUIZZES = (
    Quiz(
        name="frozen_first",
        lesson="09",
        question="Before anything is fine-tuned, one probes the frozen embedding. What does the probe tell that fine-tuning does not?",
        choices=(
            (
                "What pre-training itself has put there: the probe is too simple to learn it by itself.",
                "Fine-tuning changes the features; with enough labels it may reach as much from nothing.",
            ),
            ("The highest accuracy that can be reached.", "Fine-tuning mostly reaches more; that is why one does it."),
            ("Nothing; it is only quicker.", "It is quicker, and it is another question."),
        ),
        right="a",
    ),
    Quiz(
        name="all_the_labels",
        lesson="09",
        question="With all of the labels, «from scratch» is as good as «fine-tuned» on the generated clips. What follows?",
        choices=(
            ("Pre-training is useless.", "With one label in a hundred it is worth several points."),
            ("The labels were enough to learn the task from nothing: here it had nothing left to win.", "So compare where labels are few."),
            ("Fine-tuning went wrong.", "Both read every clip rightly; there is no more to reach."),
        ),
        right="b",
    ),
    Quiz(
        name="two_intervals",
        lesson="09",
        question="A table says 70.1 ± 4.1 % «over clips, one set of weights». Another says 55.9 ± 6.6 «over five trainings». A colleague "
        "retrains the first model, and gets 61. Is something broken?",
        choices=(
            ("Yes: 61 lies outside of 66.0 to 74.2.", "That interval is about other clips, not about other trainings."),
            ("Yes: intervals of 95 % are wrong once in twenty times only.", "In what they speak of. This one speaks of clips."),
            (
                "No: the first interval does not speak of other trainings at all.",
                "Ask of each ± what was drawn again: clips, or seeds, or both.",
            ),
        ),
        right="c",
    ),
)
