"""The order of clips follows from the seed and the draw alone."""

from itertools import islice

import pytest
import torch

from mavil_edu.data.batch import Sample, Skipped
from mavil_edu.data.loader import evaluation_samples, generator_for, training_steps


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


def clips_of(steps):
    return [[int(n) for n in step.batch.waveform[:, 0].tolist()] for step in steps]


def test_an_epochs_last_incomplete_batch_is_dropped_and_counted():
    steps = list(islice(training_steps(Numbered(11), 4, seed=0), 6))
    epochs = [sum(clips_of(steps[i : i + 2]), []) for i in (0, 2, 4)]
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert len({tuple(sorted(set(range(11)) - set(epoch))) for epoch in epochs}) > 1, "the same clips are left out each time"
    assert [step.dropped for step in steps] == [0, 3, 3, 6, 6, 9]
    assert [step.drawn for step in steps] == [4, 8, 12, 16, 20, 24]


@pytest.mark.parametrize("workers", [0, 3])
def test_ranks_share_each_global_batch_without_overlap(workers):
    clips = Numbered(13, silent=frozenset({2, 5, 11}))
    whole = list(islice(training_steps(clips, 6, seed=5), 5))
    parts = [list(islice(training_steps(clips, 6, seed=5, rank=rank, ranks=3, workers=workers), 5)) for rank in range(3)]
    for step, *shares in zip(whole, *parts, strict=True):
        assert torch.equal(step.batch.waveform, torch.cat([share.batch.waveform for share in shares]))
        assert {share.drawn for share in shares} == {step.drawn} and {share.dropped for share in shares} == {step.dropped}
        assert sum((share.skipped for share in shares), []) == step.skipped


def test_a_clip_without_a_sample_is_replaced_by_one_that_is_not_in_the_batch():
    for seed in range(10):
        for batch in clips_of(islice(training_steps(Numbered(12, silent=frozenset({4})), 4, seed=seed), 6)):
            assert len(set(batch)) == 4 and 4 not in batch


@pytest.mark.parametrize(("count", "silent"), [(33, 1), (40, 6), (64, 20), (200, 40)])
def test_no_clip_stands_twice_in_a_batch_while_one_outside_it_can_take_a_silent_ones_place(count, silent):
    for seed in range(5):
        meant = clips_of(islice(training_steps(Numbered(count), 32, seed=seed), 4))
        given = clips_of(islice(training_steps(Numbered(count, silent=frozenset(range(silent))), 32, seed=seed), 4))
        for batch, got in zip(meant, given, strict=True):
            taken = [new for old, new in zip(batch, got, strict=True) if new != old]
            assert len(taken) == sum(number < silent for number in batch)
            outside = [number for number in range(silent, count) if number not in batch]
            assert not set(taken) & set(batch) or not outside
            assert len(set(taken)) == len(taken) or len(outside) < 32


def test_one_good_clip_among_many_is_found_and_errors_of_workers_have_no_traceback():
    assert clips_of(islice(training_steps(Numbered(5, silent=frozenset(range(4))), 2, seed=0), 2)) == [[4, 4], [4, 4]]
    with pytest.raises(ValueError, match="silent") as caught:
        next(training_steps(Numbered(3, silent=frozenset(range(3))), 2, seed=0, workers=1))
    assert "Traceback" not in str(caught.value)


def test_batches_and_positions_that_cannot_be_are_refused():
    for options, sentence in (
        ({"batch": 6}, "give a batch from 1 to 5"),
        ({"batch": 4, "ranks": 3}, "multiple of 3"),
        ({"batch": 4, "rank": 2, "ranks": 2}, "cannot be shared"),
        ({"batch": 4, "drawn": 3}, "another batch"),
    ):
        with pytest.raises(ValueError, match=sentence):
            next(training_steps(Numbered(5), seed=0, **options))


class Evaluated(Numbered):
    def sample(self, index, generator):
        assert generator is None
        return super().sample(index, torch.Generator().manual_seed(index))


@pytest.mark.parametrize("clips", [0, 1, 5, 6, 97])
def test_every_clip_is_evaluated_once_over_ranks_and_workers(clips):
    for ranks, workers in ((1, 0), (2, 0), (2, 1), (4, 0)):
        found = [list(evaluation_samples(Evaluated(clips), rank, ranks, workers)) for rank in range(ranks)]
        assert [number for part in found for number, _ in part] == list(range(clips))
        assert all(int(sample.waveform[0]) == number for part in found for number, sample in part)
        assert max(map(len, found)) - min(map(len, found)) <= 1
