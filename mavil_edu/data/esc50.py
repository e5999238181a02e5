"""ESC-50: 2,000 environmental sounds of 5 s in 50 classes, by its official 5 folds, from its own folder.

The folder is that of the published archive: `meta/esc50.csv` with the columns filename, fold, target, category, and `audio/*.wav`. Its
sounds are CC BY-NC (ESC-10's: CC BY), each by its own author. Source: Piczak, "ESC: Dataset for Environmental Sound Classification", 2015.
"""

from pathlib import Path
from typing import Literal

from mavil_edu.config import AugmentConfig, ModelConfig
from mavil_edu.data.listing import ListError, read_rows
from mavil_edu.data.sounds import SoundClips

TABLE = Path("meta", "esc50.csv")
COLUMNS = ("filename", "fold", "target", "category")
FOLDS = 5
Split = Literal["train", "val", "test"]


def is_esc50(folder: Path) -> bool:
    """Whether a folder is ESC-50's."""
    return (folder / TABLE).is_file() and (folder / "audio").is_dir()


def folds_of(split: Split | None, fold: int = FOLDS) -> set[int]:
    """The folds of a split: `fold` is tested on, the one before it (5 before 1) validates, the other three train; None: all five.

    The folds are official, and never shared by clips cut from one recording; which of them validates is our choice.
    Raises ListError for a fold that is not there.
    """
    if not 1 <= fold <= FOLDS:
        raise ListError(f"ESC-50 has no fold {fold}; give one from 1 to {FOLDS}.")
    validation = (fold - 2) % FOLDS + 1
    named = {"test": {fold}, "val": {validation}, "train": set(range(1, FOLDS + 1)) - {fold, validation}}
    return set(range(1, FOLDS + 1)) if split is None else named[split]


def read_table(folder: Path) -> list[tuple[str, int, str]]:
    """File name, fold and category of every clip. Raises ListError with file and line."""
    table = folder / TABLE
    header, *rows = read_rows(table)
    if missing := [name for name in COLUMNS if name not in header.fields]:
        raise ListError(f"{table}, line {header.number}: there is no column {missing[0]}; take the file of the published archive.")
    places = [header.fields.index(name) for name in COLUMNS]
    found, names = [], set()
    for row in rows:
        if len(row.fields) != len(header.fields):
            raise ListError(f"{table}, line {row.number}: {len(row.fields)} fields under {len(header.fields)} titles; mend the line.")
        name, fold, _, category = (row.fields[place] for place in places)
        if fold not in {str(number) for number in range(1, FOLDS + 1)} or not category:
            raise ListError(
                f"{table}, line {row.number}: fold {fold!r} and category {category!r}; folds are 1 to {FOLDS}, with a category."
            )
        if name in names or Path(name).name != name or name in ("", ".", ".."):
            raise ListError(f"{table}, line {row.number}: {name!r} is no file's name, or stands there for the second time; mend the line.")
        names.add(name)
        found.append((name, int(fold), category))
    return found


class ESC50(SoundClips):
    """ESC-50's clips of one split, sound alone; labels: "category".

    folder: the archive's. split: as `folds_of` takes it. missing: the files that the table names and the folder does not hold.
    Raises ListError where the table is broken, or no file of the split is there.
    """

    def __init__(
        self, paths: list[Path], model: ModelConfig, augment: AugmentConfig, labels=None, missing: tuple[str, ...] = (), root=None
    ):
        super().__init__(paths, model, augment, labels, root)
        self.missing = missing

    @classmethod
    def of_split(cls, folder: Path, split: Split | None, model: ModelConfig, augment: AugmentConfig, fold: int = FOLDS) -> "ESC50":
        wanted = folds_of(split, fold)
        rows = [(name, category) for name, number, category in read_table(folder) if number in wanted]
        there = [(folder / "audio" / name, category) for name, category in rows if (folder / "audio" / name).is_file()]
        if not there:
            raise ListError(f"None of the {len(rows)} sounds of {folder / TABLE} for folds {sorted(wanted)} is in {folder / 'audio'}.")
        missing = tuple(name for name, _ in rows if not (folder / "audio" / name).is_file())
        return cls([path for path, _ in there], model, augment, {"category": [category for _, category in there]}, missing)
