"""Kills training at random moments and resumes it until it ends: does it end as if nothing had happened? The numbers of docs/scaling.md.

    OMP_NUM_THREADS=1 python scripts/kill_and_resume.py --kills 50 --out results/kill_and_resume.json      # some ten minutes on two cores

A small model of the preset `tiny`'s inputs trains on a few generated clips, in one process and in two; checkpoints are as frequent as
they are slow, so that many kills fall into their writing. `kill -9` meets the run at a moment drawn evenly from the length of an
uninterrupted one, again and again until a part reaches the end. With two processes it meets both or one of them; the other then ends by
itself, or, where it still waits to meet the first, is stopped, as the command does it. Every run has to end with the weights, moments
and metrics of the uninterrupted one, bit for bit, each step logged once.
Processes are forked after the imports, so that a part takes seconds. Linux and macOS.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.utils.tensorboard  # noqa: F401, once for all processes

from mavil_edu.checkpoint import list_checkpoints, versions
from mavil_edu.config import Config, TransformerConfig, tiny
from mavil_edu.data.batch import evaluation_batch
from mavil_edu.data.world import World
from mavil_edu.evaluate import HeldOut, position_means
from mavil_edu.files import write_json
from mavil_edu.launch import CAUSE, GRACE, free_port, variables
from mavil_edu.train import train


def config_of(steps: int) -> Config:
    base = tiny()
    model = replace(base.model, encoder=TransformerConfig(48, 1, 3), decoder=TransformerConfig(32, 1, 2), fusion_depth=1, projection=48)
    return replace(base, model=model, train=replace(base.train, steps=steps, batch=8, save_every=2, evaluate_every=4))


def part(rank: int, ranks: int, config: Config, clips: World, held_out: HeldOut, run: Path, port: int) -> None:
    """One process of one part of a run; ends with status 0 where the run is complete."""
    os.environ |= variables(rank, ranks, port) if ranks > 1 else {}
    log = os.open(run.with_suffix(f".{rank}.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    status = 1
    try:
        train(config, clips, held_out if rank == 0 else None, run, resume=run.exists())
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def ended(children: dict[int, int], until: float) -> dict[int, int]:
    """The statuses of the processes that have ended by then, by rank; those are taken out of `children`, rank -> process."""
    found = {}
    while children and time.monotonic() < until:
        for rank, child in list(children.items()):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                found[rank] = status
                del children[rank]
        time.sleep(0.002)
    return found


def attempt(start, ranks: int, after: float | None, victims: list[int]) -> tuple[bool, float]:
    """Runs one part and kills the victims so many seconds after its start; whether it was killed, and how long the others lived on.

    Raises SystemExit where a process fails by itself.
    """
    children, began = {}, time.monotonic()
    for rank in range(ranks):
        children[rank] = os.fork()
        if children[rank] == 0:
            start(rank)
    found = ended(children, began + (600 if after is None else after))
    if after is None or not children:
        if children or any(found.values()):
            raise SystemExit(f"A process failed by itself: {found}.")
        return False, 0.0
    killed = time.monotonic()
    struck = [children[rank] for rank in victims if rank in children]
    for child in struck:
        os.kill(child, signal.SIGKILL)
    for number, wait in ((signal.SIGTERM, CAUSE), (signal.SIGKILL, GRACE)):  # as `mavil-edu pretrain --processes` watches its own
        ended(children, time.monotonic() + wait)
        for child in children.values():
            os.kill(child, number)
    ended(children, time.monotonic() + GRACE)
    return bool(struck), time.monotonic() - killed


def content(run: Path) -> dict:
    """All that has to be the same: the bytes of the model and of the newest checkpoint, and the metrics but for the clock."""
    newest = list_checkpoints(run / "checkpoints")[-1]
    files = {f"{newest.name}/{name}": (newest / f"{name}.safetensors").read_bytes() for name in ("model", "optimiser", "random")}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
    return files | {"model": (run / "model" / "model.safetensors").read_bytes(), "metrics": rows}


def state(run: Path) -> dict:
    """What a kill left behind."""
    rows = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []
    saved = list_checkpoints(run / "checkpoints")
    half = [path.name.split(".")[1] for path in (*run.glob(".*"), *(run / "checkpoints").glob(".*"))]
    return {
        "steps_logged": sum("held_out" not in row for row in rows),
        "newest_checkpoint": saved[-1].name if saved else None,
        "half_written": sorted(half),
    }


def campaign(ranks: int, kills: int, work, place: Path, dice: random.Random) -> dict:
    """Runs, each killed again and again until a part of it reaches the end, until there were so many kills."""
    whole = place / f"whole-{ranks}"
    began = time.monotonic()
    attempt(partial(work, ranks=ranks, run=whole, port=free_port()), ranks, None, [])
    length, wanted = time.monotonic() - began, content(whole)
    runs, told, differing = 0, [], []
    while len(told) < kills:
        run, going = place / f"run-{ranks}-{runs}", True
        while going:
            after, victims = dice.uniform(0, length), dice.choice([list(range(ranks)), [0], [ranks - 1]])
            last = len(told) >= kills  # enough: this part may end
            start = partial(work, ranks=ranks, run=run, port=free_port())
            going, lived_on = attempt(start, ranks, None if last else after, victims)
            if going:
                one = {"run": runs, "seconds": round(after, 3), "killed": victims, "others_lived_seconds": round(lived_on, 3)}
                told.append(one | state(run))
        found = content(run)
        differing += [f"run {runs}: {name}" for name in wanted if found.get(name) != wanted[name]]
        differing += [f"run {runs}: {path.name} was left" for path in (*run.glob(".*"), *(run / "checkpoints").glob(".*"))]
        shutil.rmtree(run)
        runs += 1
        print(f"{ranks} processes: {len(told)} of {kills} kills in {runs} runs, {len(differing)} differences", file=sys.stderr, flush=True)
    return {
        "processes": ranks,
        "kills": len(told),
        "runs": runs,
        "differences": differing,
        "uninterrupted_seconds": round(length, 2),
        "kills_before_the_first_checkpoint": sum(one["newest_checkpoint"] is None for one in told),
        "kills_while_writing": sum(bool(one["half_written"]) for one in told),
        "longest_life_of_those_left_alone_seconds": max(one["others_lived_seconds"] for one in told),
        "left_alone_and_stopped": sum(one["others_lived_seconds"] > CAUSE for one in told),
        "each": told,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="for each number of processes")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="a JSON file for the result")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = config_of(arguments.steps)
    clips, others = (World(count, seed, config.model, config.train.augment, quiet=True) for count, seed in ((20, 1), (8, 2)))
    batch, _, _ = evaluation_batch(others, len(others))
    means, _, _ = evaluation_batch(clips, len(clips))
    held_out = HeldOut(batch, position_means(means, config.model, torch.device("cpu")), config.model, config.objective)
    with tempfile.TemporaryDirectory() as place:
        work, dice = partial(part, config=config, clips=clips, held_out=held_out), random.Random(arguments.seed)
        found = [campaign(ranks, arguments.kills, work, Path(place), dice) for ranks in arguments.processes]
    result = {"steps": arguments.steps, "seed": arguments.seed, "machine": platform.machine(), "versions": versions(), "campaigns": found}
    if arguments.out:
        write_json(arguments.out, result)
    print(json.dumps([{name: value for name, value in one.items() if name != "each"} for one in found], indent=1))
    return 1 if any(one["differences"] for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
