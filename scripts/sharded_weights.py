"""What sharded weights save and cost: memory and seconds of a step, each way in processes of its own.

    OMP_NUM_THREADS=1 python scripts/sharded_weights.py --presets paper --out results/sharded_weights.json
    OMP_NUM_THREADS=1 python scripts/sharded_weights.py --presets large --only sharded

Every process holds the whole model ("replicated", DDP), or its part of it ("sharded", FSDP). The memory is what a process holds at most
in the steps after the first, beside what it held before there was a model; on a GPU what CUDA's allocator gives out. The seconds are those
of whole steps on noise; on a CPU the two ways are not timed in turn, so that on a busy machine they say little.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from mavil_edu import train
from mavil_edu.benchmarks.step import case_of
from mavil_edu.config import PRESETS, Config
from mavil_edu.footprint import footprint
from mavil_edu.hardware import MEGABYTE, Memory
from mavil_edu.launch import place, watch
from mavil_edu.processes import is_sharded, join, machine
from mavil_edu.stopwatch import wait_for

WAYS = {"replicated": False, "sharded": True}


def config_of(preset: str, way: str, rows: int) -> Config:
    """The preset with so many clips for each process. The batch of `case_of` is a process's own."""
    config = PRESETS[preset]()
    return replace(config, train=replace(config.train, batch=rows, accumulate=1, shard_weights=WAYS[way]))


def one_process(preset: str, way: str, rows: int, steps: int, out: Path) -> None:
    """What one process of several holds, and how long its steps take: written as `rank.json`."""
    train.keep_freed_memory = lambda: None  # what is freed is to go back to the system, or it would be counted
    device = join().device
    memory = Memory(device)
    before = memory.peak() if device.type == "cpu" else 0.0
    case = case_of(config_of(preset, way, rows), 1)
    case.whole()
    memory.reset()
    took = []
    for _ in range(steps):
        started = time.perf_counter()
        case.whole()
        wait_for(device)
        took.append(time.perf_counter() - started)
    held = sum((p.to_local() if is_sharded(case.fabric) else p).numel() for p in case.bare.parameters())
    answer = {"megabytes": memory.peak() - before, "weights": held, "seconds": median(took), "machine": machine(device)}
    (out / f"{place().rank}.json").write_text(json.dumps(answer))


def measure(preset: str, way: str, rows: int, steps: int, processes: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"MALLOC_MMAP_THRESHOLD_": "1000000", "MALLOC_TRIM_THRESHOLD_": "1000000"}  # bytes; glibc reads them as it starts
        arguments = ["--one", folder, "--presets", preset, "--only", way, "--rows", str(rows), "--steps", str(steps)]
        if status := watch([sys.executable, __file__, *arguments], processes):
            raise SystemExit(status)
        each = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(processes)]
    formula = footprint(config_of(preset, way, rows), rows, processes)
    return {"each": each, "formula_megabytes": formula.peak / MEGABYTE}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["paper"], choices=PRESETS)
    parser.add_argument("--only", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--rows", type=int, default=1, help="clips that each process has in a step")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        one_process(asked.presets[0], asked.only[0], asked.rows, asked.steps, asked.one)
        raise SystemExit(0)
    found = {
        preset: {way: measure(preset, way, asked.rows, asked.steps, asked.processes) for way in asked.only} for preset in asked.presets
    }
    answer = {"torch": torch.__version__, "processes": asked.processes, "rows": asked.rows, "steps": asked.steps, "presets": found}
    text = json.dumps(answer, indent=1)
    if asked.out:
        asked.out.write_text(text + "\n")
    print(text)
