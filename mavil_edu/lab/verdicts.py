"""What a few paired differences allow to say: the lab's statistics and its rule, fixed before any run."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["holds", "does not hold", "undecided", "not run"]
Expect = Literal["more", "close", "not worse", "equal"]
LEVEL = 0.95  # of a claim's intervals together: each of m deciding differences has 1 − 0.05 / m
MOST_FALSE = 0.08  # share of null comparisons in which a difference may be found
LEAST = {  # the smallest difference of interest, in points of the metric, and three times it what still counts as close
    "skill": 1.0,
    "skill_audio": 1.0,
    "skill_video": 1.0,
    "skill_fused": 1.0,
    "retrieval": 2.0,
    "overall": 1.0,
    "reconstruction": 1.0,
    "accuracy": 1.0,
}
CLOSE = 3.0


@dataclass(frozen=True)
class Interval:
    """A mean difference and its interval by Student's t over seeds."""

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def found(self) -> bool:
        """Whether it lies on one side of 0."""
        return self.low > 0 or self.high < 0


def interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """The mean of paired differences, and half the width of its interval by Student's t; the latter NaN for a single value.

    Raises ValueError without values.
    """
    from scipy.stats import t

    if not values:
        raise ValueError("An interval needs one difference or more.")
    if len(values) < 2:
        return values[0], math.nan
    half = float(t.ppf(0.5 + level / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), half


def difference(values: Sequence[float], deciding: int = 1) -> Interval:
    """The interval of one of `deciding` differences of a claim, corrected by Bonferroni; it is endless for a single seed."""
    mean, half = interval(values, 1 - (1 - LEVEL) / deciding)
    half = math.inf if math.isnan(half) else half
    return Interval(mean, mean - half, mean + half, len(values))


def unpaired(one: Sequence[float], other: Sequence[float], level: float = LEVEL) -> Interval:
    """The interval of a difference of means as if nothing paired the runs (Welch's): what is lost without common seeds.

    Raises ValueError for fewer than two runs of either.
    """
    from scipy.stats import ttest_ind

    if min(len(one), len(other)) < 2:
        raise ValueError(f"There are {len(one)} and {len(other)} runs; two or more of each are needed.")
    low, high = ttest_ind(one, other, equal_var=False).confidence_interval(level)
    return Interval(statistics.mean(one) - statistics.mean(other), float(low), float(high), min(len(one), len(other)))


def verdict_of(found: Interval, expect: Expect, least: float) -> Verdict:
    """One difference against what was expected of it.

    "more": it holds where the interval lies above 0 and the mean reaches `least`; it does not hold where the whole interval lies below
    `least`. "close": it holds where the interval lies within 3 · least of 0, and does not where it lies wholly outside. "not worse": as
    "close", but only what lies below counts. "equal", for a null arm: it does not hold where the interval leaves 0 out, else it does.
    """
    if not math.isfinite(found.low):
        return "undecided"
    if expect == "equal":
        return "does not hold" if found.found else "holds"
    if expect == "close":
        within = CLOSE * least
        if -within < found.low and found.high < within:
            return "holds"
        return "does not hold" if found.low > within or found.high < -within else "undecided"
    if expect == "not worse":
        worst = -CLOSE * least
        return "holds" if found.low > worst else "does not hold" if found.high < worst else "undecided"
    if found.high < least:
        return "does not hold"
    return "holds" if found.low > 0 and found.mean >= least else "undecided"


def verdict_of_all(verdicts: Sequence[Verdict]) -> Verdict:
    """A claim's verdict: it holds where every deciding difference does, and does not where one does not."""
    for one in ("not run", "does not hold", "undecided"):
        if one in verdicts:
            return one
    return "holds" if verdicts else "not run"


def false_findings(values: Sequence[float], seeds: int = 5, repetitions: int = 1000, seed: int = 0) -> float:
    """How often a difference is found where there is none: two groups of `seeds` of the same recipe's runs, drawn anew and paired.

    values: one metric of runs that differ in their seeds alone; each repetition deals 2 · seeds of them, without replacement.
    Raises ValueError where there are fewer.
    """
    if len(values) < 2 * seeds:
        raise ValueError(f"Two groups of {seeds} need {2 * seeds} runs of one recipe, and there are {len(values)}.")
    random, found = np.random.default_rng(seed), 0
    for _ in range(repetitions):
        one, other = random.permutation(values)[: 2 * seeds].reshape(2, seeds)
        found += difference((one - other).tolist()).found
    return found / repetitions
