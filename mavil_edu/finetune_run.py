"""The whole of one fine-tuning run, from labelled clips to a folder: what stands in it, and which answers stand beside its numbers."""

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mavil_edu.card import model_card
from mavil_edu.checkpoint import save_model
from mavil_edu.classification import confusion, confusion_picture, trivial_answers, write_predictions
from mavil_edu.config import ClassesFrom, to_dict
from mavil_edu.data.batch import Clips, evaluation_batch
from mavil_edu.data.labelled import Part, Task
from mavil_edu.figures import curves
from mavil_edu.files import check_new, write_json, write_text
from mavil_edu.finetune import Arm, evaluate, finetune
from mavil_edu.mavil import MAViL
from mavil_edu.recipe import FinetuneConfig
from mavil_edu.run import RunError, machine, versions

CONTROL_CLIPS = 1000  # training clips that the controls are fitted on, and test clips they are asked about, at most
PREDICTIONS_FILE = "predictions.csv"


def load_start(checkpoint: str) -> MAViL:
    """The model to begin from: a run's folder, a model's folder, a name on the Hub, "tiny", or a file in the released layout."""
    if not Path(checkpoint).is_file():
        return MAViL.from_pretrained(checkpoint)
    from mavil_edu.released import load_released

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = load_released(checkpoint)
    for warning in told:
        print(str(warning.message), file=sys.stderr)
    return model


def default_source(task: Task, asked: ClassesFrom | None) -> ClassesFrom:
    """What is read: what was asked for, else all that the clips have. Raises RunError where they have it not."""
    if asked is None:
        return "both" if len(task.modalities) == 2 else task.modalities[0]
    needed = ("audio", "video") if asked == "both" else (asked,)
    if missing := [name for name in needed if name not in task.modalities]:
        raise RunError(f"--modality {asked} needs {missing[0]}, and these clips have {' and '.join(task.modalities)} alone.")
    return asked


def _some(clips: Clips, column: str) -> tuple:
    batch, kept, _ = evaluation_batch(clips, CONTROL_CLIPS)
    return batch, [clips.labels[column][i] for i in kept]


def controls(pretrained: MAViL, task: Task, classes_from: ClassesFrom) -> dict:
    """What linear probes reach on the same labels, by features: raw ones, the untrained encoder's, the pre-trained encoder's.

    Fitted on at most 1,000 training clips, asked of at most 1,000 test clips, in one window each. Each is a value with its standard
    error, or a sentence why it cannot be had.
    """
    from mavil_edu.probes import ProbeError, features, probe, raw_features, untrained

    unique = list(dict.fromkeys(task.training.numbers))
    batch, values = _some(Part(task.training.clips, unique, task.column), task.column)
    test, test_values = _some(task.test.windows, task.column)
    name = "fused" if classes_from == "both" else classes_from
    sets = {
        "raw features": [raw_features(part, pretrained.config)[name] for part in (batch, test)],
        "untrained encoder": [features(untrained(pretrained.config), part)[name] for part in (batch, test)],
        "pre-trained encoder": [features(pretrained, part)[name] for part in (batch, test)],
    }
    found: dict[str, Any] = {"fitted": len(values), "asked": len(test_values)}
    for kind, (fitted, other) in sets.items():
        try:
            said = probe(fitted, values, other, test_values)
            found[kind] = {"value": said.value, "error": said.error, "metric": said.metric}
        except ProbeError as error:
            found[kind] = str(error)
    return found


def check_folder(run: Path) -> None:
    """Raises ValueError unless the folder is new or empty."""
    check_new(run, "Give --out a new or empty folder; nothing is overwritten, and a stopped run begins anew.")


def finetune_on(
    task: Task,
    pretrained: MAViL,
    recipe: FinetuneConfig,
    run: Path,
    *,
    classes_from: ClassesFrom | None = None,
    arm: Arm = "fine-tuned",
    bce: bool | None = None,
    seed: int = 0,
    workers: int = 0,
    with_controls: bool = True,
    origin: dict[str, Any] | None = None,
) -> dict:
    """Fine-tunes a model and writes a run's folder, its test clips asked once, at the end; returns its summary.

    task: see `mavil_edu.data.labelled.open_task`. classes_from: None for all that the clips have. arm, bce: as
    `mavil_edu.finetune.finetune` takes them. with_controls: fit linear probes too. origin: stored in `config.json`.
    The folder holds `config.json`, `metrics.jsonl`, `model/`, `predictions.csv` (of the test clips), `figures/` and, last, `summary.json`;
    a run that was stopped has the first two alone. Raises RunError, TrainingError or ValueError with a sentence.
    """
    check_folder(run)
    classes_from = default_source(task, classes_from)
    bce = task.multi_label if bce is None else bce
    run.mkdir(parents=True, exist_ok=True)
    command = ["mavil-edu", *sys.argv[1:]]
    stored = {"finetune": to_dict(recipe), "seed": seed, "arm": arm, "modality": classes_from, "column": task.column, "command": command}
    write_json(run / "config.json", stored | (origin or {}))
    result = finetune(pretrained, task, recipe, run, classes_from=classes_from, arm=arm, bce=bce, seed=seed, workers=workers)

    found, scored = evaluate(result.model, task, task.test, bce, workers)
    target = task.targets([task.test.values[i] for i in scored.places])
    names = [task.test.names[i] for i in scored.places]
    write_predictions(run / PREDICTIONS_FILE, names, target, scored.scores, task.classes, task.multi_label)
    _draw(run, task, scored, target)
    device = next(result.model.parameters()).device
    left_out = list(task.skipped) + [{"path": s.path, "reason": s.reason} for s in scored.skipped]
    left_out += [{"path": path, "reason": reason} for path, reason in result.skipped.items()]
    summary = {
        "arm": arm,
        "modality": classes_from,
        "column": task.column,
        "classes": task.classes,
        "metric": "map" if task.multi_label else "accuracy",
        "loss": "bce" if bce else "ce",
        "test": found,
        "trivial": trivial_answers(task.targets(task.training_values), target, task.multi_label, bce),
        "controls": controls(pretrained, task, classes_from) if with_controls else None,
        "validation": result.best,
        "steps": result.steps,
        "stopped_early": result.steps < recipe.train.steps,
        "seconds": round(result.seconds, 1),
        "clips": {
            "trained": len(set(task.training.numbers)),
            "validation": len(task.validation.values),
            "held_out": len(names),
            "missing": len(task.missing),
            "skipped": list({entry["path"]: entry for entry in left_out}.values()),
        },
        "parameters": sum(p.numel() for p in result.model.parameters()),
        "trained_parameters": sum(p.numel() for p in result.model.parameters() if p.requires_grad),
        "seed": seed,
        "held_out": True,
        "versions": versions(),
        "machine": machine(device),
        "command": " ".join(command),
    }
    save_model(result.model, run / "model")
    write_json(run / "summary.json", summary)
    write_text(run / "model" / "README.md", model_card(result.model.config, run.name, run))
    return summary


def _draw(run: Path, task: Task, scored: Any, target: torch.Tensor) -> None:
    """The curves of training, and, where a clip has one class, the confusion matrix; each sentence in `figures/captions.json`."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    metric = {"map": "mAP"} if task.multi_label else {"accuracy": "accuracy"}
    pictures = {"curves": curves(rows, {"loss": "loss"} | metric)}
    if not task.multi_label:
        pictures["confusion"] = confusion_picture(confusion(scored.scores, target), task.classes)
    for name, picture in pictures.items():
        picture.save(run / "figures" / f"{name}.png")
    write_json(run / "figures" / "captions.json", {f"{name}.png": picture.sentence for name, picture in pictures.items()})


def with_steps(recipe: FinetuneConfig, steps: int | None) -> FinetuneConfig:
    """A recipe of another length, with as many looks at validation clips as before, or one a step where it is very short."""
    if steps is None:
        return recipe
    every = max(1, round(steps * recipe.train.evaluate_every / recipe.train.steps))
    return replace(recipe, train=replace(recipe.train, steps=steps, evaluate_every=every))
