"""Labelled clips for training on labels: one column of a data set's labels, parted into training, validation and test clips."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Generator, Tensor

from mavil_edu.config import AugmentConfig, ModelConfig
from mavil_edu.data.batch import Clips, Labels, Sample, Skipped
from mavil_edu.data.esc50 import FOLDS
from mavil_edu.data.folder import FolderClips, TiledClips
from mavil_edu.data.labels import sampling_weights, targets
from mavil_edu.data.loader import generator_for
from mavil_edu.data.official import read_list
from mavil_edu.data.sounds import modalities
from mavil_edu.data.source import Opened, has_splits, open_data, share_clips
from mavil_edu.data.world import World

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1  # of the clips, where a data set has no such split of its own
WORLD = "world"  # in place of a folder: generated clips
WORLD_SEEDS = (201, 202, 203)  # of its training, validation and test clips: no pre-training of this package uses them
Values = list[str] | list[tuple[str, ...]]


class LabelError(ValueError):
    """Labels that cannot be trained on; the message says why and what to do."""


class Part:
    """Some of a data set's clips, with one column of labels; see `mavil_edu.data.batch.Clips`.

    numbers: of the clips; one may stand there more than once. weights: (len(numbers),) how often each is to be drawn; without them an
    epoch meets each once.
    """

    def __init__(self, clips: Clips, numbers: list[int], column: str, weights: Tensor | None = None):
        self.clips, self.numbers, self.weights = clips, numbers, weights
        self.labels: Labels = {column: [clips.labels[column][i] for i in numbers]}

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def turns(self) -> list[int] | None:
        """Those of its clips, where they have some; see `mavil_edu.data.batch.some_of`."""
        turns = getattr(self.clips, "turns", None)
        return None if turns is None else [turns[i] for i in self.numbers]

    def name(self, index: int) -> str:
        return self.clips.name(self.numbers[index])

    def order(self, generator: Generator) -> list[int]:
        """An epoch's order: a permutation, or, with weights, as many draws with replacement."""
        if self.weights is None:
            return torch.randperm(len(self), generator=generator).tolist()
        return torch.multinomial(self.weights, len(self), replacement=True, generator=generator).tolist()

    def sample(self, index: int, generator: Generator | None) -> Sample | Skipped:
        return self.clips.sample(self.numbers[index], generator)


@dataclass(frozen=True)
class Asked:
    """Clips that scores are asked of: every window that covers them, and the clip that it belongs to."""

    windows: Clips
    owners: list[int]  # of each window, its clip's place in names and values
    names: list[str]  # of the clips
    values: Values  # their labels


@dataclass(frozen=True)
class Task:
    """What is to be learnt from labels, and the clips for it."""

    column: str
    classes: list[str]  # in the order of scores
    multi_label: bool  # a clip has several classes
    training: Part
    training_values: Values
    validation: Asked
    test: Asked
    modalities: tuple[str, ...]  # that the clips have
    fingerprint: str
    skipped: list[dict[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def targets(self, values: Values) -> Tensor:
        """(n, classes) float32 of 0 and 1."""
        return targets(values, self.classes)


def choose_column(labels: Labels, column: str | None, what: str) -> str:
    """The column of labels to train on: the one asked for, AV-MNIST's "digit", or the only one that tells classes. Raises LabelError."""
    classes = [name for name, values in labels.items() if len(values) and not isinstance(values[0], float)]
    listed = ", ".join(classes) or "none that tell classes"
    if column is not None and column not in classes:
        raise LabelError(f"There is no column {column!r} of classes; {what} has {listed}.")
    if column is not None:
        return column
    if not classes:
        raise LabelError(
            f"The clips in {what} have no labels. Put them in sub-folders named by class, or a labels.csv beside them, whose first column, "
            "clip, names the files."
        )
    if len(classes) == 1 or "digit" in classes:
        return "digit" if "digit" in classes else classes[0]
    raise LabelError(f"The clips in {what} have several columns of labels; choose one by --column: {listed}.")


def _names(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise LabelError(f"The share of labels is {share}; give one above 0 and at most 1, such as 0.1 for 10 %.")


def thinned(values: Values, share: float, seed: int) -> list[int]:
    """The places of a share of labelled clips: of each class as many as its share, at least one, in the old order.

    values: the clips' classes, none unknown. share: in (0, 1]. A clip of several classes counts for each of them, so a class may get
    more. A smaller share's clips are among a larger one's, whatever the class sizes, for clips of one class. Raises LabelError.
    """
    _check_share(share)
    counts = Counter(name for value in values for name in _names(value))
    wanted = {name: max(1, round(share * count)) for name, count in counts.items()}
    kept = []
    for i in torch.randperm(len(values), generator=generator_for(seed, 5)).tolist():
        needed = [name for name in _names(values[i]) if wanted[name] > 0]
        if needed:
            kept.append(i)
            for name in _names(values[i]):
                wanted[name] -= 1
    return sorted(kept)


def _known(clips: Clips, column: str) -> list[int]:
    return [i for i, value in enumerate(clips.labels[column]) if value not in ("", ())]


def asked(clips: Clips, numbers: list[int], column: str) -> Asked:
    """Some of a data set's clips to be scored; long files by all the windows that cover them."""
    values = [clips.labels[column][i] for i in numbers]
    names = [clips.name(i) for i in numbers]
    if not isinstance(clips, FolderClips):
        return Asked(Part(clips, numbers, column), list(range(len(numbers))), names, values)
    tiled = TiledClips(clips.subset(numbers))
    return Asked(tiled, [tile.clip for tile in tiled.tiles], names, values)


def _stratified(values: Values, share: float, seed: int) -> tuple[list[int], list[int]]:
    """The places of a share of every class, by the seed, and the others; where a class has one clip, it stays with the others.

    At least one clip of each class of two or more is drawn.
    """
    counts = Counter(name for value in values for name in _names(value))
    wanted = {name: max(round(share * count), int(count > 1)) for name, count in counts.items()}
    left = dict(counts)
    drawn = set()
    for i in torch.randperm(len(values), generator=generator_for(seed, 6)).tolist():
        names = _names(values[i])
        if any(wanted[name] > 0 for name in names) and all(left[name] > 1 for name in names):
            drawn.add(i)
            for name in names:
                wanted[name] -= 1
                left[name] -= 1
    return [i for i in range(len(values)) if i in drawn], [i for i in range(len(values)) if i not in drawn]


def _at(values: Sequence, places: list[int]) -> list:
    return [values[i] for i in places]


@dataclass(frozen=True)
class _Splits:
    """Clips by split, and the numbers that take part: several splits may be parts of one data set."""

    training: tuple[Opened, list[int]]
    validation: tuple[Opened, list[int]]
    test: tuple[Opened, list[int]]
    column: str


def _parted(opened: Opened, numbers: list[int], column: str, share: float, seed: int, what: str) -> tuple[list[int], list[int]]:
    values = _at(opened.clips.labels[column], numbers)
    drawn, others = _stratified(values, share, seed)
    if not drawn or not others:
        raise LabelError(f"{len(numbers)} labelled clips are too few to hold some out for {what}; give two or more of a class.")
    return _at(numbers, drawn), _at(numbers, others)


def _worlds(
    clips: int, model: ModelConfig, augment: AugmentConfig, column: str | None, cache: Path | None, seeds: tuple[int, int, int]
) -> _Splits:
    column = choose_column(World(1, seeds[0], model, augment, keep=False).labels, column, "the generated world")
    counts = (clips, max(clips // 10, 20), max(clips // 5, 40))
    made = [Opened(World(count, seed, model, augment, cache=cache), f"{WORLD} {seed}") for count, seed in zip(counts, seeds, strict=True)]
    return _Splits(*((one, _known(one.clips, column)) for one in made), column)


def _splits(
    path: str | Path,
    model: ModelConfig,
    augment: AugmentConfig,
    column: str | None,
    seed: int,
    test_path: Path | None,
    listed: Path | None,
    classes: Path | None,
    test_listed: Path | None,
    fold: int,
    min_seconds: float,
) -> _Splits:
    """Own splits where there are some; what is missing is drawn by class and seed."""

    def opened(place: Path, split: str | None, table: Path | None) -> Opened:
        return open_data(place, model, augment, split=split, listed=table, classes=classes, min_seconds=min_seconds, fold=fold)

    path = Path(path)
    if has_splits(path) and test_path is None and listed is None:
        parts = [opened(path, split, None) for split in ("train", "val", "test")]
        column = choose_column(parts[0].clips.labels, column, str(path))
        return _Splits(*((part, _known(part.clips, column)) for part in parts), column)
    splits = read_list(listed, classes=classes).splits if listed else set()
    own_split = "train" if has_splits(path) or len(splits) > 1 else None
    training = opened(path, own_split, listed)
    column = choose_column(training.clips.labels, column, str(listed or path))
    numbers = _known(training.clips, column)
    if test_path is not None or test_listed is not None:
        place = test_path or path
        in_list = len(read_list(test_listed, classes=classes).splits) > 1 if test_listed else False
        test = opened(place, "test" if in_list or has_splits(place) else None, test_listed)
        choose_column(test.clips.labels, column, str(test_listed or place))
        if share_clips(training.clips, test.clips):
            raise LabelError(f"{test_listed or place} holds clips that are trained on; test on others, or leave it out to hold some out.")
        test_part = test, _known(test.clips, column)
    elif "test" in splits and len(splits) > 1:
        test = opened(path, "test", listed)
        test_part = test, _known(test.clips, column)
    else:
        drawn, numbers = _parted(training, numbers, column, TEST_SHARE, seed, "the test")
        test_part = training, drawn
    drawn, numbers = _parted(training, numbers, column, VALIDATION_SHARE, seed + 1, "validation")
    return _Splits((training, numbers), (training, drawn), test_part, column)


def open_task(
    path: str | Path,
    model: ModelConfig,
    augment: AugmentConfig,
    *,
    column: str | None = None,
    labels: float = 1.0,
    balanced: bool = False,
    batch: int = 1,
    seed: int = 0,
    test_path: Path | None = None,
    listed: Path | None = None,
    classes: Path | None = None,
    test_listed: Path | None = None,
    fold: int = FOLDS,
    min_seconds: float = 1.0,
    world_clips: int = 2000,
    world_cache: Path | None = None,
    world_seeds: tuple[int, int, int] = WORLD_SEEDS,
) -> Task:
    """The labelled clips at a path, whatever `open_data` reads, or "world" for generated ones, parted into three.

    A data set's own splits are kept (AV-MNIST's speaker protocol, ESC-50's folds, Speech Commands' lists, a list's train and test); of
    what has no test split a fifth is drawn, and of what has no validation split a tenth, by class and by seed. column: which labels;
    None: the only ones. labels: the share of training labels that is used, by class; validation keeps all of its own, alike for every
    share [our choice]. balanced: draw each class equally often. batch: clips of a step; fewer training clips than that are repeated, so
    that a step is the same however few labels there are. test_path, test_listed: clips to test on, where they lie elsewhere.
    world_seeds: of the generated clips to train on, to validate and to test.
    Raises LabelError, DataError or ListError with a sentence.
    """
    _check_share(labels)
    if str(path) == WORLD:
        splits = _worlds(world_clips, model, augment, column, world_cache, world_seeds)
    else:
        splits = _splits(path, model, augment, column, seed, test_path, listed, classes, test_listed, fold, min_seconds)
    column, (source, numbers) = splits.column, splits.training
    values = _at(source.clips.labels[column], numbers)
    several = any(isinstance(value, tuple) for value in values)
    names = sorted({name for value in values for name in _names(value)})
    if len(names) < 2:
        raise LabelError(f"The training clips of {path} have {len(names)} class; there is nothing to tell apart.")
    numbers = _at(numbers, thinned(values, labels, seed))
    values = _at(source.clips.labels[column], numbers)
    notes = list(dict.fromkeys(note for one, _ in (splits.training, splits.validation, splits.test) for note in one.notes))
    parts = []
    for (opened, some), what in ((splits.validation, "validation"), (splits.test, "test")):
        fits = [i for i in some if set(_names(opened.clips.labels[column][i])) <= set(names)]
        if strange := len(some) - len(fits):
            notes.append(f"{strange} {what} clips have a class that no training clip has, and are left out.")
        if not fits:
            raise LabelError(f"No {what} clip of {path} has one of the classes that are trained on.")
        parts.append(asked(opened.clips, fits, column))
    repeated = numbers * math.ceil(batch / len(numbers))
    weights = sampling_weights(targets(values, names)).repeat(len(repeated) // len(numbers)) if balanced else None
    everywhere = [opened for opened, _ in (splits.training, splits.validation, splits.test)]
    return Task(
        column=column,
        classes=names,
        multi_label=several,
        training=Part(source.clips, repeated, column, weights),
        training_values=values,
        validation=parts[0],
        test=parts[1],
        modalities=modalities(source.clips),
        fingerprint=source.fingerprint,
        skipped=list({entry["path"]: entry for one in everywhere for entry in one.skipped}.values()),
        missing=list(dict.fromkeys(name for one in everywhere for name in one.missing)),
        notes=notes,
    )
