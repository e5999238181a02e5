"""What masks promise."""

import math
import re
from pathlib import Path
from typing import get_args

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

from mavil_edu.config import AudioMasking, VideoMasking
from mavil_edu.masking import (
    AUDIO_STRATEGIES,
    VIDEO_STRATEGIES,
    block_mask,
    check_mask,
    frame_mask,
    frequency_mask,
    keep_visible,
    put_back,
    random_mask,
    scheduled_ratio,
    time_frequency_mask,
    time_mask,
    tube_mask,
    visible_count,
    visible_places,
)

STRATEGIES = [(name, 2, mask) for name, mask in AUDIO_STRATEGIES.items()] + [(name, 3, mask) for name, mask in VIDEO_STRATEGIES.items()]
EVERY = pytest.mark.parametrize(("name", "axes", "strategy"), STRATEGIES, ids=[f"{name}-{axes}d" for name, axes, _ in STRATEGIES])
RATIOS = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 0.75, 0.8, 0.9, 1.0]))
DRAWN = settings(max_examples=250, deadline=None)  # drawn cases of each strategy


def grids(axes: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(1, 16 if axes == 2 else 7)] * axes)


def drawn(strategy, rows: int, grid: tuple[int, ...], ratio: float, seed: int = 0) -> torch.Tensor:
    return strategy(rows, grid, ratio, torch.Generator().manual_seed(seed))


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


@EVERY
def test_every_strategy_hides_in_every_row_exactly_the_number_that_visible_count_says(name, axes, strategy):
    @DRAWN
    @given(rows=st.integers(1, 5), grid=grids(axes), ratio=RATIOS, seed=st.integers(0, 2**31))
    def holds(rows, grid, ratio, seed):
        mask = drawn(strategy, rows, grid, ratio, seed)
        check_mask(mask, rows, math.prod(grid))
        assert int((~mask[0]).sum()) == visible_count(grid, ratio, name)
        assert torch.equal(mask, drawn(strategy, rows, grid, ratio, seed)), "the same generator, the same mask"

    holds()


@EVERY
def test_ratio_0_hides_nothing_ratio_1_everything_and_between_them_something_is_seen(name, axes, strategy):
    grid = (8, 8) if axes == 2 else (4, 4, 4)
    assert not drawn(strategy, 3, grid, 0.0).any()
    assert drawn(strategy, 3, grid, 1.0).all()
    if name != "random":
        assert not drawn(strategy, 3, grid, 0.999).all()


@EVERY
def test_a_strategys_rows_differ_and_so_do_its_generators(name, axes, strategy):
    grid = (16, 8) if axes == 2 else (4, 6, 6)
    mask = drawn(strategy, 200, grid, 0.5)
    assert len(mask.unique(dim=0)) > (5 if name == "frame" else 50)
    assert not torch.equal(mask, drawn(strategy, 200, grid, 0.5, seed=1))


@EVERY
def test_a_strategy_hides_every_place_about_equally_often(name, axes, strategy):
    for grid in ((16, 8), (8, 8)) if axes == 2 else ((4, 14, 14), (4, 4, 4)):
        for ratio in (0.5, 0.8):
            mask = drawn(strategy, 3000, grid, ratio)
            share = 1 - visible_count(grid, ratio, name) / math.prod(grid)
            tolerance = 0.06 if name == "block" else 0.04  # a block's last rows are cut, so its lower edge is hidden a little less
            assert float((mask.float().mean(0) - share).abs().max()) < tolerance


@DRAWN
@given(grid=grids(2), ratio=RATIOS, seed=st.integers(0, 2**31))
def test_time_and_frequency_masks_hide_whole_columns_and_whole_rows(grid, ratio, seed):
    t, f = grid
    in_time, in_frequency, both = (
        rearrange(drawn(mask, 2, grid, ratio, seed), "b (t f) -> b t f", t=t) for mask in (time_mask, frequency_mask, time_frequency_mask)
    )
    assert torch.equal(in_time, in_time[:, :, :1].expand(-1, -1, f))
    assert torch.equal(in_frequency, in_frequency[:, :1].expand(-1, t, -1))
    assert torch.equal(both, both.all(dim=2, keepdim=True) | both.all(dim=1, keepdim=True)), "what is hidden lies in a hidden line"


@DRAWN
@given(grid=grids(3), ratio=RATIOS, seed=st.integers(0, 2**31))
def test_tubes_and_blocks_are_the_same_in_each_time_patch_and_frames_are_whole(grid, ratio, seed):
    t, h, w = grid
    tubes, blocks, frames = (
        rearrange(drawn(mask, 2, grid, ratio, seed), "b (t hw) -> b t hw", t=t) for mask in (tube_mask, block_mask, frame_mask)
    )
    assert torch.equal(tubes, tubes[:, :1].expand(-1, t, -1))
    assert torch.equal(blocks, blocks[:, :1].expand(-1, t, -1))
    assert torch.equal(frames, frames[:, :, :1].expand(-1, -1, h * w))


def test_blocks_have_much_less_border_between_hidden_and_visible_than_tubes():
    def borders(mask):
        places = rearrange(mask, "b (t h w) -> b t h w", t=4, h=14)[:, 0]
        return float((places[:, 1:] ^ places[:, :-1]).float().mean() + (places[..., 1:] ^ places[..., :-1]).float().mean())

    tubes, blocks = (drawn(mask, 500, (4, 14, 14), 0.5) for mask in (tube_mask, block_mask))
    assert borders(blocks) < 0.4 * borders(tubes)


def test_eighty_per_cent_of_64_columns_is_51_columns_and_of_4_frames_3():
    assert 512 - visible_count((64, 8), 0.8, "time") == 51 * 8 == 408
    assert 512 - visible_count((64, 8), 0.8, "frequency") == 6 * 64
    assert 784 - visible_count((4, 14, 14), 0.8, "tube") == 784 - visible_count((4, 14, 14), 0.8, "block") == 4 * 157
    assert 784 - visible_count((4, 14, 14), 0.8, "frame") == 3 * 196
    assert visible_count((64, 8), 0.8, "time+frequency") == 26 * 4


@DRAWN
@given(grid=st.tuples(st.integers(8, 64), st.integers(8, 16)), ratio=st.floats(0.05, 0.95))
def test_time_and_frequency_together_come_near_the_ratio(grid, ratio):
    share = 1 - visible_count(grid, ratio, "time+frequency") / math.prod(grid)
    assert abs(share - ratio) <= 0.5 / grid[0] + 0.05


def test_the_config_and_the_dictionaries_name_the_same_strategies():
    assert get_args(AudioMasking) == tuple(AUDIO_STRATEGIES)
    assert get_args(VideoMasking) == tuple(VIDEO_STRATEGIES)


@EVERY
@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_every_strategy_refuses_a_ratio_outside_0_to_1(name, axes, strategy, ratio):
    for call in (lambda: strategy(2, (4, 4, 4)[:axes], ratio, None), lambda: visible_count((4, 4, 4)[:axes], ratio, name)):
        with pytest.raises(ValueError, match="between 0"):
            call()


def test_a_strategy_that_a_grid_does_not_know_is_refused_with_those_it_knows():
    with pytest.raises(ValueError, match=r"'tube'.*random, time, frequency, time\+frequency"):
        visible_count((8, 8), 0.5, "tube")
    with pytest.raises(ValueError, match="'time'.*random, tube, frame, block"):
        visible_count((4, 4, 4), 0.5, "time")
    with pytest.raises(ValueError, match="'tube'.*choose from random"):
        visible_count(64, 0.5, "tube")


def test_the_counts_in_the_docs_are_those_of_the_code():
    text = (Path(__file__).parent.parent / "docs" / "masking.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S+) \| ([\d × ]+) \| (\d+) \| (\d+) \| (\d+) \|$", text, flags=re.MULTILINE)
    assert len(rows) == 16
    for name, size, *counts in rows:
        grid = tuple(map(int, size.split(" × ")))
        assert [math.prod(grid) - visible_count(grid, ratio, name) for ratio in (0.5, 0.8, 0.9)] == list(map(int, counts))


def test_a_ratio_goes_from_its_start_to_its_end_in_a_line_or_along_half_a_cosine():
    line = [scheduled_ratio(step, 11, 0.5, 0.9) for step in range(11)]
    assert line == pytest.approx([0.5 + 0.04 * step for step in range(11)])
    curve = [scheduled_ratio(step, 11, 0.5, 0.9, "cosine") for step in range(11)]
    assert (curve[0], curve[5], curve[10]) == pytest.approx((0.5, 0.7, 0.9))
    assert curve[1] < line[1] and curve[9] > line[9]
    assert all(a < b for a, b in zip(curve, curve[1:], strict=False))
    assert scheduled_ratio(0, 11, 0.9, 0.5) == 0.9, "it may fall, too"


@given(step=st.integers(0, 10_000), steps=st.integers(1, 10_000), start=st.floats(0, 1), end=st.floats(0, 1))
def test_a_scheduled_ratio_never_leaves_its_two_ends_and_without_a_start_stays(step, steps, start, end):
    assert scheduled_ratio(step, steps, None, end) == end
    for schedule in ("linear", "cosine"):
        ratio = scheduled_ratio(step, steps, start, end, schedule)
        assert min(start, end) - 1e-12 <= ratio <= max(start, end) + 1e-12
        assert 0 <= ratio <= 1
    assert scheduled_ratio(steps - 1, steps, start, end, "cosine") == end
