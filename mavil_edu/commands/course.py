"""Commands for learners: check, progress, doctor."""

import json as json_module
from pathlib import Path

import tyro

from mavil_edu.commands.common import say

MARKS = {"passed": ("✓", "green"), "not attempted": ("·", "dim")}


def check(
    paths: tyro.conf.Positional[list[Path]],
    seconds: float = 10.0,
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> int:
    """Grades the exercises in notebooks or Python files of a learner. Exit 0 when all are right, else 1.

    Only imports, definitions and literal values are run, in a process of its own; nothing trains. Still, it runs code: check only
    what you would run.

    Example: mavil-edu check notebooks/03_masking.ipynb

    Args:
        paths: .ipynb or .py files.
        seconds: longest time for one exercise.
        json: print a list of objects in place of a table.
    """
    if not paths:
        raise ValueError("Name one or more files: mavil-edu check notebooks/03_masking.ipynb")
    from rich.console import Console

    from mavil_edu.course.grade_file import grade_file

    graded = {path: grade_file(path, seconds) for path in paths}
    verdicts = [verdict for several in graded.values() for verdict in several]
    if json:
        rows = [
            {
                "path": str(path),
                "name": verdict.name,
                "status": verdict.status,
                "message": verdict.message,
                "misconceptions": list(verdict.misconceptions),
            }
            for path, several in graded.items()
            for verdict in several
        ]
        print(json_module.dumps(rows, indent=1, ensure_ascii=False))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for path, several in graded.items():
            console.print(str(path), markup=False, style="bold")
            for verdict in several:
                mark, style = MARKS.get(verdict.status, ("✗", "red"))
                console.print(f"  {mark} " + verdict.message.replace("\n", "\n    "), markup=False, style=style)
        counts = {status: sum(v.status == status for v in verdicts) for status in ("passed", "not attempted")}
        wrong = len(verdicts) - sum(counts.values())
        console.print(f"{counts['passed']} right, {wrong} not right, {counts['not attempted']} not attempted.", markup=False)
    return 0 if all(verdict.status == "passed" for verdict in verdicts) else 1


def progress(json: tyro.conf.FlagCreatePairsOff[bool] = False) -> None:
    """Tells what you have tried and passed in each lesson, as `check(…)` and `quiz(…)` in the notebooks noted it.

    It is kept in one file in your data folder (~/.local/share/mavil_edu/progress.json; MAVIL_EDU_PROGRESS names another, and empty
    keeps nothing); delete the file to begin anew.

    Example: mavil-edu progress

    Args:
        json: print an object in place of a table.
    """
    from mavil_edu.course import record
    from mavil_edu.course.summary import by_lesson, next_step

    lessons = by_lesson(record.load())
    if json:
        print(json_module.dumps({"file": str(record.progress_file() or ""), "lessons": lessons}, indent=1))
        return
    print("lesson   exercises passed   tried   questions right   tried")
    for lesson, row in lessons.items():
        passed, right = f"{row['passed']} of {row['exercises']}", f"{row['right']} of {row['questions']}"
        print(f"{lesson:<8} {passed:<18} {row['attempted']:<7} {right:<17} {row['answered']}")
    print(next_step(record.load()))
    say(f"kept in {record.progress_file() or 'no file: MAVIL_EDU_PROGRESS is empty'}")


def doctor(json: tyro.conf.FlagCreatePairsOff[bool] = False) -> int:
    """Looks at this machine: Python, torch, widgets, browser, memory, disk, and how long the course takes here. Exit 1 on a problem.

    Example: mavil-edu doctor

    Args:
        json: print an object in place of lines.
    """
    from dataclasses import asdict

    from mavil_edu.doctor import course_minutes, examine, matrix_rate

    rate = matrix_rate()
    findings, course = examine(rate), course_minutes(rate)
    if json:
        print(json_module.dumps({"findings": [asdict(finding) for finding in findings], "lessons": course}, indent=1, ensure_ascii=False))
    else:
        for finding in findings:
            advice = f"\n      {finding.advice}" if finding.advice else ""
            print(f"{finding.mark} {finding.name}: {finding.value}{advice}")
        for name, row in course.items():
            print(f"  {name}: about {row['here_minutes']:.1f} minutes of computing here ({row['declared_minutes']:g} declared)")
    return 1 if any(finding.problem for finding in findings) else 0
