"""make test-gpu: every cell of a lesson is run, its verdicts are compared with the stored ones, and without CUDA it says so."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

gpu_lessons = import_module("gpu_lessons")


def cell(source: str, said: str = "", *tags: str) -> nbformat.NotebookNode:
    """A code cell with what is stored as its output."""
    outputs = [nbformat.v4.new_output("stream", name="stdout", text=said)] if said else []
    return nbformat.v4.new_code_cell(source, outputs=outputs, metadata={"tags": list(tags)})


@pytest.fixture
def lessons(tmp_path, monkeypatch):
    """A folder of notebooks in place of the course's; CUDA is not looked for."""
    monkeypatch.setattr(gpu_lessons, "NOTEBOOKS", tmp_path)
    for name in ("CUDA_VISIBLE_DEVICES", "PYTHONPATH", "MAVIL_EDU_PROGRESS", "MAVIL_DATA"):
        monkeypatch.setenv(name, os.environ.get(name, ""))

    def write(name: str, *cells: nbformat.NotebookNode) -> Path:
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), path)
        return path

    return write


def dry(*more: str) -> int:
    return gpu_lessons.main(["--dry", *more])


def picture(sentence: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_output("display_data", data={"text/plain": sentence, "text/html": "<figure>: yes</figure>"})


def test_verdicts_are_read_from_texts_and_pictures_less_their_numbers():
    one = cell("", "left by 0.51, at 3.2 %: yes\nright: below the best: yes; by four fifths: no\nno: not one; yes, neither\n")
    one.outputs.append(picture("It falls below 60 % of it: no."))
    assert gpu_lessons.verdicts_of(one) == [
        ("left by …, at … %", "yes"),
        ("right: below the best", "yes"),
        ("by four fifths", "no"),
        ("It falls below … % of it", "no"),
    ]


def test_every_lesson_with_a_gpu_budget_has_verdicts_to_compare():
    counts = {}
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        cells = [one for one in nbformat.read(path, as_version=4).cells if one.cell_type == "code"]
        asks = any(gpu_lessons.ASKS_FOR_CUDA in one.source for one in cells)
        counts[path.stem[:2]] = (asks, sum(len(gpu_lessons.verdicts_of(one)) for one in cells))
    trained = {number for number, (asks, _) in counts.items() if asks}
    assert {"04", "05", "06", "07", "08", "09", "10"} <= trained
    assert all(count >= 5 for number, (_, count) in counts.items() if number in trained - {"99"}), counts


def test_cells_for_gpus_are_run_too_and_a_lesson_as_stored_passes(lessons, tmp_path, capfd):
    lessons("01_one", cell("x = 2.7\nprint(f'off by {x}: yes')", "off by 3.1: yes\n"), cell("print('quick:', 'yes')", "", "nbval-skip"))
    assert dry("--out", str(tmp_path / "found.json")) == 0
    found = json.loads((tmp_path / "found.json").read_text())["01_one"]
    assert found["status"] == "as stored" and found["verdicts"] == 2 and found["told"] == []
    assert "1 of 1 lessons came out as stored" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (cell("print('found: no')", "found: yes\n"), "found: no, stored is yes"),
        (cell("print('shuffled, found: yes')", "shuffled, found: no\n"), "shuffled, found: yes, stored is no"),
        (cell("print('nothing')", "found: yes\n"), "says [] and not ['found']"),
        (cell("print('quick: no')", "", "nbval-skip"), "quick: no"),
        (cell("1 / 0"), "ZeroDivisionError"),
        (cell("import time; time.sleep(60)"), "not done after 5 s"),
        (cell("import os; os._exit(1)"), "kernel died"),
    ],
    ids=["lost", "control", "silent", "for GPUs", "error", "slow", "dead"],
)
def test_what_differs_or_fails_is_told(lessons, capfd, one, words):
    lessons("01_one", one)
    lessons("02_two", cell("print('it goes on: yes')", "it goes on: yes\n"))
    assert dry("--limit", "5") == 1
    said = capfd.readouterr().out
    assert words in said and "02_two: as stored, 1 verdicts" in said and said.endswith("look at 01_one\n")


def test_more_training_may_turn_some_verdicts_into_a_yes_and_none_into_a_no(lessons):
    lessons("04_one", cell("print('good: yes; by four fifths: yes')", "good: yes; by four fifths: no\n"))
    assert dry() == 0
    lessons("04_one", cell("print('good: yes; by four fifths: no')", "good: yes; by four fifths: yes\n"))
    assert dry() == 1


def test_outputs_that_are_not_compared_and_errors_that_are_wanted_do_not_count(lessons):
    lessons(
        "01_one",
        cell("print('today: no')", "today: yes\n", "nbval-ignore-output"),
        cell("raise ValueError('wanted')", "", "raises-exception"),
    )
    assert dry() == 0


def test_a_lesson_that_asks_for_cuda_and_uses_none_is_told(lessons, monkeypatch, capfd):
    import torch

    budget = 'device = ("cuda", 2) if torch.cuda.is_available() else ("cpu", 1)'
    lessons("04_one", cell(f"import torch\n{budget}"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_lessons, "MEMORY", "print(0)")
    assert gpu_lessons.main([]) == 1
    assert "has used none of its memory" in capfd.readouterr().out
    monkeypatch.setattr(gpu_lessons, "MEMORY", "print(5 * 2**20)")
    assert gpu_lessons.main([]) == 0


def test_a_rehearsal_hides_cuda_and_long_runs_on_recordings(lessons, monkeypatch, tmp_path):
    monkeypatch.setenv("MAVIL_DATA", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    lessons("01_one", cell("import os\nassert os.environ['CUDA_VISIBLE_DEVICES'] == '' and 'MAVIL_DATA' not in os.environ"))
    assert dry() == 0


def test_without_cuda_one_sentence_says_so(lessons, monkeypatch, capfd):
    import torch

    lessons("01_one", cell("1"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_lessons.main([]) == 2
    said = capfd.readouterr()
    assert said.err == f"{gpu_lessons.NO_CUDA}\n" and not said.out
    assert gpu_lessons.main(["--only", "77"]) == 2 and "No lesson begins with 77" in capfd.readouterr().err


def test_make_test_gpu_runs_it(tmp_path):
    done = subprocess.run(["make", "-n", "test-gpu", "GPU_ARGS=--dry"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "scripts/gpu_lessons.py --dry" in done.stdout
