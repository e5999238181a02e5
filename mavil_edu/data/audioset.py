"""AudioSet's lists: segments of up to 10 s with several classes at once, named by codes ("mid").

Source of the forms: the data set's own `…_segments.csv` and `class_labels_indices.csv`.
"""

from pathlib import Path

from mavil_edu.data.listing import Entry, ListError, Listing, Row, once, read_rows, seconds, split_in_name, video_id

CLASSES_FILES = ("class_labels_indices.csv", "audioset_class_labels_indices.csv")


def read_classes(path: Path) -> dict[str, str]:
    """The classes' names by their codes, in the order of their official numbers. Raises ListError."""
    header, *rows = read_rows(path)
    if header.fields != ["index", "mid", "display_name"] or not rows:
        raise ListError(f"{path}, line {header.number}: the columns are not index, mid, display_name, or nothing follows them.")
    names = {}
    for expected, row in enumerate(rows):
        if len(row.fields) != 3 or row.fields[0] != str(expected) or not all(row.fields) or row.fields[1] in names:
            raise ListError(f"{path}, line {row.number}: not class number {expected} with a code of its own and a name.")
        names[row.fields[1]] = row.fields[2]
    return names


def _find_classes(path: Path) -> Path:
    for name in CLASSES_FILES:
        if (beside := path.parent / name).is_file():
            return beside
    raise ListError(f"{path} names classes by codes only; give AudioSet's {CLASSES_FILES[0]} by --classes, or put it beside the list.")


def is_title(row: Row) -> bool:
    """Whether a line is one of the three above the segments: two comments, and the columns' titles with or without `#`."""
    return row.line.startswith("#") or row.fields[:3] == ["YTID", "start_seconds", "end_seconds"]


def _entry(row: Row, path: Path, names: dict[str, str], split: str | None) -> Entry:
    where = f"{path}, line {row.number}"
    if len(row.fields) != 4:
        raise ListError(f"{where}: {len(row.fields)} columns in place of 4 (id, start, end, codes); the codes stand in double quotes.")
    name, begin, end = row.fields[0], seconds(row.fields[1], where), seconds(row.fields[2], where)
    if end <= begin:
        raise ListError(f"{where}: the segment ends at {end:g} s, before it begins at {begin:g} s.")
    mids = [mid.strip() for mid in row.fields[3].split(",")]
    for mid in mids:
        if mid not in names:
            raise ListError(f"{where}: there is no class with the code {mid!r:.60}; is the file of classes AudioSet's own?")
    return Entry(video_id(name, where), begin, end, tuple(names[mid] for mid in dict.fromkeys(mids)), split, row.line)


def read_audioset(path: Path, classes: Path | None = None) -> Listing:
    """AudioSet's list of segments; the file's name may tell the split (eval is the test split).

    classes: `class_labels_indices.csv`; None: the one beside the list. Raises ListError with file and line.
    """
    classes = classes or _find_classes(path)
    names = read_classes(classes)
    rows = read_rows(path, comment="#")
    titles = [row for row in rows if is_title(row)]
    rows = [row for row in rows if not is_title(row)]
    if not rows:
        raise ListError(f"{path} names no segment; download or write the list again.")
    entries, repeated = once([_entry(row, path, names, split_in_name(path)) for row in rows])
    return Listing("audioset", path, entries, list(names.values()), classes, [row.line for row in titles], repeated)


def counts_line(entries: list[Entry]) -> str:
    """The comment at the head of AudioSet's lists that counts what follows."""
    labels = [name for entry in entries for name in entry.labels]
    videos = len({entry.id for entry in entries})
    return f"# num_ytids={videos}, num_segs={len(entries)}, num_unique_labels={len(set(labels))}, num_positive_labels={len(labels)}"
