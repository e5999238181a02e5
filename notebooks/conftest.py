"""A lesson that takes more than three times its declared minutes fails, in the run that compares its outputs anyway (nbval)."""

from collections import defaultdict

import pytest
from matplotlib.font_manager import findfont

from mavil_edu.course.budget import TOLERANCE, budget_of

seconds: dict = defaultdict(float)  # notebook -> how long its cells have taken so far
told: set = set()


def pytest_sessionstart(session):
    """Matplotlib's list of fonts is made now: made within a lesson on a slow machine, it tells so on stderr, and nbval minds."""
    for family in ("DejaVu Sans", "DejaVu Sans Mono", "cmr10"):
        findfont(family)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if item.path.suffix != ".ipynb" or report.when != "call":
        return report
    seconds[item.path] += call.duration
    if item.path in told or report.outcome != "passed":
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
