"""Fixed sine-cosine positions for a grid with any number of axes."""

import torch
from einops import pack, rearrange
from torch import Tensor


def sincos_positions(grid: tuple[int, ...], width: int) -> Tensor:
    """A position vector for every place of a grid, with a first row of zeros for the class token.

    Each axis gets an equal, even share of the width: sines and cosines of its coordinate at wavelengths from 2π to 10,000 · 2π.
    What the width leaves over (width is not always a multiple of 2 · axes) stays 0.

    grid: sizes of the axes, such as (t, f) or (t, h, w). width: numbers in a vector, at least 2 per axis.
    Returns (1 + n, width) float32, places in row-major order. Source: MAE's 2-D table, carried to any number of axes;
    the class token's zero row as there.
    Raises ValueError where the width is too small for the axes.
    """
    frequencies = width // (2 * len(grid))
    if frequencies == 0:
        raise ValueError(f"A width of {width} is too small for positions on {len(grid)} axes; use {2 * len(grid)} or more.")
    with torch.device("cpu"):  # wherever the model is built, so that the numbers are the same
        omega = 10_000.0 ** -(torch.arange(frequencies, dtype=torch.float64) / frequencies)
        axes = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in grid), indexing="ij")
        angles = [rearrange(axis, "... -> (...) 1") * omega for axis in axes]
        table, _ = pack([part for angle in angles for part in (angle.sin(), angle.cos())], "n *")
    positions = torch.zeros(1 + len(table), width)
    positions[1:, : table.shape[1]] = table.float()
    return positions
