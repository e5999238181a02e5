"""Puts together what gpu_checklist.sh found so far: OUT/summary.json and OUT/log.txt. It needs Python alone, so that it always runs.

    python scripts/gpu_summary.py WORK OUT

WORK/stages.tsv has a line a stage: name, exit code, seconds. Exit code 1 where a stage failed or OUT holds more than may be handed over.
"""

import json
import re
import sys
from pathlib import Path

FILES, BYTES = 8, 16 * 2**20  # that the folder may hold, and a file
LOG_END = 60_000  # characters of each stage's log
MEANING = {124: "its time was up", 137: "killed: its time was up, or memory ran out"}


def read_json(path: Path) -> dict | None:
    """What a stage wrote; None where it wrote nothing, or was stopped before the file was whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def stages_of(work: Path) -> dict[str, dict]:
    """By stage: exit code, seconds, a verdict in words, and what it found."""
    table, found = work / "stages.tsv", {}
    for line in table.read_text(encoding="utf-8").splitlines() if table.exists() else []:
        name, code, seconds = line.split("\t")
        verdict = "passed" if code == "0" else "left out" if code == "-" else MEANING.get(int(code), "failed")
        found[name] = {"code": code, "seconds": float(seconds), "verdict": verdict, "found": read_json(work / f"{name}.json")}
    return found


def faults(out: Path) -> list[str]:
    """What of the folder could not be handed over: names, numbers, sizes."""
    files = sorted(path for path in out.rglob("*") if path.is_file())
    told = [f"{len(files)} files, {FILES} are allowed"] if len(files) > FILES else []
    for path in files:
        name = str(path.relative_to(out))
        if not re.fullmatch(r"([\w.-]+/)?[\w.-]+", name, re.ASCII):
            told.append(f"{name!r}: a name of letters, digits, '.', '_' and '-', one folder deep at most")
        if path.stat().st_size > BYTES:
            told.append(f"{name}: {path.stat().st_size} bytes, {BYTES} are allowed")
    return told


def main(work: Path, out: Path) -> int:
    out.mkdir(parents=True, exist_ok=True)
    stages = stages_of(work)
    logs = [(name, work / f"{name}.log") for name in stages]
    text = "".join(
        f"==== {name}\n{path.read_text(encoding='utf-8', errors='replace')[-LOG_END:]}\n" for name, path in logs if path.exists()
    )
    (out / "log.txt").write_text(text, encoding="utf-8")
    summary = {"failed": [name for name, one in stages.items() if one["verdict"] not in ("passed", "left out")], "stages": stages}
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    summary["faults"] = faults(out)
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    for name, one in stages.items():
        print(f"{name:<12}{one['seconds']:>7.0f} s   {one['verdict']}")
    for fault in summary["faults"]:
        print(f"{out}: {fault}")
    return int(bool(summary["failed"] or summary["faults"]))


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
