"""A run's and a model's config.json, and the preset's numbers: damaged, read, and built from as far as they are taken."""

import copy
import json
import math
import shutil
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

from fuzzing.mutations import HOSTILE, as_bytes, change_json, damage_text
from fuzzing.pool import Outcome, step
from fuzzing.told import attempt
from mavil_edu import MAViL, tiny
from mavil_edu.checkpoint import save_model
from mavil_edu.config import Config, ModelConfig, from_dict, to_dict
from mavil_edu.data.batch import Batch, to_inputs
from mavil_edu.run import stored_run
from mavil_edu.start import trained_config
from mavil_edu.train import learning_rate

CASES = 1600
NUMBERS = [*HOSTILE, 0.1, 0.5, 2, 3, 7, 16, 1000, 2**20, 10**7, 10**9, 1e-9, 1e9, 1e15, "random", "joint", "teacher", "raw"]


@dataclass
class Stored:
    model: Path  # a small model's folder
    run: dict  # what a run's config.json holds
    place: Path


def prepare(place: Path) -> Stored:
    config = tiny()
    torch.manual_seed(0)
    save_model(MAViL(config), place / "whole" / "model")
    return Stored(place / "whole" / "model", {"config": to_dict(config), "seed": 0, "data": "clips", "minutes": None}, place)


def not_finite(config: Any, name: str = "") -> list[str]:
    """The numbers of a config that are none."""
    if is_dataclass(config):
        return [wrong for f in fields(config) for wrong in not_finite(getattr(config, f.name), f"{name}.{f.name}")]
    if isinstance(config, tuple | list):
        return [wrong for value in config for wrong in not_finite(value, name)]
    return [name] if isinstance(config, float) and not math.isfinite(config) else []


def _build(config: ModelConfig) -> list[str]:
    """Builds a model of a config's sizes, where it is small, and puts a batch through its front ends."""
    inputs = 2 * config.audio.samples * 4 + 2 * config.video.frames * config.video.height * config.video.width * 3
    blocks = config.encoder.depth * config.encoder.width**2 * 24
    if inputs > 20e6 or blocks > 2e6 or config.audio.frames * config.audio.mel_bins > 1e6:
        return []  # sizes that somebody may want, with the machine for them
    generator = torch.Generator().manual_seed(0)
    waveform = torch.rand(1, config.audio.samples, generator=generator) - 0.5
    frames = torch.randint(0, 256, (1, config.video.frames, config.video.height, config.video.width, 3), generator=generator).to(
        torch.uint8
    )
    batch = Batch(waveform, torch.tensor([[0, config.audio.samples]]), frames, torch.ones(1, config.video.frames, dtype=torch.bool))
    inputs, error, wrong = attempt(lambda: to_inputs(batch, config))
    if error is not None:
        return wrong
    bad = [name for name in ("audio", "video") if not bool(getattr(inputs, name).isfinite().all())]
    return [f"nan: the {name} input of a config that was taken" for name in bad]


def check(folder: Path, values: Any) -> tuple[str, list[str]]:
    """Reads a run's folder with its model, whose config.json files are damaged."""
    faults, refused = [], 0

    def tried(work, name: str):
        nonlocal refused
        step(name)
        value, error, wrong = attempt(work)
        faults.extend(wrong)
        refused += error is not None
        return value

    stored = tried(lambda: stored_run(folder), "stored_run")
    model = tried(lambda: trained_config(str(folder)), "trained_config")
    loaded = tried(lambda: MAViL.from_pretrained(folder), "from_pretrained")
    taken = [config for config in (stored and stored["config"], model, loaded and loaded.config) if config is not None]
    if isinstance(values, dict) and isinstance(values.get("config"), dict):
        plain = tried(lambda: from_dict(Config, values["config"]), "from_dict")
        taken += [plain] if plain is not None else []
    for config in taken:
        faults += [f"nan: a config with {name} that is no number" for name in not_finite(config)]
        if isinstance(config, Config):
            step("learning rates")
            rates = [attempt(lambda at=at, train=config.train: learning_rate(at, train)) for at in (0, 1, config.train.steps - 1)]
            faults += [wrong for _, _, wrongs in rates for wrong in wrongs]
            faults += ["nan: a learning rate"] * any(rate is not None and not math.isfinite(rate) for rate, _, _ in rates)
        step("front ends")
        faults += _build(config.model if isinstance(config, Config) else config)
    return ("taken" if not refused else "refused" if refused >= 3 else "partly refused"), list(dict.fromkeys(faults))


def damage(case: int, stored: Stored, folder: Path) -> tuple[str, Any]:
    rng = Random(f"configs {case}")
    shutil.copytree(stored.model, folder / "model")
    run, model = copy.deepcopy(stored.run), json.loads((stored.model / "config.json").read_text())
    (folder / "config.json").write_bytes(as_bytes(run))
    told, values = [], run
    which = rng.choice(["run", "run", "model"])
    path = folder / "config.json" if which == "run" else folder / "model" / "config.json"
    value = run if which == "run" else model
    if rng.random() < 0.75:
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            value, done = change_json(rng, value, NUMBERS)
            told.append(done)
        path.write_bytes(as_bytes(value))
        values = value if which == "run" else {"config": run["config"] | {"model": value}}
    else:
        raw = bytearray(path.read_bytes())
        told.append(damage_text(rng, raw))
        path.write_bytes(raw)
    return f"{which}: {'; '.join(told)}", values


def run(case: int, stored: Stored, keep: bool = False) -> Outcome:
    folder = stored.place / "case"
    shutil.rmtree(folder, ignore_errors=True)  # left by a worker that died
    folder.mkdir()
    try:
        done, values = damage(case, stored, folder)
        step(done)
        outcome, faults = check(folder, values)
    finally:
        if not keep:
            shutil.rmtree(folder)
    return Outcome(outcome, done, faults)
