"""An answer is tried on an exercise's cases, and judged: what differs, where, and what was probably misunderstood."""

import operator
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mavil_edu.course.entry import Case, Exercise, describe
from mavil_edu.course.verdict import Verdict


def is_stub(error: NotImplementedError, function: Callable) -> bool:
    """Whether the error is a stub's `raise NotImplementedError`, and not a library's complaint about the learner's code."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = last.filename == function.__code__.co_filename
    return ours and (not error.args or "NotImplementedError" in (last.line or ""))


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _number(value: float) -> str:
    return str(value) if isinstance(value, bool | int) else f"{value:.5g}"


def _of_tensors(expected: Tensor, got: Any, tolerance: float) -> str | None:
    if not isinstance(got, Tensor):
        missing = " Is a `return` missing?" if got is None else ""
        return f"expected a tensor {describe(expected)}, got {type(got).__name__}.{missing}"
    if got.shape != expected.shape:
        return f"expected shape {tuple(expected.shape)}, got {tuple(got.shape)}"
    if got.dtype != expected.dtype:
        return f"expected {str(expected.dtype).removeprefix('torch.')}, got {str(got.dtype).removeprefix('torch.')}"
    if expected.is_floating_point():
        same = torch.isclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    else:
        same = got == expected
    if bool(same.all()):
        return None
    index = tuple((~same).nonzero()[0].tolist())
    place = f"; first at [{', '.join(map(str, index))}]" if index else ""
    many = f"{int((~same).sum())} of {same.numel()} values differ{place}: " if index else ""
    return f"{many}expected {_number(expected[index].item())}, got {_number(got[index].item())}"


def _of_numbers(expected: float, got: Any, tolerance: float) -> str | None:
    if isinstance(expected, int):
        try:
            same = operator.index(got) == expected
        except TypeError:
            kind = type(got).__name__
            return f"expected the whole number {expected}, got {kind}" + (f" {_number(got)}" if isinstance(got, float) else "")
        return None if same else f"expected {expected}, got {operator.index(got)}"
    try:
        value = float(got)
    except (TypeError, ValueError, RuntimeError):
        return f"expected the number {_number(expected)}, got {type(got).__name__}"
    return None if abs(value - expected) <= tolerance * (1 + abs(expected)) else f"expected {_number(expected)}, got {_number(value)}"


def difference(expected: Any, got: Any, tolerance: float) -> str | None:
    """How a result differs from the expected one, in a sentence; None where it does not.

    expected: a tensor, an int, a float, or a tuple or list of these. Tensors must agree in shape, type and values, in that order.
    """
    if isinstance(expected, tuple | list):
        if not isinstance(got, tuple | list) or len(got) != len(expected):
            count = f"{len(got)} of them" if isinstance(got, tuple | list) else type(got).__name__
            return f"expected {len(expected)} results, got {count}"
        for number, (one, other) in enumerate(zip(expected, got, strict=True), 1):
            if sentence := difference(one, other, tolerance):
                return f"result {number} of {len(expected)}: {sentence}"
        return None
    return _of_tensors(expected, got, tolerance) if isinstance(expected, Tensor) else _of_numbers(expected, got, tolerance)


def _error_block(error: BaseException, function: Callable, case: int, label: str) -> str:
    """What went wrong in the learner's code: the error, and the lines of theirs that led to it."""
    lines = [f"stopped by an error on case {case} ({label}):", *traceback.format_exception_only(error)]
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == function.__code__.co_filename and frame.line:
            lines.append(f"in {frame.name}, line {frame.lineno}: {frame.line}")
    return "\n    ".join(line.rstrip() for line in lines)


def _same_on_all(exercise: Exercise, wrong: Callable, cases: list[Case], results: list[Any]) -> bool:
    return all(
        difference(wrong(*map(_copy, case.arguments)), result, exercise.tolerance) is None
        for case, result in zip(cases, results, strict=True)
    )


def grade(exercise: Exercise, function: Callable) -> Verdict:
    """Tries a function on all cases of an exercise; deterministic, and as quick as the function itself.

    Each case gets fresh copies of its arguments. An error of the function, SystemExit included, is part of the verdict.
    """
    cases, results, lines, right = exercise.cases(), [], [], 0
    for number, case in enumerate(cases, 1):
        arguments = [_copy(value) for value in case.arguments]
        try:
            got = function(*arguments)
        except (Exception, SystemExit) as error:
            if isinstance(error, NotImplementedError) and is_stub(error, function):
                return Verdict(exercise.name, "not attempted", f"{exercise.name}: not attempted.")
            block = _error_block(error, function, number, case.label)
            return Verdict(exercise.name, "error", f'{exercise.name}: {block}\n  A hint: check("{exercise.name}", hint=1)')
        results.append(got)
        wanted = exercise.reference(*map(_copy, case.arguments))
        found = difference(wanted, got, exercise.tolerance)
        tensors = [(before, after) for before, after in zip(case.arguments, arguments, strict=True) if isinstance(before, Tensor)]
        if found is None and any(not torch.equal(before, after) for before, after in tensors):
            found = "the result is right, but the function changed its argument; work on a copy (.clone())"
        right += found is None
        lines.append(f"  ✓ case {number}: {case.label}" if found is None else f"  ✗ case {number}: {case.label}\n      {found}")
    if right == len(cases):
        return Verdict(exercise.name, "passed", f"{exercise.name}: right in all {len(cases)} cases.")
    named = tuple(sentence for sentence, wrong in exercise.wrong.items() if _same_on_all(exercise, wrong, cases, results))
    advice = [f"  → {sentence}" for sentence in named] or [f'  A hint: check("{exercise.name}", hint=1)']
    head = f"{exercise.name}: not right yet, {right} of {len(cases)} cases."
    return Verdict(exercise.name, "wrong", "\n".join([head, *lines, *advice]), named)
