"""How hard the generated world is."""

from dataclasses import dataclass
from typing import Literal

DifficultyName = Literal["easy", "default", "hard"]


@dataclass(frozen=True)
class Difficulty:
    """What stands between a learner and the causes; all numbers are our choice."""

    objects: int  # that sound: 1, or 2, of which the second stands behind, smaller and softer, and is not asked for
    clutter: int  # shapes that stand about and make no sound
    irregular: float  # share of each flight's length that is its own: 0 beats time like a clock, 1 has no beat at all
    ambience: tuple[float, float]  # dB of the background sound's RMS below full scale, negative: softest and loudest


DIFFICULTIES: dict[DifficultyName, Difficulty] = {
    "easy": Difficulty(objects=1, clutter=0, irregular=0.0, ambience=(-64, -46)),
    "default": Difficulty(objects=1, clutter=0, irregular=0.1, ambience=(-54, -36)),
    "hard": Difficulty(objects=2, clutter=4, irregular=1.0, ambience=(-42, -24)),
}
