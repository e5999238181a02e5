"""The order in which clips are drawn for training: everything follows from the seed and the number of the draw, so a run can resume."""

import signal
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from mavil_edu.data.batch import Batch, Clips, Sample, Skipped, collate

FRUITLESS_ROUNDS = 2  # passes over the whole data set without one sample, after which training cannot go on


class Step(NamedTuple):
    """One batch, and the state of the stream after it."""

    batch: Batch
    drawn: int  # draws so far, skipped ones included: where a resumed run goes on
    skipped: list[Skipped]  # draws that gave no sample on the way to this batch


def generator_for(*numbers: int) -> torch.Generator:
    """A random generator that depends on all the given numbers, and on nothing else."""
    seed = 0x9E3779B97F4A7C15
    for number in numbers:
        seed = ((seed ^ (number + 0x632BE59BD9B4E019)) * 0xFF51AFD7ED558CCD) % 2**63
        seed ^= seed >> 32
    return torch.Generator().manual_seed(seed)


class _Draws(Dataset):
    """Draw d is a clip of epoch d // len(clips), each clip once an epoch in an order of its own."""

    def __init__(self, clips: Clips, seed: int):
        self.clips, self.seed = clips, seed
        self._epoch, self._order = -1, []

    def __getitem__(self, draw: int) -> Sample | Skipped:
        epoch, place = divmod(draw, len(self.clips))
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(len(self.clips), generator=generator_for(self.seed, 0, epoch)).tolist()
        return self.clips.sample(self._order[place], generator_for(self.seed, 1, draw))


def _ignore_interrupt(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the training process decides when workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def training_steps(clips: Clips, batch: int, seed: int, drawn: int = 0, workers: int = 0) -> Iterator[Step]:
    """Batches without end, from draw `drawn` on; a draw that gives no sample is left out and reported.

    Raises ValueError where draw after draw gives nothing, so that a run never hangs.
    """
    loader = DataLoader(
        _Draws(clips, seed),
        sampler=count(drawn),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=max(2, 2 * batch // workers) if workers else None,
        worker_init_fn=_ignore_interrupt,
    )
    samples, skipped, fruitless = [], [], 0
    for item in loader:
        drawn += 1
        if isinstance(item, Sample):
            samples.append(item)
            fruitless = 0
        else:
            skipped.append(item)
            fruitless += 1
        if fruitless > FRUITLESS_ROUNDS * len(clips):
            raise ValueError(f"No clip gives a window with sound any more. The last one: {item.path}: {item.reason}")
        if len(samples) == batch:
            yield Step(collate(samples), drawn, skipped)
            samples, skipped = [], []
