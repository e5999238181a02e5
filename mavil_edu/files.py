"""Files and folders are written whole or not at all, results only where nothing is; and JSON is read with a sentence for what is wrong."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REMEDY = "Give --out a new or empty folder; nothing is overwritten."


def check_new(folder: Path, remedy: str = REMEDY, beside: Collection[str] = ()) -> None:
    """Raises ValueError, with the remedy, unless the folder is new or empty; nothing is made.

    beside: names that may be there already.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. {remedy}")
    if folder.is_dir() and (other := sorted(path.name for path in folder.iterdir() if path.name not in beside)):
        raise ValueError(f"{folder} holds other files already, such as {other[0]}. {remedy}")


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when all went well, so that no half-written file is ever seen."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def as_text(name: str) -> str:
    """A file's name as text that can be written and drawn anywhere: bytes in it that are no UTF-8 stand as `\\udce9`."""
    return name.encode("utf-8", "backslashreplace").decode()


def write_text(path: Path, text: str) -> None:
    """Writes a text file so that a reader sees the old one or the new one, never a part.

    In UTF-8, with names as `as_text` gives them; where JSON is read, they are the files' own again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds. Raises ValueError, with the file's name, where it cannot be read or holds none."""
    try:
        found = json.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # JSON's own errors, bytes that are no UTF-8, numbers without end
        raise ValueError(f"{path} cannot be read as JSON ({brief(error)}). Was it cut short, or changed by hand?") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds {found!r:.40} where an object with named values belongs. Was it changed by hand?")
    return found


def brief(error: Exception) -> str:
    """The first line of what an error says, at most 200 characters of it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def _filled(parent: Path, prefix: str, fill: Callable[[Path], object]) -> Iterator[Path]:
    """A temporary folder in `parent` that `fill` has filled and whose content has reached the disk; what is left of it then goes."""
    temporary = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
    try:
        fill(temporary)
        for path in temporary.iterdir():  # safetensors and tempfile make them for their owner alone
            path.chmod(0o644)
            _to_disk(path)
        temporary.chmod(0o755)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_folder(folder: Path, fill: Callable[[Path], object]) -> None:
    """Calls `fill(temporary folder)`, then moves that folder into place by one rename; an old folder there, with all in it, is replaced.

    What is in it has reached the disk by then, so that a loss of power leaves a whole folder too.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _filled(folder.parent, f".{folder.name}.", fill) as temporary:
        old = temporary.with_name(f"{temporary.name}.old")  # a free name: Windows moves no folder onto another, empty or not
        if there := folder.exists():
            os.replace(folder, old)
        try:
            os.replace(temporary, folder)
        except BaseException:
            if there:
                os.replace(old, folder)
            raise
        if there:
            shutil.rmtree(old)
        _to_disk(folder.parent)


def write_into(folder: Path, fill: Callable[[Path], object], names: Sequence[str]) -> None:
    """Calls `fill(temporary folder)`, then moves these of its files into a folder that is there, in this order; all else there stays.

    Each file takes its place whole, and all are ready before the first moves: a reader meets new beside old for an instant at most.
    """
    with _filled(folder, ".new.", fill) as temporary:
        for name in names:
            os.replace(temporary / name, folder / name)
        _to_disk(folder)


def _to_disk(path: Path) -> None:
    """Waits until a file's content, or a folder's list of names, is on the disk; where folders cannot be opened, they are left out."""
    if path.is_dir() and os.name == "nt":
        return
    number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows waits for no file that is open for reading alone
    try:
        os.fsync(number)
    finally:
        os.close(number)
