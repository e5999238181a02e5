"""The command that asks embeddings for labels: probe."""

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from mavil_edu.commands.common import say

if TYPE_CHECKING:
    from mavil_edu.config import ModelConfig
    from mavil_edu.data.batch import Batch, Clips

WORLD = "world"  # in place of a folder: generated clips
FITTED_SEED, ASKED_SEED = 101, 102  # of their worlds: neither the demo's training clips nor its held-out ones


def _open(source: str, clips: int, seed: int, model: "ModelConfig", columns: Sequence[str] = (), split: str | None = None) -> "Clips":
    """The clips that a command's option names: a path, of which a split may be asked for, or generated ones.

    Raises ProbeError, before any clip is read, where they have labels and not all the columns that are asked for.
    """
    from mavil_edu.config import AugmentConfig
    from mavil_edu.scorecard import check_columns

    if source == WORLD:
        from mavil_edu.data.world import World

        check_columns(columns, World(1, seed, model, AugmentConfig(), quiet=True).labels)
        return World(clips, seed, model, AugmentConfig())
    from mavil_edu.data.source import open_data

    opened = open_data(Path(source), model, AugmentConfig(), split=split)
    for note in opened.notes:
        say(note)
    for entry in opened.skipped:
        say(f"left out: {entry['path']}: {entry['reason']}")
    if opened.clips.labels:
        check_columns(columns, opened.clips.labels)
    return opened.clips


def _read(clips: "Clips", limit: int) -> "tuple[Batch, list[int], dict]":
    """The middle windows of up to `limit` clips, their numbers, and their labels."""
    from mavil_edu.data.batch import evaluation_batch

    batch, kept, skipped = evaluation_batch(clips, limit)
    for one in skipped:
        say(f"left out: {one.path}: {one.reason}")
    return batch, kept, {name: [values[i] for i in kept] for name, values in clips.labels.items()}


def _halves(batch: "Batch", labels: dict) -> "tuple[tuple[Batch, dict], tuple[Batch, dict]]":
    """Two thirds of the clips to fit on, and the others to ask about, in a random order that is always the same."""
    import torch

    n = len(batch.waveform)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).tolist()
    parts = order[: n * 2 // 3], order[n * 2 // 3 :]
    return tuple((type(batch)(*(f[rows] for f in batch)), {k: [v[i] for i in rows] for k, v in labels.items()}) for rows in parts)


def probe(
    checkpoint: str,
    data: str = WORLD,
    train_data: str | None = None,
    control: str | None = None,
    column: tuple[str, ...] = (),
    method: Literal["linear", "knn", "both"] = "both",
    clips: int = 2000,
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
    report: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Asks a model's embeddings for the labels of clips, beside raw features, an untrained model and chance.

    Example: mavil-edu probe --checkpoint runs/demo --data world --column material size

    Example: mavil-edu probe --checkpoint runs/mine --data my_labelled_clips --json

    Example: mavil-edu probe --checkpoint runs/mine --control runs/shuffled --report

    Args:
        checkpoint: a run's folder, a model's folder or a name on the Hub; "tiny" comes with the package.
        data: labelled clips to ask about: a folder whose sub-folders or labels.csv name them, AV-MNIST, ESC-50 or Speech
            Commands (the test split; the latter two are asked by their sound alone), or "world" for generated ones.
        train_data: labelled clips that probes are fitted on; without it the data set's own train split, else two thirds of DATA.
        control: a run trained with --shuffled-pairs, to stand beside.
        column: which labels; by default all.
        method: linear probes, 10 nearest neighbours, or both.
        clips: read at most so many of each; of a folder with more, a random choice that is always the same.
        json: print an object in place of a table.
        report: also put the table into the run's evaluation.json and report.html, in place of the one there.
    """
    from mavil_edu import MAViL
    from mavil_edu.data.source import has_splits
    from mavil_edu.scorecard import print_table, scorecard

    if report and not (Path(checkpoint) / "summary.json").is_file():
        raise ValueError(f"--report belongs to a run's folder with its summary.json, and {checkpoint} is none; leave it out.")
    model = MAViL.from_pretrained(checkpoint)
    if data == WORLD and train_data is None:
        asked = _read(_open(WORLD, min(500, clips), ASKED_SEED, model.config, column), clips)[::2]
        fitted = _read(_open(WORLD, clips, FITTED_SEED, model.config, column), clips)[::2]
    elif train_data is None and has_splits(Path(data)):
        fitted, asked = (_read(_open(data, clips, 0, model.config, column, split), clips)[::2] for split in ("train", "test"))
    else:
        batch, _, labels = _read(_open(data, clips, ASKED_SEED, model.config, column), clips)
        if not labels:
            raise ValueError(
                f"The clips in {data} have no labels. Put them in sub-folders named by class, or a labels.csv beside them, whose first "
                "column, clip, names the files."
            )
        if train_data is None:
            fitted, asked = _halves(batch, labels)
        else:
            asked = batch, labels
            fitted = _read(_open(train_data, clips, FITTED_SEED, model.config, column), clips)[::2]
    methods = ("linear", "knn") if method == "both" else (method,)
    classes = [name for name, values in asked[1].items() if isinstance(values[0], str) and (not column or name in column)]
    card = scorecard(
        model, *fitted, *asked, control=None if control is None else MAViL.from_pretrained(control),
        columns=column or None, methods=methods, class_columns=classes,
    )  # fmt: skip
    if report:
        from mavil_edu.files import write_json
        from mavil_edu.report import write_report
        from mavil_edu.run import EVALUATION_FILE

        write_json(Path(checkpoint) / EVALUATION_FILE, card)
        say(f"The table is in {write_report(Path(checkpoint))}")
    if json:
        print(json_module.dumps(card, indent=1))
    else:
        print_table(card)
