"""What a lesson declares that it costs: minutes of computing and memory on two CPU cores, in one line of its first cell."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import mavil_edu

DECLARED = re.compile(r"\*\*Budget:\*\*\s+(\d+(?:\.\d+)?)\s+minutes?\s+of\s+computing\b[^,.]*,\s+(\d+(?:\.\d+)?)\s+(MB|GB)\s+of\s+memory\b")
TOLERANCE = 3  # times the declared minutes that a run may take: machines are busy, and some are slow

MEMORY_TOLERANCE = 1.1  # likewise of memory, which hardly hangs on the machine


class Budget(NamedTuple):
    """What a lesson needs at most."""

    minutes: float
    megabytes: float


def read_budget(text: str) -> Budget:
    """The budget in a lesson's first cell: `**Budget:** 2 minutes of computing on two CPU cores, 1.5 GB of memory`.

    Raises ValueError where there is none in these words.
    """
    found = DECLARED.search(text)
    if found is None:
        raise ValueError("The first cell declares no budget; write: **Budget:** 2 minutes of computing on two CPU cores, 1.5 GB of memory")
    minutes, amount, unit = found.groups()
    return Budget(float(minutes), float(amount) * (1000 if unit == "GB" else 1))


def budget_of(notebook: Path) -> Budget:
    """The budget that an .ipynb file declares; raises ValueError where it declares none."""
    source = json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"]
    try:
        return read_budget("".join(source))
    except ValueError as error:
        raise ValueError(f"{notebook.name}: {error}") from None


def peak_megabytes(pid: int) -> float:
    """The most memory that a process has held so far, in 10^6 bytes, where the system tells (Linux); else 0."""
    status = Path(f"/proc/{pid}/status")
    held = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")] if status.exists() else []
    return int(held[0]) * 1024 / 1e6 if held else 0.0


def lessons() -> list[Path]:
    """The course's notebooks, in the folder `notebooks` here or beside the package; empty where there is none."""
    for folder in (Path("notebooks"), Path(mavil_edu.__file__).resolve().parents[1] / "notebooks"):
        if found := sorted(folder.glob("[0-9][0-9]_*.ipynb")):
            return found
    return []
