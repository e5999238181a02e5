"""Would nbval notice? The first lesson, as it is stored, runs against a package in which one line is wrong."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LESSON = "00_quickstart.ipynb"

WRONG = {  # file, the line's part as it is, and what stands in its place
    "another mask ratio": ("mavil_edu/config.py", "audio_ratio: float = 0.8 ", "audio_ratio: float = 0.75 "),
    "loss over all patches": ("mavil_edu/losses.py", "prediction, target), scored)", "prediction, target), torch.ones_like(scored))"),
    "swapped patch order": ("mavil_edu/patches.py", "-> b (t f) (pt pf)", "-> b (f t) (pt pf)"),
    "a changed stored sentence": (f"notebooks/{LESSON}", "better by more than 15 %: yes", "better by more than 15 %: no"),
}


def cells_that_differ(folder: Path) -> list[str]:
    """The numbers of the lesson's cells whose outputs are other ones than the stored, when the package in `folder` is used."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(folder), "-c", os.devnull]
    command += ["--nbval", "--nbval-current-env", "--nbval-sanitize-with", str(ROOT / "notebooks" / "nbval_sanitize.cfg"), LESSON]
    surroundings = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder / "notebooks", env=surroundings)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return re.findall(rf"^FAILED {LESSON}::(Cell \d+)", done.stdout, re.M) or re.findall(r"(\d+) failed", done.stdout)


@pytest.fixture
def copy(tmp_path) -> Path:
    """The package and the lesson alone, in a folder of their own."""
    shutil.copytree(ROOT / "mavil_edu", tmp_path / "mavil_edu", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / LESSON, tmp_path / "notebooks")
    shutil.copytree(ROOT / "data_samples", tmp_path / "data_samples")
    return tmp_path


def test_the_copy_as_it_is_passes(copy):
    assert cells_that_differ(copy) == []


@pytest.mark.parametrize("wrong", WRONG)
def test_one_wrong_line_turns_a_lesson_red(wrong, copy):
    name, right, mistaken = WRONG[wrong]
    file = copy / name
    text = file.read_text(encoding="utf-8")
    assert text.count(right), f"{name} no longer has {right!r}: give this test the line that it has now"
    file.write_text(text.replace(right, mistaken), encoding="utf-8")
    assert cells_that_differ(copy)
