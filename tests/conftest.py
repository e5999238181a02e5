"""What all tests share."""

import os
import time
from pathlib import Path
from statistics import median

import pytest
import torch

torch.set_num_threads(min(2, torch.get_num_threads()))  # the machine that the project promises to run on, or less: OMP_NUM_THREADS=1
os.environ["MAVIL_EDU_PROGRESS"] = ""  # no test, and no notebook that is tested, counts as a learner's try


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips and recordings that $MAVIL_DATA names; the tests that need it are skipped elsewhere."""
    folder = os.environ.get("MAVIL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MAVIL_DATA does not name a folder of real clips")
    return Path(folder)


@pytest.fixture
def one_thread():
    """Threads that wait for each other on a busy machine take minutes for what one does in a second."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


PACE = 0.006  # processor seconds of the yardstick's work on the machine whose seconds are meant


def processor_seconds(action) -> float:
    begin = time.thread_time()
    action()
    return time.thread_time() - begin


def yardstick() -> None:
    sum(i * i for i in range(100_000))


@pytest.fixture
def seconds_until_shown(one_thread):
    """Processor seconds in which an explorer shows its quickest choice; on a slower machine, as many as it would be on that of PACE.

    Takes the explorer and (name of a control, its next value) one after another.
    """

    def measured(explorer, *choices: tuple[str, object]) -> float:
        taken, paces = [], []
        for name, value in choices:
            paces.append(processor_seconds(yardstick))
            kept = explorer._show.cache_info().currsize
            taken.append(processor_seconds(lambda name=name, value=value: setattr(explorer.controls[name], "value", value)))
            assert explorer._show.cache_info().currsize > kept, f"{name} {value} has been shown before, and takes no time"
        return min(taken) / max(1.0, median(paces) / PACE)

    return measured
