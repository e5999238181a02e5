"""Exercises and questions of lesson 04: the masked autoencoder."""

import math

import torch
from torch import Generator

from mavil_edu.course.entry import Exercise, Quiz, mask_of, normal, uniform

SIZES = ((1, 6, 4, 5), (2, 10, 8, 8), (3, 5, 3, 2))  # b, n, values, hidden


def _predictions(g: Generator) -> list[tuple]:
    drawn = [(normal(g, b, n, v), normal(g, b, n, v), mask_of(g, b, n, hidden)) for b, n, v, hidden in SIZES]
    return [*drawn, (normal(g, 2, 4, 3), normal(g, 2, 4, 3), torch.zeros(2, 4, dtype=torch.bool))]


def _by_choice(prediction, target, mask):
    chosen = (prediction[mask] - target[mask]).square()
    return chosen.mean() if mask.any() else torch.zeros(())


def _error(prediction, target):
    return (prediction - target).square().mean(dim=-1)


def _patches(g: Generator) -> list[tuple]:
    flat = normal(g, 1, 2, 6)
    flat[0, 1] = 0.3  # a patch of one colour
    return [(2 + 3 * normal(g, 2, 4, 8),), (uniform(g, 1, 3, 16),), (flat,)]


def _training(g: Generator) -> list[tuple]:
    return [(normal(g, 7, n, v) + normal(g, n, v), normal(g, b, n, v), mask_of(g, b, n, hidden)) for b, n, v, hidden in SIZES]


def _scheduled(step, steps, warmup, peak, first=1, half=0.5, shift=True):
    if step < warmup:
        return peak * (step + first) / (warmup + first)
    start = warmup if shift else 0
    return peak * 0.5 * (1 + math.cos(2 * half * math.pi * (step - start) / (steps - start)))


def _decoder_cases(g: Generator) -> list[tuple]:
    return [(normal(g, b, n - hidden, d), mask_of(g, b, n, hidden), normal(g, d), normal(g, n, d)) for b, n, d, hidden in SIZES]


def _placed(visible, mask, fill):
    whole = fill.expand(*mask.shape, -1).clone()
    whole[~mask] = visible.flatten(0, 1)
    return whole


def _decoder_by_loop(visible, mask, mask_token, positions):
    rows = []
    for tokens, hidden in zip(visible, mask.tolist(), strict=True):
        given = iter(tokens)
        rows.append(torch.stack([(mask_token if h else next(given)) + p for h, p in zip(hidden, positions, strict=True)]))
    return torch.stack(rows)


EXERCISES = (
    Exercise(
        name="complete",
        lesson="04",
        minutes=5,
        difficulty=1,
        task="For a picture of what the model made of a clip: the predicted patches where they were hidden, the given ones where they were "
        "visible. prediction and patches are (b, n, values), the mask (b, n) is True where hidden.",
        draw=lambda g: _predictions(g)[:3],
        hints=("torch.where(condition, a, b) takes a where the condition holds, else b.", "The mask needs a third axis: mask[..., None]."),
        wrong={
            "You swapped the two: the predictions belong where patches were hidden.": lambda p, x, mask: torch.where(mask[..., None], x, p),
            "That is the prediction everywhere; the visible patches are known, show those.": lambda p, x, mask: p.clone(),
            "The visible patches are missing, they are 0 in yours.": lambda p, x, mask: p * mask[..., None],
            "You added the prediction to the patches; at hidden places the prediction stands alone.": lambda p, x, mask: (
                x + p * mask[..., None]
            ),
        },
        alternative=lambda p, x, mask: p * mask[..., None] + x * ~mask[..., None],
    ),
    Exercise(
        name="normalise_patch",
        lesson="04",
        minutes=8,
        difficulty=1,
        task="Give each patch mean 0 and variance 1: subtract its own mean, divide by the root of its own variance plus 1e-6. Patches are "
        "(b, n, values); the variance is torch's, which divides by values − 1.",
        draw=_patches,
        hints=("The mean over the last axis alone: dim=-1, keepdim=True.", "(patches - mean) / (variance + 1e-6).sqrt()"),
        wrong={
            "You took one mean for the whole batch; each patch has its own.": lambda x: (x - x.mean()) / (x.var() + 1e-6).sqrt(),
            "You took the mean over the patches, for each value; it is over the values, for each patch.": lambda x: (
                (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-6).sqrt()
            ),
            "You divided by the variance; divide by its root.": lambda x: (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-6),
            "You divided the variance by the number of values; MAE divides by one less, as torch does by default.": lambda x: (
                (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
            ),
            "A patch of one colour has variance 0, and yours becomes NaN: add 1e-6 before the root.": lambda x: (
                (x - x.mean(-1, keepdim=True)) / x.var(-1, keepdim=True).sqrt() * torch.where(x.var(-1, keepdim=True) > 1e-12, 1, torch.nan)
            ),
            "You only subtracted the mean; divide by the root of the variance, too.": lambda x: x - x.mean(-1, keepdim=True),
        },
        alternative=lambda x: (x - x.mean(2)[..., None]) * torch.rsqrt(x.std(2) ** 2 + 1e-6)[..., None],
        tolerance=1e-3,
    ),
    Exercise(
        name="masked_mse",
        lesson="04",
        minutes=10,
        difficulty=2,
        task="The loss of a masked autoencoder: the mean squared error over the hidden patches. prediction and "
        "target are (b, n, values), the "
        "mask (b, n) is True where hidden. Where nothing is hidden, 0.",
        draw=_predictions,
        hints=(
            "First the error of each patch, (b, n): the mean over its values.",
            "Multiply with the mask, so that visible patches count nothing, and sum.",
            "Divide by how many are hidden, mask.sum().clamp(min=1).",
        ),
        wrong={
            "You averaged over all patches; the loss is over the hidden ones.": lambda p, x, mask: _error(p, x).mean(),
            "You averaged over the visible patches; the loss is over the hidden ones.": lambda p, x, mask: (
                (_error(p, x) * ~mask).sum() / (~mask).sum().clamp(min=1)
            ),
            "You summed the hidden patches' errors; divide by how many are hidden.": lambda p, x, mask: (_error(p, x) * mask).sum(),
            "You divided by the number of all patches; divide by how many are hidden.": lambda p, x, mask: (_error(p, x) * mask).mean(),
            "You summed over the values of a patch; take their mean.": lambda p, x, mask: (
                ((p - x).square().sum(-1) * mask).sum() / mask.sum().clamp(min=1)
            ),
            "Right, but where nothing is hidden yours is NaN: divide by 1 or more.": lambda p, x, mask: (p[mask] - x[mask]).square().mean(),
            "You forgot the square: errors up and down cancel out.": lambda p, x, mask: (
                ((p - x).mean(-1) * mask).sum() / mask.sum().clamp(min=1)
            ),
            "You took the size of the error; it is to be squared.": lambda p, x, mask: (
                ((p - x).abs().mean(-1) * mask).sum() / mask.sum().clamp(min=1)
            ),
        },
        alternative=_by_choice,
    ),
    Exercise(
        name="mean_patch_mse",
        lesson="04",
        minutes=10,
        difficulty=2,
        task="How well does an answer do that has learnt nothing? Predict each place's mean patch over the "
        "training clips (clips, n, values) for "
        "every clip of target (b, n, values), and give the mean squared error over the hidden patches.",
        draw=_training,
        hints=(
            "The mean patch of each place: the mean over the clips, (n, values).",
            "Then masked_mse of it: it fits any number of clips by broadcasting.",
        ),
        wrong={
            "You took one mean patch for all places; each place has its own.": lambda t, x, mask: (
                (_error(t.mean((0, 1)), x) * mask).sum() / mask.sum()
            ),
            "You took the means of the clips that are judged: they were never to be seen.": lambda t, x, mask: (
                (_error(x.mean(0), x) * mask).sum() / mask.sum()
            ),
            "You averaged over all patches; the error is over the hidden ones.": lambda t, x, mask: _error(t.mean(0), x).mean(),
            "You predicted one number a patch; the mean patch has all its values.": lambda t, x, mask: (
                (_error(t.mean((0, 2))[:, None], x) * mask).sum() / mask.sum()
            ),
        },
        alternative=lambda t, x, mask: (t.sum(0).div(len(t)).expand_as(x)[mask] - x[mask]).pow(2).mean(),
    ),
    Exercise(
        name="learning_rate",
        lesson="04",
        minutes=10,
        difficulty=2,
        task="The learning rate at a step (from 0): for the first `warmup` steps it grows as peak · (step + 1) / "
        "(warmup + 1); after them it "
        "falls from the peak to 0 along half a cosine, ½ (1 + cos(π · done)), where done goes from 0 at step "
        "`warmup` to 1 at step `steps`.",
        draw=lambda g: [(step, 100, 10, 2e-3) for step in (0, 5, 9, 10, 55, 99)] + [(3, 20, 0, 0.1), (19, 20, 5, 1.0)],
        hints=("Two cases: step < warmup, and the rest.", "done = (step - warmup) / (steps - warmup)"),
        wrong={
            "A whole cosine goes down and up again; half of one ends at 0: cos(π · done).": lambda *a: _scheduled(*a, half=1.0),
            "Your cosine starts at step 0; it starts at the end of the warm-up, and the peak is never reached otherwise.": lambda *a: (
                _scheduled(*a, shift=False)
            ),
            "Your first step has rate 0, and learns nothing: (step + 1) / (warmup + 1).": lambda *a: _scheduled(*a, first=0),
            "Yours falls in a straight line after the warm-up; it falls along half a cosine.": lambda step, steps, warmup, peak: (
                peak * (step + 1) / (warmup + 1) if step < warmup else peak * (steps - step) / (steps - warmup)
            ),
            "The warm-up is missing: large steps with fresh weights may ruin them.": lambda step, steps, warmup, peak: (
                peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
            ),
        },
        alternative=lambda step, steps, warmup, peak: float(
            peak * min((step + 1) / (warmup + 1), math.cos(math.pi / 2 * max(step - warmup, 0) / (steps - warmup)) ** 2)
        ),
        tolerance=1e-7,
    ),
    Exercise(
        name="decoder_input",
        lesson="04",
        minutes=15,
        difficulty=3,
        task="What the decoder reads: visible tokens (b, k, d) at their places, the mask token (d,) at the hidden ones, and each place's "
        "position (n, d) added to whatever stands there: (b, n, d).",
        draw=_decoder_cases,
        hints=(
            "First put_back, as in lesson 03.",
            "All mask tokens are the same; only the positions tell the decoder which patch to predict.",
            "whole + positions",
        ),
        wrong={
            "The positions are missing: all mask tokens are alike, and the decoder would answer the "
            "same everywhere.": lambda v, m, token, p: _placed(v, m, token),
            "Only your visible tokens have positions; the mask tokens need them most.": lambda v, m, token, p: (
                _placed(v, m, token) + p * ~m[..., None]
            ),
            "You added the first k positions to the visible tokens before putting them back: those are other "
            "places' positions.": lambda v, m, token, p: _placed(v + p[: v.shape[1]], m, token),
            "You appended the mask tokens behind the visible ones; each belongs at its place.": lambda v, m, token, p: (
                torch.cat([v, token.expand(len(m), m.shape[1] - v.shape[1], -1)], dim=1) + p
            ),
            "The hidden places hold 0 in yours; they hold the mask token, which is learnt.": lambda v, m, token, p: (
                _placed(v, m, torch.zeros_like(token)) + p
            ),
        },
        alternative=_decoder_by_loop,
    ),
)

QUIZZES = (
    Quiz(
        name="falling_loss",
        lesson="04",
        question="The loss has fallen from 1.3 to 0.84. Has the model learnt to fill in sounds?",
        choices=(
            (
                "Yes, the loss has fallen by a third.",
                "Compare: the mean patch of each place may reach 0.83, and has learnt nothing about this clip.",
            ),
            (
                "That cannot be said without the score of a trivial answer.",
                "If the mean patch scores 0.83, the model is just about to reach it.",
            ),
            ("No, the loss must be below 0.5.", "No fixed number says that; what counts is the distance to answers without learning."),
        ),
        right="b",
    ),
    Quiz(
        name="normalised_leak",
        lesson="04",
        question="The model predicts patches normalised to mean 0 and variance 1. Its picture shows the hidden patches "
        "as bright and as full of contrast as they are. Why?",
        choices=(
            ("It has understood the brightness from the visible patches.", "Its target holds no brightness at all; the prediction cannot."),
            ("The decoder sees the mean of each patch.", "It sees mask tokens and positions at the hidden places, nothing else."),
            (
                "Whoever drew it used the hidden patches' own means and variances.",
                "So part of the answer was borrowed; say so, or let the model predict both.",
            ),
        ),
        right="c",
    ),
    Quiz(
        name="why_hidden_only",
        lesson="04",
        question="Why does the loss count the hidden patches only?",
        choices=(
            (
                "The visible patches can be passed through; counting them rewards copying.",
                "The decoder has them as input, and would spend its effort on them.",
            ),
            ("The visible patches are not decoded.", "They are: the decoder predicts every place."),
            ("It saves compute.", "The loss is the least of the costs; the encoder saves compute, not the loss."),
        ),
        right="a",
    ),
)
