"""The command that tests the paper's claims: reproduce."""

import os
from pathlib import Path
from typing import Literal

import tyro

from mavil_edu.commands.common import say


def reproduce(
    claims: tyro.conf.Positional[tuple[str, ...]] = (),
    budget: Literal["quick", "standard", "long"] = "standard",
    workers: int | None = None,
    seeds: int | None = None,
    split: Literal["test", "validation"] = "test",
    out: Path = Path("results/reproduction"),
    work: Path = Path("runs/reproduction"),
    docs: Path = Path("docs"),
    report: bool = False,
    page: bool = True,
    list: bool = False,
) -> int:
    """Test what MAViL claims at small scale: every claim with seeds, controls, an interval and a verdict by a rule fixed before.

    Example: mavil-edu reproduce fusion inter --workers 4
    Goes on where it was stopped: each finished run is a file. AV-MNIST is taken from $MAVIL_DATA/av_mnist.

    Args:
        claims: Names of claims; none for all. --list shows them.
        budget: quick proves nothing, but shows in minutes that all runs; standard is 600 steps a run and tells its minutes first.
        workers: Processes at a time, of one thread each; by default as many as there are cores.
        seeds: In place of the budget's; a claim is judged on all of them.
        split: validation, for choices; test, for the ledger.
        out: Where rows and verdicts go, as JSON.
        work: Where models and generated clips are kept.
        docs: Where the page goes.
        report: Write the page from what is there, and run nothing.
        page: Write it also after a run. A quick run, and one of
            validation clips, writes its page beside its results.
        list: Show the claims.
    """
    from mavil_edu.lab.claims import LEDGER, OPTIONS

    if list:
        print("\n".join(f"{claim.name}: {claim.says}" for claim in (LEDGER | OPTIONS).values()))
        return 0
    results = out / (budget if split == "test" else f"{budget}-validation")
    place = docs if budget != "quick" and split == "test" else results
    if report:
        from mavil_edu.lab.page import write_page

        print(write_page(results, place))
        return 0
    from mavil_edu.lab.reproduce import reproduce as run

    data = os.environ.get("MAVIL_DATA")
    av_mnist = Path(data) / "av_mnist" if data else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    options = {"out": out, "work": work, "av_mnist": av_mnist, "seeds": seeds, "split": split}
    found, failed = run([*claims], budget, workers=cores if workers is None else workers, **options)
    quick = " (quick: proves nothing)" if budget == "quick" else ""
    for name, claim in found.items():
        print(f"{name}: {claim['verdict']}{quick}. {claim['says']}")
    if page:
        from mavil_edu.lab.page import write_page

        say(f"The page: {write_page(results, place)}")
    for name, reason in failed.items():
        say(f"failed: {name}: {reason}")
    return 1 if failed else 0
