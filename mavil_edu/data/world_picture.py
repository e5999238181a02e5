"""The generated world as pictures: a background, a floor, one object, and a mallet where it is struck."""

import math

import torch
from einops import rearrange
from torch import Tensor

from mavil_edu.data.factors import Factors, flight_height

FLOOR = 0.92  # height of the floor, from the top, in picture heights
SMALLEST, LARGEST = 0.15, 0.30  # radius of the object, in picture widths
MALLET = 0.07  # radius of its head
COLOURS = torch.tensor(  # of metal, wood, skin, glass, stone, string
    [[0.86, 0.86, 0.88], [0.95, 0.74, 0.22], [0.86, 0.26, 0.20], [0.30, 0.55, 0.92], [0.28, 0.66, 0.36], [0.72, 0.42, 0.82]]
)


def radius(factors: Factors) -> Tensor:
    """The object's radius in picture widths: (n,)."""
    return SMALLEST + (LARGEST - SMALLEST) * factors.size


def _wave(x: Tensor) -> Tensor:
    return 0.5 + 0.5 * torch.sin(2 * math.pi * x)


def _pick(index: Tensor, choices: list[Tensor]) -> Tensor:
    """Clip i gets choices[index[i]][i]."""
    rows = rearrange(index, "n -> n 1 1 1")
    return sum(torch.where(rows == i, choice, 0.0) for i, choice in enumerate(choices))


def _background(factors: Factors, x: Tensor, y: Tensor) -> Tensor:
    """(n, 1, 3, height, width): smooth patterns, so that a small picture looks like a large one seen from afar."""
    px, py = (rearrange(factors.phase[:, i], "n -> n 1 1 1") * 0.3 for i in (0, 1))
    u, v = x + px, y + py
    rings = ((u - 0.6) ** 2 + (v - 0.6) ** 2).sqrt()
    patterns = [_wave(4 * u + 0 * v), _wave(4 * v + 0 * u), _wave(3 * (u + v)), _wave(4 * u) * _wave(4 * v), v + 0 * u, _wave(6 * rings)]
    mix = rearrange(_pick(factors.background, patterns).clamp(0, 1), "n t h w -> n t 1 h w")
    dark, bright = (rearrange(colour, "n c -> n 1 c 1 1") for colour in (factors.dark, factors.bright))
    return dark + (bright - dark) * mix


def _texture(material: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Light and dark on the object's surface, in its own coordinates (−1 to 1): (n, t, h, w) in [0, 1]."""

    def bands(phase: Tensor) -> Tensor:
        return 0.5 + 0.5 * (2.5 * torch.sin(phase)).clamp(-1, 1)

    checks = 0.5 + 0.5 * (4 * torch.sin(4.5 * u) * torch.sin(4.5 * v)).clamp(-1, 1)
    rim = bands(7 * (u**2 + v**2).sqrt())
    return _pick(material, [bands(4 * (u + v)), bands(5 * u), torch.ones_like(u), checks, bands(5 * v), rim])


def _over(picture: Tensor, colour: Tensor, cover: Tensor) -> Tensor:
    """Paints `colour` over a picture (n, t, 3, h, w) where `cover` (n, t, h, w) is 1, mixed at its edges."""
    cover = rearrange(cover, "n t h w -> n t 1 h w")
    return picture + (colour - picture) * cover


def render_video(factors: Factors, times: Tensor, height: int, width: int) -> Tensor:
    """Draws n clips at any moments: times (t,) seconds -> (n, t, height, width, 3) uint8, edges anti-aliased."""
    n, t = len(factors), len(times)
    y = rearrange((torch.arange(height) + 0.5) / height, "h -> 1 1 h 1")
    x = rearrange((torch.arange(width) + 0.5) / width, "w -> 1 1 1 w")
    pixels = width  # an edge is one pixel soft

    up = flight_height(factors, times).float()
    struck = factors.struck[:, None]
    r = radius(factors)[:, None]
    moved = factors.drift[:, None] * (times - times.mean()).float()
    across = factors.place[:, None] + torch.where(struck, 0.0, moved)
    down = FLOOR - r - torch.where(struck, 0.0, up)
    rolled = torch.where(struck, 0.0, moved) / r  # a ball that drifts, turns
    mallet = torch.where(struck, down - r - MALLET - up, -1.0)  # out of sight where nothing is struck

    def wide(value: Tensor) -> Tensor:
        return rearrange(value.expand(n, t), "n t -> n t 1 1")

    picture = _background(factors, x, y).expand(n, t, 3, height, width)
    picture = _over(picture, torch.full((3, 1, 1), 0.12), ((y - FLOOR) * height + 0.5).clamp(0, 1).expand(n, t, height, width))

    u, v = (x - wide(across)) / wide(r), (y - wide(down)) / wide(r)
    cos, sin = wide(rolled.cos()), wide(rolled.sin())
    texture = _texture(factors.material, cos * u + sin * v, cos * v - sin * u)
    shade = (0.45 + 0.55 * texture) * (0.75 - 0.12 * u - 0.18 * v)
    colour = rearrange(COLOURS[factors.material], "n c -> n 1 c 1 1") * rearrange(shade, "n t h w -> n t 1 h w")
    picture = _over(picture, colour, ((1 - (u**2 + v**2).sqrt()) * wide(r) * pixels + 0.5).clamp(0, 1))

    dx, dy = x - wide(across), y - wide(mallet)
    head = ((MALLET - (dx**2 + dy**2).sqrt()) * pixels + 0.5).clamp(0, 1)
    stick = ((0.02 - dx.abs()) * pixels + 0.5).clamp(0, 1) * (-dy * pixels + 0.5).clamp(0, 1)
    picture = _over(picture, rearrange(torch.tensor([0.96, 0.90, 0.80]), "c -> c 1 1"), torch.maximum(head, stick))

    picture = picture * rearrange(factors.light, "n -> n 1 1 1 1")
    return rearrange((picture.clamp(0, 1) * 255).round().to(torch.uint8), "n t c h w -> n t h w c").contiguous()
