"""The order of clips follows from the seed and the draw alone."""

from itertools import islice

import pytest
import torch

from mavil_edu.data.batch import Sample, Skipped
from mavil_edu.data.loader import generator_for, training_steps


class Numbered:
    """Clips that say their number and a random number of their draw; some are silent."""

    def __init__(self, count: int, silent: frozenset[int] = frozenset()):
        self.count, self.silent = count, silent

    def __len__(self) -> int:
        return self.count

    def sample(self, index, generator):
        if index in self.silent:
            return Skipped(f"clip {index}", "silent")
        draw = torch.rand(1, generator=generator)
        return Sample(torch.cat([torch.tensor([float(index)]), draw]), torch.tensor([0, 2]), torch.zeros(2, 4, 4, 3), torch.ones(2).bool())


def numbers(steps, how_many):
    return [step.batch.waveform.tolist() for step in islice(steps, how_many)]


def test_each_clip_is_drawn_once_an_epoch_in_an_order_that_changes():
    drawn = [int(n) for batch in numbers(training_steps(Numbered(12), 4, seed=0), 6) for n, _ in batch]
    assert sorted(drawn[:12]) == sorted(drawn[12:]) == list(range(12))
    assert drawn[:12] != drawn[12:]
    assert drawn[:12] != list(range(12))
    draws = [value for batch in numbers(training_steps(Numbered(12), 4, seed=0), 6) for _, value in batch]
    assert len(set(draws)) == 24  # another window, another augmentation each time


def test_a_stream_goes_on_from_any_draw_exactly_as_if_it_had_not_stopped():
    clips = Numbered(10, silent=frozenset({3}))
    whole = list(islice(training_steps(clips, 4, seed=1), 8))
    again = numbers(training_steps(clips, 4, seed=1, drawn=whole[2].drawn), 5)
    assert again == [step.batch.waveform.tolist() for step in whole[3:]]


def test_worker_processes_change_nothing():
    assert numbers(training_steps(Numbered(9), 4, seed=2, workers=2), 5) == numbers(training_steps(Numbered(9), 4, seed=2), 5)


def test_seeds_and_epochs_differ():
    one, two = (numbers(training_steps(Numbered(50), 50, seed=s), 1) for s in (0, 1))
    assert one != two
    assert [n for n, _ in one[0]] != [n for n, _ in two[0]]


def test_clips_without_a_sample_are_left_out_and_reported():
    steps = list(islice(training_steps(Numbered(6, silent=frozenset({1, 2})), 4, seed=0), 3))
    assert all(n not in (1, 2) for step in steps for n in step.batch.waveform[:, 0].tolist())
    assert {skip.path for step in steps for skip in step.skipped} == {"clip 1", "clip 2"}
    assert all(len(step.batch.waveform) == 4 for step in steps)


def test_a_data_set_that_gives_nothing_ends_with_a_sentence_and_not_a_hang():
    with pytest.raises(ValueError, match="silent"):
        next(training_steps(Numbered(3, silent=frozenset(range(3))), 2, seed=0))


def test_generators_of_neighbouring_numbers_are_unlike():
    draws = torch.stack([torch.rand(64, generator=generator_for(a, b)) for a in range(8) for b in range(8)])
    assert len(draws.unique(dim=0)) == 64
    assert (torch.corrcoef(draws) - torch.eye(64)).abs().max() < 0.6
