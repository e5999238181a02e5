"""The whole of one pre-training run, from a folder of clips to a report: what stands in a run's folder is decided here."""

import hashlib
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path

import torch

from mavil_edu import media, report
from mavil_edu.checkpoint import write_json
from mavil_edu.config import Config, ModelConfig, from_dict, tiny, to_dict
from mavil_edu.data.batch import Batch, Clips, evaluation_batch
from mavil_edu.data.folder import FolderClips
from mavil_edu.data.world import World
from mavil_edu.evaluate import HeldOut, position_means
from mavil_edu.examples import write_example
from mavil_edu.inspection import Inspection, inspect_paths
from mavil_edu.mavil import Masks, MAViL
from mavil_edu.progress import tracked
from mavil_edu.train import make_fabric, steps_for, train

EXAMPLES = 6  # held-out clips shown in a report
EVALUATION_CLIPS = 1000  # held-out clips that are evaluated, at most
MEAN_CLIPS = 512  # training clips over which the position means are taken, at most
TRAINING_WORLD, HELD_OUT_WORLD = 1, 2  # seeds of the demo's generated clips
DEMO_EVALUATION_CLIPS = 200
HELD_OUT_SHARE = 0.1  # of the clips, where no evaluation data are given


class RunError(ValueError):
    """A run cannot start as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Data:
    """The clips of a run."""

    training: Clips
    evaluation: Clips
    held_out: bool  # False where there is one clip only, which is then trained and evaluated on
    skipped: list[dict[str, str]]  # files that cannot be trained on: path and reason


def usable_files(folder: Path, model: ModelConfig, min_seconds: float) -> tuple[list[Path], list[dict[str, str]]]:
    """The media files of a folder that can be trained on, and those that cannot, with the reason.

    Raises RunError where there is no usable clip.
    """
    if not folder.exists():
        raise RunError(
            f"There is no folder {folder}. Name a folder of clips, or make some: mavil-edu world --clips 64 --seed 1 --out {folder}"
        )
    paths = media.find_media([folder])
    verdicts: list[Inspection] = list(tracked(inspect_paths(paths, model, min_seconds), "inspecting", len(paths)))
    usable = [path for path, verdict in zip(paths, verdicts, strict=True) if verdict.trainable]
    skipped = [{"path": str(v.path), "reason": f"{v.status}: {v.message}"} for v in verdicts if not v.trainable]
    if not usable:
        first = f" The first, {skipped[0]['path']}: {skipped[0]['reason']}" if skipped else ""
        raise RunError(f"None of the {len(paths)} media files in {folder} can be trained on.{first} See mavil-edu inspect {folder}")
    return usable, skipped


def folder_data(data: Path, eval_data: Path | None, config: Config, seed: int, min_seconds: float) -> Data:
    """A folder's usable clips, of which a tenth (at least one) is held out where there is no folder for evaluation."""
    usable, skipped = usable_files(data, config.model, min_seconds)
    if eval_data is not None:
        training = usable
        evaluation, more = usable_files(eval_data, config.model, min_seconds)
        skipped = skipped + more
    else:
        order = torch.randperm(len(usable), generator=torch.Generator().manual_seed(seed)).tolist()
        held = set(order[: min(max(1, round(HELD_OUT_SHARE * len(usable))), EVALUATION_CLIPS)])
        evaluation = [path for i, path in enumerate(usable) if i in held]
        training = [path for i, path in enumerate(usable) if i not in held] or evaluation
    augment = config.train.augment
    return Data(
        FolderClips(training, config.model, augment),
        FolderClips(evaluation, config.model, augment),
        held_out=not set(map(Path.resolve, training)) & set(map(Path.resolve, evaluation)),
        skipped=skipped,
    )


def versions() -> dict[str, str]:
    """The versions that a run's numbers depend on."""
    found = {"python": platform.python_version()}
    for name in ("mavil-edu", "torch", "torchaudio", "torchvision", "lightning-fabric", "av", "einops"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def machine(device: torch.device) -> str:
    """What computed, in a few words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {device.type}, {torch.get_num_threads()} threads"


def _check_run(run: Path, resume: bool) -> None:
    """Raises RunError where the folder is not what a new or a resumed run needs."""
    if resume and not (run / "config.json").exists():
        raise RunError(f"{run} holds no run to resume. Start it without --resume.")
    if not resume and run.exists() and not run.is_dir():
        raise RunError(f"{run} is a file; give --out a folder.")
    if not resume and run.exists() and any(run.iterdir()):
        raise RunError(f"{run} is not empty. Go on with it by --resume, or give another --out; nothing is overwritten.")


def stored_run(run: Path) -> dict:
    """What a run's `config.json` says: the config, the seed, the data, and the command that began it."""
    try:
        stored = json.loads((run / "config.json").read_text(encoding="utf-8"))
        return stored | {"config": from_dict(Config, stored["config"])}
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise RunError(f"{run / 'config.json'} cannot be read ({error}); it is not the folder of a run that can be resumed.") from error


def _prepare(config: Config, data: Data, run: Path, seed: int, minutes: float | None, workers: int, origin: dict) -> tuple[Config, float]:
    """Fixes a new run's batch and number of steps, and writes its `config.json`; also the seconds that timing took."""
    batch = min(config.train.batch, len(data.training))
    if batch < config.train.batch:
        print(f"There are {len(data.training)} training clips, so the batch is {batch} and not {config.train.batch}.", file=sys.stderr)
        config = replace(config, train=replace(config.train, batch=batch, accumulate=min(config.train.accumulate, batch)))
    timed = 0.0
    if minutes is not None:
        steps, timed = steps_for(minutes, config, data.training, seed, workers)
        config = replace(config, train=replace(config.train, steps=steps))
        print(f"{steps} steps fit into {minutes:g} minutes.", file=sys.stderr)
    run.mkdir(parents=True, exist_ok=True)
    write_json(
        run / "config.json",
        {"config": to_dict(config), "seed": seed, "minutes": minutes, "command": ["mavil-edu", *sys.argv[1:]], **origin},
    )
    return config, timed


def pretrain(
    data: Data, config: Config, run: Path, *, seed: int, minutes: float | None, workers: int, resume: bool, origin: dict[str, str | None]
) -> dict:
    """Trains stage 1 and writes a run's folder; returns its summary.

    data: the clips. run: an empty or new folder, or one to resume, whose own config and seed then hold. minutes: fixes the number
    of steps by timing, in place of the config's. origin: where the clips came from, stored with the run.
    Raises RunError or TrainingError with a sentence.
    """
    timed = 0.0
    if resume:
        stored = stored_run(run)
        config, seed = stored["config"], stored["seed"]
    else:
        config, timed = _prepare(config, data, run, seed, minutes, workers, origin)

    device = make_fabric(config).device
    means_batch, _, _ = evaluation_batch(data.training, MEAN_CLIPS)
    evaluation, kept, skipped = evaluation_batch(data.evaluation, EVALUATION_CLIPS)
    held_out = HeldOut(evaluation, position_means(means_batch, config.model, device), config.model, config.objective)
    model, progress = train(config, data.training, held_out, run, seed=seed, workers=workers, resume=resume)

    left_out = data.skipped + [{"path": s.path, "reason": s.reason} for s in skipped]
    left_out += [{"path": path, "reason": reason} for path, reason in progress.skipped.items()]
    summary = held_out.summary(model) | {
        "seconds": round(progress.seconds + timed, 1),
        "steps": progress.step,
        "held_out": data.held_out,
        "clips": {
            "trained": len(data.training),
            "held_out": len(kept),
            "skipped": list({entry["path"]: entry for entry in left_out}.values()),
            "silent_windows": progress.skipped_draws,
            "dropped": progress.dropped,
        },
        "parameters": sum(p.numel() for p in model.parameters()),
        "versions": versions(),
        "machine": machine(device),
        "command": " ".join(stored_run(run)["command"]),
    }
    write_json(run / "summary.json", summary)
    write_examples(model, evaluation, [data.evaluation.name(i) for i in kept], held_out.masks, run)
    report.write_report(run)
    return summary


def pretrain_folder(
    folder: Path,
    eval_folder: Path | None,
    config: Config,
    run: Path,
    *,
    seed: int = 0,
    minutes: float | None = None,
    workers: int | None = None,
    min_seconds: float = 1.0,
    resume: bool = False,
) -> dict:
    """`mavil-edu pretrain`: trains on a folder of clips, or goes on with a run; returns its summary."""
    _check_run(run, resume)
    if resume:  # the clips, and how they are split, are those of the run
        stored = stored_run(run)
        config, seed = stored["config"], stored["seed"]
    data = folder_data(folder, eval_folder, config, seed, min_seconds)
    clips = [f"{path.name}:{path.stat().st_size}" for path in data.training.paths]
    digest = hashlib.sha256("\n".join(clips).encode()).hexdigest()[:16]
    if resume and stored["clips"] != digest:
        raise RunError(f"The clips in {folder} are not those that the run in {run} began with; resume it with its own clips.")
    if workers is None:
        workers = 0 if len(data.training) <= config.train.batch else 1
    origin = {"data": str(folder), "eval_data": None if eval_folder is None else str(eval_folder), "clips": digest}
    return pretrain(data, config, run, seed=seed, minutes=minutes, workers=workers, resume=resume, origin=origin)


def demo(run: Path, minutes: float | None, clips: int, seed: int, config: Config | None = None) -> dict:
    """`mavil-edu demo`: trains the tiny preset on generated clips, evaluated on clips that it never sees; returns its summary.

    minutes: of training, or None for the config's own number of steps. config: in place of `tiny()`.
    """
    config = config or tiny()
    _set_aside(run)
    worlds = [
        World(number, world_seed, config.model, config.train.augment, cache=run.parent / "cache")
        for number, world_seed in ((clips, TRAINING_WORLD), (DEMO_EVALUATION_CLIPS, HELD_OUT_WORLD))
    ]
    data = Data(*worlds, held_out=True, skipped=[])
    return pretrain(data, config, run, seed=seed, minutes=minutes, workers=0, resume=False, origin={"data": f"{clips} generated clips"})


def _set_aside(run: Path) -> None:
    """Renames an earlier run's folder to the first free RUN-1, RUN-2, …, so that nothing is lost."""
    if run.exists() and any(run.iterdir()):
        kept = next(place for i in count(1) if not (place := run.with_name(f"{run.name}-{i}")).exists())
        run.rename(kept)
        print(f"The earlier run is kept in {kept}.", file=sys.stderr)


def write_examples(model: MAViL, batch: Batch, names: Sequence[str], masks: Masks, run: Path) -> None:
    """Pictures, sounds and videos of some held-out clips into a run's folder, and `examples.json` that lists them."""
    entries = []
    for i in range(min(EXAMPLES, len(names))):
        one = Batch(*(field[i : i + 1] for field in batch))
        entries.append(write_example(model, one, Masks(*(m[i : i + 1] for m in masks)), names[i], f"clip-{i:03d}", run))
    write_json(run / "examples.json", entries)
