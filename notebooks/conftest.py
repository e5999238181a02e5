"""What the run that compares the lessons' outputs (nbval) needs besides: time limits, fonts, and what a cell wrote on stderr.

A lesson that takes more than three times its declared minutes fails.
"""

import os
import subprocess
import sys
from collections import defaultdict
from tempfile import TemporaryDirectory

import pytest

from mavil_edu.course.budget import TOLERANCE, budget_of

seconds: dict = defaultdict(float)  # notebook -> how long its cells have taken so far
told: set = set()


def pytest_configure(config):
    """Kernels get a list of fonts of this run's own, made before they start.

    A list left in the user's cache by another installation can lack Matplotlib's own fonts, and making one within a lesson can take
    more than 5 seconds; of both Matplotlib tells on stderr, and nbval minds.
    """
    folder = TemporaryDirectory(prefix="mavil-edu-matplotlib-")
    config.add_cleanup(folder.cleanup)
    os.environ["MPLCONFIGDIR"] = folder.name
    subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], check=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if item.path.suffix != ".ipynb" or report.when != "call":
        return report
    seconds[item.path] += call.duration
    if report.outcome != "passed":
        written = "".join(output.get("text", "") for output in item.test_outputs or [] if output.get("name") == "stderr")
        report.sections += [("stderr of the cell", written)] if written else []
        return report
    if item.path in told:
        return report
    budget = budget_of(item.path)
    if seconds[item.path] > TOLERANCE * 60 * budget.minutes:
        told.add(item.path)
        report.outcome = "failed"
        report.longrepr = (
            f"{item.path.name} has taken {seconds[item.path] / 60:.2f} minutes up to this cell; it declares {budget.minutes:g}, and "
            f"{TOLERANCE} times that is too much. Make it quicker, or declare what it takes."
        )
    return report
