"""The verdict explorer: what it says of a difference is what the lab's rule says of as many seeds, paired or not."""

import numpy as np
import pytest

from mavil_edu.explorers.verdict import compared, verdict_explorer
from mavil_edu.lab.claims import LEDGER, Claim, minus
from mavil_edu.lab.verdicts import difference, unpaired, verdict_of

LIKE = [60.0, 65.0, 70.0, 75.0, 80.0]  # seeds differ much, the arms by little and always
MORE = [63.0, 68.5, 72.5, 78.0, 83.2]


def rows_of(**arms: list[float]) -> dict:
    return {name: {seed: {"metrics": {"skill": value}} for seed, value in enumerate(values)} for name, values in arms.items()}


CLAIM = Claim("mine", "b beats a", "O", "b is read better than a", (minus("b", "a"), minus("c", "a"), minus("a", "b", decides=False)), ())
ROWS = rows_of(a=LIKE, b=MORE, c=[*LIKE[:3], 74.0])


@pytest.fixture
def explorer():
    return verdict_explorer([CLAIM], ROWS)


def test_only_deciding_differences_with_two_seeds_or_more_can_be_chosen(explorer):
    assert explorer.controls["which"].max == 1
    assert [len(one.more) for one in compared([CLAIM], ROWS)] == [5, 4] and compared(list(LEDGER.values()), ROWS) == []
    with pytest.raises(ValueError, match="run mavil-edu reproduce first"):
        verdict_explorer(list(LEDGER.values()), ROWS)


@pytest.mark.parametrize("seeds", [2, 3, 4, 5])
@pytest.mark.parametrize("paired", [True, False])
def test_interval_and_verdict_are_the_labs(explorer, seeds, paired):
    explorer.controls["seeds"].value, explorer.controls["paired"].value = seeds, paired
    if paired:
        found = difference([b - a for a, b in zip(LIKE[:seeds], MORE[:seeds], strict=True)], 2)  # of the claim's two that decide
    else:
        found = unpaired(MORE[:seeds], LIKE[:seeds], 0.975)
    sentence = explorer.shown.sentence
    assert f"mean {found.mean:+.1f}, interval {found.low:+.1f} to {found.high:+.1f}" in sentence
    assert sentence.endswith(f"{verdict_of(found, 'more', 1.0)}.") and f"{seeds} seeds" in sentence


def test_pairs_find_what_two_heaps_hide(explorer):
    assert explorer.shown.sentence.endswith("; holds.")
    explorer.controls["paired"].value = False
    assert explorer.shown.sentence.endswith("; undecided.")


def test_one_seed_decides_nothing(explorer):
    explorer.controls["seeds"].value = 1
    for paired in (True, False):
        explorer.controls["paired"].value = paired
        assert "1 seed, " in explorer.shown.sentence and "interval endless" in explorer.shown.sentence
        assert explorer.shown.sentence.endswith("undecided.")


def test_a_difference_with_fewer_seeds_says_how_many_count(explorer):
    explorer.buttons["next ▶"].click()
    assert "mine · c − a" in explorer.shown.sentence and "4 seeds" in explorer.shown.sentence
    explorer.buttons["next ▶"].click()
    assert explorer.controls["which"].value == 1, "the last one"


def test_pictures_differ_and_come_back(explorer):
    before = explorer.picture.value
    explorer.buttons["a seed less"].click()
    assert explorer.picture.value != before
    explorer.buttons["a seed more"].click()
    assert explorer.picture.value == before


def test_every_choice_is_shown_in_under_150_ms(explorer, seconds_until_shown):
    assert seconds_until_shown(explorer, *(("seeds", seeds) for seeds in (4, 3, 2)), ("paired", False), ("seeds", 3), ("seeds", 4)) < 0.15


def test_without_a_kernel_picture_and_sentence_remain(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/html"].count("<img") == 1 and "mine · b − a" in bundle["text/plain"]


def test_an_unpaired_interval_is_welchs():
    one, other = [1.0, 2.0, 4.0, 7.0], [0.0, 1.0, 0.5]
    a, b = np.var(one, ddof=1) / 4, np.var(other, ddof=1) / 3
    freedom = (a + b) ** 2 / (a**2 / 3 + b**2 / 2)
    from scipy.stats import t

    half = t.ppf(0.975, freedom) * (a + b) ** 0.5
    found = unpaired(one, other)
    assert (found.low, found.high) == pytest.approx((3.0 - half, 3.0 + half)) and found.mean == 3.0
    with pytest.raises(ValueError, match="two or more"):
        unpaired([1.0], other)
