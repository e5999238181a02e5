"""Official lists of clips: tables read line by line, clips by id and start, and their files found in a folder."""

import csv
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mavil_edu import media

BOM = b"\xef\xbb\xbf"
SOUND_ONLY = frozenset(".aac .flac .m4a .mka .mp3 .oga .opus .wav .wma".split())  # chosen only where a clip has no other file
ID = re.compile(r"[A-Za-z0-9_-]+")


class ListError(ValueError):
    """A list that cannot be read: one sentence with the file, the line, and what to do."""


class Row(NamedTuple):
    """One line of a table."""

    number: int  # from 1, as an editor counts
    line: str  # as it stands in the file
    fields: list[str]  # without quotes and outer blanks


class Entry(NamedTuple):
    """One clip of a list."""

    id: str  # YouTube's
    start: float  # seconds into the video
    end: float  # seconds
    labels: tuple[str, ...]  # names of its classes
    split: str | None  # "train" or "test"; None where neither the line nor the file's name tells
    line: str  # as it stands in the list

    @property
    def name(self) -> str:
        """What the clip is called, id and start: `-0DdlOuIFUI_000050`."""
        return f"{self.id}_{int(self.start):06d}"


@dataclass(frozen=True)
class Listing:
    """A list as read: its clips, each once, and the classes in their official order."""

    kind: str  # "vggsound" or "audioset"
    path: Path
    entries: list[Entry]
    classes: list[str]
    classes_file: Path | None = None
    header: list[str] = field(default_factory=list)  # the lines before the clips
    repeated: int = 0  # lines of a clip that an earlier line names already; the first one counts

    @property
    def splits(self) -> set[str]:
        return {entry.split for entry in self.entries if entry.split}


def read_rows(path: Path, comment: str | None = None, most: int | None = None) -> list[Row]:
    """The lines of a CSV file, blank ones left out: UTF-8 with or without a byte-order mark, any line ends, fields quoted or not.

    comment: lines that begin so come back unsplit, as one field. most: lines that are looked at; None: all.
    Raises ListError where the file is no such table or is empty.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ListError(f"{path} cannot be read ({error.strerror}); give the CSV file of a list.") from error
    rows = []
    for number, piece in enumerate(raw.removeprefix(BOM).splitlines()[:most], start=1):
        where = f"{path}, line {number}"
        if b"\0" in piece or piece.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ListError(f"{where}: this is no text in UTF-8 but a binary file or UTF-16; save it as CSV in UTF-8.")
        try:
            line = piece.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ListError(
                f"{where}: byte {error.start + 1} is not UTF-8; convert the file, say with iconv -f latin1 -t utf-8."
            ) from error
        if not line.strip():
            continue
        if comment and line.startswith(comment):
            rows.append(Row(number, line, [line]))
            continue
        try:
            fields = next(csv.reader([line], skipinitialspace=True, strict=True))
        except csv.Error as error:
            raise ListError(f"{where}: the quotes do not fit ({error}); a field with commas stands between two double quotes.") from error
        rows.append(Row(number, line, [value.strip() for value in fields]))
    if not rows:
        raise ListError(f"{path} is empty; download or write the list again.")
    return rows


def seconds(text: str, where: str) -> float:
    """A time in a list as a number. Raises ListError, which begins with `where`, for anything else than a number from 0 on."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ListError(f"{where}: {text!r:.60} is no time in seconds; the columns may be in another order than the official list's.")
    return value


def video_id(text: str, where: str) -> str:
    """A video's id as it may stand in a file name. Raises ListError, which begins with `where`."""
    if not ID.fullmatch(text):
        raise ListError(f"{where}: {text!r:.60} is no YouTube id (letters, digits, - and _).")
    return text


def split_in_name(path: Path) -> str | None:
    """The split that a file's name tells, as `vggsound_test.csv` or `eval_segments.csv` (which is the test split) do; else None."""
    found = re.findall(r"(?<![a-z])(train|test|eval)(?![a-z])", path.stem.lower())
    return {"eval": "test"}.get(found[0], found[0]) if len(found) == 1 else None


def once(entries: list[Entry]) -> tuple[list[Entry], int]:
    """Each clip once, by its first line, and how many lines were left out."""
    first = {}
    for entry in entries:
        first.setdefault((entry.id, entry.start), entry)
    return list(first.values()), len(entries) - len(first)


def _stems(entry: Entry) -> list[list[str]]:
    """The names that a clip's file may have without suffix, the surest first."""
    start, end = entry.start, entry.end
    in_seconds = [f"{entry.id}_{start:g}_{end:g}", f"{entry.id}_{start:.3f}_{end:.3f}", f"{entry.id}_{start:.1f}_{end:.1f}"]
    in_milliseconds = [f"{entry.id}_{round(1000 * start)}_{round(1000 * end)}"]
    return [[entry.name], in_seconds, in_milliseconds, [entry.id]]


def find_clips(entries: list[Entry], folder: Path) -> list[Path | None]:
    """For each clip of a list its file somewhere below a folder, or None: there are always some missing.

    A file is named ID_START (six digits), ID_START_END in seconds or in milliseconds, or ID alone where the list holds that video
    once; `entries` should therefore be a whole list, not a part of it. Where several files bear a name, one with pictures is taken, then
    the first in order. Raises ListError where there is no such folder.
    """
    if not folder.is_dir():
        raise ListError(f"There is no folder {folder}; give the folder that holds the downloaded clips.")
    files: dict[str, Path] = {}
    for path in sorted(media.find_media([folder]), key=lambda path: (path.suffix.lower() in SOUND_ONLY, path)):
        files.setdefault(path.stem, path)
    times_listed = Counter(entry.id for entry in entries)
    found: list[Path | None] = [None] * len(entries)
    names = [_stems(entry) for entry in entries]
    for rule in range(4):  # the surest names of all clips first, so that no file is taken for another's
        for i, entry in enumerate(entries):
            if found[i] is None and (rule < 3 or times_listed[entry.id] == 1):
                stem = next((stem for stem in names[i][rule] if stem in files), None)
                found[i] = None if stem is None else files.pop(stem)
    return found
