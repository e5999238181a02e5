"""VGGSound's lists: 10-second clips of one class each, in both forms that are published.

Source of the forms: the data set's own `vggsound.csv` (id, start, class, split), and the lists of its evaluation code
(`ID_000030.mp4,class`), with `vggsound_classes.csv` (class, number of clips, group).
"""

import re
from pathlib import Path

from mavil_edu.data.listing import Entry, ListError, Listing, Row, once, read_rows, seconds, split_in_name, video_id

SECONDS = 10.0  # length of every clip
CLASSES_FILE = "vggsound_classes.csv"


def read_classes(path: Path) -> list[str]:
    """The names of the classes, in the file's order: its first column. Raises ListError."""
    rows = read_rows(path)
    names = [row.fields[0] for row in rows]
    for row in rows:
        if not row.fields[0] or names.count(row.fields[0]) > 1:
            raise ListError(f"{path}, line {row.number}: the class {row.fields[0]!r:.60} has no name or stands there twice.")
    return names


def _entry(row: Row, path: Path, columns: int, split: str | None) -> Entry:
    where = f"{path}, line {row.number}"
    if len(row.fields) != columns:
        raise ListError(f"{where}: {len(row.fields)} columns in place of {columns}; a class with commas must stand in double quotes.")
    if columns == 4:
        name, start, label, split = row.fields
        begin = seconds(start, where)
        if split not in ("train", "test"):
            raise ListError(f"{where}: the split is {split!r:.60}; it must be train or test.")
    else:
        name, label = row.fields
        parts = re.fullmatch(r"(.+)_(\d{6})(\.\w+)?", name)
        if parts is None:
            raise ListError(f"{where}: {name!r:.60} is not an id and six digits, such as -0DdlOuIFUI_000050.mp4.")
        name, begin = parts[1], float(parts[2])
    if not label:
        raise ListError(f"{where}: the clip has no class.")
    return Entry(video_id(name, where), begin, begin + SECONDS, (label,), split, row.line)


def read_vggsound(path: Path, classes: Path | None = None) -> Listing:
    """VGGSound's list in either published form; without a split column the file's name may tell the split.

    classes: `vggsound_classes.csv`; None: the one beside the list, or else the classes that occur, in the alphabet's order.
    Raises ListError with file and line.
    """
    rows = read_rows(path, comment="#")
    header = []
    while rows and (rows[0].line.startswith("#") or (len(rows[0].fields) == 4 and rows[0].fields[1].lower().startswith("start"))):
        header.append(rows.pop(0).line)
    if not rows:
        raise ListError(f"{path} names no clip; download or write the list again.")
    columns = len(rows[0].fields)
    if columns not in (2, 4):
        raise ListError(
            f"{path}, line {rows[0].number}: {columns} columns; VGGSound's lists have 4 (id, start, class, split) or 2 (file, class)."
        )
    entries, repeated = once([_entry(row, path, columns, split_in_name(path)) for row in rows])
    if classes is None and (beside := path.parent / CLASSES_FILE).is_file():
        classes = beside
    names = sorted({entry.labels[0] for entry in entries}) if classes is None else read_classes(classes)
    known = set(names)
    for row in rows:
        label = row.fields[2 if columns == 4 else 1]
        if label not in known:
            raise ListError(f"{path}, line {row.number}: {classes} knows no class {label!r:.60}.")
    return Listing("vggsound", path, entries, names, classes, header, repeated)
