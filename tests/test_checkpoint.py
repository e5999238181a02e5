"""Models and runs come back as they were saved, and a failed write leaves the old one whole."""

import json

import pytest
import torch
from safetensors.torch import load_file

from mavil_edu import MAViL, tiny
from mavil_edu import checkpoint as checkpoint_module
from mavil_edu.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint, save_model
from mavil_edu.config import ModelConfig
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


def test_the_two_newest_checkpoints_are_kept(tmp_path):
    model = model_of(1)
    optimiser = make_optimiser(model, CONFIG.train)
    for number in (9, 10, 200):
        save_checkpoint(tmp_path, model, optimiser, {"step": number})
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-0000010", "step-0000200"]
    assert load_checkpoint(tmp_path, model, optimiser) == {"step": 200}


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
