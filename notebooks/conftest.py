"""What the run that compares the lessons' outputs (nbval) needs besides: time limits, fonts, and what a cell wrote on stderr.

A lesson that takes more than three times its declared minutes fails, and one that takes a tenth more than its declared memory. The
minutes are those of the two cores on which they were measured: on one thread, or on a slower or busier machine, there are more of them.
"""

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mavil_edu.course.budget import MEMORY_TOLERANCE, TOLERANCE, budget_of, peak_megabytes
from mavil_edu.doctor import REFERENCE_RATE, matrix_rate

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


def slowness() -> float:
    """How many times as long as on the cores of the budgets anything takes here, now and on as many threads; 1 or more."""
    return max(1.0, REFERENCE_RATE / matrix_rate(0.5))


def over_budget(lesson: Path, megabytes: float) -> Iterator[str]:
    """What a lesson has taken too much of so far, in words."""
    budget = budget_of(lesson)
    times = seconds[lesson] / (60 * budget.minutes)
    if times > TOLERANCE and times > TOLERANCE * (slower := slowness()):
        yield (
            f"{lesson.name} has taken {seconds[lesson] / 60:.2f} minutes up to this cell; it declares {budget.minutes:g}, and "
            f"{TOLERANCE} times that is too much, even with {slower:.1f} times as many on this machine. Make it quicker, or declare what "
            "it takes."
        )
    if megabytes > MEMORY_TOLERANCE * budget.megabytes:
        yield (
            f"{lesson.name} has held {megabytes:.0f} MB of memory up to this cell; it declares {budget.megabytes:g}. Make it hold less, "
            "or declare what it takes."
        )


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
    for complaint in over_budget(item.path, peak_megabytes(item.parent.kernel.km.provisioner.pid)):
        told.add(item.path)
        report.outcome, report.longrepr = "failed", complaint
    return report
