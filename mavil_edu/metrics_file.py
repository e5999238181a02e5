"""`metrics.jsonl`: what a run says of each of its steps, each step once."""

import json
import math
import os
from pathlib import Path

from mavil_edu.files import write_text


class MetricsFile:
    """`metrics.jsonl`: one JSON object a line; on resuming, what lies beyond the checkpoint is cut off."""

    def __init__(self, path: Path, step: int):
        kept = []
        if path.exists() and step:
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _order(line) < (step, False)]
        write_text(path, "".join(f"{line}\n" for line in kept))  # whole or not at all: a kill here loses no line
        self.file = path.open("a", encoding="utf-8")

    def write(self, row: dict) -> None:
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()

    def to_disk(self) -> None:
        """Waits until all that was written has reached the disk."""
        os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.close()


def _order(line: str) -> tuple[float, bool]:
    """Where a line stands in time: the held-out look at step s comes before training step s."""
    try:
        row = json.loads(line)
        return row["step"] - (0.5 if row.get("held_out") else 0), False
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf, True  # a line cut short by a kill
