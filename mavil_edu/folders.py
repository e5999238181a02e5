"""Where commands write: into folders that are new or empty, so that nothing is overwritten and no result lands among other files."""

from collections.abc import Collection
from pathlib import Path

REMEDY = "Give --out a new or empty folder; nothing is overwritten."


def check_new(folder: Path, remedy: str = REMEDY, beside: Collection[str] = ()) -> None:
    """Raises ValueError, with the remedy, unless the folder is new or empty; nothing is made.

    beside: names that may be there already.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. {remedy}")
    if folder.is_dir() and (other := sorted(path.name for path in folder.iterdir() if path.name not in beside)):
        raise ValueError(f"{folder} holds other files already, such as {other[0]}. {remedy}")
