"""What surrounds the exercises: the commands check, progress and doctor, the lessons' budgets, and what the builder inserts."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from mavil_edu import exercises, solutions
from mavil_edu.cli import main
from mavil_edu.course import grade_file as grading_file
from mavil_edu.course import summary, worker
from mavil_edu.course.answers import define, exercises_in, read_cells
from mavil_edu.course.budget import Budget, budget_of, lessons, read_budget
from mavil_edu.course.grade_file import grade_file
from mavil_edu.course.registry import EXERCISES, LESSONS
from mavil_edu.course.verdict import Verdict
from mavil_edu.doctor import Finding, course_minutes, examine, free_memory, matrix_rate, other_kernel, widgets

ROOT = Path(__file__).resolve().parents[1]
IMPORT = "import torch\nfrom mavil_edu.exercises import check, exercise, quiz\n"
RIGHT = '@exercise("frames_in")\ndef frames_in(samples):\n    return max(0, 1 + (samples - 400) // 160)\n'
WRONG = '@exercise("normalise")\ndef normalise(log_mel, mean, std):\n    return (log_mel - mean) / std\n'
STUB = '@exercise("log_floor")\ndef log_floor(power):\n    raise NotImplementedError\n'


@pytest.fixture
def mavil(capsys, monkeypatch):
    """A command's exit code, and what it said on standard output and on standard error."""
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


def written(folder: Path, *cells: str, name: str = "lesson.ipynb") -> Path:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, folder / name)
    return folder / name


def graded_here(path: Path, seconds: float = 10) -> list[Verdict]:
    """As `grade_file`, without the process of its own, whose start takes seconds."""
    results = path.with_suffix(".results")
    searched = list(sys.path)
    worker.main(str(path), str(results), *exercises_in(read_cells(path)))
    sys.path[:] = searched
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    results.unlink()
    return [Verdict(**row | {"misconceptions": tuple(row["misconceptions"])}) for row in rows if "name" in row]


def defined(*cells: str) -> tuple[dict, list]:
    return define(list(cells))


# A learner's file is graded


def test_a_notebook_is_graded_without_running_what_computes(tmp_path):
    marker = tmp_path / "ran"
    path = written(
        tmp_path,
        IMPORT,
        f'open({str(marker)!r}, "w")\nHOP = 160\nwhile True:\n    pass',
        RIGHT.replace("160", "HOP") + 'check("frames_in")\n',
        WRONG,
        STUB,
    )
    right, wrong, stub = grade_file(path)
    assert (right.name, right.status) == ("frames_in", "passed") and not marker.exists()
    assert wrong.status == "wrong" and wrong.misconceptions == (
        "You divided by the standard deviation once; MAViL divides by twice of it.",
    )
    assert stub.status == "not attempted"
    assert [p.name for p in tmp_path.iterdir()] == ["lesson.ipynb"]


def test_answers_that_hang_exit_or_kill_python_are_named_and_the_others_graded(tmp_path, monkeypatch):
    hanging = WRONG.replace("return (log_mel - mean) / std", "while True: pass")
    dying = STUB.replace("raise NotImplementedError", "import os; os._exit(7)")
    leaving = '@exercise("mel_of_hz")\ndef mel_of_hz(hz):\n    raise SystemExit\n'
    path = written(tmp_path, IMPORT, hanging, dying, leaving, RIGHT)
    started = time.monotonic()
    verdicts = {verdict.name: verdict for verdict in grade_file(path, seconds=1.0)}
    assert time.monotonic() - started < 60
    assert verdicts["normalise"].status == "timed out" and "within 1 s" in verdicts["normalise"].message
    assert verdicts["log_floor"].status == "error" and "exit code 7" in verdicts["log_floor"].message
    assert verdicts["mel_of_hz"].status == "error" and "SystemExit" in verdicts["mel_of_hz"].message
    assert verdicts["frames_in"].status == "passed"


def test_a_file_whose_imports_hang_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(grading_file, "LOADING_SECONDS", 1.0)
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(600)\n")
    (tmp_path / "mine.py").write_text("import slow\n" + IMPORT + RIGHT)
    (verdict,) = grade_file(tmp_path / "mine.py")
    assert verdict.status == "timed out" and "not read within 1.0 s" in verdict.message


def test_a_learners_file_named_like_a_standard_module_does_no_harm(tmp_path):
    (tmp_path / "random.py").write_text("raise SystemExit('shadowed')\n")
    (tmp_path / "helper.py").write_text("HOP = 160\n")
    (tmp_path / "mine.py").write_text("from helper import HOP\n" + IMPORT + RIGHT.replace("160", "HOP"))
    assert [verdict.status for verdict in grade_file(tmp_path / "mine.py")] == ["passed"]


def test_magics_and_divided_scripts_are_read():
    cells = ["%matplotlib inline\n!ls\n" + IMPORT, "%%time\nx = [1, 2,\n  3 % 2]\n", RIGHT]
    assert exercises_in(cells) == ["frames_in"] and define(cells) == ({}, [])


def test_a_script_is_divided_at_its_cell_marks_so_that_one_faulty_cell_spoils_no_other(tmp_path):
    (tmp_path / "mine.py").write_text(f"# %%\n{IMPORT}\n# %% [markdown]\n# text\n# %%\n{RIGHT}\n# %%\n{WRONG.replace('/ std', '/')}\n")
    right, broken = graded_here(tmp_path / "mine.py")
    assert right.status == "passed"
    assert (
        broken.status == "error"
        and "cell 4 is no Python: invalid syntax" in broken.message
        and "return (log_mel - mean) /" in broken.message
    )


def test_what_could_not_be_defined_is_told_with_its_reason():
    failed, others = defined(
        IMPORT, "import no_such_module\n", RIGHT.replace("samples)", "samples=no_such_name)"), WRONG.replace("normalise", "normalize")
    )
    assert "NameError" in failed["frames_in"] and "did you mean normalise" in failed["normalize"]
    assert len(others) == 1 and "No module named 'no_such_module'" in others[0]


def test_an_error_of_an_answer_comes_with_what_failed_before_it(tmp_path):
    path = written(tmp_path, IMPORT, "from no_such_module import HOP\n", RIGHT.replace("160", "HOP"))
    (verdict,) = graded_here(path)
    assert "name 'HOP' is not defined" in verdict.message and "no_such_module" in verdict.message
    assert "return max(0, 1 + (samples - 400) // HOP)" in verdict.message


def test_the_newest_definition_in_a_file_counts_once(tmp_path):
    path = written(tmp_path, IMPORT, RIGHT.replace("400", "1"), RIGHT)
    assert [verdict.status for verdict in graded_here(path)] == ["passed"]


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.ipynb", "not json", "cannot be read as a notebook"),
        ("a.ipynb", "[]", "cannot be read as a notebook"),
        ("a.ipynb", '{"cells": [{}]}', "cannot be read as a notebook"),
        ("a.txt", "text", "neither a notebook"),
        ("a.py", "x = 1\n", "holds no exercise"),
        ("a.ipynb", '{"cells": []}', "holds no exercise"),
    ],
)
def test_files_that_cannot_be_graded_are_refused_with_a_sentence(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=words):
        grade_file(tmp_path / name)
    with pytest.raises(ValueError, match="There is no file"):
        read_cells(tmp_path / "missing.py")
    with pytest.raises(ValueError, match="must be above 0"):
        grade_file(tmp_path / name, seconds=0)


def test_check_lists_red_and_green_and_sets_the_exit_code(mavil, tmp_path, monkeypatch):
    monkeypatch.setattr(grading_file, "grade_file", graded_here)
    path = written(tmp_path, IMPORT, RIGHT, WRONG, STUB)
    code, said, _ = mavil("check", path)
    assert code == 1
    for words in ("✓ frames_in: right", "✗ normalise: not right yet", "→ You divided by", "· log_floor"):
        assert words in said
    assert said.endswith("1 right, 1 not right, 1 not attempted.\n")
    right = written(tmp_path, IMPORT, RIGHT, name="right.ipynb")
    assert mavil("check", right)[0] == 0
    code, said, _ = mavil("check", right, path, "--json")
    rows = json.loads(said)
    assert code == 1 and [row["status"] for row in rows] == ["passed", "passed", "wrong", "not attempted"]
    assert [row["path"] for row in rows] == [str(right), *[str(path)] * 3]


def test_check_says_what_it_needs(mavil, tmp_path):
    for arguments, words in (((), "Name one or more files"), ((tmp_path / "no.py",), "There is no file")):
        code, _, told = mavil("check", *arguments)
        assert code == 2 and words in told and "Traceback" not in told


def test_a_whole_process_checks_a_file(tmp_path):
    path = written(tmp_path, IMPORT, RIGHT)
    command = [sys.executable, "-m", "mavil_edu", "check", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0 and "frames_in: right in all 7 cases." in done.stdout


# Progress


def test_progress_counts_by_lesson_and_says_what_is_next():
    found = {
        "exercises": {
            "frames_in": {"tries": 3, "passed": True},
            "masked_mse": {"tries": 1, "passed": False},
            "gone": {"tries": 1, "passed": True},
        },
        "quizzes": {"why_ratio": {"tries": 1, "passed": True}},
    }
    rows = summary.by_lesson(found)
    assert list(rows) == [lesson.__name__[-2:] for lesson in LESSONS] and list(rows) == sorted(rows)
    assert rows["01"]["passed"] == rows["01"]["attempted"] == 1 and rows["04"] | {"exercises": 0, "questions": 0} == {
        "exercises": 0,
        "attempted": 1,
        "passed": 0,
        "questions": 0,
        "answered": 0,
        "right": 0,
    }
    assert rows["03"]["right"] == 1
    assert summary.next_step(found) == "Next: token_count in lesson 00, 2 minutes."
    found["exercises"] |= {name: {"tries": 1, "passed": True} for name, entry in EXERCISES.items() if entry.lesson == "00"}
    assert summary.next_step(found) == "Next: mel_of_hz in lesson 01, 3 minutes."
    found["exercises"]["mel_of_hz"] = {"tries": 2, "passed": False}
    assert summary.next_step(found) == "Next: mel_of_hz in lesson 01, 3 minutes.", "tried is not passed"
    everything = {"exercises": {name: {"tries": 1, "passed": True} for name in EXERCISES}, "quizzes": {}}
    assert summary.next_step(everything) == "Every exercise is passed."


def test_the_progress_command_reads_what_check_has_noted(mavil, tmp_path, monkeypatch):
    path = tmp_path / "mine.json"
    monkeypatch.setenv("MAVIL_EDU_PROGRESS", str(path))
    monkeypatch.setattr(exercises, "attempts", {"frames_in": solutions.frames_in})
    exercises.check("frames_in")
    exercises.quiz("why_ratio", "b")
    assert mavil("progress")[0] == 0
    answer = json.loads(mavil("progress", "--json")[1])
    assert answer["file"] == str(path) and answer["lessons"]["01"]["passed"] == 1 and answer["lessons"]["03"]["right"] == 1
    _, said, told = mavil("progress")
    assert "1 of 8" in said and "Next: token_count" in said and str(path) in told
    path.write_text("{")
    code, _, told = mavil("progress")
    assert code == 2 and "delete it to begin anew" in told
    monkeypatch.setenv("MAVIL_EDU_PROGRESS", "")
    assert mavil("progress")[0] == 0


# The doctor

WHOLE = {"ipywidgets": "8.1.5", "jupyterlab_widgets": "3.0.13", "jupyterlab": "4.4.0", "ipykernel": "6.29.5"}


@pytest.mark.parametrize(
    "change, problem, words",
    [
        ({}, False, "run the cell"),
        ({"ipywidgets": None}, True, "make lab"),
        ({"ipykernel": None}, True, "make lab"),
        ({"ipywidgets": "7.8.1"}, True, "older than 8"),
        ({"jupyterlab_widgets": "1.1.7"}, True, "jupyterlab_widgets 3"),
        ({"jupyterlab_widgets": None}, True, "jupyterlab_widgets 3"),
        ({"jupyterlab": None}, False, "VS Code"),
    ],
)
def test_the_doctor_says_why_widgets_do_not_show(change, problem, words):
    finding = widgets(WHOLE | change)
    assert finding.problem == problem and words in finding.advice
    assert "another Python" in widgets(WHOLE, "/usr/bin/jupyter-lab").advice


def test_the_doctor_notices_a_kernel_of_another_python(tmp_path):
    (tmp_path / "kernels" / "python3").mkdir(parents=True)
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    for python, other in ((sys.executable, None), ("python", None), ("/opt/old/bin/python3", "/opt/old/bin/python3")):
        spec.write_text(json.dumps({"argv": [python, "-m", "ipykernel_launcher"]}))
        assert other_kernel([tmp_path / "nothing", tmp_path]) == other
    assert other_kernel([]) is None


def test_the_doctor_finds_no_kernel_where_ipykernel_is_missing(monkeypatch):
    monkeypatch.setattr("mavil_edu.doctor.installed", lambda name: None if name == "ipykernel" else "9.0")
    kernel = next(finding for finding in examine(50.0) if finding.name == "notebook kernel")
    assert kernel.problem and "make lab" in kernel.advice


def test_the_doctor_looks_at_everything_and_says_how_long_the_course_takes():
    findings = {finding.name: finding for finding in examine(45.0)}
    assert set(findings) >= {"Python", "torch", "widgets", "notebook kernel", "Chromium", "free memory", "free disk here", "speed"}
    assert all(isinstance(finding, Finding) and finding.value for finding in findings.values())
    assert "0.5 times" in findings["speed"].value and findings["speed"].mark == "✓"
    slow = next(finding for finding in examine(4.0) if finding.name == "speed")
    assert slow.mark == "!" and "0.044 times" in slow.value and "longer" in slow.advice
    for row in course_minutes(45.0).values():
        assert row["here_minutes"] == pytest.approx(2 * row["declared_minutes"])
    assert set(course_minutes(45.0)) == {path.stem for path in lessons()}
    assert free_memory() is None or free_memory() > 1e6
    assert matrix_rate(0.05) > 0.1


def test_the_doctors_answer_can_be_read_by_a_program(mavil):
    code, said, _ = mavil("doctor", "--json")
    answer = json.loads(said)
    assert code == any(finding["problem"] for finding in answer["findings"])
    assert "00_quickstart" in answer["lessons"] and answer["lessons"]["00_quickstart"]["here_minutes"] > 0


# Budgets


def test_a_declared_budget_is_read():
    assert read_budget("# A\n\n**Budget:** 1 minute of computing on two CPU cores, 1 GB of memory, no network.") == Budget(1, 1000)
    assert read_budget("**Budget:** 2.5 minutes of computing\non two CPU cores, 800 MB\nof memory") == Budget(2.5, 800)
    for text in (
        "",
        "**Budget:** a minute of computing, 1 GB of memory",
        "**Budget:** 3 minutes of computing. 1 GB of memory",
        "Budget: 3 minutes",
    ):
        with pytest.raises(ValueError, match="declares no budget"):
            read_budget(text)


@pytest.mark.parametrize("path", lessons(), ids=lambda path: path.stem)
def test_every_lesson_declares_a_budget_that_a_laptop_has(path):
    budget = budget_of(path)
    assert 0 < budget.minutes <= 10 and 100 <= budget.megabytes <= 4000


def timed_lesson(folder: Path, name: str, minutes: str) -> None:
    cells = [
        nbformat.v4.new_markdown_cell(f"**Budget:** {minutes} minutes of computing on two CPU cores, 1 GB of memory"),
        nbformat.v4.new_code_cell("import time", execution_count=1),
        nbformat.v4.new_code_cell("time.sleep(2)", execution_count=2),
        nbformat.v4.new_code_cell("time.sleep(0.01)", execution_count=3),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{name}.ipynb")


def test_nbval_fails_once_where_a_lesson_takes_more_than_three_times_its_minutes(tmp_path):
    timed_lesson(tmp_path, "01_slow", "0.001")  # 0.06 s declared, 2 s taken
    timed_lesson(tmp_path, "02_quick", "1")
    (tmp_path / "conftest.py").write_text((ROOT / "notebooks" / "conftest.py").read_text())
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", ".", "--nbval"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--nbval-current-env", "."], cwd=tmp_path, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 1 and "1 failed, 5 passed" in done.stdout, done.stdout
    assert re.search(r"01_slow\.ipynb has taken 0\.\d\d minutes", done.stdout)
    assert "it declares 0.001, and 3 times that is too much, even with" in done.stdout


def test_a_machine_half_as_fast_is_given_twice_the_minutes(monkeypatch):
    spec = importlib.util.spec_from_file_location("lessons_conftest", ROOT / "notebooks" / "conftest.py")
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    lesson = lessons()[0]
    for times, rate, complaints in ((5, 0.5, 0), (7, 0.5, 1), (2.9, 2.0, 0), (5, 2.0, 1)):
        monkeypatch.setattr(conftest, "matrix_rate", lambda seconds, rate=rate: rate * conftest.REFERENCE_RATE)
        monkeypatch.setitem(conftest.seconds, lesson, times * 60 * budget_of(lesson).minutes)
        assert len(list(conftest.over_budget(lesson, 100.0))) == complaints, (times, rate)
