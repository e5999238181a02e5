"""What an exercise and a quiz question are made of."""

import inspect
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from mavil_edu import solutions

LETTERS = "abcdefg"


class Case(NamedTuple):
    """One call on which an answer is tried."""

    arguments: tuple
    label: str  # the arguments in a few words: "noise (2, 8) float32, visible = 3"


def describe(value: Any) -> str:
    """A value in a few words: a tensor by its shape and type, a function by its name, anything else as it is written."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return value.__name__ if callable(value) else f"= {value!r}"


def normal(generator: Generator, *shape: int) -> Tensor:
    """Normally distributed numbers."""
    return torch.randn(*shape, generator=generator)


def uniform(generator: Generator, *shape: int) -> Tensor:
    """Numbers between 0 and 1."""
    return torch.rand(*shape, generator=generator)


def mask_of(generator: Generator, rows: int, tokens: int, hidden: int) -> Tensor:
    """A mask that hides `hidden` tokens in each row."""
    return torch.rand(rows, tokens, generator=generator).argsort(dim=1).argsort(dim=1) < hidden


@dataclass(frozen=True)
class Exercise:
    """A function for the learner to write, and all that is needed to judge it."""

    name: str  # of the function, and of its solution in solutions.py
    lesson: str  # number of the notebook: "01"
    minutes: int  # that it takes
    difficulty: int  # 1 to 3
    task: str  # what to write, in a sentence or two
    draw: Callable[[Generator], Sequence[tuple]]  # the arguments of each case
    hints: tuple[str, ...]  # each tells more than the one before
    wrong: dict[str, Callable]  # what the learner misunderstood -> the answer that shows it
    alternative: Callable  # another right answer, for the tests
    tolerance: float = 1e-5  # relative and absolute, for floating-point numbers

    @property
    def reference(self) -> Callable:
        return getattr(solutions, self.name)

    @property
    def source(self) -> str:
        """The solution as it is written."""
        return inspect.getsource(self.reference).rstrip()

    @property
    def header(self) -> str:
        """The exercise in a line of a lesson: `name`, minutes, difficulty, and the task."""
        minutes = "1 minute" if self.minutes == 1 else f"{self.minutes} minutes"
        return f"**Exercise `{self.name}`** ({minutes}, difficulty {self.difficulty} of 3). {self.task}"

    def cases(self) -> list[Case]:
        """The same cases each time: their seed follows from the name."""
        names = list(inspect.signature(self.reference).parameters)
        drawn = self.draw(torch.Generator().manual_seed(zlib.crc32(self.name.encode())))
        return [Case(values, ", ".join(f"{n} {describe(v)}" for n, v in zip(names, values, strict=True))) for values in drawn]


@dataclass(frozen=True)
class Quiz:
    """A question with choices, one of them right."""

    name: str
    lesson: str
    question: str
    choices: tuple[tuple[str, str], ...]  # each with what is to be said of it when it is chosen
    right: str  # its letter

    @property
    def letters(self) -> str:
        return LETTERS[: len(self.choices)]
