"""The order in which clips are drawn: everything follows from the seed and the number of the draw, so a run can resume.

An epoch has as many global batches as there are whole ones in the data set; the clips that are left over wait for the next epoch's
order. Draw d belongs to global batch d // batch; with several processes (ranks) each makes its own part of every global batch.
"""

import signal
from collections.abc import Iterator
from itertools import chain, count
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from mavil_edu.data.batch import Batch, Clips, Sample, Skipped, collate

AHEAD = 2  # batches that are made ready while one is trained on
EVALUATED_AT_ONCE = 16  # clips that a worker of the evaluation hands over together


class Step(NamedTuple):
    """One batch, and the state of the stream after it."""

    batch: Batch  # this rank's part of the global batch
    drawn: int  # draws so far, of all ranks: a multiple of the batch, and where a resumed run goes on
    skipped: list[Skipped]  # draws of this rank that gave no sample, and were replaced by other clips
    dropped: int  # clips so far that ended an epoch as an incomplete batch and were left out of it
    numbers: list[int]  # the clip of each row of the batch: for labels, which a batch does not hold


class _Part(NamedTuple):
    """Some draws of one batch, as a worker hands them over."""

    batch: Batch | None
    skipped: list[Skipped]
    numbers: list[int]
    error: str | None = None  # why training cannot go on


def generator_for(*numbers: int) -> torch.Generator:
    """A random generator that depends on all the given numbers, and on nothing else."""
    seed = 0x9E3779B97F4A7C15
    for number in numbers:
        seed = ((seed ^ (number + 0x632BE59BD9B4E019)) * 0xFF51AFD7ED558CCD) % 2**63
        seed ^= seed >> 32
    return torch.Generator().manual_seed(seed)


class _Draws(Dataset):
    """By a range of draws: one part of a batch. Each clip is drawn at most once an epoch, in an order of the epoch's own."""

    def __init__(self, clips: Clips, batch: int, seed: int):
        self.clips, self.batch, self.seed = clips, batch, seed
        self.used = len(clips) // batch * batch  # clips of an epoch
        self._epoch, self._order = -1, []

    def _candidates(self, draw: int) -> Iterator[int]:
        """The clip of a draw, then those that may take its place: as many as there are clips, each of the order once.

        First those outside the draw's global batch, from the next batch on: this row's own ones, of which no other row begins to
        take, then the others'. Then, where none of them gives a sample, those in the batch.
        """
        epoch, place = divmod(draw, self.used)
        if epoch != self._epoch:
            self._epoch, generator = epoch, generator_for(self.seed, 0, epoch)
            own = getattr(self.clips, "order", None)
            self._order = own(generator) if own else torch.randperm(len(self.clips), generator=generator).tolist()
        start, row, outside = place - place % self.batch, place % self.batch, len(self._order) - self.batch
        yield self._order[place]
        others = ((row + further) % outside for further in range(outside))
        for further in chain(range(row, outside, self.batch), (other for other in others if other % self.batch != row)):
            yield self._order[(start + self.batch + further) % len(self._order)]
        for further in range(self.batch):
            yield self._order[start + (row + further) % self.batch]

    def _sample(self, draw: int, skipped: list[Skipped]) -> tuple[int, Sample] | None:
        """A draw's clip and sample; where that clip gives none, those of the next candidate that does. None where no clip does."""
        generator = generator_for(self.seed, 1, draw)
        for number in self._candidates(draw):
            sample = self.clips.sample(number, generator)
            if isinstance(sample, Sample):
                return number, sample
            skipped.append(sample)
        return None

    def __getitem__(self, draws: range) -> _Part:
        drawn, skipped = [], []
        for draw in draws:
            try:
                found = self._sample(draw, skipped)
            except ValueError as error:  # as text: from a worker process an exception would come with its traceback
                return _Part(None, skipped, [], str(error))
            if found is None:
                last = skipped[-1]
                return _Part(None, skipped, [], f"No clip gives a window with sound any more. The last one: {last.path}: {last.reason}")
            drawn.append(found)
        return _Part(collate([sample for _, sample in drawn]), skipped, [number for number, _ in drawn])


class _Each(Dataset):
    """By a range of clips: their evaluation samples, with their numbers."""

    def __init__(self, clips: Clips):
        self.clips = clips

    def __getitem__(self, numbers: range) -> list[tuple[int, Sample | Skipped]] | str:
        try:
            return [(number, self.clips.sample(number, None)) for number in numbers]
        except ValueError as error:  # as text, as above
            return str(error)


def _ignore_interrupt(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the training process decides when workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def training_steps(clips: Clips, batch: int, seed: int, drawn: int = 0, workers: int = 0, rank: int = 0, ranks: int = 1) -> Iterator[Step]:
    """Batches without end, from draw `drawn` on; the same whatever the number of workers.

    batch: clips of a global batch, of which this rank makes its share. A draw whose clip gives no sample is reported, and replaced
    by a clip outside the batch, as long as one of them gives a sample: which, follows from the draw alone, so that all ranks stay in step
    without asking each other. Each row of a batch looks among clips of its own first: where there are two batches of clips or more, it is
    rare that two rows take the same.
    Raises ValueError where there are fewer clips than a batch, ranks do not divide it, `drawn` is no place where a batch ends, or
    no clip gives a sample, so that a run never hangs.
    """
    if not 1 <= batch <= len(clips):
        raise ValueError(f"A batch of {batch} cannot be drawn from {len(clips)} clips; give a batch from 1 to {max(len(clips), 1)}.")
    if batch % ranks or not 0 <= rank < ranks:
        raise ValueError(f"A batch of {batch} cannot be shared by {ranks} processes; give a batch that is a multiple of {ranks}.")
    if drawn % batch:
        raise ValueError(f"{drawn} draws are no whole batches of {batch}: this position was stored with another batch.")
    share = batch // ranks
    part = -(-share // max(workers, 1))  # draws that one worker makes at a time
    starts = range(rank * share, (rank + 1) * share, part)
    parts = (range(first + s, first + min(s + part, (rank + 1) * share)) for first in count(drawn, batch) for s in starts)
    draws = _Draws(clips, batch, seed)
    loader = DataLoader(
        draws,
        sampler=parts,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        worker_init_fn=_ignore_interrupt,
        generator=generator_for(seed, 12),  # or it would draw from torch's own, whose state a resumed run shares with an uninterrupted one
    )
    made: list[_Part] = []
    for item in loader:
        if item.error:
            raise ValueError(item.error)
        made.append(item)
        if len(made) < len(starts):
            continue
        drawn += batch
        whole = made[0].batch if len(made) == 1 else Batch(*map(torch.cat, zip(*(some.batch for some in made), strict=True)))
        yield Step(
            batch=whole,
            drawn=drawn,
            skipped=[skip for some in made for skip in some.skipped],
            dropped=drawn // draws.used * (len(clips) - draws.used),
            numbers=[number for some in made for number in some.numbers],
        )
        made = []


def evaluation_samples(clips: Clips, rank: int = 0, ranks: int = 1, workers: int = 0) -> Iterator[tuple[int, Sample | Skipped]]:
    """Every clip's number and its evaluation sample, in order: over all ranks each clip exactly once, whatever divides what.

    Nothing is drawn from torch's own generator, so that a run learns the same however often it looks.
    Raises ValueError where the clips cannot be read at all, as from a hostile archive.
    """
    if not 0 <= rank < ranks:
        raise ValueError(f"There is no process {rank} of {ranks}.")
    first, last = (len(clips) * number // ranks for number in (rank, rank + 1))
    parts = [range(start, min(start + EVALUATED_AT_ONCE, last)) for start in range(first, last, EVALUATED_AT_ONCE)]
    loader = DataLoader(
        _Each(clips),
        sampler=parts,
        batch_size=None,
        num_workers=workers,
        worker_init_fn=_ignore_interrupt,
        generator=generator_for(13),  # or it would draw from torch's own
    )
    for part in loader:
        if isinstance(part, str):
            raise ValueError(part)
        yield from part
