"""`mavil-edu reproduce`: the runs that claims need are counted, timed, made and judged."""

import sys
import time
from dataclasses import replace
from pathlib import Path

from mavil_edu.data.avmnist import is_avmnist
from mavil_edu.lab.arms import BUDGETS, QUICK_LABEL, TRAINING, Arm, Budget, BudgetName, Split, config_of
from mavil_edu.lab.claims import ARMS, Claim
from mavil_edu.lab.ledger import LEDGER_FILE, Result, claims_named, judge, judge_all, rows_of, with_needs, with_seeds, write_ledger
from mavil_edu.lab.measure import Job, Place, asked_clips, run_job, training_clips
from mavil_edu.lab.workers import Task, run_all
from mavil_edu.progress import ProgressBar

SCORING = 30.0  # seconds for 6 looks and the probes at the standard sizes, a guess until runs are there
STARTING = 8.0  # seconds until a worker has imported what it needs


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def jobs_of(claims: list[Claim], budget: Budget, split: Split, place: Place, arms: dict[str, Arm] | None = None) -> list[Job]:
    """The runs that claims need, each once however many claims share it; all arms of a seed before the next seed."""
    arms = arms or ARMS
    jobs: dict[Path, Job] = {}
    for seed in range(budget.seeds * max((claim.seeds for claim in claims), default=1)):
        wanting = [claim for claim in claims if seed < budget.seeds * claim.seeds]
        names = with_needs(list(dict.fromkeys(name for claim in wanting for name in claim.arms)), arms)
        needed = {arms[name].needs for name in names} - {None}
        for name in names:
            job = Job(arms[name], seed, budget, split, arms, place, name in needed)
            jobs[job.row] = replace(job, keep=job.keep or (job.row in jobs and jobs[job.row].keep))
    return list(jobs.values())


def to_make(jobs: list[Job]) -> list[Job]:
    """The jobs without a row, and those that they build on whose weights are gone (rows are kept for good, weights are not)."""
    wanted = {job.row for job in jobs if not job.done}
    for job in reversed(jobs):  # whoever is needed stands before those that need it
        if job.row in wanted and job.arm.needs and not (needed := job.other(job.arm.needs)).model.exists():
            wanted.add(needed.row)
    return [job for job in jobs if job.row in wanted]


def without_data(claims: list[Claim], place: Place) -> tuple[list[Claim], dict[str, str]]:
    """The claims that can be run here, and of the others why not."""
    there = place.av_mnist is not None and is_avmnist(place.av_mnist)
    missing = [claim for claim in claims if not there and any(ARMS[name].data == "av_mnist" for name in claim.arms)]
    why = "AV-MNIST is not here: set MAVIL_DATA to the folder that holds av_mnist"
    return [claim for claim in claims if claim not in missing], {claim.name: why for claim in missing}


def seconds_a_step(budget: Budget) -> float:
    """Of the full model in this process, by a few steps on a few generated clips."""
    import torch

    from mavil_edu.data.loader import training_steps
    from mavil_edu.data.world import World
    from mavil_edu.mavil import MAViL
    from mavil_edu.train import make_fabric, set_up, update

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        config = config_of(ARMS["full"], budget)
        clips = World(64, TRAINING + 1000, config.model, config.train.augment, quiet=True)
        fabric = make_fabric(config)
        model, optimiser = set_up(fabric, MAViL(config), config.train)
        ends = []
        for step, data in zip(range(6), training_steps(clips, min(config.train.batch, 64), 0), strict=False):
            update(fabric, model, optimiser, data, config, 0, step)
            ends.append(time.perf_counter())
        return (ends[-1] - ends[0]) / (len(ends) - 1)
    finally:
        torch.set_num_threads(threads)


def minutes_for(jobs: list[Job], each: float, workers: int) -> float:
    """How long runs take, from the seconds of one step; scoring is a guess from the number of clips."""
    total = STARTING * workers
    for job in jobs:
        clips = job.budget.asked + job.budget.fitted
        total += SCORING * clips / 2500 + 1.0
        if job.arm.kind == "trained":
            total += each * config_of(job.arm, job.budget).train.steps
        elif job.arm.kind == "labels":
            total += each * job.budget.label_steps
    return total / workers / 60


def reproduce(
    names: list[str],
    budget_name: BudgetName,
    *,
    out: Path,
    work: Path,
    av_mnist: Path | None,
    workers: int,
    seeds: int | None = None,
    split: Split = "test",
) -> tuple[dict, dict[str, str]]:
    """Makes the runs that are missing, judges the claims, and writes rows and ledger below `out`; also which runs failed, and why.

    names: of claims; none for all. out, work: where rows stay, and where models and clips are kept for the next call.
    Raises ValueError with a sentence where a name or a number cannot be.
    """
    if workers < 1:
        raise ValueError(f"--workers is {workers}; give 1 or more.")
    budget = with_seeds(BUDGETS[budget_name], seeds)
    place = Place(out / (budget.name if split == "test" else f"{budget.name}-validation"), work / budget.name, av_mnist)
    rows_place = replace(place, rows=place.rows / "rows")
    asked = claims_named(names)
    claims, left_out = without_data(asked, place)
    for name, why in left_out.items():
        say(f"{name}: not run. {why}.")
    if not budget.proves:
        say(QUICK_LABEL)
    jobs = jobs_of(claims, budget, split, rows_place)
    failed = _run(jobs, budget, workers)
    digests = {name: Job(arm, 0, budget, split, ARMS, rows_place, False).digest for name, arm in ARMS.items()}
    rows = rows_of(rows_place.rows, digests) if rows_place.rows.exists() else {}
    results = judge_all(rows, budget.seeds, {claim.name for claim in asked})  # also claims of earlier calls
    ledger = write_ledger(place.rows / LEDGER_FILE, results, budget, split, rows, failed)
    chosen = {claim.name for claim in asked}
    return {name: one for name, one in ledger["claims"].items() if name in chosen}, failed


def try_claim(claim: Claim, arms: dict[str, Arm], budget: Budget, place: Place, *, workers: int = 1, split: Split = "validation") -> Result:
    """A claim of one's own: makes the runs that it lacks, without a word, and judges it by the lab's rule.

    arms: the lab's (`claims.ARMS`) and one's own, by name. place: where rows, models and clips stay for the next call; not where the
    lab's are. Raises ValueError with the reason of the first run that failed.
    """
    jobs, reasons = jobs_of([claim], budget, split, place, arms), []

    def told(task: Task, row: dict | None, reason: str | None) -> None:
        if reason:
            reasons.append(f"{task.what}: {reason}")

    run_all(_tasks(to_make(jobs)), run_job, workers, told)
    if reasons:
        raise ValueError(reasons[0])
    return judge(claim, rows_of(place.rows, {job.arm.name: job.digest for job in jobs}), budget.seeds)


def _tasks(jobs: list[Job]) -> list[Task]:
    return [Task(job.row.stem, job, () if job.arm.needs is None else (job.other(job.arm.needs).row.stem,)) for job in jobs]


def _run(jobs: list[Job], budget: Budget, workers: int) -> dict[str, str]:
    """Makes the runs that are not done; by name, why one failed."""
    missing = to_make(jobs)
    say(f"{len(jobs)} runs are needed, of which {len(jobs) - len(missing)} are done; {workers} at a time.")
    if not missing:
        return {}
    expected = minutes_for(missing, seconds_a_step(budget), workers)
    say(f"About {expected:.0f} minutes are to come, by a short measurement." if expected >= 1.5 else "About a minute or two is to come.")
    for data in {job.arm.data for job in missing if job.arm.kind != "labels"} - {"av_mnist"}:
        one = next(job for job in missing if job.arm.data == data)
        _clips(one)  # before several runs ask for them at once
    failed = {}
    with ProgressBar("runs", len(jobs), len(jobs) - len(missing)) as bar:

        def told(task: Task, row: dict | None, reason: str | None) -> None:
            if reason:
                failed[str(task.what)] = reason
                bar.say(f"{task.what}: failed. {reason}")
            label = "" if budget.proves else " (quick: proves nothing)"
            bar.update(bar.done + 1, f"{task.what}{label}")

        run_all(_tasks(missing), run_job, workers, told)
    return failed


def _clips(job: Job) -> None:
    config = config_of(job.arm, job.budget)
    training_clips(job, config)
    asked_clips(job, config)
