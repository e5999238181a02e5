"""Masks: the only place where their randomness lives, and where tokens are dropped by a mask and put back.

A mask is boolean, (b, n), True where a token is hidden, with the same count in each row. Which order tokens stand in follows
from the mask alone, by a stable argsort: kept tokens keep their order, and a mask that hides nothing changes nothing.
"""

import torch
from einops import rearrange, repeat
from torch import Generator, Tensor


def visible_count(tokens: int, ratio: float) -> int:
    """How many of `tokens` random masking leaves visible: tokens − round(tokens · ratio), exact at every ratio in [0, 1]."""
    if not 0 <= ratio <= 1:
        raise ValueError(f"The mask ratio is {ratio}; it must lie between 0 (nothing hidden) and 1 (all hidden).")
    return tokens - round(tokens * ratio)


def random_mask(rows: int, tokens: int, ratio: float, generator: Generator | None = None) -> Tensor:
    """Hides a random set of tokens in each row, every set of that size being equally likely.

    Returns (rows, tokens) bool on the CPU, True = hidden, `visible_count(tokens, ratio)` False in each row.
    The paper's masking, at ratio 0.8 for both modalities (recalled; Audio-MAE's for sound).
    """
    rank = torch.rand(rows, tokens, generator=generator).argsort(dim=1).argsort(dim=1)
    return rank >= visible_count(tokens, ratio)


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


def keep_visible(tokens: Tensor, mask: Tensor) -> Tensor:
    """Drops the hidden tokens: (b, n, d) and (b, n) -> (b, k, d), order kept."""
    return tokens.gather(1, repeat(visible_places(mask), "b k -> b k d", d=tokens.shape[2]))


def put_back(visible: Tensor, mask: Tensor, fill: Tensor) -> Tensor:
    """The inverse of `keep_visible`: visible tokens at their places, `fill` at the hidden ones.

    visible: (b, k, d). mask: (b, n). fill: (d,). Returns (b, n, d).
    """
    whole = rearrange(fill, "d -> 1 1 d").to(visible.dtype).repeat(*mask.shape, 1)
    return whole.scatter(1, repeat(visible_places(mask), "b k -> b k d", d=visible.shape[2]), visible)
