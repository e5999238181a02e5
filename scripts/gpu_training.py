"""Trains a preset on the generated world for some minutes, scores it beside its trivial answers, and writes weights in small files.

    python scripts/gpu_training.py render WORK                    # the clips, kept in WORK/cache
    python scripts/gpu_training.py train WORK OUT --minutes 4     # … training on them, and the scores: WORK/train.json
    python scripts/gpu_training.py join OUT FOLDER                # the weights' parts as a model's folder, for from_pretrained

It needs torch, torchaudio, torchvision, lightning-fabric, einops, safetensors, matplotlib and rich; `join` needs dacite too.
"""

import argparse
import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mavil_edu import MAViL
from mavil_edu.checkpoint import CONFIG_FILE, MODEL_FILE, tensors_of, without_decoders
from mavil_edu.config import PRESETS, Config, to_dict
from mavil_edu.data.batch import Sample, evaluation_batch
from mavil_edu.data.world import World
from mavil_edu.evaluate import HeldOut, position_means
from mavil_edu.figures import curves
from mavil_edu.files import write_json
from mavil_edu.processes import machine
from mavil_edu.train import make_fabric, steps_for, train

HELD_OUT, TRAINING = 2, 100  # seeds of the worlds, of the first one that is trained on; no clip is in two of them
WORLDS = 16  # that are trained on, each rendered by one process
MEAN_CLIPS = 512  # training clips over which the position means are taken, at most
PART = 15_000_000  # bytes of a file of weights, at most
TERMS = {"audio_mse": "audio: masked MSE", "video_mse": "video: masked MSE", "inter": "InfoNCE, modalities", "intra": "InfoNCE, views"}
COLUMNS = ("material", "size", "event", "ambience")  # labels that probes ask for


def changed(config: Any, changes: list[str]) -> Any:
    """A config with some of its numbers set, each given as "model.audio.patch_frames=8"; values are read as JSON.

    Raises ValueError for a name that the config does not have, or a value of another kind than the one that stands there.
    """
    for change in changes:
        name, _, text = change.partition("=")
        first, _, rest = name.partition(".")
        if first not in {field.name for field in dataclasses.fields(config)}:
            raise ValueError(f"There is no {name} in the config; its parts are {', '.join(f.name for f in dataclasses.fields(config))}.")
        old = getattr(config, first)
        if rest:
            if not dataclasses.is_dataclass(old):
                raise ValueError(f"There is no {rest} in the config's {first}, which is {old!r}.")
            value = changed(old, [f"{rest}={text}"])
        else:
            value = _value(name, text, old)
        config = replace(config, **{first: value})
    return config


def _value(name: str, text: str, old: Any) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text  # a word, such as bf16-mixed
    if isinstance(value, list):
        value = tuple(value)
    alike = isinstance(value, (int, float) if isinstance(old, float) else type(old)) and isinstance(value, bool) == isinstance(old, bool)
    if old is not None and not alike:
        raise ValueError(f"{name} is {old!r}; {text!r} is no value of that kind.")
    return value


def asked_config(asked: argparse.Namespace) -> Config:
    config = changed(PRESETS[asked.preset](), asked.set)
    if torch.cuda.is_available() and not any(change.startswith("train.precision") for change in asked.set):
        config = changed(config, ["train.precision=bf16-mixed"])
    return config


class Worlds:
    """Several generated worlds as one data set, so that as many processes can render them; see `mavil_edu.data.batch.Clips`."""

    def __init__(self, parts: list[World]):
        self.parts, self.labels = parts, {name: [x for part in parts for x in part.labels[name]] for name in parts[0].labels}

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def _place(self, index: int) -> tuple[World, int]:
        part, place = divmod(index, len(self.parts[0]))  # all but the last are of one length
        return self.parts[part], place

    @property
    def turns(self) -> range:
        return range(len(self))

    def name(self, index: int) -> str:
        return f"generated clip {index}"

    def sample(self, index: int, generator: torch.Generator | None) -> Sample:
        world, place = self._place(index)
        return world.sample(place, generator)


def _render(count: int, seed: int, config: Config, cache: Path) -> World:
    return World(count, seed, config.model, config.train.augment, cache=cache, quiet=True)


def worlds(config: Config, asked: argparse.Namespace) -> tuple[Worlds, World]:
    """The clips trained on and the held-out ones, rendered once, by so many processes, and kept in files."""
    each = -(-asked.clips // WORLDS)
    counts = [min(each, asked.clips - start) for start in range(0, asked.clips, each)]
    cases = [(asked.held_out, HELD_OUT), *((count, TRAINING + number) for number, count in enumerate(counts))]
    if asked.jobs > 1:
        with ProcessPoolExecutor(min(asked.jobs, len(cases)), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            for done in [pool.submit(_stored, *case, config, asked.work / "cache") for case in cases]:
                done.result()
    held, *parts = (_render(*case, config, asked.work / "cache") for case in cases)
    return Worlds(parts), held


def _stored(count: int, seed: int, config: Config, cache: Path) -> None:
    """Renders a world into the cache; it is read from there, since a pipe between processes would be slower."""
    _render(count, seed, config, cache)


def scores(config: Config, held_out: HeldOut, model: MAViL) -> dict:
    """Reconstruction and retrieval on the held-out clips, for the model and for one that was never trained."""
    torch.manual_seed(12345)
    untrained = MAViL(config).to(next(model.parameters()).device).eval()
    return held_out.summary(model.eval()) | {"untrained": held_out.summary(untrained)}


def probes(config: Config, model: MAViL, training: Worlds, held: World) -> dict:
    """Linear probes of some columns on 2,000 training clips: the model's, an untrained one's, raw features', and chance."""
    from mavil_edu.probes import features, probe, raw_features

    torch.manual_seed(12345)
    untrained = MAViL(config).to(next(model.parameters()).device).eval()
    (fitted, kept, _), (asked, held_kept, _) = evaluation_batch(training, 2000), evaluation_batch(held)
    found: dict = {}
    for who, make in {
        "model": lambda batch: features(model, batch),
        "untrained": lambda batch: features(untrained, batch),
        "raw": lambda batch: raw_features(batch, config.model),
    }.items():
        train_set, test_set = make(fitted), make(asked)
        for modality in ("audio", "video"):
            for column in COLUMNS:
                train_values = [training.labels[column][i] for i in kept]
                test_values = [held.labels[column][i] for i in held_kept]
                score = probe(train_set[modality], train_values, test_set[modality], test_values)
                found.setdefault(f"{column} from {modality}", {})[who] = score.value
                found[f"{column} from {modality}"]["chance"] = score.chance
    return found


def parts_of(tensors: dict[str, torch.Tensor], limit: int) -> Iterator[dict[str, torch.Tensor]]:
    """The tensors in groups of `limit` bytes at most, in their order. Raises ValueError where one alone is larger."""
    group: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        if value.nbytes > limit:
            raise ValueError(f"{name} has {value.nbytes} bytes, more than the {limit} of a file.")
        if sum(one.nbytes for one in group.values()) + value.nbytes > limit:
            yield group
            group = {}
        group[name] = value
    yield group


def write_weights(model: MAViL, out: Path, limit: int = PART) -> list[Path]:
    """The model in float16, without decoders, as `weights-1-of-N.safetensors` … with its config in each file's header."""
    groups = list(parts_of(without_decoders(tensors_of(model, torch.float16)), limit))
    config = json.dumps(to_dict(replace(model.config, decoder=None)))
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"weights-{number}-of-{len(groups)}.safetensors" for number in range(1, len(groups) + 1)]
    for path, group in zip(paths, groups, strict=True):
        save_file(group, path, {"config": config})
        path.chmod(0o644)  # safetensors makes files for their owner alone
    return paths


def join(parts: Path, folder: Path) -> MAViL:
    """A model's folder from the parts that `write_weights` wrote, loaded once to see that it is whole."""
    found = sorted(parts.glob("weights-*-of-*.safetensors"))
    wanted = {int(number) for path in found for number in re.findall(r"-of-(\d+)", path.name)}
    if not found or wanted != {len(found)}:
        raise ValueError(f"{parts} holds {len(found)} parts of weights; give the folder with all parts of one model, and no others.")
    with safe_open(found[0], framework="pt") as file:
        config = json.loads(file.metadata()["config"])
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value for path in found for name, value in load_file(path).items()}, folder / MODEL_FILE)
    write_json(folder / CONFIG_FILE, config)
    return MAViL.from_pretrained(folder)


def train_and_score(asked: argparse.Namespace) -> dict:
    """The whole of `train`; what is known is written into WORK/train.json as soon as it is known."""
    until = time.monotonic() + 60 * asked.minutes
    config, answer = asked_config(asked), {}

    def tell(**found: Any) -> None:
        answer.update(found)
        write_json(asked.work / "train.json", answer)

    training, held = worlds(config, asked)
    config = replace(config, train=replace(config.train, batch=min(config.train.batch, len(training))))
    device = make_fabric(config).device
    tell(machine=machine(device), preset=asked.preset, changes=asked.set, clips=asked.clips, held_out_clips=asked.held_out)
    means = position_means(evaluation_batch(training, MEAN_CLIPS)[0], config.model, device)
    held_out = HeldOut(evaluation_batch(held)[0], means, config.model, config.objective)
    left = (until - time.monotonic()) / 60
    steps, _ = steps_for(left, config, training, 0, asked.workers)
    steps = min(steps, asked.steps or steps)
    looks = max(1, steps // 10)
    config = replace(config, train=replace(config.train, steps=steps, evaluate_every=looks, save_every=steps))
    tell(config=to_dict(config), steps=steps, workers=asked.workers)
    print(f"{steps} steps fit into {left:.2f} minutes", flush=True)

    run = asked.work / "run"
    started = time.monotonic()
    try:
        model, progress = train(config, training, held_out, run, workers=asked.workers)
        tell(seconds=round(progress.seconds, 1), clips_per_second=round(progress.step * config.train.batch / progress.seconds, 1))
    except KeyboardInterrupt as stop:  # the time was up: what was saved before the signal counts
        tell(stopped=str(stop), seconds=round(time.monotonic() - started, 1))
        model = MAViL(config).to(device)
        model.load_state_dict(load_file(run / "model" / MODEL_FILE))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    asked.out.mkdir(parents=True, exist_ok=True)
    curves(rows, TERMS).save(asked.out / "curves.png")
    thinned = [row for row in rows if row.get("held_out") or row["step"] % max(1, steps // 2000) == 0]
    (asked.out / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in thinned), encoding="utf-8")
    tell(weights=[path.name for path in write_weights(model, asked.out)])
    tell(scores=scores(config, held_out, model))
    if find_spec("sklearn"):
        tell(probes=probes(config, model, training, held))
    else:
        tell(left_out=["probes: scikit-learn is not installed"])
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("render", "train"):
        command = commands.add_parser(name)
        command.add_argument("work", type=Path)
        if name == "train":
            command.add_argument("out", type=Path)
            command.add_argument("--minutes", type=float, default=4.0, help="of training; rendering and scores take more")
            command.add_argument("--steps", type=int, help="at most")
            command.add_argument("--workers", type=int, default=min(8, max((os.cpu_count() or 1) - 4, 0)))
        command.add_argument("--jobs", type=int, default=1, help="processes that render clips which are not there yet")
        command.add_argument("--preset", choices=PRESETS, default="small")
        command.add_argument("--clips", type=int, default=20_000)
        command.add_argument("--held-out", type=int, default=500)
        command.add_argument(
            "--set", nargs="*", default=[], metavar="NAME=VALUE", help="numbers of the config, such as objective.alpha=0.2"
        )
    joining = commands.add_parser("join")
    joining.add_argument("out", type=Path)
    joining.add_argument("folder", type=Path)
    asked = parser.parse_args()
    try:
        if asked.command == "render":
            started = time.monotonic()
            worlds(asked_config(asked), asked)
            print(f"{asked.clips + asked.held_out} clips are there after {time.monotonic() - started:.1f} s")
        elif asked.command == "train":
            print(json.dumps(train_and_score(asked).get("scores"), indent=1))
        else:
            join(asked.out, asked.folder)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
