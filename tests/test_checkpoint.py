"""Models and runs come back as they were saved, and a failed write leaves the old one whole."""

import json
import os
import subprocess
import sys
import threading
import weakref
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mavil_edu import MAViL, sharding, tiny
from mavil_edu import checkpoint as checkpoint_module
from mavil_edu.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint, save_model
from mavil_edu.config import ModelConfig
from mavil_edu.sharding import whole_moments
from mavil_edu.train import make_optimiser

CONFIG = tiny()


def model_of(seed: int) -> MAViL:
    torch.manual_seed(seed)
    return MAViL(CONFIG)


def step(model: MAViL, optimiser: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)
    optimiser.step()


def weights(model: MAViL) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_a_saved_model_comes_back_with_its_config_and_its_numbers(tmp_path):
    model = model_of(1)
    model.save_pretrained(tmp_path / "m")
    again = MAViL.from_pretrained(tmp_path / "m")
    assert again.config == CONFIG.model
    assert isinstance(again.config, ModelConfig)
    assert torch.equal(weights(model), weights(again))
    assert not again.training
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_a_runs_folder_serves_as_well_as_its_model_folder(tmp_path):
    model = model_of(1)
    model.save_pretrained(tmp_path / "run" / "model")
    (tmp_path / "run" / "config.json").write_text("{}")
    assert torch.equal(weights(MAViL.from_pretrained(tmp_path / "run")), weights(model))


def test_a_model_is_saved_beside_what_else_a_folder_holds(tmp_path):
    (tmp_path / "thesis" / "data").mkdir(parents=True)
    own = {"chapter.tex": "years of work", "data/labels.csv": "x", "README.md": "of the thesis"}
    for name, text in own.items():
        (tmp_path / "thesis" / name).write_text(text)
    for seed in (1, 2):
        model_of(seed).save_pretrained(tmp_path / "thesis")
        assert torch.equal(weights(MAViL.from_pretrained(tmp_path / "thesis")), weights(model_of(seed)))
        found = {str(path.relative_to(tmp_path / "thesis")) for path in (tmp_path / "thesis").rglob("*") if path.is_file()}
        assert found == {*own, "config.json", "model.safetensors"}
        assert all((tmp_path / "thesis" / name).read_text() == text for name, text in own.items())


def test_a_runs_own_folder_takes_no_model_and_loses_nothing(tmp_path):
    model_of(1).save_pretrained(tmp_path / "model")
    (tmp_path / "config.json").write_text("the run's")
    (tmp_path / "metrics.jsonl").write_text("{}")
    with pytest.raises(ValueError, match=r"config.json is no model's, and would be lost. Save into another folder, such as .*model"):
        MAViL.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert (tmp_path / "config.json").read_text() == "the run's"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "metrics.jsonl", "model"]


def test_a_model_is_saved_where_one_stands_and_through_a_link(tmp_path, monkeypatch):
    place, link = tmp_path / "place", tmp_path / "link"
    place.mkdir()
    link.symlink_to(place)
    monkeypatch.chdir(place)
    for seed, folder in enumerate((".", ".", link, link), start=1):
        (place / "keep.txt").write_text("k") if seed == 3 else None
        model_of(seed).save_pretrained(folder)
        assert torch.equal(weights(MAViL.from_pretrained(place)), weights(model_of(seed)))
        assert f'from_pretrained("{"place" if seed < 3 else "link"}")' in (place / "README.md").read_text()
    assert Path.cwd() == place and link.is_symlink()
    assert {path.name for path in place.iterdir()} == {"README.md", "config.json", "keep.txt", "model.safetensors"}
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["link", "place"]


def test_a_folder_is_replaced_by_moves_onto_free_names_alone_and_a_failed_one_leaves_the_old(tmp_path, monkeypatch):
    move = os.replace

    def as_windows(source, target):
        if Path(source).is_dir() and Path(target).exists():
            raise PermissionError(5, "Access is denied", str(target))
        move(source, target)

    monkeypatch.setattr(os, "replace", as_windows)
    for seed in (1, 2):
        model_of(seed).save_pretrained(tmp_path / "m")
        assert torch.equal(weights(MAViL.from_pretrained(tmp_path / "m")), weights(model_of(seed)))

    def refused(source, target):
        if Path(target) == tmp_path / "m" and not source.name.endswith(".old"):
            raise PermissionError(13, "Permission denied", str(target))
        move(source, target)

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(PermissionError):
        model_of(3).save_pretrained(tmp_path / "m")
    assert torch.equal(weights(MAViL.from_pretrained(tmp_path / "m")), weights(model_of(2)))
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_is_waited_for_to_reach_the_disk_is_open_for_writing(tmp_path, monkeypatch):
    """Windows waits for no file that is open for reading alone."""
    opened, flags_of = os.open, {}

    def watched(path, flags, *more, **options):
        if Path(path).is_file():
            flags_of[Path(path).name] = flags
        return opened(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", watched)
    model_of(1).save_pretrained(tmp_path / "m")
    assert {"README.md": os.O_RDWR, "config.json": os.O_RDWR, "model.safetensors": os.O_RDWR}.items() <= flags_of.items()


def test_float16_halves_the_file_and_leaves_the_model_alone(tmp_path):
    model = model_of(1)
    before = weights(model).clone()
    save_model(model, tmp_path / "full")
    save_model(model, tmp_path / "half", torch.float16)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.52 * sizes[0]
    assert torch.equal(weights(model), before)
    again = MAViL.from_pretrained(tmp_path / "half")
    assert next(again.parameters()).dtype == torch.float32
    assert torch.allclose(weights(again), before, atol=1e-3)


def test_what_is_not_a_model_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="holds no model"):
        MAViL.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no folder"):
        MAViL.from_pretrained(tmp_path / "missing")
    save_model(model_of(1), tmp_path / "m")
    whole = (tmp_path / "m" / "model.safetensors").read_bytes()
    (tmp_path / "m" / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read"):
        MAViL.from_pretrained(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(whole)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"fusion_depth": 1}))
    with pytest.raises(ValueError, match="cannot be read"):
        MAViL.from_pretrained(tmp_path / "m")


def test_a_resumed_optimiser_steps_exactly_as_one_that_never_stopped(tmp_path):
    model = model_of(1)
    optimiser = make_optimiser(model, CONFIG.train)
    step(model, optimiser, 1)
    save_checkpoint(tmp_path, model, optimiser, {"step": 1, "drawn": 64})
    other = model_of(2)
    other_optimiser = make_optimiser(other, CONFIG.train)
    assert load_checkpoint(tmp_path, other, other_optimiser) == {"step": 1, "drawn": 64}
    for m, o in ((model, optimiser), (other, other_optimiser)):
        step(m, o, 2)
    assert torch.equal(weights(model), weights(other))


def test_large_moments_are_written_in_parts_and_read_as_one(tmp_path, monkeypatch):
    model = model_of(1)
    optimiser = make_optimiser(model, CONFIG.train)
    step(model, optimiser, 1)
    save_checkpoint(tmp_path / "one", model, optimiser, {"step": 1})
    monkeypatch.setattr(sharding, "PART", 2**16)
    save_checkpoint(tmp_path / "parts", model, optimiser, {"step": 1})
    parts = sorted((tmp_path / "parts" / "step-0000001").glob("*optimiser.safetensors"))
    tensors = [load_file(part) for part in parts]
    whole = load_file(tmp_path / "one" / "step-0000001" / "optimiser.safetensors")
    largest = max(value.nbytes for value in whole.values())
    assert len(parts) > 2 and max(sum(value.nbytes for value in part.values()) for part in tensors) < 2**16 + largest
    assert sum(map(len, tensors)) == len(whole) and all(torch.equal(v, whole[name]) for part in tensors for name, v in part.items())
    other = model_of(2)
    other_optimiser = make_optimiser(other, CONFIG.train)
    assert load_checkpoint(tmp_path / "parts", other, other_optimiser) == {"step": 1}
    for m, o in ((model, optimiser), (other, other_optimiser)):
        step(m, o, 2)
    assert torch.equal(weights(model), weights(other))
    parts[0].rename(tmp_path / "away")
    with pytest.raises(ValueError, match="Remove that folder"):
        load_checkpoint(tmp_path / "parts", other, other_optimiser)
    state = tmp_path / "one" / "step-0000001" / "state.json"
    for wrong in ('"2"', "0", "true", "2.5", "null"):
        state.write_text(state.read_text().replace('"optimiser_files": 1', f'"optimiser_files": {wrong}'))
        with pytest.raises(ValueError, match="files of the optimiser"):
            load_checkpoint(tmp_path / "one", other, other_optimiser)
        state.write_text(state.read_text().replace(f'"optimiser_files": {wrong}', '"optimiser_files": 1'))


def test_of_sharded_moments_only_one_part_is_held_whole_at_a_time(tmp_path, monkeypatch):
    gathered: list[weakref.ref] = []  # the memory of gathered tensors, which lives as long as any view of it

    def held() -> int:
        return sum(4000 for one in gathered if one() is not None)

    class Sharded:
        def full_tensor(self):
            numbers = np.ones(1000, dtype=np.float32)
            gathered.append(weakref.ref(numbers))
            seen.append(held())
            return torch.from_numpy(numbers)

    class Optimiser:
        def state_dict(self):
            return {"state": {i: {"exp_avg": Sharded()} for i in range(40)}, "param_groups": []}

    seen: list[int] = []
    monkeypatch.setattr(sharding, "PART", 8000)
    save_checkpoint(tmp_path, model_of(1), Optimiser(), {"step": 1})
    assert len(seen) == 40 and max(seen) <= 8000 and held() == 0
    assert len(list((tmp_path / "step-0000001").glob("*optimiser.safetensors"))) == 20
    for _ in whole_moments(Optimiser(), keep=False):
        pass
    assert len(seen) == 80 and max(seen[40:]) <= 8000, "processes that do not save gather as many, and keep none"


def test_the_two_newest_checkpoints_are_kept(tmp_path):
    model = model_of(1)
    optimiser = make_optimiser(model, CONFIG.train)
    for number in (9, 10, 200):
        save_checkpoint(tmp_path, model, optimiser, {"step": number})
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-0000010", "step-0000200"]
    assert load_checkpoint(tmp_path, model, optimiser) == {"step": 200}


def test_beside_the_two_newest_the_one_that_did_best_on_held_out_clips_is_kept(tmp_path):
    model = model_of(1)
    optimiser = make_optimiser(model, CONFIG.train)
    for number, held_out in enumerate([3.0, 1.0, None, 2.0, 2.5], start=1):
        save_checkpoint(tmp_path, model, optimiser, {"step": number, "held_out": held_out})
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-0000002", "step-0000004", "step-0000005"]
    save_checkpoint(tmp_path, model, optimiser, {"step": 6, "held_out": 0.5})
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-0000005", "step-0000006"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-0000005", "step-0000006"]


@pytest.mark.parametrize("file", ["model.safetensors", "optimiser.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_told_with_the_way_out(tmp_path, file):
    model = model_of(1)
    optimiser = make_optimiser(model, CONFIG.train)
    step(model, optimiser, 1)
    for number in (1, 2):
        save_checkpoint(tmp_path, model, optimiser, {"step": number})
    damaged = tmp_path / "step-0000002" / file
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(ValueError, match="step-0000002 cannot be read .*Remove that folder"):
        load_checkpoint(tmp_path, model, optimiser)
    for path in (tmp_path / "step-0000002").iterdir():
        path.unlink()
    (tmp_path / "step-0000002").rmdir()
    assert load_checkpoint(tmp_path, model, optimiser) == {"step": 1}


def test_a_write_that_fails_leaves_the_old_model_whole_and_no_rubbish(tmp_path, monkeypatch):
    save_model(model_of(1), tmp_path / "m")
    old = load_file(tmp_path / "m" / "model.safetensors")

    def full_disk(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "write_json", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_model(model_of(2), tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    new = load_file(tmp_path / "m" / "model.safetensors")
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_resuming_where_there_is_no_checkpoint_is_refused(tmp_path):
    model = model_of(1)
    with pytest.raises(ValueError, match="no checkpoint"):
        load_checkpoint(tmp_path, model, make_optimiser(model, CONFIG.train))


def test_weight_decay_is_on_matrices_only():
    model = model_of(1)
    decayed, others = make_optimiser(model, CONFIG.train).param_groups
    assert decayed["weight_decay"] == CONFIG.train.weight_decay and others["weight_decay"] == 0
    names = {id(p): name for name, p in model.named_parameters()}
    assert all(names[id(p)].endswith("weight") and p.ndim == 2 for p in decayed["params"])
    assert {names[id(p)].rsplit(".", 1)[-1] for p in others["params"]} <= {"bias", "weight", "class_token", "mask_token"}
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


# Sharing

SUMMARY = {
    "audio": {"masked_mse": 0.6012, "best_trivial_mse": 0.8034},
    "video": {"masked_mse": 0.4, "best_trivial_mse": 0.7},
    "retrieval": {
        "audio_to_video": {"r1": 0.1, "r5": 0.36}, "video_to_audio": {"r1": 0.07, "r5": 0.38},
        "chance_r1": 0.005, "chance_r5": 0.025, "clips": 200,
    },
    "target": "normalised", "seconds": 330.2, "steps": 1936, "held_out": True, "shuffled_pairs": False, "machine": "x86_64 cpu, 2 threads",
    "clips": {"trained": 6000, "held_out": 200},
}  # fmt: skip


def made_run(folder: Path, **changes) -> Path:
    """A run's folder with its summary, and a model in it that was saved before the summary was known."""
    model_of(1).save_pretrained(folder / "model")
    (folder / "summary.json").write_text(json.dumps(SUMMARY | changes))
    (folder / "config.json").write_text(json.dumps({"data": "/somewhere/of/mine/holiday clips", "list": None}))
    return folder


def card(folder: Path) -> str:
    return (folder / "README.md").read_text()


def test_a_card_tells_data_steps_and_each_number_beside_its_trivial_answer(tmp_path):
    run = made_run(tmp_path / "demo")
    text = card(MAViL.from_pretrained(run).save_pretrained(tmp_path / "shared"))
    assert "data: holiday clips, 6000 clips" in text and "steps: 1936, in 330 s" in text
    assert "| hidden patches of the sound, masked MSE | 0.601 | 0.803 |" in text
    assert "| the picture of a sound among 200 clips, R@5 | 36.0 % | 2.5 % |" in text
    assert "| the sound of a picture among 200 clips, R@1 | 7.0 % | 0.5 % |" in text
    assert "On 200 held-out clips" in text and 'from_pretrained("shared")' in text
    assert "somewhere" not in text, "where data lay on a machine is not told"
    assert text.startswith("---\nlibrary_name: mavil_edu\nlicense: mit\n")


def test_a_card_says_when_numbers_are_of_a_control_or_of_the_training_clips_and_lives_with_what_is_not_there(tmp_path):
    text = card(MAViL.from_pretrained(made_run(tmp_path / "a", shuffled_pairs=True, held_out=False)).save_pretrained(tmp_path / "m"))
    assert "a control" in text and "clips that it was trained on" in text
    text = card(MAViL.from_pretrained(made_run(tmp_path / "b", audio=None, retrieval=None)).save_pretrained(tmp_path / "m"))
    assert "sound, masked" not in text and "pictures, masked" in text and "R@" not in text
    with pytest.raises(ValueError, match="best_trivial_mse"):
        MAViL.from_pretrained(made_run(tmp_path / "c", video={"masked_mse": 1.0})).save_pretrained(tmp_path / "n")
    assert not (tmp_path / "n").exists()


def test_weights_that_were_trained_on_do_not_carry_the_numbers_of_before(tmp_path):
    model = MAViL.from_pretrained(made_run(tmp_path / "demo"))
    assert "1936" in card(model.to("cpu").save_pretrained(tmp_path / "same"))
    optimiser = make_optimiser(model, CONFIG.train)
    step(model, optimiser, 1)
    assert "1936" not in card(model.save_pretrained(tmp_path / "changed"))
    assert "1936" in card(model.save_pretrained(tmp_path / "told", run=tmp_path / "demo"))


def test_a_model_without_decoders_does_not_pass_on_our_licence(tmp_path):
    model = MAViL(replace(CONFIG.model, decoder=None))
    text = card(model.save_pretrained(tmp_path / "m"))
    assert "license: other" in text and "license: mit" not in text
    assert MAViL.from_pretrained(tmp_path / "m").config.decoder is None


def test_what_is_pushed_is_what_comes_back_by_name(tmp_path, monkeypatch):
    hub = {}

    class Hub:
        def __init__(self, token=None):
            hub["token"] = token

        def create_repo(self, repo_id, private=None, exist_ok=False):
            hub.update(private=private, exist_ok=exist_ok)
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, repo_id, folder_path, commit_message):
            copytree(folder_path, tmp_path / "hub" / repo_id)

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: tmp_path / "hub" / name)
    model = MAViL.from_pretrained(made_run(tmp_path / "demo"))
    model.push_to_hub("someone/mavil", private=True, token="hf_x")
    assert hub == {"token": "hf_x", "private": True, "exist_ok": True}
    assert sorted(p.name for p in (tmp_path / "hub/someone/mavil").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert 'from_pretrained("someone/mavil")' in card(tmp_path / "hub/someone/mavil") and "1936" in card(tmp_path / "hub/someone/mavil")
    again = MAViL.from_pretrained("someone/mavil")
    assert torch.equal(weights(model), weights(again)) and again.config == model.config


PUSH = """
import sys
from mavil_edu import MAViL
for name in sys.argv[1:]:
    try:
        MAViL.from_pretrained("tiny").push_to_hub(name)
    except ValueError as error:
        print(error)
"""


def pushed_to(endpoint: str, *names: str) -> str:
    """What pushes say where the Hub is at `endpoint`, without a token."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": "/nonexistent", "PYTHONPATH": str(Path(__file__).parent.parent)}
    environment |= {"NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([sys.executable, "-c", PUSH, *names], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Refusing(BaseHTTPRequestHandler):
    """A Hub that answers every request with the status that the owner's name ends with."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(int(asked["organization"][-3:]))
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_push_without_token_network_or_right_ends_with_a_sentence():
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}"
    said = pushed_to(here, "owner401/m", "owner403/m", "owner500/m", "a/b/c").splitlines()
    server.shutdown()
    server.server_close()
    for line, words in zip(said, ("wants a valid token", "refused owner403/m (403)", "(500)", "no name on the Hub"), strict=True):
        assert words in line
    assert "cannot be reached" in pushed_to(here, "owner/m")
