"""The causes of the generated world: what is drawn for each clip, and when and how fast things strike.

*Shared* causes are seen and heard alike: material, size, whether an object bounces or is struck, and each impact's time and speed.
*Seen only*: background, camera, lighting, clutter, place and sideways motion. *Heard only*: the background sound and its level, the
room, the microphone's gain. Each is drawn independently of every other.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mavil_edu.data.difficulty import DIFFICULTIES, Difficulty, DifficultyName
from mavil_edu.data.loader import generator_for

MATERIALS = ("metal", "wood", "skin", "glass", "stone", "string")
BACKGROUNDS = ("upright stripes", "level stripes", "slanted stripes", "dots", "gradient", "rings")
AMBIENCES = ("steady", "pulsing", "rising", "falling")
SHARED = ("material", "size", "struck", "gaps", "first")
SEEN_ONLY = ("background", "phase", "dark", "bright", "light", "lamp", "camera", "clutter", "place", "drift")
HEARD_ONLY = ("ambience", "ambience_level", "ambience_start", "room", "gain", "noise_seed")

SHORTEST_FLIGHT, LONGEST_FLIGHT = 0.42, 0.95  # seconds between two impacts
GRAVITY = 4.6  # picture heights a second²: the longest flight rises half of the picture, the shortest a tenth


@dataclass(frozen=True)
class Factors:
    """The causes of n clips; each field's first axis is the clip."""

    material: Tensor  # (n,) long, index into MATERIALS
    size: Tensor  # (n,) from 0 (small, high) to 1 (large, low)
    struck: Tensor  # (n,) bool: a mallet strikes the object; else the object bounces
    first: Tensor  # (n,) seconds, time of the first impact, at or before 0
    gaps: Tensor  # (n, impacts) seconds from each impact to the next: a beat of the clip's own, more or less kept
    background: Tensor  # (n,) long, index into BACKGROUNDS
    phase: Tensor  # (n, 2) in [0, 1): where the background pattern begins
    dark: Tensor  # (n, 3) the pattern's darker colour, RGB in [0, 1]
    bright: Tensor  # (n, 3) its brighter one
    light: Tensor  # (n,) brightness of the whole picture, 0.75 to 1.15
    lamp: Tensor  # (n,) the side that the light comes from, -1 (left) to 1 (right)
    camera: Tensor  # (n, 2) how far it points to the right and downwards, picture widths and heights
    clutter: Tensor  # (n, shapes, 6) middle across and down, radius, RGB colour
    place: Tensor  # (n,) the object's middle across, 0.3 to 0.7 of the width
    drift: Tensor  # (n,) widths a second, sideways, of a bouncing object
    ambience: Tensor  # (n,) long, index into AMBIENCES
    ambience_level: Tensor  # (n,) dB of the background sound's RMS below full scale, negative
    ambience_start: Tensor  # (n,) in [0, 1): where its cycle begins
    room: Tensor  # (n,) from 0 (dry) to 1 (a hall)
    gain: Tensor  # (n,) dB of the microphone, 0 or negative
    noise_seed: Tensor  # (n,) long, of the noise and of the room's echoes
    companion: "Factors | None" = None  # a second object that sounds; of its causes only the shared ones and its place are used

    def __len__(self) -> int:
        return len(self.material)

    def __getitem__(self, rows: slice) -> "Factors":
        """Some of the clips."""
        return Factors(**{f.name: value if (value := getattr(self, f.name)) is None else value[rows] for f in fields(self)})


def _uniform(numbers: int, seed: int, stream: int, clips: range) -> Tensor:
    """(n, numbers) float64 in [0, 1); clip i's row depends on the seed, the stream and i alone."""
    return torch.stack([torch.rand(numbers, generator=generator_for(seed, stream, i), dtype=torch.float64) for i in clips])


def _draw(seed: int, stream: int, seconds: float, difficulty: Difficulty, clips: range) -> Factors:
    impacts = math.ceil((seconds + LONGEST_FLIGHT) / SHORTEST_FLIGHT) + 1
    u = _uniform(28 + impacts, seed, stream, clips)
    own = difficulty.irregular
    gaps = SHORTEST_FLIGHT + (LONGEST_FLIGHT - SHORTEST_FLIGHT) * (own * u[:, 28:] + (1 - own) * u[:, 25:26])

    def one_of(column: int, names: tuple[str, ...]) -> Tensor:
        return (u[:, column] * len(names)).long()

    def between(column: int, low: float, high: float) -> Tensor:
        return (low + (high - low) * u[:, column]).float()

    shapes = _uniform(6 * difficulty.clutter, seed, stream + 1, clips).unflatten(1, (difficulty.clutter, 6)).float()
    low = torch.tensor([0.0, 0.1, 0.05, 0.15, 0.15, 0.15])
    high = torch.tensor([1.0, 0.85, 0.11, 0.75, 0.75, 0.75])
    return Factors(
        material=one_of(0, MATERIALS),
        size=u[:, 1].float(),
        struck=u[:, 2] < 0.5,
        first=-u[:, 3] * gaps[:, 0],
        gaps=gaps,
        background=one_of(4, BACKGROUNDS),
        phase=u[:, 5:7].float(),
        dark=(0.10 + 0.25 * u[:, 7:10]).float(),
        bright=(0.45 + 0.30 * u[:, 10:13]).float(),
        light=between(13, 0.75, 1.15),
        lamp=between(14, -1, 1),
        camera=torch.stack([between(15, -0.08, 0.08), between(16, -0.04, 0.04)], dim=1),
        clutter=low + (high - low) * shapes,
        place=between(17, 0.3, 0.7),
        drift=between(18, -0.1, 0.1),
        ambience=one_of(19, AMBIENCES),
        ambience_level=between(20, *difficulty.ambience),
        ambience_start=u[:, 21].float(),
        room=u[:, 22].float(),
        gain=between(23, -12, 0),
        noise_seed=(u[:, 24] * 2**31).long(),
    )


def sample_factors(n: int, seed: int, seconds: float = 2.56, first: int = 0, difficulty: DifficultyName = "default") -> Factors:
    """Draws the causes of clips `first` to `first + n − 1` of a world; clip i of a seed is the same whatever n.

    seconds: length of the clips; impacts are drawn until past the end. difficulty: one of DIFFICULTIES, else ValueError.
    """
    if difficulty not in DIFFICULTIES:
        raise ValueError(f"There is no difficulty {difficulty!r}; choose one of {', '.join(DIFFICULTIES)}.")
    level, clips = DIFFICULTIES[difficulty], range(first, first + n)
    factors = _draw(seed, 7, seconds, level, clips)
    if level.objects == 1:
        return factors
    return Factors(**{f.name: getattr(factors, f.name) for f in fields(Factors)} | {"companion": _draw(seed, 9, seconds, level, clips)})


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


def impacts_within(factors: Factors, seconds: float) -> list[list[float]]:
    """Each clip's impacts from its start to its end, in seconds."""
    return [[t for t in row if 0 <= t < seconds] for row in impact_times(factors).tolist()]


def labels(factors: Factors, seconds: float = 2.56) -> dict[str, list]:
    """The causes by name, ready for a table or a probe: one list of n values each; text is a class, a number a quantity."""
    table = {
        "material": [MATERIALS[i] for i in factors.material.tolist()],
        "size": [round(v, 4) for v in factors.size.tolist()],
        "event": ["struck" if s else "bouncing" for s in factors.struck.tolist()],
        "beat": [round(v, 4) for v in factors.gaps.mean(dim=1).tolist()],
        "background": [BACKGROUNDS[i] for i in factors.background.tolist()],
        "ambience": [AMBIENCES[i] for i in factors.ambience.tolist()],
    }
    for name in ("light", "lamp", "place", "drift", "ambience_level", "room", "gain"):
        table[name] = [round(v, 4) for v in getattr(factors, name).tolist()]
    table["camera"] = [round(v, 4) for v in factors.camera[:, 0].tolist()]
    return table
