"""The benchmark: its clocks are right where the truth is known, and the command tells all of it."""

import json
import time
from dataclasses import replace

import torch

from mavil_edu import tiny
from mavil_edu.benchmark import clips_per_second, waiting
from mavil_edu.cli import main
from mavil_edu.data.world import World


class Slow(World):
    """Generated clips, each of which takes a known time to read."""

    def sample(self, index, generator):
        time.sleep(self.pause)
        return super().sample(index, generator)


def slow(pause: float, clips: int = 24) -> Slow:
    config = tiny()
    world = Slow(clips, 0, config.model, config.train.augment, quiet=True)
    world.pause = pause
    return world


def test_clips_that_take_20_ms_come_at_less_than_50_a_second_and_training_waits_for_them():
    rates = clips_per_second(slow(0.02), 8, 0, 0.2)
    assert 20 < rates["first_epoch"] < 50 and 20 < rates["later"] < 50
    config = replace(tiny(), train=replace(tiny().train, batch=4))
    torch.manual_seed(0)
    shares = [waiting(config, slow(pause), 0, 3) for pause in (0.0, 0.2)]
    assert shares[0]["later"]["waiting"] < 0.5 < shares[1]["later"]["waiting"] < 1
    assert shares[1]["later"]["step_ms"] > 800
    assert set(shares[0]) == {"first_epoch", "later"}


def test_the_command_measures_files_shards_and_memory(capsys):
    assert main("benchmark data --clips 8 --seconds 0.1 --steps 2 --workers 0 --json".split()) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["clips"] == answer["batch"] == 8 and answer["plain_loop"] > 0
    for name in ("files", "shards", "memory"):
        assert answer["clips_per_second"][name]["0"]["first_epoch"] > 0
        assert 0 <= answer["training"][name]["0"]["later"]["waiting"] <= 1
    assert main("benchmark data --clips 0".split()) == 2
