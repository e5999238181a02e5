"""Exercises and questions of lesson 02: from pictures to tokens."""

import torch
from einops import rearrange
from torch import Generator, Tensor

from mavil_edu.course.entry import Exercise, Quiz, normal, uniform


def _clips(g: Generator) -> list[tuple]:
    return [(normal(g, *shape),) for shape in ((1, 3, 2, 32, 48), (2, 3, 4, 48, 32), (1, 3, 6, 16, 16))]


def _cut(video: Tensor, pattern: str) -> Tensor:
    return rearrange(video, f"b c (t pt) (h ph) (w pw) -> {pattern}", pt=2, ph=16, pw=16)


def _cut_by_permuting(video):
    b, _, t, h, w = video.shape
    parts = video.reshape(b, 3, t // 2, 2, h // 16, 16, w // 16, 16)
    return parts.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(b, -1, 2 * 16 * 16 * 3)


def _sincos(places: Tensor, width: int, over: float | None = None, base: float = 10_000.0) -> Tensor:
    """Sines, then cosines; `over`: what the exponents are divided by."""
    omega = base ** -(torch.arange(width // 2) / (over or width // 2))
    angle = places[:, None] * omega
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def _sincos_by_loop(places, width):
    half = width // 2
    rows = [[(p / 10_000 ** (i / half)) for i in range(half)] for p in places.tolist()]
    return torch.cat([torch.tensor(rows).sin(), torch.tensor(rows).cos()], dim=1)


def _grid(t: int, h: int, w: int, indexing: str = "ij") -> list[Tensor]:
    return [axis.flatten() for axis in torch.meshgrid(*map(torch.arange, (t, h, w)), indexing=indexing)]


def _in_axes(axes: list[Tensor], width: int) -> Tensor:
    return torch.cat([_sincos(axis, width // 3) for axis in axes], dim=1)


def _sincos_by_division(t, h, w, width):
    place = torch.arange(t * h * w)
    return _in_axes([place // (h * w), place // w % h, place % w], width)


def _cubes(g: Generator) -> list[tuple]:
    sizes = ((2, 3, 5), (1, 2, 4))
    return [(normal(g, b, n, 2 * 4 * 4 * 3), normal(g, d, 3, 2, 4, 4), normal(g, d)) for b, n, d in sizes]


def _as_convolution(patches, kernel, bias):
    _, _, pt, ph, pw = kernel.shape
    cubes = rearrange(patches, "b n (pt ph pw c) -> (b n) c pt ph pw", pt=pt, ph=ph, pw=pw)
    return rearrange(torch.nn.functional.conv3d(cubes, kernel, bias), "(b n) d 1 1 1 -> b n d", b=len(patches))


EXERCISES = (
    Exercise(
        name="frame_times",
        lesson="02",
        minutes=5,
        difficulty=1,
        task="A clip of so many seconds is divided into `frames` equal intervals. At which seconds do their "
        "middles lie? A tensor (frames,).",
        draw=lambda g: [(4.0, 8), (2.56, 8), (1.0, 1), (round(1 + 9 * float(uniform(g, 1)), 2), 5)],
        hints=(
            "8 frames from 4 s: each interval is 0.5 s long, the first middle lies at 0.25 s.",
            "The middle of interval i is (i + ½) interval lengths.",
        ),
        wrong={
            "Those are the beginnings of the intervals; their middles are wanted.": lambda s, n: torch.arange(n) * s / n,
            "You went from the very first to the very last moment; the last frame would lie on the clip's end.": lambda s, n: (
                torch.linspace(0, s, n)
            ),
            "Those are the ends of the intervals; the last lies outside the clip.": lambda s, n: (torch.arange(n) + 1) * s / n,
        },
        alternative=lambda s, n: torch.tensor([s / n * i + s / n / 2 for i in range(n)]),
    ),
    Exercise(
        name="tokens_of",
        lesson="02",
        minutes=5,
        difficulty=1,
        task="How many tokens do so many frames of height × width pixels give, with patches of 2 × 16 × 16?",
        draw=lambda g: [(8, 224, 224), (8, 32, 48), (2, 16, 16), (16, 112, 224)],
        hints=("Count the patches along each axis, then multiply.", "MAViL's 8 frames of 224 × 224 give 4 · 14 · 14 = 784."),
        wrong={
            "You cut every frame by itself; a patch spans 2 frames.": lambda n, h, w: n * (h // 16) * (w // 16),
            "That is how many numbers there are in all; divide by the patch's 2 · 16 · 16.": lambda n, h, w: n * h * w,
            "You counted the colours as patches; a patch holds all 3.": lambda n, h, w: 3 * (n // 2) * (h // 16) * (w // 16),
            "The class token is no patch; leave it out of the count.": lambda n, h, w: (n // 2) * (h // 16) * (w // 16) + 1,
        },
        alternative=lambda n, h, w: n * h * w // 512,
    ),
    Exercise(
        name="patchify_video",
        lesson="02",
        minutes=8,
        difficulty=2,
        task="Cut clips (b, 3, time, height, width) into patches of 2 × 16 × 16: (b, patches, 1536). Patches in the order time, height, "
        "width; inside a patch time, height, width, colour.",
        draw=_clips,
        hints=(
            "Split each of the three axes: (t pt) (h ph) (w pw).",
            "The colours come last inside a patch: (pt ph pw c).",
            '"b c (t pt) (h ph) (w pw) -> b (t h w) (pt ph pw c)", with pt=2, ph=16, pw=16',
        ),
        wrong={
            "Your colours come first inside a patch; they come last, (pt ph pw c).": lambda x: _cut(x, "b (t h w) (c pt ph pw)"),
            "Your patches stand (h w t); time comes first, (t h w).": lambda x: _cut(x, "b (h w t) (pt ph pw c)"),
            "Rows and columns of patches are swapped: the order is (t h w).": lambda x: _cut(x, "b (t w h) (pt ph pw c)"),
            "You cut every frame by itself; a patch spans 2 frames.": lambda x: _cut(x, "b (t pt h w) (ph pw c)"),
            "reshape alone cuts lines, not cubes: first split the axes, then reorder.": lambda x: x.reshape(len(x), -1, 1536),
        },
        alternative=_cut_by_permuting,
    ),
    Exercise(
        name="sincos_1d",
        lesson="02",
        minutes=10,
        difficulty=2,
        task="Positions on one axis: for places (n,) a table (n, width). Its first half holds sin(place · ω), its "
        "second half cos(place · ω), "
        "with ω_i = 10000^(−i / (width / 2)) for i = 0, 1, … width / 2 − 1.",
        draw=lambda g: [(torch.arange(5), 8), (torch.arange(64), 16), (torch.tensor([0, 3, 100]), 6)],
        hints=(
            "There are width / 2 frequencies: the first is 1, the last is a little more than 1 / 10000.",
            "places (n, 1) times ω (width / 2) gives all angles (n, width / 2).",
            "torch.cat([angle.sin(), angle.cos()], dim=1)",
        ),
        wrong={
            "You divided i by the width; with half as many frequencies, i is divided by half the width.": lambda p, w: _sincos(
                p, w, over=w
            ),
            "Sines and cosines alternate in yours; here all sines come first, as in MAE.": lambda p, w: rearrange(
                _sincos(p, w), "n (two i) -> n (i two)", two=2
            ),
            "Your cosines come first; the sines do.": lambda p, w: _sincos(p, w).roll(w // 2, dims=1),
            "Your places begin at 1; take them as they are given, from 0.": lambda p, w: _sincos(p + 1, w),
            "Your frequencies grow: the exponent of 10000 is negative.": lambda p, w: _sincos(p, w, base=1e-4),
        },
        alternative=_sincos_by_loop,
        tolerance=1e-4,
    ),
    Exercise(
        name="sincos_3d",
        lesson="02",
        minutes=20,
        difficulty=3,
        task="Positions on a grid of t × h × w: a table (t · h · w, width), places in the order t, h, w. Each axis "
        "gets a third of the width, "
        "filled as in `sincos_1d`, the thirds side by side in the order t, h, w. The width is a multiple of 6.",
        draw=lambda g: [(2, 3, 4, 12), (4, 2, 2, 24), (1, 3, 2, 6)],
        hints=(
            "First find the three coordinates of every place: torch.meshgrid(…, indexing='ij'), then flatten each.",
            "Each axis has width / 6 frequencies: half of its third for sines, half for cosines.",
            "Put the three thirds side by side with torch.cat(…, dim=1).",
        ),
        wrong={
            "You added the three axes' positions; then (1, 2, 0) and (2, 1, 0) are the same place. Put them "
            "side by side.": lambda t, h, w, d: sum(_sincos(axis, d) for axis in _grid(t, h, w)),
            "Your places run through the grid in another order: use indexing='ij', so that w runs fastest.": lambda t, h, w, d: _in_axes(
                _grid(t, h, w, "xy"), d
            ),
            "Your thirds stand in the order w, h, t; it is t, h, w.": lambda t, h, w, d: _in_axes(_grid(t, h, w)[::-1], d),
            "You numbered the places in one row; so the patch below is as far away as one many columns to the right.": lambda t, h, w, d: (
                _sincos(torch.arange(t * h * w), d)
            ),
        },
        alternative=_sincos_by_division,
        tolerance=1e-4,
    ),
    Exercise(
        name="attention_cost",
        lesson="02",
        minutes=8,
        difficulty=2,
        task="How many multiply-adds do the two products of self-attention take, queries · keys and attention · values, over all heads? "
        "The heads share the width among them.",
        draw=lambda g: [(512, 768, 12), (784, 768, 12), (64, 128, 4), (1, 6, 2)],
        hints=(
            "One likeness is a product of two vectors as long as one head is wide.",
            "There are tokens² likenesses in each head, and heads · (width / heads) = width.",
        ),
        wrong={
            "That is one of the two products; the attention is also multiplied with the values.": lambda n, d, heads: n * n * d,
            "The heads share the width, so their number does not matter.": lambda n, d, heads: 2 * n * n * d * heads,
            "Attention grows with the square of the tokens; you squared the width.": lambda n, d, heads: 2 * n * d * d,
            "You counted one head; there are several.": lambda n, d, heads: 2 * n * n * d // heads,
        },
        alternative=lambda n, d, heads: heads * (n * n * (d // heads) + n * (d // heads) * n),
    ),
    Exercise(
        name="conv_as_linear",
        lesson="02",
        minutes=12,
        difficulty=3,
        task="A convolution whose step is as large as its kernel is a linear layer on patches. Given patches (b, n, pt · ph · pw · 3) as "
        "`patchify_video` orders them, a kernel (d, 3, pt, ph, pw) and a bias (d,), give what the convolution would: (b, n, d).",
        draw=_cubes,
        hints=(
            "The kernel has to become a matrix (d, values) whose columns stand in the order of a patch.",
            "A patch is (pt ph pw c): rearrange the kernel from d c pt ph pw.",
            "patches @ matrix.T + bias",
        ),
        wrong={
            "The kernel keeps its colours first, your patches have them last: bring the kernel to (pt ph pw c).": lambda p, k, b: (
                p @ k.flatten(1).T + b
            ),
            "The bias is missing.": lambda p, k, b: p @ rearrange(k, "d c pt ph pw -> d (pt ph pw c)").T,
            "Height and width are swapped in your kernel: (pt ph pw c).": lambda p, k, b: (
                p @ rearrange(k, "d c pt ph pw -> d (pt pw ph c)").T + b
            ),
        },
        alternative=_as_convolution,
        tolerance=1e-3,
    ),
)

QUIZZES = (
    Quiz(
        name="why_two_frames",
        lesson="02",
        question="Why does a video patch span 2 frames, and not 1?",
        choices=(
            (
                "It halves the number of tokens, and one token can hold a movement.",
                "784 tokens in place of 1568: a quarter of the comparisons.",
            ),
            ("Video files store frames in pairs.", "They do not; and the model gets decoded frames."),
            ("So that pictures and sounds have as many tokens.", "They have 784 and 512; nothing requires them to be equal."),
        ),
        right="a",
    ),
    Quiz(
        name="twice_the_tokens",
        lesson="02",
        question="The number of tokens is doubled. How much more do attention's two products cost?",
        choices=(
            ("Twice as much.", "That holds for the linear layers, which treat each token alone; attention compares pairs."),
            ("Four times as much.", "Every token is compared with every other: the cost grows with the square."),
            ("It depends on the number of heads.", "The heads share the width; their number does not change the products' cost."),
        ),
        right="b",
    ),
    Quiz(
        name="without_positions",
        lesson="02",
        question="The positions are left out, and all patches of a clip are shuffled. What does the transformer notice?",
        choices=(
            (
                "Nothing: its output is shuffled in the same way.",
                "Attention and MLP know no order; only the positions tell where a token is from.",
            ),
            ("Everything: the order of tokens is their position.", "Nothing in attention depends on the order of the list."),
            ("Neighbours are no longer attended to.", "Attention does not know which tokens were neighbours, before or after."),
        ),
        right="a",
    ),
)
