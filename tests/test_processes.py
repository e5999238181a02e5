"""Several processes train as one: the same draws, losses, gradients and weights; and one that dies ends the run with a sentence."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_train import Noise, held_out_of, small_config

from mavil_edu import launch, train
from mavil_edu.checkpoint import list_checkpoints, load_checkpoint
from mavil_edu.config import Config, from_dict, tiny
from mavil_edu.data.loader import training_steps
from mavil_edu.fast import fast
from mavil_edu.launch import variables
from mavil_edu.mavil import MAViL
from mavil_edu.optimiser import make_optimiser
from mavil_edu.processes import LeftAlone, ProcessError, check_shared, join, meeting
from mavil_edu.run import resumed_config

TESTS = Path(__file__).parent
SAMPLES = TESTS.parent / "data_samples"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
SMALL = ["--config.model.encoder.width", 24, "--config.model.encoder.depth", 1, "--config.model.decoder.width", 16, "--workers", 0]

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """What 1, 2 and 4 processes computed: see many_processes.py."""
    folder = tmp_path_factory.mktemp("made")
    subprocess.run([sys.executable, TESTS / "many_processes.py", folder], env=ENVIRONMENT, check=True, timeout=300)
    return folder


def of_all(made: Path, case: str, ranks: int) -> list[dict[str, torch.Tensor]]:
    return [load_file(made / f"{case}-{ranks}-{rank}.safetensors") for rank in range(ranks)]


def furthest(ours: dict, wanted: dict) -> tuple[float, str]:
    """The greatest relative distance of two dicts of tensors, and where it is."""
    assert ours.keys() == wanted.keys()
    return max((float((ours[name] - one).norm() / one.norm().clamp(min=1e-9)), name) for name, one in wanted.items())


@pytest.mark.parametrize(
    ("case", "ranks"), [("usual", 2), ("usual", 4), ("accumulated", 2), ("accumulated", 4), ("hidden", 2), ("a part decoded", 2)]
)
def test_losses_and_all_gradients_of_several_processes_are_those_of_one_with_the_whole_batch(made, case, ranks):
    (whole,) = of_all(made, case, 1)
    assert whole["loss total"].dtype == torch.float64
    assert ("loss inter" in whole) == (case != "hidden")
    assert sum(float(value.abs().sum()) > 0 for name, value in whole.items() if not name.startswith("loss")) > 80
    for shared in of_all(made, case, ranks):
        assert furthest(shared, whole)[0] < 1e-6


@pytest.mark.parametrize("ranks", [2, 4])
def test_steps_of_several_processes_lead_to_the_weights_of_one(made, ranks):
    (whole,) = of_all(made, "usual steps", 1)
    moved = [name for name in whole if name.startswith("before ") and not torch.equal(whole[name], whole[name.removeprefix("before ")])]
    assert len(moved) > 80, "the weights have to move for this to mean anything"
    for shared in of_all(made, "usual steps", ranks):
        assert furthest(shared, whole)[0] < 1e-6


def test_a_run_of_two_processes_is_written_by_the_first_alone_and_tells_what_one_process_tells(made):
    rows = [[json.loads(line) for line in (made / f"run-{ranks}" / "metrics.jsonl").read_text().splitlines()] for ranks in (1, 2)]
    assert [row["step"] for row in rows[1]] == [row["step"] for row in rows[0]] and len(rows[0]) == 8 + 2
    for one, two in zip(*rows, strict=True):
        assert {name: value for name, value in two.items() if name != "seconds"} == pytest.approx(
            {name: value for name, value in one.items() if name != "seconds"}, rel=1e-3, abs=1e-4
        )
    assert rows[1][0]["inter_trivial"] == pytest.approx(math.log(4)), "log B of the global batch"
    assert not (made / "none-1").exists()
    states = [json.loads((list_checkpoints(made / f"run-{ranks}" / "checkpoints")[-1] / "state.json").read_text()) for ranks in (1, 2)]
    assert [state["processes"] for state in states] == [1, 2] and states[0]["drawn"] == states[1]["drawn"] == 32
    first, second = of_all(made, "run", 2)
    assert all(torch.equal(first[name], second[name]) for name in first), "both processes hold the same weights"


def test_a_signal_to_one_process_stops_all_after_the_same_step_and_one_process_can_end_what_two_began(made):
    assert [(made / f"broken-off-stopped-{rank}.txt").read_text() for rank in range(2)] == ["stopped by SIGTERM after step 3"] * 2
    rows = [json.loads(line) for line in (made / "broken-off" / "metrics.jsonl").read_text().splitlines()]
    wanted = [json.loads(line) for line in (made / "run-1" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [row["step"] for row in wanted]
    assert [row["total"] for row in rows] == pytest.approx([row["total"] for row in wanted], rel=1e-3)


def test_processes_agree_on_the_steps_of_a_minute_on_what_the_first_finds_and_on_its_errors(made):
    (steps, said, gathered), (steps_too, said_too, gathered_too) = [
        (made / f"agreed-{rank}.txt").read_text().splitlines() for rank in range(2)
    ]
    assert all(int(one) > 0 for one in steps.split()) and len(steps.split()) == 2, "with whole and with sharded weights"
    assert steps == steps_too, "though the second one's clock goes three times as fast"
    assert said == "ValueError: the first process refuses" and said_too.startswith("ToldByFirst")
    assert gathered == gathered_too == "[0, 0, 1, -1]"


def test_all_ranks_together_draw_what_one_process_draws():
    config = small_config()
    whole = training_steps(Noise(20, config), 8, 0)
    shared = [training_steps(Noise(20, config), 8, 0, rank=rank, ranks=4) for rank in range(4)]
    for _ in range(4):  # over the end of an epoch
        one, parts = next(whole), [next(stream) for stream in shared]
        assert sum((part.numbers for part in parts), []) == one.numbers
        assert torch.equal(torch.cat([part.batch.waveform for part in parts]), one.batch.waveform)
        assert {part.drawn for part in parts} == {one.drawn}


def test_a_batch_that_cannot_be_shared_is_refused_with_the_way_out():
    check_shared(10, 4, 1)
    check_shared(24, 2, 4)
    with pytest.raises(ProcessError, match=r"batch of 10 .* multiple of 4 \(--config.train.batch\)"):
        check_shared(10, 1, 4)
    with pytest.raises(ProcessError, match="10 in 2 rounds cannot be shared by 3 .* multiple of 6"):
        check_shared(10, 2, 3)


def test_more_processes_than_gpus_are_refused_and_so_are_options_that_fabric_run_cannot_give(monkeypatch):
    for name, value in variables(0, 4, 1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ProcessError, match="2 GPUs for 4 processes; start 2"):
        join()
    monkeypatch.setenv("LT_STRATEGY", "fsdp")
    with pytest.raises(ProcessError, match="--strategy fsdp"):
        join()
    monkeypatch.setenv("LT_PRECISION", "bf16-mixed")
    with pytest.raises(ProcessError, match="--config.train.precision"):
        join()


def test_only_a_lost_connection_is_told_as_one():
    class Two:
        world_size = 2

    with pytest.raises(LeftAlone, match="2 processes has gone.*--resume"), meeting(Two):
        raise RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer [127.0.0.1]:1234")
    with pytest.raises(ProcessError, match="a store") as told, meeting(Two):
        raise ProcessError("an error of its own, of a store")
    assert type(told.value) is ProcessError
    with pytest.raises(RuntimeError, match="shapes") as told, meeting(Two):
        raise RuntimeError("shapes differ")
    assert type(told.value) is RuntimeError


# Sharded weights (FSDP)

SHARDED = [("usual", 2), ("usual", 4), ("accumulated", 2), ("accumulated", 4), ("hidden", 2), ("a part decoded", 2), ("recomputed", 2)]


@pytest.mark.parametrize(("case", "ranks"), SHARDED)
def test_losses_and_gradients_of_processes_with_sharded_weights_are_those_of_one(made, case, ranks):
    (whole,) = of_all(made, "usual" if case == "recomputed" else case, 1)
    for sharded in of_all(made, f"sharded {case}", ranks):
        assert sharded["loss total"].dtype == torch.float64
        assert furthest(sharded, whole)[0] < 1e-6


@pytest.mark.parametrize("ranks", [2, 4])
def test_they_step_to_the_weights_of_one_and_each_holds_its_part(made, ranks):
    (whole,) = of_all(made, "usual steps", 1)
    for sharded in of_all(made, "sharded steps", ranks):
        assert furthest(sharded, whole)[0] < 1e-6
    (all_of_it,) = [json.loads((made / "usual steps-1-0.json").read_text())]
    held = [json.loads((made / f"sharded steps-{ranks}-{rank}.json").read_text()) for rank in range(ranks)]
    for name in ("weights", "moments"):
        assert sum(one[name] for one in held) == all_of_it[name]
        assert max(one[name] for one in held) < 1.3 * all_of_it[name] / ranks, "rows are dealt out whole, so parts are not quite alike"
    assert all_of_it["moments"] == 2 * all_of_it["weights"]
    assert {one["units"] for one in held} == {1 + 2 + 1 + 2}, "all the rest, and each block: of two encoders, of fusion, of two decoders"


def test_a_run_with_sharded_weights_is_written_as_any_other(made):
    rows = [[json.loads(line) for line in (made / name / "metrics.jsonl").read_text().splitlines()] for name in ("run-2", "sharded run-2")]
    for usual, sharded in zip(*rows, strict=True):
        assert {name: value for name, value in sharded.items() if name != "seconds"} == pytest.approx(
            {name: value for name, value in usual.items() if name != "seconds"}, rel=1e-3, abs=1e-4
        )
    usual, sharded = (list_checkpoints(made / name / "checkpoints")[-1] for name in ("run-2", "sharded run-2"))
    for file in ("model.safetensors", "optimiser.safetensors"):
        ours, wanted = load_file(sharded / file), load_file(usual / file)
        assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in wanted.items()}
        assert furthest({n: v.float() for n, v in ours.items()}, {n: v.float() for n, v in wanted.items()})[0] < 1e-2
    returned = load_file(made / "sharded run-2-0.safetensors")
    assert all(torch.equal(returned[name], value) for name, value in load_file(sharded / "model.safetensors").items())


def test_sharded_weights_learn_in_bfloat16_what_whole_ones_do(made):
    names = ("run-2", "bf16 run-2", "sharded bf16 run-2")
    rows = [[json.loads(line) for line in (made / name / "metrics.jsonl").read_text().splitlines()] for name in names]
    exact, usual, sharded = ([row["total"] for row in one] for one in rows)
    apart = max(abs(a - b) for a, b in zip(usual, exact, strict=True))
    assert max(abs(a - b) for a, b in zip(usual, sharded, strict=True)) < apart / 10, "ten times nearer than float32 is"
    weights = load_file(list_checkpoints(made / "sharded bf16 run-2" / "checkpoints")[-1] / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}, "products alone are in bfloat16"


def test_a_run_with_sharded_weights_that_was_stopped_goes_on_bit_for_bit_with_as_many_processes(made):
    assert [(made / f"sharded-broken-off-stopped-{rank}.txt").read_text() for rank in range(2)] == ["stopped by SIGTERM after step 3"] * 2
    ended, whole = (list_checkpoints(made / name / "checkpoints")[-1] for name in ("sharded-broken-off", "sharded run-2"))
    assert ended.name == whole.name == "step-0000008"
    for file in ("model.safetensors", "random.safetensors"):
        assert (ended / file).read_bytes() == (whole / file).read_bytes()
    parts = [load_file(part) for part in ended.glob("*optimiser.safetensors")]
    ours, wanted = {name: value for part in parts for name, value in part.items()}, load_file(whole / "optimiser.safetensors")
    assert len(parts) > 2 and ours.keys() == wanted.keys() and all(torch.equal(ours[name], value) for name, value in wanted.items())


def test_what_two_processes_with_sharded_weights_saved_one_process_goes_on_with(made, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made / "sharded-broken-off", run)
    shutil.rmtree(run / "checkpoints" / "step-0000008")
    config = small_config(shard_weights=True)
    model, progress = train.train(config, Noise(10, config), held_out_of(config, Noise(6, config)), run, resume=True)
    assert progress.step == 8
    wanted = load_file(made / "sharded run-2" / "model" / "model.safetensors")
    assert furthest(dict(model.state_dict()), wanted)[0] < 1e-2


def test_a_run_with_sharded_weights_that_has_ended_is_what_it_was_when_it_is_resumed(made):
    found, wanted = load_file(made / "sharded-ended.safetensors"), load_file(made / "sharded-broken-off" / "model" / "model.safetensors")
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_run_may_shard_its_weights_from_a_checkpoint_on_and_first_weights_that_differ_are_refused(made):
    rows = [[json.loads(line) for line in (made / name / "metrics.jsonl").read_text().splitlines()] for name in ("run-1", "sharded-later")]
    assert [row["total"] for row in rows[1]] == pytest.approx([row["total"] for row in rows[0]], rel=1e-3)
    for rank in range(2):
        assert "ProcessError: The processes find different first weights" in (made / f"different-{rank}.txt").read_text()


def test_a_resumed_run_keeps_its_config_but_is_sharded_where_either_says_so():
    stored, sharded = tiny(), train.with_shards(tiny(), True)
    asked = replace(sharded, train=replace(sharded.train, batch=7))
    assert resumed_config({"config": stored}, stored) == stored
    assert resumed_config({"config": stored}, asked) == resumed_config({"config": sharded}, stored) == sharded


def test_compiled_blocks_are_refused_where_weights_are_sharded(made):
    for rank in range(2):
        assert "ProcessError: Compiled blocks were never tried with sharded weights" in (made / f"compiled-{rank}.txt").read_text()
    sharded = replace(tiny(), train=replace(tiny().train, shard_weights=True))
    assert not fast(sharded, torch.device("cuda")).train.compile and fast(tiny(), torch.device("cuda")).train.compile


def test_what_docs_scaling_says_of_sharded_weights_is_what_the_stored_result_says_and_the_script_that_made_it_runs():
    ways = json.loads((TESTS.parent / "results" / "sharded_weights.json").read_text())["presets"]["paper"]
    text = (TESTS.parent / "docs" / "scaling.md").read_text(encoding="utf-8")
    for way, found in ways.items():
        most = max(one["megabytes"] for one in found["each"])
        seconds = max(one["seconds"] for one in found["each"])
        weights = found["each"][0]["weights"] / 1e6
        assert f"| {way} | {weights:.1f} M | {most:,.0f} | {found['formula_megabytes']:,.0f} | {seconds:.0f} |" in text
    command = [sys.executable, TESTS.parent / "scripts" / "sharded_weights.py", "--presets", "tiny", "--steps", "1", "--only", "sharded"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=200, check=True)
    (first, second) = json.loads(done.stdout)["presets"]["tiny"]["sharded"]["each"]
    assert first["weights"] + second["weights"] == sum(p.numel() for p in MAViL(tiny()).parameters())


def test_sharded_weights_are_refused_in_a_precision_that_they_cannot_be_trained_in(monkeypatch):
    for name, value in variables(0, 2, 1).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ProcessError, match="16-mixed leave --config.train.shard-weights out"):
        join("16-mixed", shard_weights=True)


# Watching


def watched(tmp_path, script: str, count: int = 2) -> int:
    """The verdict on processes that run a few lines of Python each; `rank` and `place` are theirs."""
    head = f"import os, pathlib, signal, sys, time; rank, place = int(os.environ['RANK']), pathlib.Path({str(tmp_path)!r})\n"
    return launch.watch([sys.executable, "-c", head + script], count)


def test_the_cause_is_told_and_not_what_came_of_it_even_where_that_is_seen_first(tmp_path, capfd):
    script = f"""
if rank == 0:
    sys.exit({launch.LEFT_ALONE})
time.sleep(0.5)
sys.exit("a clip that cannot be read" if rank == 1 else {launch.LEFT_ALONE})
"""
    assert watched(tmp_path, script, 3) == 1
    assert capfd.readouterr().err == "Process 1 of 3 stopped the run:\na clip that cannot be read\n"
    assert watched(tmp_path, f"sys.exit({launch.LEFT_ALONE})") == 2


def test_a_process_that_does_not_end_when_it_is_asked_to_is_killed(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(launch, "GRACE", 1.0)
    script = """
signal.signal(signal.SIGTERM, lambda *_: (place / f"asked {rank}").touch())
(place / f"ready {rank}").write_text(str(os.getpid()))
while rank or not (place / "ready 1").exists():
    time.sleep(0.05)
os.kill(os.getpid(), signal.SIGKILL)
"""
    started = time.monotonic()
    assert watched(tmp_path, script) == 2
    assert 1 <= time.monotonic() - started < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "ready 1").read_text()), 0)
    assert (tmp_path / "asked 1").exists() and "process 0 of 2 was ended by SIGKILL" in capfd.readouterr().err


def test_a_process_that_saves_after_ctrl_c_is_not_asked_a_second_time(tmp_path):
    script = """
asked = []
signal.signal(signal.SIGINT, lambda *_: asked.append("INT"))
signal.signal(signal.SIGTERM, lambda *_: asked.append("TERM"))
(place / f"ready {rank}").touch()
if rank == 0:
    while not (place / "ready 1").exists():
        time.sleep(0.05)
    os.kill(os.getppid(), signal.SIGINT)
while not asked:
    time.sleep(0.05)
if rank == 0:
    time.sleep(1)  # it saves, the other has ended
    (place / "asked").write_text(" ".join(asked))
sys.exit(130)
"""
    before = signal.getsignal(signal.SIGINT)  # a shell's background job ignores Ctrl-C from its start
    assert watched(tmp_path, script) == 130
    assert (tmp_path / "asked").read_text() == "INT"
    assert signal.getsignal(signal.SIGINT) is before


def test_all_went_well_where_all_processes_did(tmp_path):
    script = "(place / str(rank)).write_text(f\"{os.environ['WORLD_SIZE']} {os.environ['OMP_NUM_THREADS']}\")"
    assert watched(tmp_path, script, 3) == 0
    assert len({(tmp_path / str(rank)).read_text() for rank in range(3)}) == 1


# The command line


def started(run: Path, said: Path, *arguments: object) -> subprocess.Popen:
    """A long run of `mavil-edu pretrain` that has saved a checkpoint or two."""
    options = ["--out", run, "--steps", 20_000, "--config.train.batch", 8, "--config.train.save-every", 2, *SMALL, *arguments]
    command = [sys.executable, "-m", "mavil_edu", "pretrain", "--data", SAMPLES, *options]
    with said.open("w") as file:
        process = subprocess.Popen([*map(str, command)], env=ENVIRONMENT, stderr=file, start_new_session=True)
    while len(list_checkpoints(run / "checkpoints")) < 2:
        assert process.poll() is None, said.read_text()
        time.sleep(0.02)
    return process


def members(watcher: int) -> dict[int, int]:
    """The processes that a watching one has started, by rank."""
    found = {}
    for child in (Path("/proc") / str(watcher) / "task" / str(watcher) / "children").read_text().split():
        lines = (Path("/proc") / child / "environ").read_bytes().split(b"\0")
        found |= {int(line[5:]): int(child) for line in lines if line.startswith(b"RANK=")}
    return found


def whole_checkpoint(run: Path) -> dict:
    """The newest checkpoint's state, once its weights and moments fit a model; nothing half written stands beside it."""
    state = json.loads((list_checkpoints(run / "checkpoints")[-1] / "state.json").read_text())
    config = from_dict(Config, state["config"])
    model = MAViL(config)
    load_checkpoint(run / "checkpoints", model, make_optimiser(model, config.train))
    assert state["drawn"] == config.train.batch * state["step"]
    return state


def half_written(run: Path) -> list[Path]:
    return [*run.glob(".*"), *(run / "checkpoints").glob(".*")]


@linux
@pytest.mark.parametrize("options", [[], ["--config.train.shard-weights"]])
def test_a_killed_process_ends_the_run_with_a_sentence_and_leaves_a_checkpoint(tmp_path, options):
    run, said = tmp_path / "run", tmp_path / "said.txt"
    watcher = started(run, said, "--processes", 2, *options)
    os.kill(members(watcher.pid)[1], signal.SIGKILL)
    assert watcher.wait(60) == 2
    told = said.read_text()
    assert "process 1 of 2 was ended by SIGKILL" in told and "--resume" in told and "Traceback" not in told
    assert whole_checkpoint(run)["step"] >= 4


@linux
def test_processes_whose_watcher_was_killed_end_by_themselves_and_save(tmp_path):
    run, said = tmp_path / "run", tmp_path / "said.txt"
    watcher = started(run, said, "--processes", 2)
    left = members(watcher.pid).values()
    watcher.send_signal(signal.SIGKILL)
    watcher.wait()
    until = time.monotonic() + 60
    while any((Path("/proc") / str(one)).exists() for one in left) and time.monotonic() < until:
        time.sleep(0.05)
    assert time.monotonic() < until
    state = whole_checkpoint(run)
    assert f"stopped by SIGTERM after step {state['step']}" in said.read_text()
    assert not half_written(run)


@pytest.mark.parametrize(("processes", "by"), [(1, signal.SIGTERM), (2, signal.SIGINT)])
def test_ctrl_c_and_sigterm_end_a_run_with_a_sentence_after_a_whole_step_that_is_saved(tmp_path, processes, by):
    run, said = tmp_path / "run", tmp_path / "said.txt"
    process = started(run, said, "--processes", processes)
    process.send_signal(by)
    assert process.wait(60) == 130
    state = whole_checkpoint(run)
    told = said.read_text()
    assert f"stopped by {by.name} after step {state['step']}. What is saved is whole. To go on: the same command with --resume." in told
    assert "Traceback" not in told and not half_written(run)
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(state["step"]))


@linux
@pytest.mark.parametrize("options", [[], ["--processes", 2, "--config.train.shard-weights"]], ids=["one", "two, sharded"])
def test_a_disk_that_fills_up_ends_a_run_with_a_sentence_and_the_last_checkpoint_stays_whole(tmp_path, options):
    """Where weights are sharded, the other process is waiting to have its part of the moments gathered."""
    import resource

    run, said = tmp_path / "run", tmp_path / "said.txt"
    process = started(run, said, *options)
    writes = members(process.pid)[0] if options else process.pid
    resource.prlimit(writes, resource.RLIMIT_FSIZE, (1000, 1000))  # bytes that a file may have from now on
    assert process.wait(60) == 2
    told = said.read_text()
    assert "there is no space left" in told and "--resume" in told and "Traceback" not in told
    name = list_checkpoints(run / "checkpoints")[-1].name
    assert f"The last checkpoint, {name}, is whole" in told.replace("\n", " ")
    assert whole_checkpoint(run)["step"] >= 4 and not half_written(run)


def test_what_docs_scaling_says_of_kills_is_what_the_stored_result_says_and_its_script_is_a_script():
    text = (TESTS.parent / "docs" / "scaling.md").read_text(encoding="utf-8")
    found = json.loads((TESTS.parent / "results" / "kill_and_resume.json").read_text())["campaigns"]
    assert [one["processes"] for one in found] == [1, 2]
    for one in found:
        assert one["kills"] == len(one["each"]) >= 50 and one["differences"] == []
        numbers = [one["processes"], one["kills"], one["kills_before_the_first_checkpoint"], one["kills_while_writing"]]
        assert f"| {' | '.join(map(str, numbers))} | 0 of {one['runs']} |" in text
    (script,) = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_kills_at_random_moments_change_nothing():
    """One kill of one process and one of two; fifty of each: results/kill_and_resume.json."""
    command = [sys.executable, TESTS.parent / "scripts" / "kill_and_resume.py", "--kills", "1", "--steps", "8", "--seed", "1"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(one["kills"] >= 1, one["differences"]) for one in json.loads(done.stdout)] == [(True, [])] * 2
