"""Damage to bytes and to JSON: the same random numbers give the same damage."""

import copy
import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

NUMBERS = {
    1: [0, 1, 0x7F, 0x80, 0xFE, 0xFF],
    2: [0, 1, 0x7FFF, 0x8000, 0xFFFF, 16384],
    4: [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0, 100_000, 65_536],
    8: [0, 1, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF, 1 << 40],
}
FLOATS = [0.0, -1.0, 1e-300, 1e300, float("inf"), float("nan")]
HEAD = 2048  # bytes that hold most headers


# ------------------------------------------------------------------------------------------------------------------------ bytes


def _place(rng: Random, raw: bytearray, size: int) -> int:
    """Somewhere for `size` bytes; the head as often as all the rest."""
    most = max(0, len(raw) - size)
    return rng.randint(0, min(most, HEAD) if rng.random() < 0.5 else most)


def flip_bits(rng: Random, raw: bytearray) -> str:
    count = rng.choice([1, 1, 2, 4, 16, 64])
    for _ in range(count):
        if raw:
            raw[_place(rng, raw, 1)] ^= 1 << rng.randrange(8)
    return f"{count} bits flipped"


def write_number(rng: Random, raw: bytearray) -> str:
    size = rng.choice([1, 2, 4, 4, 8])
    place, value = _place(rng, raw, size), rng.choice(NUMBERS[size])
    raw[place : place + size] = value.to_bytes(size, rng.choice(["big", "little"]))
    return f"{value:#x} in {size} bytes at {place}"


def write_float(rng: Random, raw: bytearray) -> str:
    kind, value = rng.choice([">d", "<d", "<f", ">f"]), rng.choice(FLOATS)
    content = struct.pack(kind, value if kind[1] == "d" or abs(value) < 1e38 else float("inf"))
    place = _place(rng, raw, len(content))
    raw[place : place + len(content)] = content
    return f"{value} as {kind} at {place}"


def truncate(rng: Random, raw: bytearray) -> str:
    keep = rng.choice([rng.randint(0, len(raw)), rng.randint(0, min(len(raw), HEAD)), max(0, len(raw) - rng.randint(1, 64))])
    del raw[keep:]
    return f"cut after {keep} bytes"


def behead(rng: Random, raw: bytearray) -> str:
    gone = rng.choice([1, 4, 8, rng.randint(0, min(len(raw), HEAD)), rng.randint(0, len(raw))])
    del raw[:gone]
    return f"first {gone} bytes missing"


def fill(rng: Random, raw: bytearray) -> str:
    size = rng.choice([4, 16, 256, 4096])
    place, value = _place(rng, raw, size), rng.choice([b"\0", b"\xff", b"\x55"])
    size = min(size, len(raw) - place)
    raw[place : place + size] = value * size
    return f"{size} bytes of {value.hex()} at {place}"


def remove(rng: Random, raw: bytearray) -> str:
    size = rng.choice([1, 4, 64, 1024])
    place = _place(rng, raw, size)
    del raw[place : place + size]
    return f"{size} bytes missing at {place}"


def repeat(rng: Random, raw: bytearray) -> str:
    size = rng.choice([1, 4, 64, 1024])
    place = _place(rng, raw, size)
    raw[place:place] = raw[place : place + size]
    return f"{size} bytes twice at {place}"


def splice(rng: Random, raw: bytearray, other: bytes) -> str:
    size = rng.choice([16, 512, 8192])
    place, start = _place(rng, raw, size), rng.randint(0, max(0, len(other) - size))
    raw[place : place + (size if rng.random() < 0.7 else 0)] = other[start : start + size]
    return f"{size} bytes of another file at {place}"


ANYWHERE: list[Callable[[Random, bytearray], str]] = [flip_bits, write_number, write_float, truncate, behead, fill, remove, repeat]


# ------------------------------------------------------------------------------------------------------------------------- JSON

HOSTILE = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1e308, -1e308, 1e-320, float("nan"), float("inf"), float("-inf"),
    "", "x", "NaN", "../../etc/passwd", "a\0b", "\ud800", "é" * 3000, [], {}, [[]], [0], [float("nan")] * 3, {"x": 1}, [1, 2, 3], 3.5, "1",
]  # fmt: skip


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The path to everything in a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, part in inside for deeper in places(part, (*path, key)))]


def change_json(rng: Random, value: Any, hostile: list = HOSTILE) -> tuple[Any, str]:
    """A copy of a JSON value with one thing in it replaced, scaled, removed, repeated or added."""
    value = copy.deepcopy(value)
    found = [path for path in places(value) if path] or [()]
    path = rng.choice(found)
    if not path:
        return rng.choice(hostile), "all replaced"
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    key, where = path[-1], "/".join(map(str, path))
    how = rng.choice(["replace", "replace", "replace", "number", "number", "remove", "add", "repeat"])
    if how == "number" and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        factor = rng.choice([-1, 0, 0.5, 1.5, 2, 1000, 1e6, 1e12, 1e300])
        new = holder[key] * factor
        holder[key] = int(new) if isinstance(holder[key], int) and abs(new) < 1e18 else new
        return value, f"{where} is {holder[key]!r:.60}"
    if how == "remove":
        del holder[key]
        return value, f"{where} removed"
    if how == "add" and isinstance(holder, dict):
        holder[rng.choice(["surprise", "", key + "x" if isinstance(key, str) else "y"])] = rng.choice(hostile)
        return value, f"beside {where} something more"
    if how == "repeat" and isinstance(holder, list):
        holder.extend([copy.deepcopy(holder[key])] * rng.choice([1, 3, 100]))
        return value, f"{where} repeated"
    holder[key] = rng.choice(hostile)
    return value, f"{where} is {holder[key]!r:.60}"


def damage_text(rng: Random, raw: bytearray) -> str:
    """Damage to a file of JSON as text."""
    how = rng.choice(["bytes", "bytes", "deep", "digits", "empty", "utf16", "bom", "latin"])
    if how == "deep":
        depth = rng.choice([50, 5_000, 200_000])
        raw[:] = b"[" * depth + b"]" * depth if rng.random() < 0.5 else b'{"a":' * depth
        return f"{depth} levels deep"
    if how == "digits":
        raw[:] = raw.replace(b": ", b": " + b"9" * 5000, 1) if b": " in raw else raw.replace(b":", b":" + b"9" * 5000, 1)
        return "a number of 5,000 digits"
    if how == "empty":
        raw[:] = rng.choice([b"", b"\0" * 100, b"null", b"[]", b'""', b"0", b"{}", b"{", b"NaN"])
        return f"only {bytes(raw[:8])!r}"
    if how == "utf16":
        raw[:] = bytes(raw).decode("utf-8", "replace").encode("utf-16")
        return "UTF-16"
    if how == "bom":
        raw[:0] = b"\xef\xbb\xbf"
        return "a byte-order mark"
    if how == "latin":
        place = _place(rng, raw, 1)
        raw[place:place] = b"\xe9\xff"
        return f"bytes that are no UTF-8 at {place}"
    return rng.choice(ANYWHERE)(rng, raw)


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")
