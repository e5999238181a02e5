"""Each loss against a double loop, a closed form and a symmetry; each trivial answer against one worked out by hand."""

import math

import pytest
import torch

from mavil_edu.losses import (
    info_nce,
    inter_modal,
    intra_modal,
    log_b,
    masked_mse,
    mean_plus_residual,
    nearest_visible,
    normalise_patches,
    patch_statistics,
    trivial_answers,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_info_nce_equals_a_double_loop():
    x, y, tau = random(5, 7), random(5, 7, seed=1), 0.3
    total = 0.0
    for i in range(5):
        scores = [math.exp(float(x[i] @ y[j] / (x[i].norm() * y[j].norm())) / tau) for j in range(5)]
        total -= math.log(scores[i] / sum(scores)) / 5
    assert float(info_nce(x, y, tau)) == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_info_nce_is_log_b_on_equal_embeddings(batch):
    x = torch.ones(batch, 8)
    assert float(info_nce(x, x, 0.1)) == pytest.approx(log_b(batch), abs=1e-5)


def test_info_nce_is_near_0_on_orthogonal_pairs_and_does_not_see_length():
    x = torch.eye(8)
    assert float(info_nce(x, x, 0.05)) < 1e-6
    y = random(8, 8)
    assert torch.isclose(info_nce(x, y, 0.1), info_nce(3 * x, 5 * y, 0.1))


def test_inter_modal_is_symmetric_and_info_nce_is_not():
    a, v = random(6, 4), random(6, 4, seed=1)
    assert torch.isclose(inter_modal(a, v, 0.1), inter_modal(v, a, 0.1))
    assert not torch.isclose(info_nce(a, v, 0.1), info_nce(v, a, 0.1))


def test_intra_modal_averages_the_modalities_that_are_there():
    a, b, v, w = (random(6, 4, seed=i) for i in range(4))
    both = intra_modal(a, b, v, w, 0.5)
    assert torch.isclose(both, (info_nce(a, b, 0.5) + info_nce(v, w, 0.5)) / 2)
    assert torch.isclose(intra_modal(None, None, v, w, 0.5), info_nce(v, w, 0.5))
    assert intra_modal(None, None, None, None, 0.5) is None


def test_masked_mse_is_the_mean_over_scored_patches_alone():
    prediction, target = random(2, 3, 4), random(2, 3, 4, seed=1)
    scored = torch.tensor([[True, False, True], [False, False, True]])
    errors = [((prediction[b, n] - target[b, n]) ** 2).mean() for b in range(2) for n in range(3) if scored[b, n]]
    assert float(masked_mse(prediction, target, scored)) == pytest.approx(float(sum(errors) / 3), rel=1e-6)


def test_masked_mse_is_0_and_not_nan_where_nothing_is_scored():
    prediction = random(2, 3, 4).requires_grad_()
    loss = masked_mse(prediction, random(2, 3, 4, seed=1), torch.zeros(2, 3, dtype=torch.bool))
    loss.backward()
    assert float(loss) == 0.0
    assert not prediction.grad.any()


def test_normalised_patches_have_mean_0_and_variance_1_and_their_statistics_bring_them_back():
    patches = 5 + 3 * random(2, 6, 32)
    normalised = normalise_patches(patches)
    assert torch.allclose(normalised.mean(-1), torch.zeros(2, 6, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(normalised.var(-1), torch.ones(2, 6, dtype=torch.float64), atol=1e-5)
    mean, std = patch_statistics(patches)
    assert torch.allclose(normalised * std + mean, patches)


def test_a_flat_patch_becomes_zeros_and_not_nan():
    assert not normalise_patches(torch.full((1, 1, 16), 0.467)).any()


def test_nearest_visible_copies_the_nearest_patch_by_grid_distance():
    target = torch.arange(6.0).view(1, 6, 1)  # a grid of 2 × 3: 0 1 2 / 3 4 5
    mask = torch.tensor([[True, True, False, False, True, True]])
    assert nearest_visible(target, mask, (2, 3)).flatten().tolist() == [3, 2, 2, 3, 3, 2]


def test_mean_plus_residual_adds_the_touching_visible_neighbours_mean_residual():
    position_mean = torch.tensor([[10.0], [20.0], [30.0], [40.0], [50.0], [60.0], [70.0]])  # a grid of 1 × 7
    target = torch.tensor([[[11.0], [0.0], [34.0], [0.0], [0.0], [69.0], [0.0]]])
    mask = torch.tensor([[False, True, False, True, True, False, True]])
    answer = mean_plus_residual(target, mask, (1, 7), position_mean)[0, :, 0]
    assert answer[1] == 20 + (1 + 4) / 2  # between two visible ones
    assert answer[3] == 40 + 4  # place 5 is visible too, but does not touch it
    assert answer[4] == 50 + 9
    alone = mean_plus_residual(target[:, :3], torch.tensor([[False, True, True]]), (1, 3), position_mean[:3])[0, :, 0]
    assert alone[2] == 30  # nothing visible touches it


def test_a_trivial_answer_is_scored_on_the_same_patches_as_the_model():
    target = torch.tensor([[[1.0], [2.0], [3.0]]])
    mask = torch.tensor([[True, False, True]])
    scored = torch.tensor([[True, False, False]])
    answers = trivial_answers(target, mask, scored, (3,), torch.zeros(3, 1))
    assert answers == {"position_mean": 1.0, "nearest_visible": 1.0, "mean_plus_residual": 1.0}
