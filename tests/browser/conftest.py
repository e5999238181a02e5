"""A JupyterLab for all tests of this folder, and what a browser found in the course."""

import shutil
from pathlib import Path

import pytest
from browser_lab import QUICK, ROOT, STEPS, Lab, missing


def pytest_addoption(parser):
    parser.addoption("--screenshots", type=Path, help="where pictures of each notebook go, for a person to look at")


@pytest.fixture(scope="session")
def whole(request) -> bool:
    """Is it `make browser`, which takes every step in every notebook?"""
    return any(item.get_closest_marker("browser_all") for item in request.session.items)


@pytest.fixture(scope="session")
def lab(whole, tmp_path_factory):
    if lack := missing():
        (pytest.fail if whole else pytest.skip)(lack)
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="session")
def found(request, whole, lab) -> dict[str, dict]:
    """Lesson -> what the browser found in it, by step."""
    steps = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        shutil.copy(path, lab.course / "notebooks")
        quick = ["unrun", "run", "keyboard"] if path.stem in QUICK else ["unrun"]
        steps[f"notebooks/{path.name}"] = list(STEPS) if whole else quick
    seen = lab.visit(steps, screenshots=request.config.getoption("screenshots", None))
    return {Path(path).stem: facts for path, facts in seen.items()}
