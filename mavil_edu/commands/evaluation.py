"""Commands that ask what a model has learnt: probe, retrieve."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from mavil_edu.commands.common import say

if TYPE_CHECKING:
    from mavil_edu.config import ModelConfig
    from mavil_edu.data.batch import Batch, Clips

WORLD = "world"  # in place of a folder: generated clips
FITTED_SEED, ASKED_SEED = 101, 102  # of their worlds: neither the demo's training clips nor its held-out ones


def _open(source: str, clips: int, seed: int, model: "ModelConfig", split: str | None = None) -> "Clips":
    """The clips that a command's option names: a path, of which a split may be asked for, or generated ones."""
    from mavil_edu.config import AugmentConfig

    if source == WORLD:
        from mavil_edu.data.world import World

        return World(clips, seed, model, AugmentConfig())
    from mavil_edu.data.source import open_data

    opened = open_data(Path(source), model, AugmentConfig(), split=split)
    for note in opened.notes:
        say(note)
    for entry in opened.skipped:
        say(f"left out: {entry['path']}: {entry['reason']}")
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
) -> None:
    """Asks a model's embeddings for the labels of clips, beside raw features, an untrained model and chance.

    Example: mavil-edu probe --checkpoint runs/demo --data world --column material size
    Example: mavil-edu probe --checkpoint runs/mine --data my_labelled_clips --json

    Args:
        checkpoint: a run's folder, a model's folder or a name on the Hub; "tiny" comes with the package.
        data: labelled clips to ask about: a folder whose sub-folders or labels.csv name them, AV-MNIST (its test split), or "world" for
            generated ones.
        train_data: labelled clips that probes are fitted on; without it two thirds of DATA (AV-MNIST: its train split).
        control: a run trained with --shuffled-pairs, to stand beside.
        column: which labels; by default all.
        method: linear probes, 10 nearest neighbours, or both.
        clips: read at most so many of each.
        json: print an object in place of a table.
    """
    from mavil_edu import MAViL
    from mavil_edu.data.avmnist import is_avmnist
    from mavil_edu.scorecard import print_table, scorecard

    model = MAViL.from_pretrained(checkpoint)
    if data == WORLD and train_data is None:
        asked = _read(_open(WORLD, min(500, clips), ASKED_SEED, model.config), clips)[::2]
        fitted = _read(_open(WORLD, clips, FITTED_SEED, model.config), clips)[::2]
    elif train_data is None and is_avmnist(Path(data)):
        fitted, asked = (_read(_open(data, clips, 0, model.config, split), clips)[::2] for split in ("train", "test"))
    else:
        batch, _, labels = _read(_open(data, clips, ASKED_SEED, model.config), clips)
        if not labels:
            raise ValueError(
                f"The clips in {data} have no labels. Put them in sub-folders named by class, or a labels.csv beside them, whose first "
                "column, clip, names the files."
            )
        if train_data is None:
            fitted, asked = _halves(batch, labels)
        else:
            asked = batch, labels
            fitted = _read(_open(train_data, clips, FITTED_SEED, model.config), clips)[::2]
    methods = ("linear", "knn") if method == "both" else (method,)
    classes = [name for name, values in asked[1].items() if isinstance(values[0], str) and (not column or name in column)]
    card = scorecard(
        model, *fitted, *asked, control=None if control is None else MAViL.from_pretrained(control),
        columns=column or None, methods=methods, class_columns=classes,
    )  # fmt: skip
    if json:
        print(json_module.dumps(card, indent=1))
    else:
        print_table(card)


def retrieve(
    query: tyro.conf.Positional[Path | None] = None,
    /,
    checkpoint: str = "tiny",
    data: str = WORLD,
    top: int = 5,
    by: str | None = None,
    clips: int = 500,
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Finds the pictures of a sound and the sounds of a picture; without a query, tells how often the right one is found.

    Example: mavil-edu retrieve --checkpoint runs/demo --data world --by material
    Example: mavil-edu retrieve holiday.mp4 --checkpoint runs/mine --data my_clips --top 3

    Args:
        query: a clip whose sound looks for pictures, and whose picture looks for sounds, among those of DATA.
        checkpoint: a run's folder, a model's folder or a name on the Hub; "tiny" comes with the package.
        data: the clips to search: a folder, AV-MNIST, or "world" for generated ones.
        top: how many are listed for a query.
        by: a column of the labels: also tell how often a clip of the same class is found.
        clips: search at most so many.
        json: print an object in place of text.
    """

    from mavil_edu import MAViL
    from mavil_edu.evaluate import embed
    from mavil_edu.retrieval import by_class, retrieval, similarities

    model = MAViL.from_pretrained(checkpoint)
    found = _open(data, clips, ASKED_SEED, model.config)
    batch, kept, labels = _read(found, clips)
    audio, video = embed(model, batch)
    if query is None:
        answer = retrieval(audio, video)
        if by is not None:
            if by not in labels:
                raise ValueError(f"There is no column {by!r}; these clips have {', '.join(labels) or 'no labels'}.")
            answer |= {"by_class": {"column": by} | by_class(audio, video, labels[by])}
        print(json_module.dumps(answer, indent=1) if json else _told(answer))
        return
    if top < 1:
        raise ValueError(f"--top is {top}; ask for 1 or more.")
    asked = _read(_open(str(query), 1, 0, model.config), 1)[0]
    query_audio, query_video = embed(model, asked)
    ways = {
        "sound to picture": similarities(query_audio, video)["audio_to_video"][0],
        "picture to sound": similarities(audio, query_video)["video_to_audio"][0],
    }
    lists = {
        way: [
            {"clip": found.name(kept[i]), "similarity": round(float(scores[i]), 4)} for i in scores.argsort(descending=True)[:top].tolist()
        ]
        for way, scores in ways.items()
    }
    if json:
        print(json_module.dumps(lists, indent=1, ensure_ascii=False))
        return
    for way, closest in lists.items():
        print(f"{way}:")
        for entry in closest:
            print(f"  {entry['similarity']:6.3f}  {entry['clip']}")


def _told(answer: dict) -> str:
    """Retrieval in words."""
    lines = []
    for way, label in (("audio_to_video", "sound to picture"), ("video_to_audio", "picture to sound")):
        shares = ", ".join(f"R@{k} {100 * answer[way][f'r{k}']:.1f} % (chance {100 * answer[f'chance_r{k}']:.1f})" for k in (1, 5, 10))
        lines.append(f"{label}, {answer['clips']} clips: {shares}, median rank {answer[way]['median_rank']:.0f}")
        if by := answer.get("by_class"):
            score = by[way]
            lines.append(
                f"  by {by['column']}: precision@1 {100 * score['precision_at_1']:.1f} %, @10 {100 * score['precision_at_10']:.1f} %, "
                f"mAP {100 * score['map']:.1f} % (chance {100 * by['chance']:.1f})"
            )
    return "\n".join(lines)
