"""Throws damaged and hostile input at the package and tells what breaks. The numbers of docs/robustness.md.

    MAVIL_DATA=… python scripts/fuzz.py --out results/fuzz.json      # or: make fuzz
    python scripts/fuzz.py --only media --case 1234 --keep damaged   # one case again, by its number alone; its input is kept

A case's number decides all of it: which source, what damage. Each runs in a process of its own making, which may crash, hang or take
all memory without harm. Claims: no crash, no case over 10 s, no more than 1 GiB of memory, no value that is not finite or beyond its
range, no damage that the decoder noticed and the package kept to itself, no silent sample handed to training, no error that is not one
sentence of the package. Without $MAVIL_DATA only media made from data_samples are damaged, and numbers of media cases mean other files.
Linux only (it reads /proc).
"""

import argparse
import fcntl
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

import torch
from fuzzing.pool import PEAK, SECONDS, campaign, measured

from mavil_edu.checkpoint import versions
from mavil_edu.files import write_json

FAMILIES = ("media", "shards", "lists", "configs", "checkpoints", "arguments")
MOST_TOLD = 40  # cases with faults that the result lists, of each family


def kind_of(fault: str) -> str:
    """The claim that a fault refutes: its first word."""
    return fault.partition(":")[0]


def one_family(name: str, cases: list[int] | None, part: tuple[int, int], place: Path, show: bool) -> dict:
    """Runs a family's cases, or every so many of them; the counts of what became of them, and the faults."""
    family = import_module(f"fuzzing.{name}")
    folder = place / name
    folder.mkdir()
    context = family.prepare(folder)
    cases = list(range(family.CASES)) if cases is None else cases
    cases = cases[part[0] :: part[1]]
    began, outcomes, faults, told, slowest, peak = time.monotonic(), Counter(), Counter(), [], (0.0, -1), (0, -1)
    each = campaign(lambda case: family.run(case, context), cases, place / f"{name}.log")
    with suppress(KeyboardInterrupt):  # what was done by then counts
        for done, (case, found) in enumerate(each, start=1):
            outcomes[found.outcome] += 1
            faults.update({kind_of(fault) for fault in found.faults})
            slowest, peak = max(slowest, (found.seconds, case)), max(peak, (found.peak, case))
            if found.faults:
                told.append({"case": case, "mutation": found.mutation, "faults": found.faults})
                print(f"{name} {case}: {found.mutation}\n    " + "\n    ".join(found.faults[:4]), file=sys.stderr, flush=True)
            if show:
                print(json.dumps(found.__dict__, indent=1))
            if done % 250 == 0:
                print(f"{name}: {done} of {len(cases)}, {sum(faults.values())} faults", file=sys.stderr, flush=True)
    return {
        "cases": sum(outcomes.values()),
        "outcomes": dict(sorted(outcomes.items())),
        "faults": dict(sorted(faults.items())),
        "seconds": round(time.monotonic() - began, 1),
        "slowest": {"seconds": slowest[0], "case": slowest[1]},
        "most_memory": {"megabytes": peak[0] >> 20, "case": peak[1]},
        "each": told[:MOST_TOLD],
    }


def added(one: dict, other: dict) -> dict:
    """The result of two parts of a family."""
    both = other | {name: one[name] + other[name] for name in ("cases", "seconds", "each")}
    both |= {name: dict(sorted((Counter(one[name]) + Counter(other[name])).items())) for name in ("outcomes", "faults")}
    both["slowest"] = max(one["slowest"], other["slowest"], key=lambda found: found["seconds"])
    both["most_memory"] = max(one["most_memory"], other["most_memory"], key=lambda found: found["megabytes"])
    return both | {"command": f"{one['command']}; {other['command']}"}


@contextmanager
def locked(path: Path) -> Iterator[dict]:
    """What a result's file holds by now, while nobody else may write it: families may be run apart."""
    with Path(f"{path}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    Path(f"{path}.lock").unlink(missing_ok=True)


def keep_input(name: str, case: int, place: Path) -> int:
    """Runs a case in this process with its input left in a folder; 1 where it refutes a claim."""
    family = import_module(f"fuzzing.{name}")
    place.mkdir(parents=True)
    context = family.prepare(place)
    found = measured(lambda number: family.run(number, context, keep=True), case)
    print(json.dumps(found.__dict__, indent=1))
    return 1 if found.faults else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=FAMILIES, nargs="+", default=FAMILIES)
    parser.add_argument("--case", type=int, help="one case of one family")
    parser.add_argument("--cases", type=int, help="the first so many of each family, in place of all")
    parser.add_argument("--part", type=int, nargs=2, metavar=("I", "N"), help="cases I, I + N, …; in --out it is added to the other parts")
    parser.add_argument("--keep", type=Path, help="with --case: a new folder in which its input is left; the case then runs unguarded")
    parser.add_argument("--out", type=Path, help="a JSON file for the result; families in it that are not run now are kept")
    arguments = parser.parse_args()
    if arguments.case is not None and len(arguments.only) != 1:
        parser.error("--case needs --only and one family")
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    if arguments.keep is not None:
        return keep_input(arguments.only[0], arguments.case, arguments.keep)
    cases = [arguments.case] if arguments.case is not None else None if arguments.cases is None else list(range(arguments.cases))
    with tempfile.TemporaryDirectory() as place:
        found = {
            name: one_family(name, cases, arguments.part or (0, 1), Path(place), arguments.case is not None) for name in arguments.only
        }
    origin = {
        "command": " ".join(["python", "scripts/fuzz.py", *sys.argv[1:]]),
        "real_clips": bool(os.environ.get("MAVIL_DATA")),
        "machine": platform.machine(),
        "versions": versions(),
    }
    if arguments.out:
        with locked(arguments.out) as stored:
            stored["limits"] = {"seconds": SECONDS, "megabytes": PEAK >> 20}
            families = stored.setdefault("families", {})
            for name, one in found.items():
                families[name] = added(families[name], one | origin) if arguments.part and name in families else one | origin
            write_json(arguments.out, stored)
    print(json.dumps({name: {k: v for k, v in one.items() if k != "each"} for name, one in found.items()}, indent=1))
    return 1 if any(one["faults"] for one in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
