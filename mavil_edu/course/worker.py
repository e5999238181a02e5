"""A process of its own that grades a learner's file: `python -m mavil_edu.course.worker FILE RESULTS EXERCISE…`.

Into RESULTS it writes a JSON object a line: `{"started": name}` before an exercise, its verdict after it.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from mavil_edu import exercises
from mavil_edu.course.answers import define, read_cells
from mavil_edu.course.grading import grade
from mavil_edu.course.registry import EXERCISES
from mavil_edu.course.verdict import Verdict


def _verdict(name: str, failed: dict[str, str], others: list[str]) -> Verdict:
    if name not in EXERCISES:
        return Verdict(name, "error", f"{name}: there is no exercise of this name.")
    if name in failed or name not in exercises.attempts:
        return Verdict(name, "error", f"{name}: {failed.get(name, 'its function was not defined')}")
    verdict = grade(EXERCISES[name], exercises.attempts[name])
    if verdict.status == "error" and others:
        earlier = "\n    ".join(["before that:", *others])
        return Verdict(name, "error", f"{verdict.message}\n    {earlier}")
    return verdict


def main(file: str, results: str, *names: str) -> None:
    path = Path(file)
    sys.path.append(str(path.parent))  # what lies beside it can be imported, but shadows nothing
    with open(results, "a", encoding="utf-8", buffering=1) as out:
        failed, others = define(read_cells(path))
        for name in names:
            print(json.dumps({"started": name}), file=out, flush=True)
            print(json.dumps(asdict(_verdict(name, failed, others))), file=out, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
