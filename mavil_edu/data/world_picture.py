"""The generated world as pictures: a background, a floor, silent clutter, objects that sound, and a mallet where one is struck."""

import math
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from mavil_edu.data.factors import Factors, flight_height

FLOOR = 0.92  # height of the floor, from the top, in picture heights
SMALLEST, LARGEST = 0.14, 0.28  # radius of the object, in picture widths
FRAMES_AT_ONCE = 16
MALLET = 0.07  # radius of its head
SWING = 0.42  # how far the mallet rises, over a bouncing object's height: it stays in the picture above the largest object
BEHIND, SHRUNK = 0.14, 0.6  # how much higher a second object's floor is, and its size over that of one in front
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
    px, py = (rearrange(factors.phase[:, i] * 0.3 + 0.5 * factors.camera[:, i], "n -> n 1 1 1") for i in (0, 1))  # far: it moves less
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


def _disc(x: Tensor, y: Tensor, across: Tensor, down: Tensor, r: Tensor | float, pixels: int) -> Tensor:
    """1 inside a disc, 0 outside, mixed over the pixel at its edge."""
    return ((r - ((x - across) ** 2 + (y - down) ** 2).sqrt()) * pixels + 0.5).clamp(0, 1)


def _with_clutter(picture: Tensor, factors: Factors, x: Tensor, y: Tensor) -> Tensor:
    """Discs of one colour that stand still and are silent."""
    pan, tilt = (rearrange(factors.camera[:, i], "n -> n 1 1 1") for i in (0, 1))
    for shape in factors.clutter.unbind(dim=1):
        across, down, r = (rearrange(shape[:, i], "n -> n 1 1 1") for i in range(3))
        cover = _disc(x, y, across - pan, down - tilt, r, picture.shape[-1])
        picture = _over(picture, rearrange(shape[:, 3:], "n c -> n 1 c 1 1"), cover.expand(*picture.shape[:2], -1, -1))
    return picture


class Placed(NamedTuple):
    """Where an object is at each moment: its middle and radius, across in picture widths, down in picture heights from the top."""

    across: Tensor  # (n, t)
    down: Tensor  # (n, t)
    radius: Tensor  # (n, 1): the same at every moment


def _moved(factors: Factors, times: Tensor, middle: Tensor) -> Tensor:
    """How far a bouncing object has drifted sideways since `middle`: (n, t) picture widths; 0 for one that is struck."""
    return torch.where(factors.struck[:, None], 0.0, factors.drift[:, None] * (times - middle).float())


def _placed(factors: Factors, camera: Tensor, times: Tensor, middle: Tensor, behind: bool) -> Placed:
    """camera: (n, 2) the picture's, which a companion has not of its own."""
    scale, floor = (SHRUNK, FLOOR - BEHIND) if behind else (1.0, FLOOR)
    r = scale * radius(factors)[:, None]
    up = torch.where(factors.struck[:, None], 0.0, scale * flight_height(factors, times).float())
    return Placed(factors.place[:, None] + _moved(factors, times, middle) - camera[:, :1], floor - r - up - camera[:, 1:], r)


def object_place(factors: Factors, times: Tensor) -> Placed:
    """Where the sounding object is in the picture, the mallet not counted: times (t,) seconds -> middle and radius.

    Of two objects the one in front, whose causes are asked for. `times` must be those of the drawn frames: a drift is measured from
    their mean.
    """
    return _placed(factors, factors.camera, times, times.mean(), behind=False)


def _coordinates(height: int, width: int) -> tuple[Tensor, Tensor]:
    """The middles of the pixels: x (1, 1, 1, w) in picture widths, y (1, 1, h, 1) in picture heights."""
    y = rearrange((torch.arange(height) + 0.5) / height, "h -> 1 1 h 1")
    x = rearrange((torch.arange(width) + 0.5) / width, "w -> 1 1 1 w")
    return x, y


def object_mask(factors: Factors, times: Tensor, height: int, width: int) -> Tensor:
    """Which pixels show the sounding object: (n, t, height, width) bool, True where its disc covers half of the pixel or more.

    What a mallet's stick covers of it counts as the object. Arguments as `object_place` and `render_video` take them.
    """
    place = object_place(factors, times)
    across, down, r = (rearrange(value.expand(-1, len(times)), "n t -> n t 1 1") for value in place)
    return _disc(*_coordinates(height, width), across, down, r, width) >= 0.5


def _with_object(
    picture: Tensor, factors: Factors, camera: Tensor, lamp: Tensor, times: Tensor, middle: Tensor, x: Tensor, y: Tensor, behind: bool
) -> Tensor:
    """The object, and the mallet where one strikes it: a picture (n, t, 3, h, w) -> the same with them in it."""
    n, t, pixels = len(factors), len(times), picture.shape[-1]
    scale, struck = SHRUNK if behind else 1.0, factors.struck[:, None]
    across, down, r = _placed(factors, camera, times, middle, behind)
    rolled = _moved(factors, times, middle) / r  # a ball that drifts, turns
    swing = SWING * scale * flight_height(factors, times).float()
    mallet = torch.where(struck, down - r - scale * MALLET - swing, -1.0)  # out of sight where nothing is struck

    def wide(value: Tensor) -> Tensor:
        return rearrange(value.expand(n, t), "n t -> n t 1 1")

    u, v = (x - wide(across)) / wide(r), (y - wide(down)) / wide(r)
    cos, sin = wide(rolled.cos()), wide(rolled.sin())
    texture = _texture(factors.material, cos * u + sin * v, cos * v - sin * u)
    shade = (0.45 + 0.55 * texture) * (0.75 + 0.14 * rearrange(lamp, "n -> n 1 1 1") * u - 0.18 * v)
    colour = rearrange(COLOURS[factors.material], "n c -> n 1 c 1 1") * rearrange(shade, "n t h w -> n t 1 h w")
    picture = _over(picture, colour, _disc(x, y, wide(across), wide(down), wide(r), pixels))

    head = _disc(x, y, wide(across), wide(mallet), scale * MALLET, pixels)
    stick = ((scale * 0.02 - (x - wide(across)).abs()) * pixels + 0.5).clamp(0, 1) * ((wide(mallet) - y) * pixels + 0.5).clamp(0, 1)
    return _over(picture, rearrange(torch.tensor([0.96, 0.90, 0.80]), "c -> c 1 1"), torch.maximum(head, stick))


def render_video(factors: Factors, times: Tensor, height: int, width: int) -> Tensor:
    """Draws n clips at any moments: times (t,) seconds -> (n, t, height, width, 3) uint8, edges anti-aliased.

    Films are drawn a few frames at a time: what one frame takes while it is drawn is some thirty times what is left of it.
    """
    parts = [_render_video(factors, part, times.mean(), height, width) for part in times.split(FRAMES_AT_ONCE)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _render_video(factors: Factors, times: Tensor, middle: Tensor, height: int, width: int) -> Tensor:
    n, t = len(factors), len(times)
    x, y = _coordinates(height, width)
    floor = rearrange((FLOOR if factors.companion is None else FLOOR - BEHIND) - factors.camera[:, 1], "n -> n 1 1 1")

    picture = _background(factors, x, y).expand(n, t, 3, height, width)
    picture = _over(picture, torch.full((3, 1, 1), 0.12), ((y - floor) * height + 0.5).clamp(0, 1).expand(n, t, height, width))
    picture = _with_clutter(picture, factors, x, y)
    if factors.companion is not None:
        picture = _with_object(picture, factors.companion, factors.camera, factors.lamp, times, middle, x, y, behind=True)
    picture = _with_object(picture, factors, factors.camera, factors.lamp, times, middle, x, y, behind=False)

    picture = picture * rearrange(factors.light, "n -> n 1 1 1 1")
    return rearrange((picture.clamp(0, 1) * 255).round().to(torch.uint8), "n t c h w -> n t h w c").contiguous()
