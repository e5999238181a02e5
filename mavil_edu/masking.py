"""Masks: the only place where their randomness lives, and where tokens are dropped by a mask and put back.

A mask is boolean, (b, n), True where a token is hidden, with the same count in each row. Which order tokens stand in follows
from the mask alone, by a stable argsort: kept tokens keep their order, and a mask that hides nothing changes nothing.

A strategy is a function (rows, grid, ratio, generator) -> (rows, n) bool on the CPU; `visible_count` says for each, exactly, how
many tokens it leaves. The structured ones hide whole groups, so their count is the ratio's as nearly as whole groups allow, and
a ratio below 1 always leaves one group visible [O].
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from einops import rearrange, repeat
from torch import Generator, Tensor

Grid = int | tuple[int, ...]  # patches along each axis, (t, f) or (t, h, w); or the number of tokens, where places do not matter

BLOCK_SHARE = 0.15  # of a picture's area that one block covers [O; V-JEPA's short-range blocks are about as large]
BLOCK_ASPECT = (0.75, 1.5)  # smallest and largest height / width of a block [O]


def _check_ratio(ratio: float) -> None:
    if not 0 <= ratio <= 1:
        raise ValueError(f"The mask ratio is {ratio}; it must lie between 0 (nothing hidden) and 1 (all hidden).")


def _visible_groups(groups: int, ratio: float) -> int:
    """Groups left visible: groups − round(groups · ratio), but one at least where the ratio is below 1."""
    return max(groups - round(groups * ratio), int(ratio < 1))


def _visible_lines(grid: tuple[int, int], ratio: float) -> tuple[int, int]:
    """Time columns and frequency rows that time+frequency masking leaves: about √(1 − ratio) of each.

    The rows are rounded first; then as many columns as bring rows · columns nearest to n · (1 − ratio).
    """
    t, f = grid
    rows = max(1, round(f * math.sqrt(1 - ratio)))
    return min(t, max(round(t * f * (1 - ratio) / rows), int(ratio < 1))), rows


def visible_count(grid: Grid, ratio: float, strategy: str = "random") -> int:
    """How many tokens of a grid a strategy leaves visible, exact at every ratio in [0, 1].

    grid: (t, f) for sound, (t, h, w) for video; for "random" the number of tokens will do. Random masking leaves
    n − round(n · ratio); the others whole groups: 80 % of 64 time columns is 51 columns, 408 of 512 tokens.
    Raises ValueError for a ratio outside [0, 1] and for a strategy that the grid does not know.
    """
    _check_ratio(ratio)
    if strategy == "random":
        tokens = grid if isinstance(grid, int) else math.prod(grid)
        return tokens - round(tokens * ratio)
    match strategy, grid:
        case ("time", (t, f)):
            return _visible_groups(t, ratio) * f
        case ("frequency", (t, f)):
            return _visible_groups(f, ratio) * t
        case ("time+frequency", (_, _)):
            return math.prod(_visible_lines(grid, ratio))
        case ("tube" | "block", (t, h, w)):
            return _visible_groups(h * w, ratio) * t
        case ("frame", (t, h, w)):
            return _visible_groups(t, ratio) * h * w
    known = {2: AUDIO_STRATEGIES, 3: VIDEO_STRATEGIES}.get(len(grid) if isinstance(grid, tuple) else 0, {"random": random_mask})
    raise ValueError(f"There is no masking strategy {strategy!r} for a grid of {grid}; choose from {', '.join(known)}.")


def _random_groups(rows: int, groups: int, visible: int, generator: Generator | None) -> Tensor:
    """(rows, groups) bool: all but `visible` groups hidden in each row, every set of that size being equally likely."""
    rank = torch.rand(rows, groups, generator=generator).argsort(dim=1).argsort(dim=1)
    return rank >= visible


def random_mask(rows: int, grid: Grid, ratio: float, generator: Generator | None = None) -> Tensor:
    """Hides a random set of tokens in each row, every set of that size being equally likely.

    grid: patches along each axis, or the number of tokens. Returns (rows, tokens) bool on the CPU, True = hidden,
    `visible_count(grid, ratio)` False in each row.
    The paper's masking, at ratio 0.8 for both modalities (recalled; Audio-MAE's for sound).
    """
    tokens = grid if isinstance(grid, int) else math.prod(grid)
    return _random_groups(rows, tokens, visible_count(tokens, ratio), generator)


def time_mask(rows: int, grid: tuple[int, int], ratio: float, generator: Generator | None = None) -> Tensor:
    """Hides whole time columns of a spectrogram: moments in which nothing is heard. (t, f) -> (rows, t · f) bool [A]."""
    _check_ratio(ratio)
    t, f = grid
    return repeat(_random_groups(rows, t, _visible_groups(t, ratio), generator), "b t -> b (t f)", f=f)


def frequency_mask(rows: int, grid: tuple[int, int], ratio: float, generator: Generator | None = None) -> Tensor:
    """Hides whole frequency rows of a spectrogram: bands that are never heard. (t, f) -> (rows, t · f) bool [A]."""
    _check_ratio(ratio)
    t, f = grid
    return repeat(_random_groups(rows, f, _visible_groups(f, ratio), generator), "b f -> b (t f)", t=t)


def time_frequency_mask(rows: int, grid: tuple[int, int], ratio: float, generator: Generator | None = None) -> Tensor:
    """Hides time columns and frequency rows, about the same share of each; what is in neither stays: (t, f) -> (rows, t · f) bool.

    That both are hidden together is Audio-MAE's [A]; how the ratio is shared out between them is our choice [O].
    """
    _check_ratio(ratio)
    (t, f), (columns, lines) = grid, _visible_lines(grid, ratio)
    in_time = rearrange(_random_groups(rows, t, columns, generator), "b t -> b t 1")
    in_frequency = rearrange(_random_groups(rows, f, lines, generator), "b f -> b 1 f")
    return rearrange(in_time | in_frequency, "b t f -> b (t f)")


def tube_mask(rows: int, grid: tuple[int, int, int], ratio: float, generator: Generator | None = None) -> Tensor:
    """Hides the same places of the picture in each time patch, as VideoMAE does: (t, h, w) -> (rows, t · h · w) bool [R]."""
    _check_ratio(ratio)
    t, h, w = grid
    return repeat(_random_groups(rows, h * w, _visible_groups(h * w, ratio), generator), "b hw -> b (t hw)", t=t)


def frame_mask(rows: int, grid: tuple[int, int, int], ratio: float, generator: Generator | None = None) -> Tensor:
    """Hides whole time patches of a video: (t, h, w) -> (rows, t · h · w) bool [R]."""
    _check_ratio(ratio)
    t, h, w = grid
    return repeat(_random_groups(rows, t, _visible_groups(t, ratio), generator), "b t -> b (t hw)", hw=h * w)


def block_mask(rows: int, grid: tuple[int, int, int], ratio: float, generator: Generator | None = None) -> Tensor:
    """Hides rectangles of the picture through all time patches, one after another until the count is reached.

    Each covers about 15 % of the picture and may hang over its edge, so that edges are hidden about as often as the middle; the
    last is cut, row by row, so that the count is exact: that of `tube_mask`. (t, h, w) -> (rows, t · h · w) bool. Blocks through
    time are V-JEPA's idea; the numbers are ours [O].
    """
    _check_ratio(ratio)
    t, h, w = grid
    hidden = h * w - _visible_groups(h * w, ratio)
    uncovered = torch.iinfo(torch.long).max
    covered_by = torch.full((rows, h, w), uncovered)  # the number of the first block over each place
    blocks, low, high = 0, *map(math.log, BLOCK_ASPECT)
    while rows and int((covered_by < uncovered).sum(dim=(1, 2)).min()) < hidden:
        aspect, down, across = torch.rand(3, rows, 1, 1, generator=generator)
        aspect = (low + (high - low) * aspect).exp()
        tall = (BLOCK_SHARE * h * w * aspect).sqrt().round().clamp(1, h)
        wide = (BLOCK_SHARE * h * w / aspect).sqrt().round().clamp(1, w)
        top, left = (down * (h + tall - 1)).floor() - tall + 1, (across * (w + wide - 1)).floor() - wide + 1
        y, x = torch.arange(h).view(1, h, 1), torch.arange(w).view(1, 1, w)
        inside = (y >= top) & (y < top + tall) & (x >= left) & (x < left + wide)
        covered_by = covered_by.masked_fill(inside & (covered_by == uncovered), blocks)
        blocks += 1
    rank = rearrange(covered_by, "b h w -> b (h w)").argsort(dim=1, stable=True).argsort(dim=1)
    return repeat(rank < hidden, "b hw -> b (t hw)", t=t)


Strategy = Callable[[int, tuple[int, ...], float, Generator | None], Tensor]
AUDIO_STRATEGIES: dict[str, Strategy] = {
    "random": random_mask,
    "time": time_mask,
    "frequency": frequency_mask,
    "time+frequency": time_frequency_mask,
}
VIDEO_STRATEGIES: dict[str, Strategy] = {"random": random_mask, "tube": tube_mask, "frame": frame_mask, "block": block_mask}


def scheduled_ratio(step: int, steps: int, start: float | None, end: float, schedule: Literal["linear", "cosine"] = "linear") -> float:
    """The mask ratio at a step of a run: from `start` at step 0 to `end` at the last step, a pure function of the step.

    In a straight line, or along half a cosine (slow, fast, slow); `end` throughout where start is None.
    """
    if start is None:
        return end
    done = min(step / (steps - 1), 1.0) if steps > 1 else 1.0
    if schedule == "cosine":
        done = (1 - math.cos(math.pi * done)) / 2
    return min(max(start + (end - start) * done, min(start, end)), max(start, end)) if done < 1 else end


def check_mask(mask: Tensor, rows: int, tokens: int) -> None:
    """Raises ValueError unless the mask is boolean, (rows, tokens), with the same number hidden in each row."""
    if mask.dtype != torch.bool or tuple(mask.shape) != (rows, tokens):
        raise ValueError(
            f"A mask for this batch must be boolean of shape ({rows}, {tokens}); this one is {mask.dtype} of shape {tuple(mask.shape)}."
        )
    hidden = mask.sum(dim=1)
    if rows and bool((hidden != hidden[0]).any()):
        raise ValueError(f"Each row of a mask must hide the same number of tokens; these hide {int(hidden.min())} to {int(hidden.max())}.")


def visible_places(mask: Tensor) -> Tensor:
    """The places of the visible tokens, in order: (b, n) bool -> (b, k) long."""
    k = mask.shape[1] - int(mask[0].sum())
    return mask.to(torch.uint8).argsort(dim=1, stable=True)[:, :k]


def hidden_places(mask: Tensor) -> Tensor:
    """The places of the hidden tokens, in order: (b, n) bool -> (b, n − k) long."""
    return mask.to(torch.uint8).argsort(dim=1, stable=True)[:, mask.shape[1] - int(mask[0].sum()) :]


def draw_hidden_places(mask: Tensor, share: float, generator: Generator | None = None) -> Tensor:
    """A random share of the hidden places of each row, every set of that size being equally likely; one at least where any is hidden.

    mask: (b, n) bool. share: in (0, 1]; 1 draws nothing and gives all. Returns (b, m) long, in order.
    """
    places = hidden_places(mask)
    if share == 1:
        return places
    hidden = places.shape[1]
    chosen = _random_groups(len(mask), hidden, min(hidden, max(1, round(hidden * share))), generator).to(mask.device)
    return places.gather(1, visible_places(chosen)) if len(mask) else places[:, :0]


def at_places(tokens: Tensor, places: Tensor) -> Tensor:
    """The tokens of some places: (b, n, d) and (b, k) long -> (b, k, d)."""
    rows = places + tokens.shape[1] * rearrange(torch.arange(len(places), device=places.device), "b -> b 1")
    kept = rearrange(tokens, "b n d -> (b n) d").index_select(0, rearrange(rows, "b k -> (b k)"))  # five times as fast as gather
    return kept.unflatten(0, tuple(places.shape))


def keep_visible(tokens: Tensor, mask: Tensor) -> Tensor:
    """Drops the hidden tokens: (b, n, d) and (b, n) -> (b, k, d), order kept."""
    return at_places(tokens, visible_places(mask))


def put_back(visible: Tensor, mask: Tensor, fill: Tensor) -> Tensor:
    """The inverse of `keep_visible`: visible tokens at their places, `fill` at the hidden ones.

    visible: (b, k, d). mask: (b, n). fill: (d,). Returns (b, n, d).
    """
    whole = rearrange(fill, "d -> 1 1 d").to(visible.dtype).repeat(*mask.shape, 1)
    return whole.scatter(1, repeat(visible_places(mask), "b k -> b k d", d=visible.shape[2]), visible)
