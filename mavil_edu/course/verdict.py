"""What is known of an answer; without torch, so that what only reads verdicts starts at once."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "wrong", "error", "not attempted", "timed out"]


@dataclass(frozen=True)
class Verdict:
    """How an answer to an exercise does."""

    name: str
    status: Status
    message: str  # for the learner, of one or more lines
    misconceptions: tuple[str, ...] = ()  # the sentences of the known wrong answers that it equals
