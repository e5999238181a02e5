"""Media containers taken apart: MP4's boxes, Matroska's elements, RIFF's chunks, Ogg's pages. For mutations that know where it hurts."""

import struct
from random import Random

from fuzzing.mutations import FLOATS, NUMBERS

HOLDERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"udta", b"mvex", b"moof", b"traf"}
MASTERS = {0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0xAE, 0xE0, 0xE1, 0x1F43B675, 0xA0, 0x114D9B74, 0x4DBB, 0x1C53BB6B}

Part = tuple[int, int, int, str]  # where it starts, where its content starts, where it ends, its name


def boxes(raw: bytes, start: int = 0, stop: int | None = None) -> list[Part]:
    """MP4's boxes, those inside others too."""
    found, stop = [], len(raw) if stop is None else stop
    while start + 8 <= stop:
        size, name = struct.unpack_from(">I4s", raw, start)
        head = 8
        if size == 1 and start + 16 <= stop:
            size, head = struct.unpack_from(">Q", raw, start + 8)[0], 16
        end = stop if size == 0 else min(stop, start + size)
        if end < start + head:
            break
        found.append((start, start + head, end, name.decode("latin-1")))
        if name in HOLDERS:
            found += boxes(raw, start + head, end)
        start = end
    return found


def elements(raw: bytes, start: int = 0, stop: int | None = None) -> list[Part]:
    """Matroska's elements, those inside others too."""
    found, stop = [], len(raw) if stop is None else stop
    while start + 2 <= stop and raw[start]:
        wide = 9 - raw[start].bit_length()
        number = int.from_bytes(raw[start : start + wide], "big")
        place = start + wide
        if place >= stop or not raw[place]:
            break
        long = 9 - raw[place].bit_length()
        size = int.from_bytes(raw[place : place + long], "big") & ((1 << 7 * long) - 1)
        content = place + long
        end = stop if size == (1 << 7 * long) - 1 else min(stop, content + size)
        found.append((start, content, end, f"{number:x}"))
        if number in MASTERS:
            found += elements(raw, content, end)
        start = end
    return found


def chunks(raw: bytes, start: int = 0, stop: int | None = None) -> list[Part]:
    """RIFF's chunks (AVI, WAV), those inside lists too."""
    found, stop = [], len(raw) if stop is None else stop
    while start + 8 <= stop:
        name, size = struct.unpack_from("<4sI", raw, start)
        end = min(stop, start + 8 + size)
        found.append((start, start + 8, end, name.decode("latin-1")))
        if name in (b"RIFF", b"LIST"):
            found += chunks(raw, start + 12, end)
        start = end + size % 2
    return found


def pages(raw: bytes) -> list[Part]:
    """Ogg's pages."""
    found, place = [], raw.find(b"OggS")
    while place >= 0:
        after = raw.find(b"OggS", place + 4)
        found.append((place, place + 28, after if after >= 0 else len(raw), "page"))
        place = after
    return found


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        value <<= 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
        table.append(value)
    return table


CRC = _crc_table()


def seal_pages(raw: bytearray) -> None:
    """Gives Ogg's pages the checksums of what they hold now, so that damage gets past them."""
    for start, _, end, _ in pages(bytes(raw)):
        if end - start < 27:
            continue
        raw[start + 22 : start + 26] = bytes(4)
        value = 0
        for byte in raw[start:end]:
            value = (value << 8 & 0xFFFFFFFF) ^ CRC[value >> 24 ^ byte]
        raw[start + 22 : start + 26] = value.to_bytes(4, "little")


def parts(raw: bytes) -> tuple[str, list[Part]]:
    """What kind of container it is, and its parts; none of an unknown one."""
    if raw[4:8] == b"ftyp":
        return "big", boxes(raw)
    if raw[:4] == b"\x1a\x45\xdf\xa3":
        return "ebml", elements(raw)
    if raw[:4] == b"RIFF":
        return "little", chunks(raw)
    return "ogg" if raw[:4] == b"OggS" else "", pages(raw)


def damage_part(rng: Random, raw: bytearray) -> str | None:
    """Damage to one part of a container: its size, its name, its numbers, its place. None where it has none."""
    kind, found = parts(bytes(raw))
    if not found:
        return None
    small = [part for part in found if part[2] - part[1] < 4096] or found
    start, content, end, name = rng.choice(small)
    how = rng.choice(["size", "name", "number", "number", "number", "number", "remove", "twice", "empty"])
    width = rng.choice([1, 2, 4, 8])
    if how == "size":
        if kind == "ebml":
            raw[content - 1] = rng.choice([0x80, 0x81, 0xFF, 0xFE])
        else:
            at = start if kind == "big" else start + 4
            raw[at : at + 4] = rng.choice(NUMBERS[4]).to_bytes(4, "big" if kind == "big" else "little")
    elif how == "name":
        at = start + (4 if kind == "big" else 0)
        raw[at] ^= 1 << rng.randrange(8)
    elif how == "number" and end > content:
        if kind == "ebml" and end - content in (4, 8) and rng.random() < 0.4:  # may be a float: durations, sample rates
            raw[content:end] = struct.pack(">f" if end - content == 4 else ">d", rng.choice([f for f in FLOATS if abs(f) != 1e300]))
        elif kind == "ebml" and end - content <= 8:
            raw[content:end] = rng.choice([0, 1, (1 << 8 * (end - content)) - 1, rng.getrandbits(8 * (end - content))]).to_bytes(
                end - content, "big"
            )
        else:
            at = content + width * rng.randrange(max(1, (end - content) // width))
            raw[at : at + width] = rng.choice(NUMBERS[width]).to_bytes(width, "little" if kind in ("little", "ogg") else "big")
    elif how == "remove":
        del raw[start:end]
    elif how == "twice":
        raw[start:start] = raw[start:end]
    elif how == "empty":
        raw[content:end] = bytes(end - content)
    return f"{how} of {name!r} at {start}"
