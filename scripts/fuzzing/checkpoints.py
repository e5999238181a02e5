"""Weights and checkpoints: safetensors, state.json and torch's files damaged; loaded, resumed from, and run."""

import json
import shutil
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch

from fuzzing.mutations import ANYWHERE, HOSTILE, as_bytes, change_json, damage_text
from fuzzing.pool import Outcome, step
from fuzzing.told import attempt
from mavil_edu import MAViL, tiny
from mavil_edu.checkpoint import load_checkpoint, save_checkpoint, save_model
from mavil_edu.config import ModelConfig, TransformerConfig
from mavil_edu.released import export_released, load_released
from mavil_edu.start import start_from
from mavil_edu.weights_file import read_weights

CASES = 1100
VALUES = [float("nan"), float("inf"), float("-inf"), 3e38]


@dataclass
class Saved:
    whole: Path  # model/, checkpoints/ and a file in the released layout
    config: ModelConfig
    place: Path


def prepare(place: Path) -> Saved:
    base = tiny().model
    encoder = TransformerConfig(24, 1, 2)
    config = replace(base, encoder=encoder, decoder=TransformerConfig(16, 1, 2), fusion_depth=1, projection=24)
    torch.manual_seed(0)
    model, whole = MAViL(config), place / "whole"
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    sum((p**2).sum() for p in model.parameters() if p.requires_grad).backward()
    optimiser.step()
    save_model(model, whole / "model")
    state = {"step": 3, "drawn": 12, "dropped": 0, "seconds": 1.5, "held_out": 2.5, "seed": 0}
    save_checkpoint(whole / "checkpoints", model, optimiser, state, {"cpu": torch.get_rng_state()})
    export_released(MAViL(replace(config, decoder=None, projection=None, predict_statistics=False)), whole / "released.pth")
    return Saved(whole, config, place)


def _header(rng: Random, raw: bytearray) -> str:
    """Damage to the JSON at the head of a safetensors file, its length put right or not."""
    size = int.from_bytes(raw[:8], "little")
    value, done = change_json(
        rng, json.loads(bytes(raw[8 : 8 + size])), [*HOSTILE, "F16", "I64", "F64", [1 << 40], [1 << 62, 2], [0, 1 << 62]]
    )
    head = as_bytes(value)
    if rng.random() < 0.7:
        head += b" " * max(0, size - len(head))
    raw[: 8 + size] = struct.pack("<Q", len(head)) + head
    return done


def _value(rng: Random, raw: bytearray) -> str:
    """A number that is none, somewhere in the tensors."""
    size = int.from_bytes(raw[:8], "little")
    value = rng.choice(VALUES)
    place = 8 + size + 4 * rng.randrange((len(raw) - 8 - size) // 4)
    raw[place : place + 4] = struct.pack("<f", value)
    return f"{value} at {place}"


def damage(case: int, folder: Path) -> tuple[str, str]:
    rng = Random(f"checkpoints {case}")
    newest = next((folder / "checkpoints").iterdir())
    path = rng.choice([folder / "model" / "model.safetensors", *newest.glob("*"), folder / "released.pth"])
    if rng.random() < 0.06:
        path.unlink()
        how = rng.choice(["missing", "folder", "empty"])
        if how == "folder":
            path.mkdir()
        elif how == "empty":
            path.touch()
        return f"{path.name}: {how}", path.parent.name
    raw, told = bytearray(path.read_bytes()), []
    for _ in range(rng.choice([1, 1, 2])):
        if path.suffix == ".json":
            if rng.random() < 0.6 and not told:
                value, done = change_json(rng, json.loads(bytes(raw)))
                raw[:] = as_bytes(value)
            else:
                done = damage_text(rng, raw)
        elif path.suffix == ".safetensors" and not told:
            done = rng.choice([_header, _value, _value, rng.choice(ANYWHERE)])(rng, raw)
        else:
            done = rng.choice(ANYWHERE)(rng, raw)
        told.append(done)
    path.write_bytes(raw)
    return f"{path.relative_to(folder)}: {'; '.join(told)}", path.parent.name


def _finite(model: MAViL) -> list[str]:
    wrong = [name for name, value in model.state_dict().items() if value.is_floating_point() and not bool(value.isfinite().all())]
    return [f"nan: {wrong[0]} was loaded" for _ in wrong[:1]]


def check(folder: Path, saved: Saved) -> tuple[str, list[str]]:
    """Loads all that lies in a folder, as a model, to start from, to go on with, as released weights."""
    faults, refused = [], []

    def tried(work, name: str):
        step(name)
        value, error, wrong = attempt(work)
        faults.extend(wrong)
        if error is not None:
            refused.append(name)
        return value

    model = tried(lambda: MAViL.from_pretrained(folder), "from_pretrained")
    if model is not None:
        faults += _finite(model)
    torch.manual_seed(1)
    fresh = MAViL(saved.config)
    tried(lambda: start_from(fresh, str(folder)), "start_from")
    faults += _finite(fresh)
    optimiser = torch.optim.AdamW(fresh.parameters(), lr=1e-3)
    state = tried(lambda: load_checkpoint(folder / "checkpoints", fresh, optimiser), "load_checkpoint")
    if state is not None:
        step("a step with what was loaded")
        faults += _finite(fresh)
        for parameter in fresh.parameters():
            parameter.grad = torch.zeros_like(parameter)
        _, error, wrong = attempt(optimiser.step)
        faults += [f"silent: a checkpoint was taken that no step can be made with: {error!r:.200}"] if error is not None else []
        faults += [f"{fault} after a step" for fault in _finite(fresh)]
    tried(lambda: read_weights(folder / "released.pth"), "read_weights")
    grids = {"heads": 2, "audio_grid": saved.config.audio.grid, "video_grid": saved.config.video.grid}
    released = tried(lambda: load_released(folder / "released.pth", **grids), "load_released")
    if released is not None:
        faults += _finite(released)
        step("encode")
        with torch.no_grad():
            found, _, wrong = attempt(
                lambda: released.encode(audio=torch.zeros(1, 1, saved.config.audio.frames, saved.config.audio.mel_bins))
            )
        faults += wrong
    return (f"refused: {refused[0]}" if refused else "taken"), list(dict.fromkeys(faults))


def run(case: int, saved: Saved, keep: bool = False) -> Outcome:
    folder = saved.place / "case"
    shutil.rmtree(folder, ignore_errors=True)  # left by a worker that died
    shutil.copytree(saved.whole, folder)
    np.random.seed(0)
    try:
        done, _ = damage(case, folder)
        step(done)
        outcome, faults = check(folder, saved)
    finally:
        if not keep:
            shutil.rmtree(folder)
    return Outcome(outcome, done, faults)
