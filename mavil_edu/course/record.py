"""What a learner has tried and passed, kept in one small file.

`$MAVIL_EDU_PROGRESS` names the file; empty, nothing is kept (tests and the builder do so). By default it stands in the user's data
folder, not in the course, so that it survives a fresh clone and never becomes part of a commit.
"""

import json
import os
from pathlib import Path

EMPTY = {"exercises": {}, "quizzes": {}}


def progress_file() -> Path | None:
    """Where progress is kept; None where it is not to be kept."""
    if (named := os.environ.get("MAVIL_EDU_PROGRESS")) is not None:
        return Path(named).expanduser() if named else None
    base = os.environ.get("XDG_DATA_HOME") or os.environ.get("LOCALAPPDATA") or "~/.local/share"
    return Path(base).expanduser() / "mavil_edu" / "progress.json"


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("tries"), int) and isinstance(entry.get("passed"), bool)


def load() -> dict[str, dict[str, dict]]:
    """{"exercises": {name: {"tries": 2, "passed": true}}, "quizzes": likewise}; raises ValueError where the file is damaged."""
    path = progress_file()
    if path is None or not path.exists():
        return {kind: {} for kind in EMPTY}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        whole = all(_is_entry(entry) for kind in EMPTY for entry in found[kind].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise ValueError(f"{path} holds no progress that can be read; delete it to begin anew.")
    return found


def note(kind: str, name: str, passed: bool) -> str | None:
    """Adds a try; what was passed once stays passed. Returns why it could not be kept, in a sentence, and None where it was."""
    path = progress_file()
    if path is None:
        return None
    try:
        found = load()
        before = found[kind].get(name, {"tries": 0, "passed": False})
        found[kind][name] = {"tries": before["tries"] + 1, "passed": before["passed"] or passed}
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except (OSError, ValueError) as error:
        return f"Progress is not kept: {error}"
    return None
