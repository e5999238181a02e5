"""What commands share: how they speak, and the presets by name."""

import sys
from typing import Literal

Preset = Literal["tiny", "tiny-squares", "digits", "small", "paper", "large"]


def say(text: str) -> None:
    """A line for the person at the terminal; standard output is kept for answers that a program may read."""
    print(text, file=sys.stderr, flush=True)
