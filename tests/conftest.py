"""What all tests share."""

import os
from pathlib import Path

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
