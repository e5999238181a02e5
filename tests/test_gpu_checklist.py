"""The GPU checklist: what it needs, that a stage's failure stops no other and is told, and that its weights come back."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch

from mavil_edu import MAViL, logbook
from mavil_edu.config import ModelConfig, paper, small, tiny
from mavil_edu.data.batch import evaluation_batch
from mavil_edu.hardware import Peak

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

gpu_checks, gpu_summary, gpu_training, run_lessons = map(import_module, ("gpu_checks", "gpu_summary", "gpu_training", "run_lessons"))

ABSENT = "av tyro dacite webdataset tensorboard ipywidgets huggingface_hub sklearn pyarrow IPython jupytext".split()
BLOCKER = f"""
import sys
from importlib.machinery import PathFinder


class Absent(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        found = super().find_spec(name, path, target)
        return None if found and name.partition(".")[0] in {ABSENT} and "site-packages" in str(found.origin) else found


sys.meta_path[:] = [Absent if finder is PathFinder else finder for finder in sys.meta_path]
"""


def python(code: str, folder: Path, *paths: Path) -> subprocess.CompletedProcess:
    """Runs code where the packages that a GPU machine may lack are not to be found."""
    (folder / "sitecustomize.py").write_text(BLOCKER)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (folder, *paths, ROOT, ROOT / "scripts")))}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


# what a machine must have


def test_training_and_benchmarks_import_nothing_that_a_gpu_machine_may_lack(tmp_path):
    done = python(
        "import gpu_checks, gpu_training\nprint([gpu_training.find_spec(name) for name in ('av', 'sklearn')])",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[None, None]\n"


def test_the_stand_in_for_ipywidgets_carries_an_explorer(tmp_path):
    (tmp_path / "ipywidgets.py").write_text(run_lessons.STAND_IN)
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    code = (
        "import sys, types\nsys.modules['av'] = types.ModuleType('av')\n"  # media is imported beside, and not used
        "sys.modules['mavil_edu.media'] = types.ModuleType('media')\n"
        "import torch\nfrom mavil_edu.explorers import widgets\n"
        "number, show = widgets.BoundedIntText(value=3), lambda n: widgets.Shown(f'{n} it is', b'')\n"
        "box = widgets.Explorer({'n': number}, show, {'more': lambda: None})\n"
        "print(box.shown.sentence, widgets.ValueWidget.__module__)"
    )
    done = python(code, blocked, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3 it is ipywidgets\n"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("print(1)", "passed"),
        ("1 / 0", "failed"),
        ("import no_such_package_anywhere", "left out"),
        ("import time; time.sleep(30)", "too slow"),
    ],
)
def test_a_lesson_that_passes_fails_misses_a_package_or_takes_too_long_is_told_apart(tmp_path, code, status):
    source = tmp_path / "09_lesson.py"
    source.write_text(code)
    assert run_lessons.run(source, 1.5, dict(os.environ))["status"] == status


def test_a_run_without_tensorboard_writes_its_metrics_and_says_so(tmp_path, monkeypatch, capsys):
    config = gpu_training.changed(tiny(), ["train.batch=4"])
    training, _ = gpu_training.worlds(config, asked(tmp_path))
    monkeypatch.setattr(logbook, "find_spec", lambda name: None)
    batch = evaluation_batch(training)[0]
    means = gpu_training.position_means(batch, config.model, torch.device("cpu"))
    held_out = gpu_training.HeldOut(batch, means, config.model, config.objective)
    config = replace(config, train=replace(config.train, steps=1, evaluate_every=1))
    gpu_training.train(config, training, held_out, tmp_path / "run")
    assert "TensorBoard is not installed" in capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row.get("held_out", False) for row in rows] == [False, True]
    assert not (tmp_path / "run" / "tensorboard").exists()


# training


def asked(work: Path, **more):
    return gpu_training.argparse.Namespace(work=work, clips=10, held_out=4, jobs=1, **more)


def test_numbers_of_a_config_are_set_by_name():
    config = gpu_training.changed(small(), ["model.audio.patch_frames=8", "model.audio.patch_bins=32", "train.precision=bf16-mixed"])
    assert config.model.audio.grid == (32, 4) and config.train.precision == "bf16-mixed"
    assert gpu_training.changed(small(), ["train.augment.crop=[0.5, 1]", "train.base_lr=1", "objective.second_ratio=0.3"]) != small()
    assert replace(config, model=small().model, train=small().train) == small()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("model.audio.patchframes=8", "no patchframes in the config"),
        ("train.steps.more=8", "no more in the config's steps"),
        ("train.steps=many", "no value of that kind"),
        ("train.steps=1.5", "no value of that kind"),
        ("train.steps=true", "no value of that kind"),
        ("model.audio.patch_frames=7", "not a multiple"),
    ],
)
def test_a_number_that_cannot_be_set_is_told(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        gpu_training.changed(small(), [change])


def test_worlds_rendered_apart_are_one_data_set(tmp_path):
    training, held = gpu_training.worlds(tiny(), asked(tmp_path))
    assert len(training) == 10 and len(held) == 4 and len(training.parts) == 10
    assert training.labels["material"][3] == training.parts[3].labels["material"][0]
    assert torch.equal(training.sample(3, None).waveform, training.parts[3].sample(0, None).waveform)
    sounds = [training.sample(i, None).waveform for i in range(10)] + [held.sample(i, None).waveform for i in range(4)]
    assert not any(torch.equal(a, b) for i, a in enumerate(sounds) for b in sounds[:i])
    assert len(list((tmp_path / "cache").iterdir())) == 11


def test_weights_come_back_from_their_parts_without_decoders(tmp_path):
    torch.manual_seed(0)
    model = MAViL(tiny()).eval()
    paths = gpu_training.write_weights(model, tmp_path / "out", limit=500_000)
    assert len(paths) > 2 and all(path.stat().st_size < 510_000 for path in paths)
    again = gpu_training.join(tmp_path / "out", tmp_path / "model")
    assert again.config == replace(model.config, decoder=None)
    inputs = torch.randn(2, 1, 256, 128), torch.randn(2, 3, 8, 32, 32)
    for ours, theirs in zip(model.encode(*inputs), again.encode(*inputs), strict=True):
        assert torch.allclose(ours, theirs, atol=2e-2)
    paths[1].unlink()
    with pytest.raises(ValueError, match="give the folder with all parts"):
        gpu_training.join(tmp_path / "out", tmp_path / "other")


def test_the_weights_of_small_fit_into_the_files_that_may_be_handed_over():
    sizes = {name: value.to(torch.float16) for name, value in MAViL(small()).state_dict().items() if "decoder" not in name}
    parts = list(gpu_training.parts_of(sizes, gpu_training.PART))
    assert len(parts) + len({"summary.json", "log.txt", "curves.png", "metrics.jsonl"}) <= gpu_summary.FILES
    assert sum(map(len, parts)) == len(sizes)


def test_a_model_is_saved_without_its_decoders(tmp_path):
    model = MAViL(tiny()).eval()
    model.save_pretrained(tmp_path / "model", torch.float16, decoders=False)
    again = MAViL.from_pretrained(tmp_path / "model")
    assert again.config.decoder is None and model.config.decoder is not None
    assert set(again.state_dict()) == {name for name in model.state_dict() if "_decoder." not in name}
    with pytest.raises(ValueError, match="no decoders"):
        again(torch.randn(1, 1, 256, 128), torch.randn(1, 3, 8, 32, 32), None)


# checks


def test_numerics_pass_on_the_cpu_and_a_wrong_gradient_does_not(monkeypatch):
    found = dict(gpu_checks.numerics(torch.device("cpu"), dry=True))
    assert {name: one["passed"] for name, one in found.items() if "passed" in one} == {
        "log-mel": True,
        "tiny, float32": True,
        "tiny, bf16": True,
    }
    real = gpu_checks.stage_one

    def wrong(model, config, device, dtype):
        one = real(model, config, device, dtype)
        if dtype == torch.float32:
            one["gradients"] = [gradient * 1.01 for gradient in one["gradients"]]
        if dtype == torch.bfloat16:
            one["losses"][0] = one["losses"][0] * float("nan")
        return one

    monkeypatch.setattr(gpu_checks, "stage_one", wrong)
    found = dict(gpu_checks.numerics(torch.device("cpu"), dry=True))
    assert not found["tiny, float32"]["passed"] and found["tiny, float32"]["outputs"]["error"] < 1e-5
    assert not found["tiny, bf16"]["passed"]


@pytest.mark.parametrize(("where", "by"), [(slice(None), 0.002), ((0, 5, 7), 1.0)], ids=["little, everywhere", "much, in one place"])
def test_a_spectrogram_that_differs_is_found(monkeypatch, where, by):
    real, calls = gpu_checks.audio.log_mel, []

    def shifted(waveform):
        calls.append(1)
        found = real(waveform)
        found[where] += by * (len(calls) == 1)
        return found

    monkeypatch.setattr(gpu_checks.audio, "log_mel", shifted)
    assert not gpu_checks.log_mel_check(torch.device("cpu"))["passed"]


def test_a_batch_that_memory_does_not_hold_ends_its_row_and_not_the_table(monkeypatch):
    def stage(config, *_, **__):
        if config.train.batch >= 128:
            raise torch.OutOfMemoryError("full")
        spent = {"median": 10.0}
        return {
            "multiply_adds": {"encoders": 10**9},
            "forward_backward_ms": spent,
            "step_ms": spent,
            "peak_megabytes": 100 + config.train.batch,
        }

    monkeypatch.setattr(gpu_checks, "benchmark_stage", stage)
    monkeypatch.setattr(gpu_checks, "matrix_peak", lambda *_: Peak(1.0, 512, "float32"))
    found = dict(gpu_checks.batches(torch.device("cpu"), dry=False))
    assert list(found) == ["peak", "paper, 8", "paper, 16", "paper, 32", "paper, 64", "paper, 128", "small, 32", "small, 128"]
    assert found["paper, 128"] == {"out_of_memory": True}
    assert found["paper, 8"]["mfu"]["step"] == pytest.approx(2e9 / 0.01 / 1e12)
    limits = dict(gpu_checks.memory(torch.device("cpu"), dry=False))
    assert limits["paper, memory"] == {"megabytes_a_clip": 1.0, "megabytes_without_clips": 100.0}
    assert "error" in limits["small, memory"]


def test_the_shallow_model_has_the_papers_inputs_and_widths():
    ours, theirs = gpu_checks.shallow_paper().model, paper().model
    assert (ours.audio, ours.video, ours.encoder.width, ours.decoder.width) == (theirs.audio, theirs.video, 768, 512)
    assert isinstance(ours, ModelConfig) and ours.encoder.depth == 2


# the script and its summary

STUB = """#!{python}
import os, sys
from pathlib import Path
asked = " ".join(sys.argv[1:])
if "gpu_summary.py" in asked:
    os.execv("{python}", ["{python}", *sys.argv[1:]])
print("asked for:", asked)
work = Path(sys.argv[3]) if "gpu_" in asked else Path(".")
if "numerics" in asked:
    (work / "numerics.json").write_text('{{"log-mel": {{"passed": false}}}}')
    sys.exit(1)
if " speed " in asked:
    (work / "speed.json").write_text('{{"cut')
    os.kill(os.getpid(), 9)
if "gpu_training.py train" in asked:
    (Path(sys.argv[4]) / "curves.png").write_text("a picture")
"""


def checklist(tmp_path: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
    stub = tmp_path / "python"
    stub.write_text(STUB.format(python=sys.executable))
    stub.chmod(0o755)
    (tmp_path / "work").mkdir(exist_ok=True)
    environment = os.environ | {"PYTHON": str(stub), "WORK": str(tmp_path / "work"), "WORKERS": "3"} | settings
    command = ["bash", str(ROOT / "scripts" / "gpu_checklist.sh"), *arguments]
    return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)


bash = pytest.mark.skipif(os.name == "nt", reason="a shell script")


@bash
def test_a_stage_that_fails_or_dies_stops_no_other_and_is_told(tmp_path):
    out = tmp_path / "out"
    done = checklist(tmp_path, str(out), "--set", "train.base_lr=2e-3", "model.audio.patch_frames=8")
    assert done.returncode == 1
    summary = json.loads((out / "summary.json").read_text())
    assert summary["failed"] == ["numerics", "speed"] and summary["faults"] == []
    assert {name: one["verdict"] for name, one in summary["stages"].items()} == {
        "render": "passed",
        "numerics": "failed",
        "speed": "killed: its time was up, or memory ran out",
        "batches": "passed",
        "lessons": "passed",
        "train": "passed",
    }
    assert summary["stages"]["numerics"]["found"] == {"log-mel": {"passed": False}} and summary["stages"]["speed"]["found"] is None
    assert sorted(path.name for path in out.iterdir()) == ["curves.png", "log.txt", "summary.json"]
    log = (out / "log.txt").read_text()
    assert "--preset small --clips 20000 --set train.base_lr=2e-3 model.audio.patch_frames=8" in log
    assert "--minutes" in log and "--workers 3" in log


@bash
def test_stages_that_are_not_wanted_or_have_no_time_are_left_out(tmp_path):
    done = checklist(tmp_path, OUT=str(tmp_path / "out"), SKIP="render numerics speed batches lessons train")
    assert done.returncode == 0, done.stderr
    done = checklist(tmp_path, str(tmp_path / "late"), MINUTES="0.1")
    summary = json.loads((tmp_path / "late" / "summary.json").read_text())
    assert done.returncode == 0 and {one["verdict"] for one in summary["stages"].values()} == {"left out"}


@bash
def test_wrong_arguments_are_told_and_no_folder_is_written_over(tmp_path):
    assert checklist(tmp_path, "--dri").returncode == 2
    assert "give a folder" in checklist(tmp_path, OUT="").stderr
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    done = checklist(tmp_path, str(tmp_path / "full"))
    assert done.returncode == 2 and "not empty" in done.stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_what_cannot_be_handed_over_is_told(tmp_path, monkeypatch):
    assert gpu_summary.faults(tmp_path) == []
    monkeypatch.setattr(gpu_summary, "BYTES", 100)
    for number in range(8):
        (tmp_path / f"file-{number}.txt").write_text("x" * (101 if number == 3 else 1))
    (tmp_path / "a b.txt").write_text("x")
    told = gpu_summary.faults(tmp_path)
    assert [fault.split(":")[0] for fault in told] == ["9 files, 8 are allowed", "'a b.txt'", "file-3.txt"]
