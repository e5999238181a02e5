"""Errors as a user may meet them: one sentence, raised on purpose by the package."""

import dis
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mavil_edu

PACKAGE = str(Path(mavil_edu.__file__).parent)
RAISING = {dis.opmap["RAISE_VARARGS"], dis.opmap["RERAISE"]}
MEMORY = re.compile(r"allocate|allocation|out of memory|not enough memory", re.IGNORECASE)
LONGEST = 1500  # characters of a sentence


def on_purpose(error: BaseException) -> bool:
    """Whether an error was raised by a `raise` of the package, and not by what it called."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return code.co_filename.startswith(PACKAGE) and code.co_code[trace.tb_lasti] in RAISING


def wrong_with(error: BaseException) -> list[str]:
    """What a user could not make sense of in an error: nothing, where it is a sentence of ours."""
    text, kind = str(error), type(error).__name__
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{kind} in {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}: {text[:300]!r}"
    if MEMORY.search(text) and "as media (Cannot allocate memory)" not in text:  # FFmpeg's own limit, 2 GiB of what is never touched
        return [f"memory: refused by the system and not by a limit: {where}"]
    if not isinstance(error, ValueError) or not on_purpose(error):
        return [f"untold: {where}"]
    if "\n" in text or not text or len(text) > LONGEST:
        return [f"untold: no sentence: {where}"]
    return []


def attempt(work: Callable[[], Any]) -> tuple[Any, BaseException | None, list[str]]:
    """What a call gives, or its error, and what is wrong with that."""
    try:
        return work(), None, []
    except MemoryError:
        raise
    except Exception as error:
        return None, error, wrong_with(error)
