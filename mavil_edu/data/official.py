"""Official lists of any kind: recognised, narrowed to a small subset, and written again in their own form."""

import csv
import difflib
import hashlib
import io
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mavil_edu.data.audioset import counts_line, is_title, read_audioset
from mavil_edu.data.listing import Entry, ListError, Listing, find_clips, read_rows
from mavil_edu.data.vggsound import read_vggsound
from mavil_edu.files import check_new, write_text

Kind = Literal["vggsound", "audioset"]
READERS = {"vggsound": read_vggsound, "audioset": read_audioset}
STATUS_FILE = "status.csv"


def kind_of(path: Path) -> Kind:
    """Whose list a file is, by its first line of clips: AudioSet's third column is a time. Raises ListError."""
    row = next((row for row in read_rows(path, comment="#", most=100) if not is_title(row)), None)
    third = row.fields[2] if row is not None and len(row.fields) > 2 else ""
    return "audioset" if third.replace(".", "", 1).isdigit() else "vggsound"


def read_list(path: Path, kind: Kind | None = None, classes: Path | None = None) -> Listing:
    """An official list of either kind. kind: None to recognise it. classes: the file of class names; None: beside the list.

    Raises ListError with file and line.
    """
    return READERS[kind or kind_of(path)](path, classes)


def of_split(listing: Listing, split: str | None) -> list[Entry]:
    """The clips of a split; None for all of them. Raises ListError where the list tells of no such split."""
    if split is None:
        return listing.entries
    entries = [entry for entry in listing.entries if entry.split == split]
    if not entries:
        there = f"only {' and '.join(sorted(listing.splits))}" if listing.splits else "no split at all, neither by a column nor by its name"
        raise ListError(f"{listing.path} has no clip of the split {split!r}: it tells {there}.")
    return entries


def _rank(entry: Entry, seed: int) -> str:
    """A place in an order that follows from the seed and the clip alone, whatever else is in the list."""
    return hashlib.sha256(f"{seed} {entry.id} {entry.start:.3f}".encode()).hexdigest()


def draw(listing: Listing, only: Sequence[str] = (), per_class: int | None = None, split: str | None = None, seed: int = 0) -> list[Entry]:
    """A small part of a list, in the list's order; the same seed draws the same clips, in whatever order classes are given.

    only: names of classes; none: all. per_class: clips of each; None: all there are. A clip of several classes counts for each of them,
    so a class of AudioSet may get more. split: "train" or "test"; None: both. Raises ListError for a class or a split that is not there.
    """
    for name in only:
        if name not in listing.classes:
            near = difflib.get_close_matches(name, listing.classes, 3, 0.5)
            raise ListError(
                f"There is no class {name!r} in {listing.path}." + (f" Is one of these meant: {'; '.join(near)}?" if near else "")
            )
    if per_class is not None and per_class < 1:
        raise ListError(f"Ask for 1 clip a class or more, not {per_class}.")
    wanted = set(only or listing.classes)
    entries = [entry for entry in of_split(listing, split) if wanted & set(entry.labels)]
    if per_class is None:
        return entries
    counts, drawn = Counter(), set()
    for entry in sorted(entries, key=lambda entry: _rank(entry, seed)):
        needed = [name for name in wanted & set(entry.labels) if counts[name] < per_class]
        counts.update(needed)
        if needed:
            drawn.add((entry.id, entry.start))
    return [entry for entry in entries if (entry.id, entry.start) in drawn]


def write_subset(listing: Listing, drawn: list[Entry], out: Path, clips: Path | None = None) -> dict:
    """Writes a drawn list under the official list's name and in its form, the file of classes, and what is there and what is missing.

    clips: the folder of downloaded clips; `status.csv` then says of each drawn clip `present` or `missing`, and its path in that folder.
    Returns the counts: `drawn`, `classes` (clips by class), and with `clips` also `present` and `missing`.
    Raises ValueError where `out` is not new or empty.
    """
    check_new(out)
    counts = {"drawn": len(drawn), "classes": dict(sorted(Counter(name for entry in drawn for name in entry.labels).items()))}
    if clips is not None:
        found = dict(zip(((entry.id, entry.start) for entry in listing.entries), find_clips(listing.entries, clips), strict=True))
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["id", "start", "status", "path"])
        for entry in drawn:
            path = found[entry.id, entry.start]
            rows.writerow([entry.id, f"{entry.start:g}", *(["missing", ""] if path is None else ["present", path.relative_to(clips)])])
        missing = sum(found[entry.id, entry.start] is None for entry in drawn)
        counts |= {"present": len(drawn) - missing, "missing": missing}
    header = [counts_line(drawn) if "num_segs=" in line else line for line in listing.header]
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / listing.path.name, "".join(f"{line}\n" for line in [*header, *(entry.line for entry in drawn)]))
    if listing.classes_file is not None:
        shutil.copyfile(listing.classes_file, out / listing.classes_file.name)
    if clips is not None:
        write_text(out / STATUS_FILE, text.getvalue())
    return counts
