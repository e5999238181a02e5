"""What masks promise."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mavil_edu.masking import check_mask, keep_visible, put_back, random_mask, visible_count, visible_places


def test_eighty_per_cent_of_the_papers_tokens():
    assert visible_count(512, 0.8) == 102
    assert visible_count(784, 0.8) == 157


@given(rows=st.integers(1, 5), tokens=st.integers(1, 200), ratio=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_every_row_hides_exactly_the_promised_number(rows, tokens, ratio, seed):
    mask = random_mask(rows, tokens, ratio, torch.Generator().manual_seed(seed))
    check_mask(mask, rows, tokens)
    assert ((~mask).sum(1) == visible_count(tokens, ratio)).all()
    assert visible_count(tokens, ratio) == tokens - round(tokens * ratio)


@given(rows=st.integers(1, 4), tokens=st.integers(1, 60), ratio=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_keep_and_put_back_are_inverse_and_keep_the_order(rows, tokens, ratio, seed):
    mask = random_mask(rows, tokens, ratio, torch.Generator().manual_seed(seed))
    x = torch.arange(rows * tokens * 2.0).view(rows, tokens, 2)
    visible = keep_visible(x, mask)
    assert all(torch.equal(row, full[~hidden]) for row, full, hidden in zip(visible, x, mask, strict=True))
    whole = put_back(visible, mask, torch.tensor([-1.0, -2.0]))
    assert torch.equal(whole[~mask], x[~mask])
    assert (whole[mask] == torch.tensor([-1.0, -2.0])).all()


def test_ratio_0_keeps_everything_in_place():
    mask = random_mask(3, 50, 0.0)
    assert torch.equal(visible_places(mask), torch.arange(50).expand(3, 50))


def test_every_token_is_hidden_equally_often_and_rows_differ():
    mask = random_mask(4000, 20, 0.8, torch.Generator().manual_seed(0))
    assert (mask.float().mean(0) - 0.8).abs().max() < 0.03
    assert len(mask.unique(dim=0)) > 1000


def test_the_same_generator_state_gives_the_same_mask():
    one, two = (random_mask(4, 64, 0.8, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, random_mask(4, 64, 0.8, torch.Generator().manual_seed(4)))


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_outside_0_to_1_is_refused(ratio):
    with pytest.raises(ValueError, match="between 0"):
        random_mask(2, 10, ratio)
