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
    assert classes["chance_precision_at_1"] == pytest.approx(19 / 39), "the class prior without the query itself"
    for way in ("audio_to_video", "video_to_audio"):
        assert all(classes[way][name] == pytest.approx(classes[f"chance_{name}"]) for name in ("precision_at_1", "precision_at_10", "map"))


def test_rounding_is_no_knowledge():
    """Embeddings that differ in their last bits only are equal: they rank nothing."""
    x = torch.nn.functional.normalize(torch.ones(50, 8) + 1e-7 * torch.randn(50, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    assert retrieval(x, x)["audio_to_video"]["r1"] == pytest.approx(0.02)


def test_embeddings_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        retrieval(torch.full((3, 2), torch.nan), torch.eye(3, 2))


def test_retrieval_by_class_made_by_hand():
    video = torch.eye(4)
    audio = torch.eye(4)[[1, 0, 3, 2]]  # each sound finds the other clip's picture: of its class for the first two
    found = by_class(audio, video, ["a", "a", "b", "b"])
    assert found["audio_to_video"]["precision_at_1"] == found["audio_to_video"]["map"] == 1
    found = by_class(audio, video, ["a", "b", "a", "b"])  # the only other of the class ties with one more: 1st or 2nd of them, or after all
    assert found["audio_to_video"]["precision_at_1"] == 0 and found["queries"] == 4
    assert retrieval(audio, video)["audio_to_video"]["r1"] == 0
    own = by_class(video, video, ["a", "a", "b", "b"])["audio_to_video"]  # only the own clip is near; it is left out, and three tie
    assert own["precision_at_1"] == pytest.approx(1 / 3)


def test_average_precision_equals_scikit_learns():
    from sklearn.metrics import average_precision_score

    generator = torch.Generator().manual_seed(0)
    audio, video = (torch.nn.functional.normalize(torch.randn(30, 6, generator=generator), dim=1) for _ in range(2))
    values = [("x",) if i % 3 else ("x", "y") if i % 2 else ("y",) for i in range(30)]
    found = []
    for i, scores in enumerate((audio @ video.T).tolist()):
        others = [j for j in range(30) if j != i]
        found.append(average_precision_score([bool(set(values[i]) & set(values[j])) for j in others], [scores[j] for j in others]))
    assert by_class(audio, video, values)["audio_to_video"]["map"] == pytest.approx(sum(found) / 30, abs=1e-6)


def test_clips_of_no_known_class_are_left_out():
    x = torch.eye(5)
    found = by_class(x, x, ["a", "", "b", "a", ""])
    assert (found["clips"], found["queries"], found["left_out"]) == (3, 2, 2), "the only b is searched, but asks for nothing"
    with pytest.raises(ValueError, match="No two of the 5 clips share a class"):
        by_class(x, x, ["a", "", "b", "", ""])
    with pytest.raises(ValueError, match="quantity"):
        by_class(x, x, [0.1, 0.2, 0.3, 0.4, 0.5])
