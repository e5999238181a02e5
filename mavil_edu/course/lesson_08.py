"""Exercises and questions of lesson 08: self-training on aligned and contextualised targets."""

import torch
from torch import Generator
from torch.nn.functional import layer_norm

from mavil_edu.course.entry import Exercise, Quiz, mask_of, normal


def _tokens(g: Generator) -> list[tuple]:
    return [(normal(g, 2, 3, 4),), (3 * normal(g, 4, 5, 8) + 2,), (normal(g, 1, 2, 16),)]


def _targets(g: Generator) -> list[tuple]:
    found = []
    for clips, b, n, d in ((6, 2, 5, 3), (4, 3, 8, 4)):
        found.append((normal(g, clips, n, d) + normal(g, n, d), normal(g, b, n, d) + 1, mask_of(g, b, n, n // 2)))
    return found


def _batches(g: Generator) -> list[tuple]:
    alike = normal(g, 1, 5, 4).expand(6, 5, 4).contiguous()
    return [(normal(g, 5, 3, 4) + 2,), (alike + 0.01 * normal(g, 6, 5, 4),), (alike,), (normal(g, 8, 2, 6),)]


def _clouds(g: Generator) -> list[tuple]:
    line = normal(g, 20, 1) @ normal(g, 1, 5)
    return [(normal(g, 40, 4),), (line + 0.01 * normal(g, 20, 5),), (normal(g, 12, 6) * torch.tensor([9.0, 1, 1, 1, 1, 1]) + 5,)]


def _pairs(g: Generator) -> list[tuple]:
    first = normal(g, 4, 5, 3)
    return [(first, first + 0.1 * normal(g, 4, 5, 3)), (first, first.clone()), (normal(g, 6, 2, 8) + 3, normal(g, 6, 2, 8) + 3)]


def _norm(x, dim=-1, eps=1e-5, correction=0):
    return (x - x.mean(dim, keepdim=True)) / (x.var(dim, keepdim=True, correction=correction) + eps).sqrt()


def _position_mean_error(training, target, mask, mean=lambda t: t.mean(0)):
    error = (target - mean(training)).square().mean(-1)
    return error[mask].mean()


def _share(tokens, mean):
    return (tokens - mean).square().sum() / tokens.square().sum()


def _rank(x, centre=True, power=1, exponent=True):
    values = torch.linalg.svdvals(x - x.mean(0) * centre) ** power
    share = values / values.sum()
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    return entropy.exp() if exponent else entropy


EXERCISES = (
    Exercise(
        name="normalise_tokens",
        lesson="08",
        minutes=6,
        difficulty=1,
        task="Bring each of a teacher's tokens (b, n, d) to mean 0 and variance 1 over its d numbers, (x − mean) / √(variance + 1e-5), the "
        "variance divided by d. That is LayerNorm without learned scale.",
        draw=_tokens,
        hints=("Mean and variance are taken over the last axis, each token by itself.", "x.var(dim=-1, keepdim=True, correction=0)"),
        wrong={
            "You normalised over the tokens of a clip; it is within each token, dim=-1.": lambda x: _norm(x, dim=1),
            "You normalised over the batch; it is within each token, dim=-1.": lambda x: _norm(x, dim=0),
            "The variance is divided by d here, not by d − 1: correction=0.": lambda x: _norm(x, correction=1),
            "The mean must come off first.": lambda x: x / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt(),
            "That brings the length to 1, not the variance.": lambda x: x / x.norm(dim=-1, keepdim=True),
        },
        alternative=lambda x: layer_norm(x, x.shape[-1:]),
    ),
    Exercise(
        name="mean_token_mse",
        lesson="08",
        minutes=8,
        difficulty=2,
        task="The trivial answer of stage 2: at each place the mean, over training clips, of the teacher's token there. training (clips, "
        "n, d), target (b, n, d), mask (b, n) True where hidden: its mean squared error over the hidden places. A scalar.",
        draw=_targets,
        hints=(
            "training.mean(dim=0) is (n, d): a token for each place.",
            "The error of a place is the mean over its d numbers; the loss is the mean over hidden places.",
        ),
        wrong={
            "You averaged over all places; only the hidden ones count.": lambda t, y, m: (y - t.mean(0)).square().mean(),
            "One mean token for all places: each place has its own.": lambda t, y, m: _position_mean_error(
                t, y, m, lambda t: t.mean((0, 1))
            ),
            "You took the mean of the targets that are asked about: the answer would know them.": lambda t, y, m: _position_mean_error(
                y, y, m
            ),
            "You scored the visible places.": lambda t, y, m: _position_mean_error(t, y, ~m),
            "You summed over the d numbers; take their mean.": lambda t, y, m: _position_mean_error(t, y, m) * y.shape[-1],
        },
        alternative=lambda t, y, m: ((y - t.mean(0, keepdim=True)) ** 2 * m[..., None]).sum() / (m.sum() * y.shape[-1]),
    ),
    Exercise(
        name="needs_partner",
        lesson="08",
        minutes=5,
        difficulty=1,
        task="How much does a target depend on the other sense? own (b, n, d): targets of sounds heard with their own pictures; stranger "
        "(b, n, d): the same sounds, with other clips' pictures. The mean squared difference of the two, divided by own's variance about "
        "the mean of each place over the clips (divide by b). A scalar; 0: not at all.",
        draw=_pairs,
        hints=("(own - stranger).square().mean() is the one.", "(own - own.mean(dim=0)).square().mean() is the other."),
        wrong={
            "Divide by the variance about each place's mean, not by the mean square.": lambda o, s: (
                (o - s).square().mean() / o.square().mean()
            ),
            "Each place has its own mean; you took one for all places.": lambda o, s: (
                (o - s).square().mean() / (o - o.mean((0, 1))).square().mean()
            ),
            "The difference is not divided by anything: large tokens would seem to depend more.": lambda o, s: (o - s).square().mean(),
            "The squares are missing.": lambda o, s: (o - s).abs().mean() / (o - o.mean(0)).abs().mean(),
        },
        alternative=lambda o, s: (o - s).square().sum() / o.var(dim=0, correction=0).sum() / len(o),
    ),
    Exercise(
        name="variance_share",
        lesson="08",
        minutes=8,
        difficulty=2,
        task="Does a teacher tell clips apart at all? tokens (b, n, d): the sum of squared differences from the mean of each place "
        "over the clips, divided by the sum of squares of the tokens. 0 where all clips get the same answer.",
        draw=_batches,
        hints=("tokens.mean(dim=0) is the mean of each place, (n, d).", "Both sums run over everything."),
        wrong={
            "Each place has its own mean, over the clips: dim=0. You took one over the places.": lambda x: _share(
                x, x.mean(1, keepdim=True)
            ),
            "Each place has its own mean; you took a single one.": lambda x: _share(x, x.mean((0, 1))),
            "You turned the fraction round.": lambda x: x.square().sum() / (x - x.mean(0)).square().sum().clamp(min=1e-9),
            "The sum of squares below is not about the mean: it would be 1 for any teacher.": lambda x: torch.tensor(1.0),
        },
        alternative=lambda x: 1 - len(x) * x.mean(0).square().sum() / x.square().sum(),
        tolerance=1e-4,
    ),
    Exercise(
        name="effective_rank",
        lesson="08",
        minutes=12,
        difficulty=3,
        task="In how many directions do embeddings x (n, d) spread? Take their mean off; the singular values, divided by their sum, are "
        "shares; exp(−Σ share · log share) is the number: 1 on a line, d where all directions weigh the same.",
        draw=_clouds,
        hints=(
            "torch.linalg.svdvals(x - x.mean(dim=0)) are the singular values.",
            "A share of 0 times its logarithm is 0: shares.clamp(min=1e-12) before the logarithm.",
            "The exponential of the entropy, so that it counts directions.",
        ),
        wrong={
            "Take the mean over the clips off first: it would count as a direction.": lambda x: _rank(x, centre=False),
            "That is the entropy; its exponential counts directions.": lambda x: _rank(x, exponent=False),
            "You squared the singular values; the shares are of the values themselves.": lambda x: _rank(x, power=2),
            "That counts the directions that are not exactly 0; noise makes it d.": lambda x: torch.linalg.matrix_rank(
                x - x.mean(0)
            ).float(),
        },
        alternative=lambda x: torch.distributions.Categorical(torch.linalg.svd(x - x.mean(0), full_matrices=False).S).entropy().exp(),
        tolerance=1e-3,
    ),
)

QUIZZES = (
    Quiz(
        name="whole_clip",
        lesson="08",
        question="Why does the teacher see the complete clip, and the student a tenth or a fifth of it?",
        choices=(
            (
                "The teacher is larger and can read more.",
                "In the paper they have the same shape, here the teacher is deeper; what counts is what they see.",
            ),
            (
                "The targets are to know what the student has to guess.",
                "A target made from the student's own view would ask for nothing that it does not see.",
            ),
            ("To save time: the teacher runs once.", "It runs on all tokens, which costs more than the student's encoders."),
        ),
        right="b",
    ),
    Quiz(
        name="perfect_loss",
        lesson="08",
        question="A student's loss falls to 0.001 in two hundred steps. What do you do first?",
        choices=(
            ("Publish.", "Ask first what the trivial answer gets."),
            ("Train it longer.", "If the targets are the same for all clips there is nothing left to learn."),
            (
                "Look at what always answering the mean token gets, and at the teacher's variance.",
                "If that is 0.001, too, the teacher has collapsed, and its student with it.",
            ),
        ),
        right="c",
    ),
    Quiz(
        name="two_losses",
        lesson="08",
        question="Stage 1 ends with a masked MSE of 0.40, stage 2 with 0.08. Is the student better?",
        choices=(
            (
                "The two cannot be compared; each has its own targets and its own trivial answer.",
                "What can be compared: probes and retrieval, on the same clips.",
            ),
            ("Yes: five times.", "Another target, another scale: one collapsed teacher, and it would be 0."),
            ("No: it is smaller because the student sees more.", "It sees as little as in stage 1."),
        ),
        right="a",
    ),
)
