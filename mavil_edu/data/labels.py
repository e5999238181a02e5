"""What is known of clips: labels from sub-folders or a CSV, multi-label targets, and class-balanced sampling weights."""

import math
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from mavil_edu.data.batch import Labels
from mavil_edu.data.listing import ListError, read_rows
from mavil_edu.files import as_text

CSV_FILE = "labels.csv"
CLIP_COLUMN = "clip"  # the first column's title, as `mavil-edu world` writes it


def sub_folder_labels(folder: Path, paths: list[Path]) -> Labels:
    """Each clip's class by the sub-folder of `folder` that it lies in, "" directly in `folder`; nothing where there are not two classes."""
    inside = [path.relative_to(folder).parts for path in paths]
    names = [as_text(parts[0]) if len(parts) > 1 else "" for parts in inside]
    return {"class": names} if len(set(names) - {""}) > 1 else {}


def _column(values: list[str]) -> list[str] | list[float]:
    """A column as numbers (NaN where the field is empty) if all its fields are finite numbers, else as texts."""
    try:
        numbers = [float(value) if value else math.nan for value in values]
    except ValueError:
        return values
    whole = all(math.isfinite(number) for number, value in zip(numbers, values, strict=True) if value)
    return numbers if whole and any(values) else values


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long for any file
        return False


def csv_labels(table: Path, folder: Path, paths: list[Path]) -> tuple[Labels, str | None]:
    """The columns of a CSV file for the clips at `paths`, and a sentence on what does not fit, or None.

    The first column, `clip`, names files relative to `folder`; of the others, one with numbers alone is a quantity, any other a class.
    A clip that the table leaves out has "" or NaN; a file that it names and that is not there is counted only. A column of
    texts in which no two clips agree tells no class and is left out. Raises ListError where a line has too many or too few
    fields, or names a file for the second time.
    """
    header, *rows = read_rows(table)
    if header.fields[0] != CLIP_COLUMN or len(header.fields) < 2:
        return {}, f"{table} is not used for labels: its first column is {header.fields[0]!r}, not {CLIP_COLUMN!r} with others beside it."
    listed: dict[PurePosixPath, list[str]] = {}
    for row in rows:
        if len(row.fields) != len(header.fields):
            raise ListError(f"{table}, line {row.number}: {len(row.fields)} fields under {len(header.fields)} titles; mend the line.")
        clip = PurePosixPath(row.fields[0])
        if clip in listed:
            raise ListError(f"{table}, line {row.number}: {clip} stands there for the second time; leave one line.")
        listed[clip] = row.fields[1:]
    clips = [PurePosixPath(path.relative_to(folder).as_posix()) for path in paths]
    absent = sum(not _is_there(folder / clip) for clip in listed)
    bare = sum(clip not in listed for clip in clips)
    note = None
    if absent or bare:
        note = f"{table}: {absent} of the {len(listed)} clips that it names are not there; {bare} of {len(clips)} clips have no labels."
    if bare == len(clips):
        return {}, note
    empty = [""] * (len(header.fields) - 1)
    values = [listed.get(clip, empty) for clip in clips]
    columns = {title: _column(list(column)) for title, column in zip(header.fields[1:], zip(*values, strict=True), strict=True)}
    return {title: column for title, column in columns.items() if isinstance(column[0], float) or _tells_classes(column)}, note


def _tells_classes(column: list[str]) -> bool:
    texts = [text for text in column if text]
    return len(set(texts)) < len(texts)


def folder_labels(folder: Path, paths: list[Path]) -> tuple[Labels, str | None]:
    """What is known of a folder's clips, one value for each of `paths`, and a sentence on what does not fit, or None.

    From `labels.csv` in the folder, or a CSV file beside it with its name (`my_clips.csv`); else from the names of its
    sub-folders; else nothing. Raises ListError for a CSV file that is broken.
    """
    for table in (folder / CSV_FILE, folder.parent / f"{folder.resolve().name}.csv"):
        if table.is_file():
            return csv_labels(table, folder, paths)
    return sub_folder_labels(folder, paths), None


def take(labels: Labels, numbers: list[int]) -> Labels:
    """The labels of some of the clips, by their numbers, in that order."""
    return {name: [column[i] for i in numbers] for name, column in labels.items()}


def targets(labels: list[tuple[str, ...]] | list[str], classes: list[str]) -> Tensor:
    """What a classifier is to answer: (n, classes) float32, 1 for each class that a clip has, in the order of `classes`.

    Raises ValueError for a class that is not among them.
    """
    number = {name: i for i, name in enumerate(classes)}
    answer = torch.zeros(len(labels), len(classes))
    for row, names in enumerate(labels):
        for name in (names,) if isinstance(names, str) else names:
            if name not in number:
                raise ValueError(f"Clip {row} has the class {name!r}, which is not among the {len(classes)} classes.")
            answer[row, number[name]] = 1
    return answer


def sampling_weights(targets: Tensor) -> Tensor:
    """How often each clip should be drawn so that rare classes are met as well: (n,) float32 of sum 1.

    targets: (n, classes) of 0 and 1. A clip's weight is the sum over its classes of 1 / (clips of that class); with one class a clip,
    each class is drawn equally often. A clip without a class has weight 0. Raises ValueError where no clip has one.
    Source: the practice of AST's and Audio-MAE's fine-tuning on AudioSet, recalled (there 1000 / (count + 0.01), which is in effect
    the same); that the weights sum to 1 is our choice.
    """
    weights = (targets / targets.sum(dim=0).clamp(min=1)).sum(dim=1)
    if not bool(weights.sum() > 0):
        raise ValueError("No clip has a class, so none can be drawn in balance.")
    return weights / weights.sum()
