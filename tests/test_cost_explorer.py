"""The cost explorer says what the cost model says, for every choice, and quickly."""

from dataclasses import replace

import pytest

from mavil_edu.config import paper, tiny
from mavil_edu.cost import Plan, Rate, Reading, predict
from mavil_edu.explorers.cost import COLOURS, KINDS, NUMBERS, CostView, cost_explorer, planned


@pytest.fixture(scope="module")
def config():
    return replace(paper(), train=replace(paper().train, precision="bf16-mixed"))


@pytest.fixture
def explorer(config):
    return cost_explorer(config, 2_000_000, 20)


def test_it_says_the_models_hours_shares_and_memory(explorer, config):
    for devices, kind, share, network in ((64, "H100", 40, 25.0), (1, "V100", 30, 2.5), (512, "A100", 55, 250.0)):
        for name, value in {"devices": devices, "tflops": KINDS[kind], "share": share, "network": network}.items():
            explorer.controls[name].value = value
        rounds = {1: 16}.get(devices, 1)
        wanted = replace(config, train=replace(config.train, accumulate=rounds, save_every=2000))
        plan = Plan(2_000_000, 20, devices, gigabytes_a_second=network)
        found = predict(wanted, plan, Rate(KINDS[kind] * share / 100), Reading())
        said = explorer.shown.sentence
        assert said.startswith(f"{devices} {kind} at {share} % of their peak, {network:g} GB/s: {found['hours']:.1f} hours, ")
        assert f"arithmetic {100 * found['seconds']['arithmetic'] / 3600 / found['hours']:.0f} %" in said
        assert f"{found['memory_megabytes']['peak'] * 2**20 / 1e9:.0f} GB on each." in said and found["clips_at_once"] <= 32


def test_one_device_is_as_fast_as_one_and_a_slow_network_makes_many_wait(explorer):
    explorer.controls["devices"].value = 1
    assert ", 1.0 times as fast as one;" in explorer.shown.sentence and "exchange" not in explorer.shown.sentence
    explorer.controls["devices"].value = 64
    usual = explorer.shown.sentence
    explorer.controls["network"].value = 2.5
    hours = [float(sentence.split(" GB/s: ")[1].split(" hours")[0]) for sentence in (usual, explorer.shown.sentence)]
    assert hours[1] > 5 * hours[0]


def test_the_parts_that_can_be_named_have_a_bar(config):
    found = planned(config, 2_000_000, 20, 64, 400.0, 25.0)
    assert {name for name, value in found["seconds"].items() if value} <= set(COLOURS)


def test_every_number_of_devices_shares_the_batch(config):
    assert [planned(config, 2_000_000, 1, number, 400.0, 25.0)["devices"] for number in NUMBERS] == list(NUMBERS)


@pytest.mark.parametrize(("options", "words"), [({"devices": 3}, "the devices 3"), ({"kind": "abacus"}, "kind 'abacus'")])
def test_what_cannot_be_is_refused(config, options, words):
    with pytest.raises(ValueError, match=words):
        cost_explorer(config, 1000, 1, **options)
    with pytest.raises(ValueError, match="The batch is 32"):
        cost_explorer(tiny(), 1000, 1)


def test_the_mark_the_curve_and_the_shares_are_drawn():
    view, hours, shares = CostView(), [100.0 / number for number in NUMBERS], {"arithmetic": 60.0, "exchange": 40.0}
    pictures = [
        view.png(hours, 3, shares),
        view.png(hours, 5, shares),
        view.png([2 * one for one in hours], 3, shares),
        view.png(hours, 3, {"arithmetic": 50.0, "exchange": 50.0}),
    ]
    assert len(set(pictures)) == 4 and view.png(hours, 3, shares) == pictures[0]


def test_pictures_differ_come_back_and_are_quick(explorer, seconds_until_shown):
    before = explorer.picture.value
    assert seconds_until_shown(explorer, *(("devices", devices) for devices in (8, 128, 1))) < 0.15
    for devices in (8, 128, 1):
        explorer.controls["devices"].value = devices
        assert explorer.picture.value != before
    explorer.controls["devices"].value = 64
    assert explorer.picture.value == before


def test_without_a_kernel_picture_and_sentence_remain(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/html"].count("<img") == 1 and bundle["text/plain"].startswith("64 H100 at 40 %")
