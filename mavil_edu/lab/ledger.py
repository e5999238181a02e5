"""The whole lab: which runs a ledger of claims needs, what they gave, and the verdicts that follow by the rule."""

import json
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mavil_edu.files import write_json
from mavil_edu.lab.arms import QUICK_LABEL, Arm, Budget, Split, command_line
from mavil_edu.lab.claims import ARMS, LEDGER, OPTIONS, Claim, Difference
from mavil_edu.lab.verdicts import LEAST, MOST_FALSE, Interval, Verdict, difference, false_findings, verdict_of, verdict_of_all

LEDGER_FILE = "ledger.json"
Rows = dict[str, dict[int, dict]]  # by arm, by seed


def claims_named(names: Sequence[str]) -> list[Claim]:
    """The claims of these names, or all of the ledger. Raises ValueError for a name that is none's."""
    known = LEDGER | OPTIONS
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"There is no claim {unknown[0]!r}; choose from {', '.join(known)}.")
    return [known[name] for name in names or LEDGER]


def with_needs(names: Sequence[str], arms: dict[str, Arm]) -> list[str]:
    """Arms and all that they need, the needed ones first, each once."""
    found: dict[str, None] = {}
    for name in names:
        if arms[name].needs:
            found |= dict.fromkeys(with_needs([arms[name].needs], arms))
        found[name] = None
    return list(found)


@dataclass(frozen=True)
class Judged:
    """One difference of a claim, and what was found."""

    difference: Difference
    found: Interval | None  # None: not run
    means: dict[str, float]  # of each arm, over the seeds that count
    verdict: Verdict


@dataclass(frozen=True)
class Result:
    """One claim, judged."""

    claim: Claim
    differences: tuple[Judged, ...]
    verdict: Verdict
    controls: dict[str, dict[str, float]]  # by control, its metrics' means
    why: str = ""


def paired_values(one: Difference, rows: Rows) -> dict[int, float]:
    """By seed, the signed sum of a difference's arms; only seeds that every arm has."""
    seeds = set.intersection(*(set(rows.get(name, {})) for name in one.arms))
    return {s: sum(sign * rows[name][s]["metrics"][one.metric] for sign, name in one.terms) for s in sorted(seeds)}


def judge(claim: Claim, rows: Rows, seeds: int) -> Result:
    """A claim by the rule; "not run" while one of its arms lacks a seed.

    seeds: the budget's, of which a claim may take several times as many. Those beyond are left out, so that nobody adds seeds until a
    claim holds.
    """
    seeds *= claim.seeds
    deciding = sum(one.decides for one in claim.differences)
    judged = []
    for one in claim.differences:
        values = {seed: value for seed, value in paired_values(one, rows).items() if seed < seeds}
        if len(values) < seeds:
            judged.append(Judged(one, None, {}, "not run"))
            continue
        found = difference(list(values.values()), deciding if one.decides else 1)
        means = {name: sum(rows[name][s]["metrics"][one.metric] for s in values) / len(values) for name in one.arms}
        judged.append(Judged(one, found, means, verdict_of(found, one.expect, LEAST[one.metric])))
    controls = {}
    for name in claim.controls:
        some = [row["metrics"] for seed, row in rows.get(name, {}).items() if seed < seeds]
        if some:
            controls[name] = {metric: sum(one[metric] for one in some) / len(some) for metric in some[0]}
    return Result(claim, tuple(judged), verdict_of_all([one.verdict for one in judged if one.difference.decides]), controls)


def judge_all(rows: Rows, seeds: int, asked: Collection[str] = ()) -> list[Result]:
    """Every claim of the ledger, and of those on options the ones that are asked for or have been run."""
    options = [judge(claim, rows, seeds) for claim in OPTIONS.values()]
    kept = [one for one in options if one.claim.name in asked or one.verdict != "not run"]
    return [judge(claim, rows, seeds) for claim in LEDGER.values()] + kept


def read_rows(folder: Path) -> list[dict]:
    """Every finished run in a folder. Raises ValueError for a file that is no row."""
    found = []
    for file in sorted(folder.glob("*.json")):
        try:
            row = json.loads(file.read_text(encoding="utf-8"))
            found.append({key: row[key] for key in ("arm", "seed", "digest", "metrics")} and row)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is no run of the lab ({error}); remove it, and it is run again.") from error
    return found


def rows_of(folder: Path, digests: dict[str, str]) -> Rows:
    """The rows that are those of these arms (name to digest) today; those of other recipes are left out."""
    by_digest: dict[str, dict[int, dict]] = defaultdict(dict)
    for row in read_rows(folder):
        by_digest[row["digest"]][row["seed"]] = row
    return {name: by_digest[one] for name, one in digests.items() if one in by_digest}


def null_rates(rows: Rows, seeds: int) -> dict[str, float]:
    """By metric, how often 1,000 null comparisons, dealt from the real runs of one recipe, find a difference; the bar is 8 %.

    The recipe is that of the null claim: its arms' rows together.
    """
    pool = [row["metrics"] for name in ("full", "full, other seeds") for row in rows.get(name, {}).values()]
    if len(pool) < 2 * seeds:
        return {}
    return {name: false_findings([one[name] for one in pool], seeds) for name in pool[0] if all(name in one for one in pool)}


def write_ledger(file: Path, results: Sequence[Result], budget: Budget, split: Split, rows: Rows, failed: dict[str, str]) -> dict:
    """Verdicts with all that they rest on, as JSON."""
    stored = {
        "command": command_line(),
        "budget": asdict(budget),
        "proves": budget.proves,
        "note": "" if budget.proves else QUICK_LABEL,
        "split": split,
        "seeds": budget.seeds,
        "smallest differences": LEAST,
        "claims": {
            result.claim.name: {
                "says": result.claim.says,
                "source": result.claim.source,
                "hypothesis": result.claim.hypothesis,
                "verdict": result.verdict,
                "differences": [
                    {
                        "what": str(one.difference),
                        "metric": one.difference.metric,
                        "held": one.difference.held,
                        "decides": one.difference.decides,
                        "expect": one.difference.expect,
                        "verdict": one.verdict,
                        "means": one.means,
                        **(asdict(one.found) if one.found else {}),
                    }
                    for one in result.differences
                ],
                "controls": result.controls,
            }
            for result in results
        },
        "null rates": {"bar": MOST_FALSE, "found": null_rates(rows, budget.seeds)},
        "failed": failed,
        "runs": sum(map(len, rows.values())),
        "minutes": round(sum(row["seconds"] for some in rows.values() for row in some.values()) / 60, 1),
        "written": time.strftime("%Y-%m-%d"),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, _finite(stored))
    return stored


def _finite(value):
    """JSON knows no infinity: an endless interval has None at its ends."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and abs(value) == float("inf") else value


def with_seeds(budget: Budget, seeds: int | None) -> Budget:
    """A budget with another number of seeds. Raises ValueError for less than one."""
    if seeds is None:
        return budget
    if seeds < 1:
        raise ValueError(f"--seeds is {seeds}; give 1 or more (a verdict needs 2, and the ledger's are made with 5).")
    return replace(budget, seeds=seeds)


__all__ = ["ARMS", "LEDGER_FILE", "claims_named", "judge", "null_rates", "read_rows", "rows_of", "with_needs", "with_seeds", "write_ledger"]
