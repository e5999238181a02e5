"""What a config checks when it is made: each value is of its field's kind and in range, or refused in one sentence."""

import math
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints


class ConfigError(ValueError):
    """A number or name in a config that cannot be: one sentence with its name and value, and what to do."""


def require(condition: bool, sentence: str) -> None:
    if not condition:
        raise ConfigError(sentence)


_kinds_of = cache(get_type_hints)  # of a config's fields, by name
KINDS = {int: "a whole number", float: "a finite number", bool: "True or False", str: "a text"}


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a field's kind; True is no number, and neither are NaN and infinity, which JSON may hold."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return any(value == one and type(value) is type(one) for one in parts)
    if get_origin(kind) is tuple:
        kinds = parts[:1] * len(value) if isinstance(value, tuple) and ... in parts else parts
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_is, value, kinds))
    if parts:  # alternatives
        return any(_is(value, part) for part in parts)
    if kind is float and isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int if kind is float else kind) and (kind is bool or not isinstance(value, bool))


def _in_words(kind: Any) -> str:
    """What to give for a field of a kind."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return f"choose from {', '.join(map(str, parts))}"
    if get_origin(kind) is tuple:
        return f"give a tuple of {'texts' if ... in parts else f'{len(parts)} finite numbers'}"
    if type(None) in parts:
        return f"{_in_words(parts[0])}, or None"
    return f"it must be {KINDS.get(kind) or f'of class {kind.__name__}'}"


def check_kinds(config: Any, prefix: str = "") -> None:
    """Raises ConfigError where a config's value is not of its field's kind: one that only looks like it would spoil a run silently."""
    for name, kind in _kinds_of(type(config)).items():
        value = getattr(config, name)
        require(_is(value, kind), f"{prefix}{name} is {value!r:.60}; {_in_words(kind)}.")


def at_most(value: float, most: float, name: str) -> None:
    require(value <= most, f"{name} is {value!r:.40}; more than {most:,} is taken for a mistake.")


def divides(part: int, whole: int, what: str) -> None:
    require(part > 0 and whole > 0 and whole % part == 0, f"{what}: {whole} is not a multiple of {part}; choose sizes that divide.")
