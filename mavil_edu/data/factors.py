"""The causes of the generated world: what is drawn for each clip, and when and how fast things strike.

*Shared* causes are seen and heard alike: material, size, whether an object bounces or is struck, and each impact's time and speed.
*Seen only*: background, light, place and sideways motion. *Heard only*: noise and its level, microphone gain. Each is drawn
independently of every other.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mavil_edu.data.loader import generator_for

MATERIALS = ("metal", "wood", "skin", "glass", "stone", "string")
BACKGROUNDS = ("upright stripes", "level stripes", "slanted stripes", "dots", "gradient", "rings")
NOISES = ("white", "low", "hissing")
SHARED = ("material", "size", "struck", "gaps", "first")
SEEN_ONLY = ("background", "phase", "dark", "bright", "light", "place", "drift")
HEARD_ONLY = ("noise", "noise_level", "gain", "noise_seed")

SHORTEST_FLIGHT, LONGEST_FLIGHT = 0.28, 0.83  # seconds between two impacts
GRAVITY = 6.6  # picture heights a second²: a flight of 0.83 s rises 0.57 of the picture


@dataclass(frozen=True)
class Factors:
    """The causes of n clips; each field's first axis is the clip."""

    material: Tensor  # (n,) long, index into MATERIALS
    size: Tensor  # (n,) from 0 (small, high) to 1 (large, low)
    struck: Tensor  # (n,) bool: a mallet strikes the object; else the object bounces
    first: Tensor  # (n,) seconds, time of the first impact, at or before 0
    gaps: Tensor  # (n, impacts) seconds from each impact to the next
    background: Tensor  # (n,) long, index into BACKGROUNDS
    phase: Tensor  # (n, 2) in [0, 1): where the camera cuts the background pattern
    dark: Tensor  # (n, 3) the pattern's darker colour, RGB in [0, 1]
    bright: Tensor  # (n, 3) its brighter one
    light: Tensor  # (n,) brightness of the whole picture, 0.75 to 1.15
    place: Tensor  # (n,) the object's middle across, 0.25 to 0.75 of the width
    drift: Tensor  # (n,) widths a second, sideways, of a bouncing object
    noise: Tensor  # (n,) long, index into NOISES
    noise_level: Tensor  # (n,) dB of the noise's RMS below full scale, negative
    gain: Tensor  # (n,) dB of the microphone, 0 or negative
    noise_seed: Tensor  # (n,) long

    def __len__(self) -> int:
        return len(self.material)

    def __getitem__(self, rows: slice) -> "Factors":
        """Some of the clips."""
        return Factors(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def sample_factors(n: int, seed: int, seconds: float = 2.56, first: int = 0) -> Factors:
    """Draws the causes of clips `first` to `first + n − 1` of a world; clip i of a seed is the same whatever n.

    seconds: length of the clips; impacts are drawn until past the end.
    """
    impacts = math.ceil((seconds + LONGEST_FLIGHT) / SHORTEST_FLIGHT) + 1
    u = torch.stack([torch.rand(24 + impacts, generator=generator_for(seed, 7, i), dtype=torch.float64) for i in range(first, first + n)])
    u, gaps = u[:, :24], SHORTEST_FLIGHT + (LONGEST_FLIGHT - SHORTEST_FLIGHT) * u[:, 24:]

    def one_of(column: int, names: tuple[str, ...]) -> Tensor:
        return (u[:, column] * len(names)).long()

    return Factors(
        material=one_of(0, MATERIALS),
        size=u[:, 1].float(),
        struck=u[:, 2] < 0.5,
        first=-u[:, 3] * gaps[:, 0],
        gaps=gaps,
        background=one_of(4, BACKGROUNDS),
        phase=u[:, 5:7].float(),
        dark=(0.15 + 0.30 * u[:, 7:10]).float(),
        bright=(0.35 + 0.35 * u[:, 10:13]).float(),
        light=(0.75 + 0.40 * u[:, 13]).float(),
        place=(0.25 + 0.50 * u[:, 14]).float(),
        drift=(0.20 * (u[:, 15] - 0.5)).float(),
        noise=one_of(16, NOISES),
        noise_level=(-52 + 20 * u[:, 17]).float(),
        gain=(-12 * u[:, 18]).float(),
        noise_seed=(u[:, 19] * 2**31).long(),
    )


def impact_times(factors: Factors) -> Tensor:
    """When things strike, in seconds from the clip's start: (n, impacts + 1), the first at or before 0, the last past the end."""
    return torch.cat([factors.first[:, None], factors.first[:, None] + factors.gaps.cumsum(dim=1)], dim=1)


def impact_speeds(factors: Factors) -> Tensor:
    """How fast, in picture heights a second: (n, impacts + 1); a flight of length T ends at speed GRAVITY · T / 2.

    The flight before the first impact is as long as the one after it.
    """
    return GRAVITY / 2 * torch.cat([factors.gaps[:, :1], factors.gaps], dim=1)


def flight_height(factors: Factors, times: Tensor) -> Tensor:
    """How high the bouncing object (or the striking mallet) is above its contact: (t,) seconds -> (n, t) picture heights.

    Between two impacts it flies freely, so the height is a parabola that is 0 at both.
    """
    impacts = impact_times(factors)
    flight = (times[None, :, None] >= impacts[:, None, :]).sum(dim=-1) - 1
    flight = flight.clamp(0, factors.gaps.shape[1] - 1)
    since, gap = times - impacts.gather(1, flight), factors.gaps.gather(1, flight)
    return (GRAVITY / 2 * since * (gap - since)).clamp(min=0)


def labels(factors: Factors) -> dict[str, list]:
    """The causes by name, ready for a table: one list of n values each; impacts as text, seconds within the clip."""
    table = {
        "material": [MATERIALS[i] for i in factors.material.tolist()],
        "size": [round(v, 4) for v in factors.size.tolist()],
        "event": ["struck" if s else "bouncing" for s in factors.struck.tolist()],
        "background": [BACKGROUNDS[i] for i in factors.background.tolist()],
        "noise": [NOISES[i] for i in factors.noise.tolist()],
    }
    for name in ("light", "place", "drift", "noise_level", "gain"):
        table[name] = [round(v, 4) for v in getattr(factors, name).tolist()]
    return table
