"""Would nbval notice? The first lesson, as it is stored, runs against a package in which one line is wrong.

(A changed stored sentence: `test_notebooks.py`.)
"""

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
}


def compared(folder: Path) -> tuple[int, int]:
    """How many of the lesson's cells give what is stored, and whether one does not: with the package in `folder`, up to the first such."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(folder)]
    command += ["-c", os.devnull, "--nbval", "--nbval-current-env"]
    command += ["--nbval-sanitize-with", str(ROOT / "notebooks" / "nbval_sanitize.cfg"), LESSON]
    surroundings = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder / "notebooks", env=surroundings)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    passed, failed = (re.search(rf"(\d+) {word}", done.stdout) for word in ("passed", "failed"))
    return int(passed[1]) if passed else 0, int(failed[1]) if failed else 0


@pytest.fixture
def copy(tmp_path) -> Path:
    """The package and the lesson alone, in a folder of their own."""
    shutil.copytree(ROOT / "mavil_edu", tmp_path / "mavil_edu", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / LESSON, tmp_path / "notebooks")
    shutil.copytree(ROOT / "data_samples", tmp_path / "data_samples")
    return tmp_path


@pytest.mark.parametrize("wrong", WRONG)
def test_one_wrong_line_turns_a_lesson_red(wrong, copy):
    name, right, mistaken = WRONG[wrong]
    file = copy / name
    text = file.read_text(encoding="utf-8")
    assert text.count(right), f"{name} no longer has {right!r}: give this test the line that it has now"
    file.write_text(text.replace(right, mistaken), encoding="utf-8")
    passed, failed = compared(copy)
    assert failed == 1 and passed >= 3, "the first cells know nothing of it"
