"""Metrics on small matrices made by hand: a wrong metric poisons every conclusion."""

import pytest
import torch

from mavil_edu.evaluate import recall_at, retrieval


def test_recall_on_a_matrix_worked_out_by_hand():
    similarity = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.5, 0.1], [0.3, 0.9, 0.1]])  # own column ranks 1st, 2nd, 3rd
    assert recall_at(similarity, 1) == pytest.approx(1 / 3)
    assert recall_at(similarity, 2) == pytest.approx(2 / 3)
    assert recall_at(similarity, 3) == pytest.approx(1.0)


def test_equal_scores_give_chance_and_not_certainty():
    assert recall_at(torch.zeros(10, 10), 1) == pytest.approx(0.1)
    assert recall_at(torch.zeros(10, 10), 5) == pytest.approx(0.5)


def test_the_two_ways_of_retrieval_are_not_mixed_up():
    audio = torch.eye(3)
    video = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0]])
    found = retrieval(audio, video)
    assert found["audio_to_video"]["r1"] == pytest.approx(1.0)  # each sound's best picture is its own
    assert found["video_to_audio"]["r1"] == pytest.approx(2 / 3)  # picture 1 likes sound 0 best
    assert (found["chance_r1"], found["chance_r5"], found["clips"]) == (pytest.approx(1 / 3), 1.0, 3)


def test_random_embeddings_retrieve_at_chance():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.nn.functional.normalize(torch.randn(500, 16, generator=generator), dim=-1) for _ in range(2))
    assert retrieval(x, y)["audio_to_video"]["r5"] == pytest.approx(0.01, abs=0.012)
