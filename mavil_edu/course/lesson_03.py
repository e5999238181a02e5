"""Exercises and questions of lesson 03: masking."""

import torch
from einops import rearrange, repeat
from torch import Generator

from mavil_edu.course.entry import Exercise, Quiz, mask_of, normal, uniform


def _rank(noise):
    return noise.argsort(dim=1).argsort(dim=1)


def _by_threshold(noise, visible):
    return noise > noise.kthvalue(visible, dim=1, keepdim=True).values


def _by_scatter(noise, visible):
    places = noise.argsort(dim=1)[:, :visible]
    return torch.ones_like(noise, dtype=torch.bool).scatter(1, places, False)


def _noise(g: Generator, last: int) -> list[tuple]:
    return [(uniform(g, 2, 6), 2, last), (uniform(g, 3, 10), 2, last + 1), (uniform(g, 1, 5), 5, 2)]


def _tokens_and_mask(g: Generator) -> list[tuple]:
    return [
        (normal(g, b, n, d), mask_of(g, b, n, hidden)) for b, n, d, hidden in ((1, 6, 2, 4), (3, 10, 4, 8), (2, 5, 3, 0), (2, 64, 2, 51))
    ]


def _gathered(tokens, mask, start: int, stop: int | None, hidden_first: bool = False):
    order = (mask.int() if not hidden_first else 1 - mask.int()).argsort(dim=1, stable=True)[:, start:stop]
    return tokens.gather(1, repeat(order, "b k -> b k d", d=tokens.shape[2]))


def _visible_and_mask(g: Generator) -> list[tuple]:
    sizes = ((1, 6, 2, 4), (3, 10, 4, 8), (2, 5, 3, 0))
    return [(normal(g, b, n - hidden, d), mask_of(g, b, n, hidden), normal(g, d)) for b, n, d, hidden in sizes]


def _assigned(visible, mask, fill, keep=False):
    whole = fill.expand(*mask.shape, -1).clone()
    whole[~mask if not keep else mask.flip(1)] = visible.flatten(0, 1)
    return whole


def _filled_by_loop(visible, mask, fill):
    rows = []
    for tokens, hidden in zip(visible, mask.tolist(), strict=True):
        given = iter(tokens)
        rows.append(torch.stack([fill if h else next(given) for h in hidden]))
    return torch.stack(rows)


def _appended(visible, mask, fill):
    return torch.cat([visible, fill.expand(len(mask), mask.shape[1] - visible.shape[1], -1)], dim=1)


EXERCISES = (
    Exercise(
        name="visible_count",
        lesson="03",
        minutes=5,
        difficulty=1,
        task="How many of so many tokens stay visible? Of n tokens, n · ratio are hidden, rounded to the nearest whole number by round().",
        draw=lambda g: [
            (512, 0.8),
            (784, 0.8),
            (10, 0.8),
            (5, 0.5),
            (64, 0.0),
            (64, 1.0),
            (26, 0.83),
            (int(torch.randint(50, 999, (), generator=g)), 0.7),
        ],
        hints=("Count the hidden ones first.", "round(tokens * ratio) are hidden; the rest is visible."),
        wrong={
            "You rounded the visible share down: 10 · (1 − 0.8) is 1.9999… in the computer, and one token is lost.": lambda n, r: int(
                n * (1 - r)
            ),
            "You rounded the visible ones; the rule rounds the hidden ones: of 5 tokens half hidden, 2 are, and 3 stay.": lambda n, r: (
                round(n * (1 - r))
            ),
            "That is how many are hidden; count the visible ones.": lambda n, r: round(n * r),
            "You rounded the hidden count down; round to the nearest.": lambda n, r: n - int(n * r),
        },
        alternative=lambda n, r: n - int(torch.tensor(n * r, dtype=torch.float64).round()),
    ),
    Exercise(
        name="mask_by_rank",
        lesson="03",
        minutes=10,
        difficulty=2,
        task="Each token has a random number; noise is (b, n). In each row the `visible` tokens with the smallest numbers stay visible. "
        "Return a mask (b, n), True where a token is hidden.",
        draw=lambda g: [(uniform(g, 1, 6), 2), (uniform(g, 3, 10), 2), (uniform(g, 2, 5), 4)],
        hints=(
            "A token is visible if fewer than `visible` tokens have smaller numbers: you need its rank.",
            "noise.argsort(dim=1) says which token stands at each rank; argsort once more says which rank each token has.",
            "rank >= visible",
        ),
        wrong={
            "Your mask is inverted: True means hidden.": lambda noise, visible: _rank(noise) < visible,
            "argsort tells which token stands at each rank, not each token's rank; apply it once more.": lambda noise, visible: (
                noise.argsort(dim=1) >= visible
            ),
            "You compared with a fixed number: the count then changes from row to row, and rows must hide "
            "equally many.": lambda noise, visible: noise >= visible / noise.shape[1],
            "All your rows hide the same tokens; each clip gets its own mask.": lambda noise, visible: (_rank(noise)[:1] >= visible).repeat(
                len(noise), 1
            ),
            "You sorted over the clips; the tokens of a row are ranked, dim=1.": lambda noise, visible: (
                noise.argsort(dim=0).argsort(dim=0) >= visible
            ),
            "You hid the smallest numbers; these stay visible.": lambda noise, visible: _rank(-noise) >= visible,
        },
        alternative=_by_scatter,
    ),
    Exercise(
        name="time_mask",
        lesson="03",
        minutes=8,
        difficulty=1,
        task="Hide whole moments of a sound. noise is (b, t), one number a moment; the `visible` smallest moments of each row stay. Each "
        "moment has f tokens; return the mask (b, t · f), tokens in the order (t f).",
        draw=lambda g: _noise(g, 3),
        hints=(
            "First the mask of the moments, (b, t), as in mask_by_rank.",
            'Then each moment\'s answer for its f tokens: repeat(…, "b t -> b (t f)", f=f).',
        ),
        wrong={
            "Your moments stand (f t): that hides pitches here and there. The order is (t f).": lambda noise, visible, f: (
                _rank(noise) >= visible
            ).repeat(1, f),
            "Your mask is inverted: True means hidden.": lambda noise, visible, f: (_rank(noise) < visible).repeat_interleave(f, dim=1),
            "Those are the moments; each has f tokens.": lambda noise, visible, f: _rank(noise) >= visible,
        },
        alternative=lambda noise, visible, f: _by_threshold(noise, visible).repeat_interleave(f, dim=1),
    ),
    Exercise(
        name="tube_mask",
        lesson="03",
        minutes=8,
        difficulty=2,
        task="Hide the same places of the picture in all t time patches. noise is (b, h · w), one number a place; "
        "the `visible` smallest stay. "
        "Return the mask (b, t · h · w), tokens in the order (t h w).",
        draw=lambda g: _noise(g, 2),
        hints=("First the mask of the places, (b, hw).", 'Time comes first: repeat(…, "b hw -> b (t hw)", t=t).'),
        wrong={
            "Your tokens stand (h w t); time comes first, so the whole picture is repeated.": lambda noise, visible, t: (
                _rank(noise) >= visible
            ).repeat_interleave(t, dim=1),
            "Your mask is inverted: True means hidden.": lambda noise, visible, t: (_rank(noise) < visible).repeat(1, t),
            "Your places move from one time patch to the next; a tube stays where it is.": lambda noise, visible, t: torch.cat(
                [(_rank(noise) >= visible).roll(i, dims=1) for i in range(t)], dim=1
            ),
        },
        alternative=lambda noise, visible, t: torch.cat([_by_scatter(noise, visible)] * t, dim=1),
    ),
    Exercise(
        name="keep_visible",
        lesson="03",
        minutes=10,
        difficulty=2,
        task="Drop the hidden tokens: from tokens (b, n, d) and a mask (b, n), True = hidden, to the visible "
        "tokens (b, k, d), in their order. "
        "Each row hides equally many.",
        draw=_tokens_and_mask,
        hints=(
            "Where do the visible tokens stand? mask.int().argsort(dim=1, stable=True) lists their places first.",
            "k = int((~mask[0]).sum()) of these places are needed.",
            'tokens.gather(1, repeat(places, "b k -> b k d", d=tokens.shape[2]))',
        ),
        wrong={
            "Those are the hidden tokens; True means hidden.": lambda x, mask: _gathered(x, mask, int((~mask[0]).sum()), None),
            "You set the hidden tokens to 0; they are still there, cost as much, and zeros are seen. Drop them.": lambda x, mask: (
                x * ~mask[..., None]
            ),
            "The clips are no longer apart: bring the list back to (b, k, d).": lambda x, mask: x[~mask],
            "Your visible tokens stand in the wrong order; keep the one they had.": lambda x, mask: _gathered(
                x.flip(1), mask.flip(1), 0, int((~mask[0]).sum())
            ),
            "You took the first k tokens of each row, whatever the mask says.": lambda x, mask: x[:, : int((~mask[0]).sum())],
            "Your sort is not stable: in long lists the visible tokens change places. argsort takes stable=True.": lambda x, mask: x.gather(
                1, repeat(mask.int().argsort(dim=1)[:, : int((~mask[0]).sum())], "b k -> b k d", d=x.shape[2])
            ),
        },
        alternative=lambda x, mask: rearrange(x[~mask], "(b k) d -> b k d", b=len(x)),
    ),
    Exercise(
        name="put_back",
        lesson="03",
        minutes=15,
        difficulty=3,
        task="The inverse of `keep_visible`: put visible tokens (b, k, d) back at their places, and `fill` (d,) at "
        "the hidden ones: (b, n, d).",
        draw=_visible_and_mask,
        hints=(
            'Begin with a tensor (b, n, d) that is `fill` everywhere: repeat(fill, "d -> b n d", b=b, n=n).',
            "The places are those of keep_visible: the first k of mask.int().argsort(dim=1, stable=True).",
            'whole.scatter(1, repeat(places, "b k -> b k d", d=visible.shape[2]), visible)',
        ),
        wrong={
            "You appended the fillings behind the visible tokens; each belongs at its place.": _appended,
            "The hidden places hold 0 in yours; they hold `fill`, which is learnt.": lambda visible, mask, fill: _assigned(
                visible, mask, torch.zeros_like(fill)
            ),
            "Your visible tokens stand in the wrong order; the first one belongs at the first visible place.": lambda visible, mask, fill: (
                _assigned(visible.flip(1), mask, fill)
            ),
            "You added `fill` to the visible tokens as well; it belongs at the hidden places alone.": lambda visible, mask, fill: (
                _assigned(visible, mask, torch.zeros_like(fill)) + fill
            ),
        },
        alternative=_filled_by_loop,
    ),
)

QUIZZES = (
    Quiz(
        name="why_ratio",
        lesson="03",
        question="Why are 80 % hidden, and not 30 %?",
        choices=(
            (
                "Because the decoder could not fill in more.",
                "It can try at any ratio; that sets an upper end, and is no reason for a high ratio.",
            ),
            (
                "Because with 30 % nearly every hidden patch has visible neighbours to go by.",
                "Neighbours are alike; only when they are gone, too, must the model understand.",
            ),
            ("Because the loss is smaller then.", "It is larger: the task is harder. A small loss is not the aim."),
        ),
        right="b",
    ),
    Quiz(
        name="why_equal_rows",
        lesson="03",
        question="Why does each clip of a batch hide the same number of tokens?",
        choices=(
            (
                "So that the visible tokens of all clips fit into one tensor.",
                "(b, k, d) has one k; otherwise padding, and masks in attention, would be needed.",
            ),
            ("So that all clips hide the same tokens.", "They hide different ones; only the number is the same."),
            ("So that the loss of each clip is the same.", "The loss depends on what is hidden; equal numbers do not make it equal."),
        ),
        right="a",
    ),
    Quiz(
        name="why_drop",
        lesson="03",
        question="Hidden tokens are dropped before the encoder instead of being set to 0. What does it gain?",
        choices=(
            ("Nothing but a shorter program.", "The encoder computes on a fifth of the tokens, and it is half of what training costs."),
            ("The decoder then knows which tokens were hidden.", "It knows that from the mask, either way."),
            (
                "A fifth of the encoder's compute or less, and nothing hidden can leak.",
                "Linear layers take a fifth, attention a twenty-fifth; what is not there cannot be used.",
            ),
        ),
        right="c",
    ),
)
