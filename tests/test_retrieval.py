"""Metrics on small matrices made by hand: a wrong metric poisons every conclusion."""

import pytest
import torch

from mavil_edu.retrieval import by_class, median_rank, recall_at, retrieval


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


def test_the_median_rank_of_a_matrix_made_by_hand():
    similarity = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.5, 0.1], [0.7, 0.6, 0.5]])  # ranks 1, 2, 3
    assert median_rank(similarity) == 2
    assert median_rank(torch.zeros(9, 9)) == 5, "equals share their places: chance"


def test_constant_embeddings_are_at_chance_in_everything():
    constant = torch.nn.functional.normalize(torch.ones(40, 8), dim=1)
    found = retrieval(constant, constant)
    for way in ("audio_to_video", "video_to_audio"):
        assert found[way]["median_rank"] == found["chance_median_rank"] == 20.5
        assert all(found[way][f"r{k}"] == pytest.approx(found[f"chance_r{k}"]) for k in (1, 5, 10))
    classes = by_class(constant, constant, ["a"] * 20 + ["b"] * 20)
    assert classes["chance"] == 0.5
    assert classes["audio_to_video"]["map"] == pytest.approx(0.5, abs=0.1)
    assert classes["audio_to_video"]["precision_at_10"] == pytest.approx(0.5, abs=0.25)


def test_retrieval_by_class_made_by_hand():
    video = torch.eye(4)
    audio = torch.eye(4)[[1, 0, 3, 2]]  # each sound finds the other clip's picture: of its class for the first two
    found = by_class(audio, video, ["a", "a", "b", "c"])["audio_to_video"]
    assert found["precision_at_1"] == 0.5
    assert by_class(audio, video, ["a", "a", "b", "b"])["audio_to_video"]["precision_at_1"] == 1
    assert retrieval(audio, video)["audio_to_video"]["r1"] == 0


def test_average_precision_equals_scikit_learns():
    from sklearn.metrics import average_precision_score

    generator = torch.Generator().manual_seed(0)
    audio, video = (torch.nn.functional.normalize(torch.randn(30, 6, generator=generator), dim=1) for _ in range(2))
    values = [("x",) if i % 3 else ("x", "y") if i % 2 else ("y",) for i in range(30)]
    wanted = [[bool(set(a) & set(b)) for b in values] for a in values]
    expected = sum(average_precision_score(w, s) for w, s in zip(wanted, (audio @ video.T).tolist(), strict=True)) / 30
    assert by_class(audio, video, values)["audio_to_video"]["map"] == pytest.approx(expected)


def test_clips_of_no_known_class_are_left_out():
    x = torch.eye(5)
    assert by_class(x, x, ["a", "", "b", "a", ""])["clips"] == 3
    with pytest.raises(ValueError, match="1 of 5 clips have a class"):
        by_class(x, x, ["a", "", "", "", ""])
