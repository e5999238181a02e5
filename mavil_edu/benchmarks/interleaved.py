"""Several ways of doing the same, timed in turn: a machine that others use too is then as busy for each of them."""

import time
from collections.abc import Callable, Sequence
from statistics import median, quantiles
from typing import NamedTuple

import torch

from mavil_edu.stopwatch import wait_for


class Took(NamedTuple):
    """The seconds of each call of one way, in the order of the rounds."""

    wall: list[float]
    cpu: list[float]  # of this process, all threads together; of what a device or another process computes it says nothing


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median and the quartiles of one value or more."""
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return {"median": median(values), "low": low, "high": high}


def interleaved(ways: dict[str, Callable[[], object]], rounds: int, device: torch.device | None = None) -> dict[str, Took]:
    """Times every way once a round, each round beginning with the next one; a first call of each is not counted.

    rounds: 1 or more. device: that computes on its own and is waited for. Returns the seconds by way.
    """
    took, names = {name: Took([], []) for name in ways}, list(ways)
    for act in ways.values():
        act()
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            wait_for(device or torch.device("cpu"))
            started, used = time.perf_counter(), time.process_time()
            ways[name]()
            wait_for(device or torch.device("cpu"))
            took[name].wall.append(time.perf_counter() - started)
            took[name].cpu.append(time.process_time() - used)
    return took


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """The median and the quartiles of two ways' times over each other, round by round."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


def told(values: dict[str, float], digits: int = 2) -> str:
    """A median with its quartiles as text."""
    return f"{values['median']:.{digits}f} ({values['low']:.{digits}f}–{values['high']:.{digits}f})"
