"""A learner's file is graded in another process, which may hang or die: then the exercise at fault is named, and the rest goes on."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mavil_edu
from mavil_edu.course.answers import exercises_in, read_cells
from mavil_edu.course.verdict import Verdict

LOADING_SECONDS = 90  # for torch and the learner's imports, on a slow disk


def _start(path: Path, results: Path, names: list[str]) -> subprocess.Popen:
    package = str(Path(mavil_edu.__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])), "PYTHONUTF8": "1"}
    # -P: a file of the learner's named random.py must not take the place of Python's
    command = [sys.executable, "-P", "-m", "mavil_edu.course.worker", str(path.resolve()), str(results), *names]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=path.resolve().parent, env=environment, start_new_session=True, **quiet)


def _stop(process: subprocess.Popen) -> None:
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)  # with whatever it has started
        except ProcessLookupError:
            pass  # it has just ended by itself
    process.kill()
    process.wait()


def _lines(results: Path) -> list[dict]:
    text = results.read_text(encoding="utf-8") if results.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _one_round(path: Path, results: Path, names: list[str], seconds: float) -> list[Verdict]:
    """Verdicts until all are given, or one exercise hangs or ends the process; that one has a verdict, too."""
    process, since, seen = _start(path, results, names), time.monotonic(), 0
    try:
        while True:
            ended = process.poll() is not None
            lines = _lines(results)
            if len(lines) > seen:
                since, seen = time.monotonic(), len(lines)
            hung = time.monotonic() - since > (seconds if lines else LOADING_SECONDS)
            if ended or hung:
                break
            time.sleep(0.02)
    finally:
        _stop(process)
    verdicts = [Verdict(**line | {"misconceptions": tuple(line["misconceptions"])}) for line in lines if "name" in line]
    if len(verdicts) == len(names):
        return verdicts
    if hung:
        status, told = "timed out", f"no answer within {seconds:g} s" if lines else f"the file was not read within {LOADING_SECONDS} s"
    else:
        status, told = "error", f"the code ended Python (exit code {process.returncode})"
    stuck = names[len(verdicts) : len(verdicts) + 1] if lines else names
    return verdicts + [Verdict(name, status, f"{name}: {told}") for name in stuck]


def grade_file(path: Path, seconds: float = 10.0) -> list[Verdict]:
    """Grades all exercises in a notebook or Python file, in the order in which they stand there.

    Imports, definitions and literal values of the file are run, nothing else; the learner's progress is left as it is. It runs the
    code that is given to it: grade only what you would run. seconds: for each exercise. Raises ValueError where the file cannot be
    read or holds no exercise.
    """
    if not seconds > 0:
        raise ValueError(f"The time for an exercise is {seconds} s; it must be above 0.")
    names = exercises_in(read_cells(path))
    if not names:
        raise ValueError(f'{path} holds no exercise: a function below a line such as @exercise("masked_mse").')
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory() as folder:
        while len(verdicts) < len(names):
            verdicts += _one_round(path, Path(folder) / f"{len(verdicts)}.jsonl", names[len(verdicts) :], seconds)
    return verdicts
