"""The command line as people use it: real processes, real files, real exit codes."""

import contextlib
import html
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pyarrow.parquet as pq
import pytest

from mavil_edu.cli import main

SAMPLES = Path(__file__).parent.parent / "data_samples"


def mavil(*arguments: object, cwd: Path | None = None, timeout: float = 300) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mavil_edu", *map(str, arguments)]
    root = str(Path(__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": root, "COLUMNS": "100"}
    return subprocess.run(command, cwd=cwd, timeout=timeout, capture_output=True, text=True, env=environment, check=False)


def here(*arguments: object) -> subprocess.CompletedProcess:
    """What `mavil` gives, from this process: a start of Python, torch and Fabric is saved where nothing of it is asked."""
    said, complained = io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, COLUMNS="100"), contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            status = main([*map(str, arguments)])
        except SystemExit as end:
            status = end.code
    return subprocess.CompletedProcess(arguments, status, said.getvalue(), complained.getvalue())


def refused(done: subprocess.CompletedProcess, *words: str) -> None:
    """The command ended with one clear error and no traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words), done.stderr


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """12 of the sample clips, with files that cannot be trained on among them."""
    folder = tmp_path_factory.mktemp("clips")
    for file in sorted(SAMPLES.glob("*.mp4"))[:12]:
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "labels.csv").write_text("".join((SAMPLES / "labels.csv").read_text().splitlines(keepends=True)[:13]))
    (folder / "broken.mp4").write_bytes(b"not a film")
    (folder / "empty.webm").write_bytes(b"")
    (folder / "notes.txt").write_text("no media file")
    return folder


@pytest.fixture(scope="module")
def run(clips, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    done = mavil("pretrain", "--data", clips, "--preset", "tiny", "--steps", 3, "--out", folder, "--config.train.evaluate-every", 2)
    assert done.returncode == 0, done.stderr
    return folder


def test_help_answers_in_1_5_seconds_and_names_an_example_for_every_command():
    mavil("--help")  # the first start compiles
    started = time.perf_counter()
    done = mavil("--help")
    assert time.perf_counter() - started < 1.5
    assert done.returncode == 0
    commands = ("demo", "inspect", "world", "avmnist", "subset", "pretrain", "reconstruct", "masks", "probe", "retrieve", "embed")
    for command in (*commands, "localise", "inpaint", "finetune", "shards", "benchmark", "check", "progress", "doctor"):
        assert command in done.stdout
        one = mavil(command, "--help")
        assert one.returncode == 0 and f"Example: mavil-edu {command}" in one.stdout


def test_nothing_asked_shows_the_help_and_a_wrong_word_the_right_ones():
    assert "subcommands" in mavil().stdout
    refused(mavil("pretrian"), "pretrain", "reconstruct")
    refused(here("inspect"), "Name one or more files")
    refused(here("pretrain", "--data", "a", "--out", "b", "--config.train.btach", 4), "batch")


def test_pretrain_writes_everything_that_others_rely_on(run, clips):
    names = {p.name for p in run.iterdir()}
    wanted = {"config.json", "summary.json", "metrics.jsonl", "checkpoints", "figures", "audio", "report.html", "model", "examples.json"}
    assert wanted <= names
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] == 3 and summary["seconds"] > 0 and summary["target"] == "normalised"
    for modality in ("audio", "video"):
        assert summary[modality]["masked_mse"] > 0
        assert summary[modality]["best_trivial_mse"] == min(summary[modality]["trivial"].values())
    retrieval = summary["retrieval"]
    assert retrieval["clips"] == 1 and retrieval["chance_r1"] == 1.0
    assert 0 <= retrieval["audio_to_video"]["r1"] <= retrieval["audio_to_video"]["r5"] <= 1
    assert {Path(s["path"]).name for s in summary["clips"]["skipped"]} == {"broken.mp4", "empty.webm"}
    assert summary["clips"]["trained"] == 11 and summary["clips"]["held_out"] == 1
    assert {p.name for p in (run / "model").iterdir()} >= {"model.safetensors", "config.json", "README.md"}
    assert "audio" in json.loads((run / "model" / "config.json").read_text())
    assert "steps: 3" in (run / "model" / "README.md").read_text()
    assert list((run / "figures").glob("*.png")) and list((run / "audio").glob("*.wav"))
    report = (run / "report.html").read_text()
    assert "broken.mp4" in report


def test_of_few_held_out_clips_no_share_is_told_that_cannot_be_missed_and_no_probe_is_asked(run):
    card = json.loads((run / "evaluation.json").read_text())
    assert (
        card["probes"] == []
        and len(card["left_out"]) == 6
        and card["left_out"]["material"] == "probes take 20 held-out clips, and there is 1."
    )
    report = (run / "report.html").read_text()
    assert "were left out: probes take 20 held-out clips, and there is 1." in report and "R@" not in report
    assert "probes fitted on" not in report and "<th>raw features</th>" not in report
    assert "Only 1 clip was measured" in report and "--eval-data" in report


def test_a_run_is_never_overwritten_and_can_be_resumed_when_it_is_complete(run, clips):
    refused(here("pretrain", "--data", clips, "--out", run, "--steps", 3), "--resume", "holds a run already")
    refused(here("pretrain", "--data", SAMPLES, "--out", run, "--resume"), "not those")
    before = (run / "model" / "model.safetensors").read_bytes()
    done = mavil("pretrain", "--data", clips, "--out", run, "--resume")
    assert done.returncode == 0, done.stderr
    assert (run / "model" / "model.safetensors").read_bytes() == before
    assert "Going on from step 3 of 3." in done.stderr


def test_a_killed_run_resumes_to_the_weights_of_one_that_never_stopped(run, clips, tmp_path):
    arguments = ["pretrain", "--data", clips, "--preset", "tiny", "--steps", "3", "--config.train.evaluate-every", "2"]
    command = [sys.executable, "-m", "mavil_edu", *map(str, arguments), "--out", str(tmp_path / "run"), "--config.train.save-every", "1"]
    environment = os.environ | {"PYTHONPATH": str(SAMPLES.parent)}
    command += ["--workers", "1"]  # and a process of its own for decoding changes nothing
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run" / "checkpoints").glob("step-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = mavil("pretrain", "--data", clips, "--out", tmp_path / "run", "--resume")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == (run / "model" / "model.safetensors").read_bytes()
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines() if "held_out" not in line]
    assert steps == [0, 1, 2]


def test_reconstruct_takes_a_run_or_the_shipped_model_and_anyones_file(run, tmp_path):
    clip = sorted(SAMPLES.glob("*.mp4"))[0]
    for name, options in (("own", ["--checkpoint", run]), ("shipped", [])):
        done = mavil("reconstruct", clip, "--out", tmp_path / name, *options)
        assert done.returncode == 0, done.stderr
        suffixes = {p.suffix for p in (tmp_path / name).rglob("*") if p.is_file()}
        assert {".png", ".wav", ".mp4"} <= suffixes
        assert f"Open {tmp_path / name / 'reconstruction.html'} in a browser" in done.stderr
    page, entry = ((tmp_path / "own" / file).read_text() for file in ("reconstruction.html", "examples.json"))
    assert [page.count(f"<{tag} ") for tag in ("img", "audio", "video")] == [3, 4, 3] and "default-src 'none'" in page
    assert re.findall(r'(?:src|href)="(?!data:)', page) == [] and "is not there" not in page and clip.name in page
    assert all(item["caption"] in html.unescape(page) for item in json.loads(entry)[0]["figures"])


@pytest.mark.parametrize(("hidden", "shown"), [("audio", "video"), ("video", "audio")])
def test_reconstruct_makes_the_sound_from_the_sight_alone_and_the_reverse(tmp_path, hidden, shown):
    clip = sorted(SAMPLES.glob("*.mp4"))[0]
    done = here("reconstruct", clip, "--out", tmp_path / "o", f"--{hidden}-ratio", 1, f"--{shown}-ratio", 0)
    assert done.returncode == 0, done.stderr
    caption = json.loads((tmp_path / "o" / "examples.json").read_text())[0]["figures"][0]["caption"]
    shares = {"audio": "100 % of the sound", "video": "100 % of the picture"}
    assert shares[hidden] in caption and shares[shown].replace("100", "0") in caption and "nan" not in caption


def test_reconstruct_and_pretrain_hide_by_the_strategy_that_is_asked_for(clips, tmp_path):
    masking = ["--audio-masking", "time", "--video-masking", "frame"]
    done = here("reconstruct", clips / "000.mp4", "--out", tmp_path / "o", *masking)
    assert done.returncode == 0, done.stderr
    caption = json.loads((tmp_path / "o" / "examples.json").read_text())[0]["figures"][0]["caption"]
    assert "75 % of the picture and 81 % of the sound hidden" in caption, "26 of 32 columns, 3 of 4 time patches"
    refused(here("reconstruct", clips / "000.mp4", "--out", tmp_path / "p", "--audio-masking", "tube"), "audio-masking", "frequency")
    options = ["--config.objective.audio-ratio", 1, "--config.objective.inter-views", 1, "--config.model.fusion-kind", "bottleneck"]
    done = mavil(
        "pretrain", "--data", clips, "--steps", 2, "--out", tmp_path / "run", *options, "--config.objective.video-masking", "block"
    )
    assert done.returncode == 0, done.stderr
    assert "InfoNCE between modalities is left out" in done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert ["between modalities" in summary["terms_left_out"][0], "within the sound" in summary["terms_left_out"][1]] == [True, True]
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert (stored["model"]["fusion_kind"], stored["objective"]["video_masking"]) == ("bottleneck", "block")


def test_masks_draws_every_strategy_on_any_clip(tmp_path):
    options = ["--preset", "tiny", "--ratios", 0.5, 0.9, "--clip", SAMPLES / "000.mp4"]
    one, two = (run("masks", "--out", tmp_path / f"{run.__name__}.png", *options) for run in (mavil, here))
    assert one.returncode == 0, one.stderr
    assert "time+frequency 32 of 64 at 0.5, 58 of 64 at 0.9" in one.stderr and "block 32 of 64 at 0.5" in one.stderr
    assert (tmp_path / "mavil.png").read_bytes() == (tmp_path / "here.png").read_bytes(), two.stderr
    assert "padding" not in one.stderr
    wide = here("masks", "--out", tmp_path / "w.png", "--preset", "paper", "--ratios", 0.5, "--clip", SAMPLES / "000.mp4")
    assert "10 s of sound and 4 s of pictures, of which 000.mp4 fills 2.6 and 2.5 s; the rest is padding. --preset tiny" in wide.stderr
    refused(here("masks", "--out", tmp_path / "a.mp4"), ".png")
    refused(here("masks", "--out", tmp_path / "c.png", "--preset", "tiny", "--ratios", 1.5), "between 0")
    refused(here("masks", "--out", tmp_path / "c.png", "--preset", "tiny", "--clip", tmp_path / "none.mp4"), "none.mp4")
    refused(here("masks", "--out", tmp_path / "c.png", "--preset", "tiny", "--ratios"), "ratios")


@pytest.mark.parametrize(
    "command",
    [
        "world",
        "world --tour",
        "reconstruct CLIP",
        "inpaint",
        "localise",
        "localise CLIP",
        "avmnist",
        "subset --list LIST --per-class 1",
        "shards --data SAMPLES",
        "pretrain --data SAMPLES",
        "finetune --data world",
    ],
)
def test_a_folder_that_holds_anything_is_refused_at_once_and_left_as_it_is(command, tmp_path):
    thesis, listed = tmp_path / "out" / "000.mp4", tmp_path / "vggsound.csv"
    thesis.parent.mkdir()
    thesis.write_bytes(b"years of work")
    listed.write_text("abcdefghijk,10,playing flute,train\n")
    words = {"CLIP": SAMPLES / "000.mp4", "SAMPLES": SAMPLES, "LIST": listed}
    refused(here(*(words.get(word, word) for word in command.split()), "--out", thesis.parent), "000.mp4", "nothing is overwritten")
    assert [path.read_bytes() for path in thesis.parent.iterdir()] == [b"years of work"]
    refused(here(*(words.get(word, word) for word in command.split()), "--out", thesis), "000.mp4")


def test_reconstruct_refuses_what_it_cannot_use_with_a_sentence(clips, tmp_path):
    refused(here("reconstruct", clips / "broken.mp4", "--out", tmp_path / "o"), "broken.mp4")
    refused(here("reconstruct", clips / "missing.mp4", "--out", tmp_path / "o"), "missing.mp4")
    refused(here("reconstruct", clips / "000.mp4", "--out", tmp_path / "o", "--checkpoint", tmp_path), "holds no model")
    refused(here("reconstruct", clips / "000.mp4", "--out", tmp_path / "o", "--audio-ratio", 1.5), "1.5")


def test_pretrain_refuses_folders_without_a_usable_clip(tmp_path):
    refused(mavil("pretrain", "--data", tmp_path / "nowhere", "--out", tmp_path / "o"), "nowhere")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.mp4").write_bytes(b"junk")
    refused(here("pretrain", "--data", tmp_path / "bad", "--out", tmp_path / "o"), "a.mp4", "unreadable")
    assert not (tmp_path / "o").exists()
    refused(here("pretrain", "--data", tmp_path / "bad", "--out", tmp_path / "o", "--steps", 1, "--minutes", 1), "not both")
    (tmp_path / "empty").mkdir()
    refused(here("pretrain", "--data", tmp_path / "empty", "--out", tmp_path / "o"), f"There is no media file in {tmp_path / 'empty'}.")
    refused(
        here("pretrain", "--data", tmp_path / "bad", "--out", tmp_path / "o", "--config.model.encoder.width", 100), "--config", "multiple"
    )
    refused(here("pretrain", "--data", SAMPLES, "--out", tmp_path / "o", "--resume"), "no run")


def test_inspect_says_which_file_is_unusable_and_sets_the_exit_code(clips):
    good = sorted(clips.glob("0*.mp4"))[:2]
    fine = mavil("inspect", *good, "--json")
    assert fine.returncode == 0, fine.stderr
    assert [row["status"] for row in json.loads(fine.stdout)] == ["ok", "ok"]
    mixed = mavil("inspect", clips, "--json")
    rows = {Path(row["path"]).name: row for row in json.loads(mixed.stdout)}
    assert mixed.returncode == 1
    assert rows["broken.mp4"]["status"] == rows["empty.webm"]["status"] == "unreadable"
    assert "notes.txt" not in rows and len(rows) == 14
    assert rows["000.mp4"]["audio_tokens"] == rows["000.mp4"]["video_tokens"] == 64
    table = here("inspect", clips)
    assert table.returncode == 1 and "broken.mp4" in table.stdout
    missing = here("inspect", clips / "missing.mp4")
    assert missing.returncode == 1 and "unreadable" in missing.stdout and "Traceback" not in missing.stderr
    (clips / "none").mkdir()
    refused(here("inspect", clips / "none"), "no media file")


@pytest.mark.parametrize("content", ["good", "junk"])
def test_a_file_whose_name_is_no_utf8_costs_nobody_anything(tmp_path, capsys, content):
    folder, odd = tmp_path / "clips", tmp_path / "clips" / os.fsdecode(b"caf\xe9.mp4")
    folder.mkdir()
    for i in range(3):
        shutil.copy(SAMPLES / f"00{i}.mp4", folder)
    try:
        odd.write_bytes((SAMPLES / "003.mp4").read_bytes() if content == "good" else b"junk")
    except OSError:
        pytest.skip("this file system has no such names")
    assert main(["inspect", str(folder), "--json"]) == (content == "junk")  # into a stream that is strict about UTF-8
    assert json.loads(capsys.readouterr().out)[-1]["path"] == str(odd)
    assert main(["inspect", str(folder)]) == (content == "junk") and r"caf\udce9.mp4" in capsys.readouterr().out
    for command in (
        ["pretrain", "--data", folder, "--steps", 2, "--out", tmp_path / "run", "--config.train.batch", 2],
        ["embed", folder, "--out", tmp_path / "e.parquet"],
        ["retrieve", folder / "000.mp4", "--data", folder, "--page", tmp_path / "page.html"],
    ):
        done = here(*command)
        assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [entry["path"] for entry in summary["clips"]["skipped"]] == ([] if content == "good" else [str(odd)])
    names = pq.read_table(tmp_path / "e.parquet")["clip"].to_pylist()
    assert len(names) == (4 if content == "good" else 3) and (content == "junk" or names[-1].endswith(r"caf\udce9.mp4"))


def test_world_makes_clips_that_inspect_calls_ok(tmp_path):
    done = mavil("world", "--clips", 2, "--seed", 3, "--out", tmp_path / "w")
    assert done.returncode == 0, done.stderr
    assert here("inspect", tmp_path / "w").returncode == 0
    refused(here("world", "--clips", 0, "--out", tmp_path / "v"), "1 clip or more")


def test_an_error_that_is_ours_can_be_traced_on_demand(tmp_path):
    os.environ["MAVIL_EDU_TRACEBACK"] = "1"
    try:
        done = mavil("pretrain", "--data", tmp_path / "nowhere", "--out", tmp_path / "o")
    finally:
        del os.environ["MAVIL_EDU_TRACEBACK"]
    assert "Traceback" in done.stderr


def test_where_an_error_arose_is_offered_for_those_alone_that_are_not_in_our_words(tmp_path, monkeypatch):
    assert "MAVIL_EDU_TRACEBACK" not in here("pretrain", "--data", tmp_path / "nowhere", "--out", tmp_path / "o").stderr
    assert "MAVIL_EDU_TRACEBACK" not in here("check", tmp_path / "nowhere.ipynb").stderr
    monkeypatch.setattr("mavil_edu.data.world.write_world", lambda *_, **__: json.loads("{"))
    done = here("world", "--out", tmp_path / "w")
    assert done.returncode == 2 and "(MAVIL_EDU_TRACEBACK=1 shows where it arose.)" in done.stderr


def test_an_end_is_told_to_its_end_though_sigterm_comes_meanwhile(monkeypatch):
    """Of several processes the others are asked to end while the one that failed is still telling why."""
    before, told = signal.getsignal(signal.SIGTERM), []

    def asked_to_end_while_telling(text: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        told.append(text)

    monkeypatch.setattr("mavil_edu.cli.say", asked_to_end_while_telling)
    assert main(["reconstruct", "nothing.mp4", "--out", "nowhere"]) == 2
    assert len(told) == 1 and "nothing.mp4" in told[0]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stop_before_anything_was_saved_promises_nothing(monkeypatch, tmp_path, capsys):
    def stopped(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mavil_edu.run.pretrain_on", stopped)
    arguments = ["pretrain", "--data", str(SAMPLES), "--out", str(tmp_path / "run"), "--steps", "3"]
    assert main(arguments) == 130
    assert "stopped. Nothing had been saved yet. To begin again: the same command." in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    assert main(arguments) == 130
    assert "What is saved is whole. To go on: the same command with --resume." in capsys.readouterr().err


@pytest.mark.parametrize("minutes", ["0", "-1", "nan"])
def test_minutes_in_which_nothing_can_be_learnt_are_refused(tmp_path, minutes):
    done = here("pretrain", "--data", SAMPLES, "--out", tmp_path / "run", f"--minutes={minutes}")
    refused(done, f"--minutes is {minutes}", "more than 0")
    assert "training" not in done.stderr.replace("training clips", "") and not [*(tmp_path / "run").iterdir()], "no step, and no file"


def test_the_demo_writes_its_report_keeps_its_clips_and_never_loses_an_earlier_run(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "report.html").write_text("an earlier run")
    done = mavil("demo", "--out", tmp_path / "demo", "--minutes", 0.02, "--clips", 40)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "demo-1" / "report.html").read_text() == "an earlier run"
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert summary["held_out"] and summary["clips"]["trained"] == 40 and summary["retrieval"]["clips"] == 200
    assert json.loads((tmp_path / "demo" / "config.json").read_text())["command"][0] == "mavil-edu"
    assert len(list((tmp_path / "cache").glob("world-*.safetensors"))) == 2
    assert len(json.loads((tmp_path / "demo" / "examples.json").read_text())) == 6
    assert "best trivial answer" in done.stderr and "report.html" in done.stderr
    few = "So few steps seldom beat the answers that need no learning."
    report = (tmp_path / "demo" / "report.html").read_text()
    assert few in done.stderr and few in report
    assert json.loads((tmp_path / "demo" / "evaluation.json").read_text())["probes"], "200 clips are enough"
    assert "probes fitted on" in report and "<th>raw features</th>" in report
    assert "R@5" in report and "R@5" in done.stderr and "probes take" not in report and "measured: shares" not in report + done.stderr
