"""Runs every lesson on a CUDA machine, with its cells for GPUs and at its GPU budgets, and compares its verdicts: `make test-gpu`.

    python scripts/gpu_lessons.py                          # all lessons, one after another
    python scripts/gpu_lessons.py --only 06 10 --out results/gpu_lessons.json
    python scripts/gpu_lessons.py --dry --only 10          # a rehearsal: the same cells on the CPU, at the CPU budget

A verdict is what a cell says before ": yes" or ": no", in its text or in its picture's sentence. Numbers change with the budget; verdicts
may not: each has to come out as it is stored in the notebook, but for those in MAY_IMPROVE, which more training may turn into a yes. Cells
tagged nbval-skip have nothing stored; what they say has to be yes. A lesson that asks for CUDA has to have used its memory.

Exit code 0: all as stored; 1: a lesson fails or says otherwise; 2: there is no CUDA device, or no such lesson.
"""

import argparse
import json
import os
import re
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
SAID = re.compile(r"([^\n;]*?):\s+(yes|no)\b")
MAY_IMPROVE = ("by four fifths", "when", "half of what could be known")  # lessons 04 and 05: too much for the minutes of a CPU
ASKS_FOR_CUDA = "torch.cuda.is_available()"  # what a cell with a budget of its own for GPUs holds
MEMORY = "import torch\nprint(torch.cuda.max_memory_allocated())"  # the most that a lesson has used
NO_CUDA = "There is no CUDA device here that torch can use; run this on a machine that has one, or rehearse on the CPU: --dry."


class Verdict(NamedTuple):
    """What is claimed, less its numbers, and whether it holds."""

    claim: str
    word: str


def verdicts_of(cell: nbformat.NotebookNode) -> list[Verdict]:
    """The verdicts that a cell's outputs hold, in their order."""
    said = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", [])]
    return [Verdict(re.sub(r"\d([\d.,]*\d)?", "…", claim).strip(), word) for text in said for claim, word in SAID.findall("".join(text))]


def tags_of(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def differences(stored: nbformat.NotebookNode, run: nbformat.NotebookNode) -> tuple[list[str], int]:
    """How the verdicts of a run differ from the stored ones, in sentences; and how many verdicts there were."""
    told, count = [], 0
    for number, (before, now) in enumerate(zip(stored.cells, run.cells, strict=False)):
        if before.cell_type != "code" or "nbval-ignore-output" in tags_of(before):
            continue
        found, wanted = verdicts_of(now), verdicts_of(before)
        count += len(found)
        if "nbval-skip" in tags_of(before):
            told += [f"cell {number}: {one.claim}: {one.word}" for one in found if one.word == "no"]
        elif [one.claim for one in found] != [one.claim for one in wanted]:
            told.append(f"cell {number} says {[one.claim for one in found]} and not {[one.claim for one in wanted]}")
        else:
            pairs = [(was, one) for was, one in zip(wanted, found, strict=True) if was.word != one.word]
            told += [
                f"cell {number}: {one.claim}: {one.word}, stored is {was.word}"
                for was, one in pairs
                if one.word == "no" or one.claim not in MAY_IMPROVE
            ]
    return told, count


def execute(path: Path, limit: float, dry: bool) -> tuple[nbformat.NotebookNode, nbformat.NotebookNode, str, int]:
    """A lesson as stored and as it comes out here, no cell left out; how it failed ("" if it did not); bytes of CUDA that it used."""
    stored = nbformat.read(path, as_version=4)
    run = deepcopy(stored)
    for cell in run.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    run.cells.append(nbformat.v4.new_code_cell("print(0)" if dry else MEMORY))
    client = NotebookClient(run, timeout=limit, kernel_name="python3", resources={"metadata": {"path": NOTEBOOKS}}, coalesce_streams=True)
    try:
        client.execute()
    except CellTimeoutError:
        return stored, run, f"a cell is not done after {limit:g} s", 0
    except DeadKernelError:
        return stored, run, "the kernel died; has it used up the memory?", 0
    except CellExecutionError as error:
        return stored, run, re.sub(r"\x1b\[[\d;]*m", "", str(error)).strip()[-2000:], 0
    return stored, run, "", int(run.cells[-1].outputs[0].text)


def lesson(path: Path, limit: float, dry: bool) -> dict:
    """One lesson: its status (as stored, differs, failed), seconds, verdicts, and what is to be said of it."""
    started = time.monotonic()
    stored, run, failed, used = execute(path, limit, dry)
    told, count = ([failed], 0) if failed else differences(stored, run)
    asks = any(ASKS_FOR_CUDA in cell.source for cell in stored.cells if cell.cell_type == "code")
    if not failed and not dry and asks and not used:
        told.append("it asks for CUDA, and has used none of its memory")
    status = "failed" if failed else "differs" if told else "as stored"
    answer = {"status": status, "seconds": round(time.monotonic() - started, 1), "verdicts": count, "cuda_megabytes": used >> 20}
    print(f"{path.stem}: {status}, {count} verdicts, {answer['seconds']} s", *told, sep="\n    ", flush=True)
    return answer | {"told": told}


def prepare(dry: bool) -> None:
    """The environment that kernels get."""
    os.environ |= {"MAVIL_EDU_PROGRESS": "", "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    if dry:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if dry or any((ROOT / "runs" / name).exists() for name in ("digits", "tenth")):
        os.environ.pop("MAVIL_DATA", None)  # lesson 09 would train on its recordings for long, and writes over no run


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="first letters of lessons; all by default")
    parser.add_argument("--dry", action="store_true", help="a rehearsal on the CPU, at the CPU budget")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds for one cell")
    parser.add_argument("--out", type=Path, help="a JSON file for all that was found")
    asked = parser.parse_args(arguments)
    paths = [path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")) if not asked.only or path.stem.startswith(tuple(asked.only))]
    if not paths:
        print(f"No lesson begins with {' or '.join(asked.only)}.", file=sys.stderr)
        return 2
    if not asked.dry:
        import torch

        if not torch.cuda.is_available():
            print(NO_CUDA, file=sys.stderr)
            return 2
    prepare(asked.dry)
    found = {path.stem: lesson(path, asked.limit, asked.dry) for path in paths}
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    others = [name for name, one in found.items() if one["status"] != "as stored"]
    print(f"{len(found) - len(others)} of {len(found)} lessons came out as stored" + (f"; look at {', '.join(others)}" if others else ""))
    return int(bool(others))


if __name__ == "__main__":
    sys.exit(main())
