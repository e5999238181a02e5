"""A run goes on as it began, whatever the command that goes on with it leaves out; options that would be another run's are refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from mavil_edu import cli
from mavil_edu.config import tiny, to_dict
from mavil_edu.files import write_json
from mavil_edu.resume import RunError

BEGAN = "pretrain --data clips --minutes 2 --seed 5 --config.train.batch 64 --config.train.betas 0.9 0.99 --out"


@pytest.fixture
def run(tmp_path) -> Path:
    """What stands of a run that began with BEGAN: its 40 clips made a batch of 40, and 17 steps fitted into its minutes."""
    config = tiny()
    config = replace(config, train=replace(config.train, batch=40, steps=17, betas=(0.9, 0.99)))
    stored = {"config": to_dict(config), "seed": 5, "minutes": 2.0, "command": ["mavil-edu", *BEGAN.split(), str(tmp_path / "run")]}
    write_json(tmp_path / "run" / "config.json", stored)
    return tmp_path / "run"


def asked(run: Path, *options: object) -> dict:
    """The options that `pretrain --resume` binds."""
    return cli._parsed(["pretrain", "--data", "clips", "--out", str(run), "--resume", *map(str, options)]).keywords


def test_what_is_left_out_is_the_runs_own(run):
    found = asked(run)
    assert found["seed"] == 5 and found["config"].train.batch == 40 and found["config"].train.steps == 17
    assert found["config"].train.betas == (0.9, 0.99)


def test_the_same_command_with_resume_goes_on_and_so_does_one_that_says_what_the_run_is(run):
    asked(run, *BEGAN.split()[3:-1])
    asked(run, "--steps", 17, "--preset", "tiny", "--seed", 5, "--config.train.batch", 40)
    asked(run, "--workers", 2, "--processes", 2, "--eval-data", "others")
    assert asked(run, "--config.train.shard-weights")["config"].train.shard_weights, "a run that is too large may be sharded"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--steps", 6, "--config.train.batch", 8, "--seed", 7), "began with --steps 17, and cannot go on with --steps 6: leave that out"),
        (("--seed", 0), "began with --seed 5, and cannot go on with --seed 0"),
        (("--config.train.batch", 8), "began with --config.train.batch 40, and cannot go on with --config.train.batch 8"),
        (
            ("--config.train.betas", 0.5, 0.6),
            "with --config.train.betas 0.9 0.99, and cannot go on with --config.train.betas 0.5 0.6",
        ),
        (("--config.objective.second-ratio", 0.7), "began with --config.objective.second-ratio 0.5, and cannot go on with"),
        (("--config.objective.second-ratio", None), "and cannot go on without --config.objective.second-ratio:"),
        (("--config.train.compile",), "began without --config.train.compile, and cannot go on with --config.train.compile:"),
        (("--minutes", 3), "began with --minutes 2.0, and cannot go on with --minutes 3.0"),
        (("--preset", "small"), "began without --preset, and cannot go on with --preset small"),
        (("--start", "tiny"), "began without --start, and cannot go on with --start tiny"),
        (("--teacher", "tiny"), "began without --teacher, and cannot go on with --teacher tiny"),
        (("--fast",), "began without --fast, and cannot go on with --fast:"),
    ],
)
def test_an_option_that_would_be_another_runs_is_refused_with_the_way_out(run, options, words, capsys):
    with pytest.raises(RunError) as told:
        asked(run, *options)
    assert words in str(told.value) and str(told.value).endswith(f"from its weights if you like: --start {run}.")
    assert cli.main(["pretrain", "--data", "clips", "--out", str(run), "--resume", *map(str, options)]) == 2
    assert capsys.readouterr().err.startswith(f"error: The run in {run} began")


def test_of_a_run_whose_command_is_not_known_its_numbers_count(run):
    config = to_dict(tiny())
    for command in (["pytest", "-q"], ["mavil-edu", "pretrain", "--an-option-of-old"], []):
        write_json(run / "config.json", {"config": config, "seed": 0, "minutes": None, "command": command})
        asked(run, "--seed", 0, "--steps", 3000)
        with pytest.raises(RunError, match="began with --config.train.batch 32, and cannot go on with --config.train.batch 64"):
            asked(run, "--config.train.batch", 64)


def test_iterations_go_on_with_the_numbers_of_the_first(run, tmp_path):
    (tmp_path / "all").mkdir()
    run.rename(tmp_path / "all" / "1")
    assert asked(tmp_path / "all", "--iterations", 2, "--minutes", 2)["config"].train.batch == 40
    with pytest.raises(RunError, match="--config.train.batch 8"):
        asked(tmp_path / "all", "--iterations", 2, "--config.train.batch", 8)
