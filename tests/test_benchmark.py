"""The benchmark: its shares are right where the truth is known, and the command tells all of it."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from mavil_edu import tiny
from mavil_edu.benchmarks import data as benchmark
from mavil_edu.cli import main
from mavil_edu.data.world import World


class Clock:
    """A clock that stands still until it is told to go on: no busy machine can change what it shows."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


class Slow(World):
    """Generated clips, each of which takes a known time to read."""

    def __init__(self, clips: int, clock: Clock, pause: float):
        super().__init__(clips, 0, tiny().model, tiny().train.augment, quiet=True)
        self.clock, self.pause = clock, pause

    def sample(self, index, generator):
        self.clock.now += self.pause
        return super().sample(index, generator)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(benchmark, "time", made)
    return made


def test_clips_that_take_20_ms_come_at_50_a_second(clock):
    rates = benchmark.clips_per_second(Slow(24, clock, 0.02), 8, 0, 0.2)
    assert rates == {"first_epoch": pytest.approx(50), "later": pytest.approx(50)}


@pytest.mark.parametrize(("pause", "share"), [(0.0, 0.0), (0.2, 0.8), (0.05, 0.5)])
def test_the_share_of_a_step_that_is_spent_waiting_is_found(clock, monkeypatch, pause, share):
    def update(*_):
        clock.now += 0.2
        return SimpleNamespace(total=torch.tensor(0.0)), torch.tensor(0.0)

    monkeypatch.setattr(benchmark, "update", update)
    config = replace(tiny(), train=replace(tiny().train, batch=4))
    found = benchmark.waiting(config, Slow(24, clock, pause), 0, 3)
    assert set(found) == {"first_epoch", "later"}
    for phase in found.values():
        assert phase == {"waiting": pytest.approx(share), "step_ms": pytest.approx(1000 * (0.2 + 4 * pause))}


def test_the_command_measures_files_shards_and_memory(one_thread, capsys):
    assert main("benchmark data --clips 8 --seconds 0.1 --steps 2 --workers 0 --json".split()) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["clips"] == answer["batch"] == 8 and answer["plain_loop"] > 0
    for name in ("files", "shards", "memory"):
        assert answer["clips_per_second"][name]["0"]["first_epoch"] > 0
        assert 0 <= answer["training"][name]["0"]["later"]["waiting"] <= 1
    assert main("benchmark data --clips 0".split()) == 2
