"""The control: every sound keeps its content and loses its picture to another clip, for good, and a run of it is marked as such."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mavil_edu import cli, tiny
from mavil_edu.config import AugmentConfig
from mavil_edu.data.batch import Sample, Skipped
from mavil_edu.data.loader import training_steps
from mavil_edu.data.shuffled import ShuffledPairs, derangement
from mavil_edu.data.world import World
from mavil_edu.run import RunError, pretrain_on

SAMPLES = Path(__file__).parent.parent / "data_samples"
CONFIG = tiny()
PLAIN = AugmentConfig(roll=False, magnitude=False, crop=(1.0, 1.0), flip=False)


class Broken:
    """Clips of which one gives no sample."""

    def __init__(self, clips: World, broken: int):
        self.clips, self.broken, self.labels = clips, broken, clips.labels

    def __len__(self) -> int:
        return len(self.clips)

    def name(self, index: int) -> str:
        return self.clips.name(index)

    def sample(self, index: int, generator: torch.Generator | None) -> Sample | Skipped:
        return Skipped(self.name(index), "broken") if index == self.broken else self.clips.sample(index, generator)


@pytest.fixture(scope="module")
def world() -> World:
    return World(8, 5, CONFIG.model, PLAIN, quiet=True)


@pytest.mark.parametrize("n", [2, 3, 10, 1000])
def test_no_clip_keeps_its_picture_and_each_picture_is_used_once(n):
    for seed in range(20):
        order = derangement(n, seed)
        assert sorted(order) == list(range(n)) and all(i != partner for i, partner in enumerate(order))
        assert order == derangement(n, seed)
    assert n < 10 or derangement(n, 0) != derangement(n, 1)


def test_every_derangement_of_four_is_equally_likely():
    counts = Counter(tuple(derangement(4, seed)) for seed in range(1800))
    assert len(counts) == 9 and all(150 < count < 250 for count in counts.values())


def test_one_clip_cannot_be_shuffled():
    with pytest.raises(ValueError, match="two or more"):
        derangement(1, 0)


def test_a_sample_is_one_clips_sound_and_anothers_picture(world):
    clips = ShuffledPairs(world, seed=0)
    assert len(clips) == len(world) and clips.labels == {}
    for i in range(len(clips)):
        sample, heard, seen = clips.sample(i, None), world.sample(i, None), world.sample(clips.partners[i], None)
        assert torch.equal(sample.waveform, heard.waveform) and torch.equal(sample.heard, heard.heard)
        assert torch.equal(sample.frames, seen.frames) and torch.equal(sample.seen, seen.seen)
        assert not torch.equal(sample.frames, heard.frames)
        assert clips.name(i) == f"sound of generated clip {i}, picture of generated clip {clips.partners[i]}"


def test_a_clip_that_gives_no_sample_spoils_both_its_halves_and_no_other(world):
    clips = ShuffledPairs(Broken(world, 3), seed=0)
    skipped = {i for i in range(len(clips)) if isinstance(clips.sample(i, None), Skipped)}
    assert skipped == {3, clips.partners.index(3)}


def test_draws_are_augmented_and_follow_from_the_seed_alone():
    augmented = replace(PLAIN, roll=True, crop=(0.4, 0.6))
    clips = ShuffledPairs(World(6, 5, CONFIG.model, augmented, quiet=True), seed=1)
    one, other = (next(training_steps(clips, 6, seed=2)).batch for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    changed, plain = clips.sample(0, torch.Generator().manual_seed(0)), clips.sample(0, None)
    assert not torch.equal(changed.waveform, plain.waveform) and not torch.equal(changed.frames, plain.frames)


@pytest.fixture
def one_example(monkeypatch) -> None:
    """Runs write one example and not six: these tests are about other things."""
    monkeypatch.setattr("mavil_edu.run.EXAMPLES", 1)


def test_a_control_run_is_marked_measured_on_true_pairs_and_resumed_as_what_it_is(one_example, tmp_path, capsys):
    run = tmp_path / "control"
    small = ["--steps", "2", "--config.train.batch", "4"]
    assert cli.main(["pretrain", "--data", str(SAMPLES), "--out", str(run), "--shuffled-pairs", *small]) == 0
    assert "control" in capsys.readouterr().err
    assert json.loads((run / "config.json").read_text())["shuffled_pairs"] is True
    assert json.loads((run / "summary.json").read_text())["shuffled_pairs"] is True
    assert "&quot;shuffled_pairs&quot;: true" in (run / "report.html").read_text()
    assert "another clip" in (run / "report.html").read_text()
    titles = [entry["title"] for entry in json.loads((run / "examples.json").read_text())]
    assert titles and not any("picture of" in title for title in titles)
    assert cli.main(["pretrain", "--data", str(SAMPLES), "--out", str(run), "--resume"]) == 0
    assert json.loads((run / "summary.json").read_text())["shuffled_pairs"] is True


def test_a_run_of_true_pairs_is_not_marked_and_cannot_become_a_control(one_example, tmp_path):
    run = tmp_path / "true"
    config = replace(CONFIG, train=replace(CONFIG.train, steps=1, batch=4))
    assert pretrain_on(SAMPLES, None, config, run)["shuffled_pairs"] is False
    assert "another clip's picture" not in (run / "report.html").read_text()
    with pytest.raises(RunError, match="began with true pairs"):
        pretrain_on(SAMPLES, None, config, run, resume=True, shuffled_pairs=True)
    assert pretrain_on(SAMPLES, None, config, run, resume=True)["shuffled_pairs"] is False
