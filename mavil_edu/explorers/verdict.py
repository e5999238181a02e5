"""The verdict explorer: one difference of the lab's ledger, seed by seed, and what as many seeds allow to say of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ipywidgets import BoundedIntText, Layout

from mavil_edu.explorers.widgets import Explorer, Shown, choice
from mavil_edu.lab.claims import Claim
from mavil_edu.lab.ledger import Rows, paired_values
from mavil_edu.lab.pictures import seed_by_seed
from mavil_edu.lab.verdicts import LEAST, LEVEL, Expect, Interval, Verdict, difference, unpaired, verdict_of

PAIRED = {"seed by seed": True, "as two heaps": False}


@dataclass(frozen=True)
class Compared:
    """A deciding difference with its runs."""

    title: str
    expect: Expect
    least: float
    deciding: int  # differences that decide its claim together
    more: list[float]  # by seed: the arms that are added …
    less: list[float]  # … and those that are taken off


def compared(claims: Sequence[Claim], rows: Rows) -> list[Compared]:
    """Every deciding difference of these claims whose arms have two seeds or more in common."""
    found = []
    for claim in claims:
        deciding = [one for one in claim.differences if one.decides]
        for one in deciding:
            if len(seeds := list(paired_values(one, rows))) < 2:
                continue
            sides = [
                [sum(rows[name][s]["metrics"][one.metric] for by, name in one.terms if by * sign > 0) for s in seeds] for sign in (1, -1)
            ]
            found.append(Compared(f"{claim.name} · {one}", one.expect, LEAST[one.metric], len(deciding), *sides))
    return found


def judged(one: Compared, seeds: int, paired: bool) -> tuple[Interval, Verdict]:
    """What its first seeds allow to say: the interval at the claim's level, and the verdict by the lab's rule."""
    more, less = one.more[:seeds], one.less[:seeds]
    if paired or seeds < 2:
        found = difference([a - b for a, b in zip(more, less, strict=True)], one.deciding)
    else:
        found = unpaired(more, less, 1 - (1 - LEVEL) / one.deciding)
    return found, verdict_of(found, one.expect, one.least)


def verdict_explorer(claims: Sequence[Claim], rows: Rows, which: int = 0) -> Explorer:
    """Choose a difference, how many of its seeds count, and whether they are paired: see the interval and the verdict.

    claims, rows: the ledger's (`ledger.claims_named`, `ledger.rows_of`). which: the difference that is chosen first.
    Raises ValueError where no difference has two seeds.
    """
    if not (choices := compared(claims, rows)):
        raise ValueError("None of these claims has been run with two seeds; run mavil-edu reproduce first.")
    most = max(len(one.more) for one in choices)

    def show(which: int, seeds: int, paired: bool) -> Shown:
        one = choices[which]
        found, verdict = judged(one, min(seeds, len(one.more)), paired)
        ends = f"{found.low:+.1f} to {found.high:+.1f}" if math.isfinite(found.low) else "endless"
        how = "seed by seed" if paired else "as two heaps"
        close = 3 * one.least
        words = {"more": "more than 0", "close": f"within {close:g} of 0", "not worse": f"above −{close:g}", "equal": "no difference"}
        sentence = (
            f"Difference {which}, {one.title}. {found.seeds} {'seed' if found.seeds == 1 else 'seeds'}, {how}: mean {found.mean:+.1f}, "
            f"interval {ends}; expected: {words[one.expect]}; {verdict}."
        )
        picture = seed_by_seed(one.more[:seeds], one.less[:seeds], found, verdict, one.least, paired)
        return Shown(sentence, picture.png())

    narrow = Layout(width="13em")
    controls = {
        "which": BoundedIntText(value=which, min=0, max=len(choices) - 1, description="Difference", layout=narrow),
        "seeds": BoundedIntText(value=most, min=1, max=most, description="Seeds", layout=narrow),
        "paired": choice(PAIRED, True, "Compared"),
    }

    def move(name: str, by: int):
        def act() -> None:
            controls[name].value += by  # the field itself keeps to its limits

        return act

    buttons = {
        "◀ before": move("which", -1),
        "next ▶": move("which", 1),
        "a seed less": move("seeds", -1),
        "a seed more": move("seeds", 1),
    }
    return Explorer(controls, show, buttons)
