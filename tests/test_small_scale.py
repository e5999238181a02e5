"""The statistics of scripts/small_scale.py: seeds are paired, and a difference is told from none by its interval."""

import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("small_scale", Path(__file__).parent.parent / "scripts" / "small_scale.py")
small_scale = importlib.util.module_from_spec(spec)
spec.loader.exec_module(small_scale)


def rows(*values: float, seeds=(0, 1, 2)) -> list[dict]:
    return [{"seed": seed, "probes": {"material from audio": {"value": v}}} for seed, v in zip(seeds, values, strict=True)]


def cells(table: str) -> list[str]:
    return [cell.strip() for cell in table.splitlines()[-1].split("|")[1:-1]]


def test_the_difference_is_taken_seed_by_seed():
    """Seeds differ by tens of points, and the second is 1 point above the first in each: that is told, with Student's t of 2 degrees."""
    found = small_scale.paired({"a": rows(0.10, 0.50, 0.90), "b": rows(0.92, 0.11, 0.51, seeds=(2, 0, 1))}, "a", "b")
    assert cells(found)[:3] == ["material from audio, %", "50.0", "51.3"]
    differences = (1.0, 1.0, 2.0)
    middle = sum(differences) / 3
    half = 4.3027 * (sum((d - middle) ** 2 for d in differences) / 2) ** 0.5 / 3**0.5
    assert cells(found)[-1] == f"{middle:+.1f} ± {half:.1f}", "1.3 ± 1.4 does not leave out 0, and is not bold"


def test_a_difference_beyond_its_interval_is_bold_and_one_within_it_is_not():
    assert cells(small_scale.paired({"a": rows(0.1, 0.5, 0.9), "b": rows(0.111, 0.510, 0.911)}, "a", "b"))[-1].startswith("**+1.1")
    assert not cells(small_scale.paired({"a": rows(0.1, 0.5, 0.9), "b": rows(0.2, 0.5, 0.8)}, "a", "b"))[-1].startswith("**")


def test_seeds_that_only_one_of_them_has_are_left_out_and_one_pair_is_too_few():
    found = small_scale.paired({"a": rows(0.1, 0.2, 0.9), "b": rows(0.2, 0.3, seeds=(0, 1))}, "a", "b")
    assert "(2 seeds)" in found and cells(found)[1] == "15.0"
    with pytest.raises(SystemExit, match="two seeds in common; they have 1"):
        small_scale.paired({"a": rows(0.1, seeds=(0,)), "b": rows(0.2, 0.3, seeds=(0, 1))}, "a", "b")
