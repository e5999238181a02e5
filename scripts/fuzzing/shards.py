"""Folders of shards: archives and indexes damaged, once with checksums that fit again and once without; then verified and read."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch

from fuzzing.media import AUGMENT, MODEL, Context, faults_of_sample
from fuzzing.mutations import ANYWHERE, HOSTILE, as_bytes, change_json, damage_text
from fuzzing.pool import Outcome, step
from fuzzing.sources import ROOT
from fuzzing.told import attempt
from mavil_edu import MAViL
from mavil_edu.data.batch import Sample, Skipped
from mavil_edu.data.shard_files import BLOCK, Settings
from mavil_edu.data.shard_writer import write_shards
from mavil_edu.data.shards import Shards
from mavil_edu.media import find_media

CASES = 1100
TAR, BESIDE, INDEX = "shard-000000.tar", "shard-000000.json", "index.json"


@dataclass
class Shelf:
    """An undamaged folder of two shards of two clips each, and what samples of it are tried on."""

    honest: Path
    place: Path
    media: Context


def prepare(place: Path) -> Shelf:
    clips, honest = place / "clips", place / "honest"
    clips.mkdir()
    for path in sorted((ROOT / "data_samples").glob("*.mp4"))[:4]:
        shutil.copy(path, clips)
    labels = {path.name: {"material": "wood", "size": 0.5, "several": ["a", "b"]} for path in clips.iterdir()}
    write_shards(clips, honest, Settings(32, 6.25, 60.0, 1.0, 90, 2), lambda: (find_media([clips]), []), labels=labels)
    torch.manual_seed(0)
    good = Shards(honest, MODEL, AUGMENT).sample(3, None)
    return Shelf(honest, place, Context([], {}, {}, place, MAViL(MODEL).eval(), good))


def _seal_members(raw: bytearray) -> None:
    """Gives the headers of a tar the checksums of what they hold now."""
    for place in range(0, len(raw) - BLOCK + 1, BLOCK):
        if raw[place + 257 : place + 262] == b"ustar":
            raw[place + 148 : place + 156] = b" " * 8
            raw[place + 148 : place + 156] = b"%06o\0 " % sum(raw[place : place + BLOCK])


def _header(rng: Random, raw: bytearray) -> str:
    """Damage to one member's header: its name, size, kind, or what it links to."""
    heads = [place for place in range(0, len(raw) - BLOCK + 1, BLOCK) if raw[place + 257 : place + 262] == b"ustar"]
    place = rng.choice(heads)
    name, where, value = rng.choice(
        [
            ("name", 0, rng.choice([b"../../x\0", b"/etc/passwd\0", b"000000001.json\0", b"\xff\xfe\0", b"\0", b"a" * 100])),
            (
                "size",
                124,
                rng.choice([b"77777777777\0", b"00000000000\0", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"-0000000001\0", b"xyz\0"]),
            ),
            ("kind", 156, rng.choice([b"1", b"2", b"3", b"5", b"6", b"x", b"g", b"L", b"S", b"\0", b"\xff"])),
            ("prefix", 345, rng.choice([b"..\0", b"/\0", b"a" * 155])),
        ]
    )
    raw[place + where : place + where + len(value)] = value
    if rng.random() < 0.8:
        _seal_members(raw)
    return f"{name} of the member at {place} is {value[:12]!r}"


def _agree(folder: Path) -> None:
    """Makes the index agree with the first shard as it now is, as whoever made a hostile archive would; where it can be read."""
    index = json.loads((folder / INDEX).read_text())
    tar, beside = (folder / TAR).read_bytes(), (folder / BESIDE).read_bytes()
    facts = {"bytes": len(tar), "sha256": hashlib.sha256(tar).hexdigest(), "index_sha256": hashlib.sha256(beside).hexdigest()}
    index["shards"][0].update(facts)
    (folder / INDEX).write_text(json.dumps(index))


def _replace_file(rng: Random, path: Path) -> str:
    how = rng.choice(["missing", "folder", "link", "pipe", "empty", "itself"])
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "link":
        path.symlink_to("/etc/passwd")
    elif how == "itself":
        path.symlink_to(path)
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "empty":
        path.touch()
    return how


def damage(case: int, folder: Path) -> tuple[str, bool]:
    """Damages a copy of the folder; what was done, and whether the index's checksums were made to fit again."""
    rng = Random(f"shards {case}")
    what = rng.choice(["header", "header", "tar", "tar", "clips", "clips", "clips", "index", "index", "text", "file"])
    agree, told, broken = False, [], None
    for _ in range(rng.choice([1, 1, 2])):
        if what in ("header", "tar"):
            raw = bytearray((folder / TAR).read_bytes())
            told.append((_header if what == "header" else rng.choice(ANYWHERE))(rng, raw))
            (folder / TAR).write_bytes(raw)
            agree = rng.random() < 0.8
        elif what == "clips":
            value, done = change_json(rng, json.loads((folder / BESIDE).read_text()), [*HOSTILE, 512, 1024, "000000000"])
            (folder / BESIDE).write_bytes(as_bytes(value))
            agree = rng.random() < 0.9
            told.append(done)
        elif what == "index":
            value, done = change_json(rng, json.loads((folder / INDEX).read_text()))
            (folder / INDEX).write_bytes(as_bytes(value))
            told.append(done)
        elif what == "text":
            path = folder / (broken := rng.choice([INDEX, BESIDE]) if not broken else broken)
            raw = bytearray(path.read_bytes())
            told.append(f"{path.name}: {damage_text(rng, raw)}")
            path.write_bytes(raw)
            agree = path.name == BESIDE and rng.random() < 0.8
        else:
            path = folder / rng.choice([INDEX, BESIDE, TAR])
            told.append(f"{path.name}: {_replace_file(rng, path)}")
            break
    if agree and what in ("header", "tar", "clips", "text"):
        _agree(folder)
    return f"{what}: {'; '.join(told)}{', agreed' * agree}", agree


def _values(labels: dict) -> bool:
    """Whether labels are what `Labels` says: texts, numbers that are finite or NaN for unknown, tuples of texts; one kind in a column."""
    kinds = {name: {type(value) for value in column} for name, column in labels.items()}
    texts = all(isinstance(part, str) for column in labels.values() for value in column if isinstance(value, tuple) for part in value)
    return (
        texts
        and all(len(kind - {int}) <= 1 and kind <= {str, float, int, tuple} for kind in kinds.values())
        and not any(isinstance(value, float) and math.isinf(value) for column in labels.values() for value in column)
    )


def check(folder: Path, shelf: Shelf, changed: bool) -> tuple[str, list[str]]:
    """Opens, verifies and reads a folder. changed: a file differs from what the index's checksums say."""
    faults, told = [], []

    def tried(work: Callable, name: str):
        step(name)
        value, error, wrong = attempt(work)
        faults.extend(wrong)
        told.append(error is not None)
        return value

    shards = tried(lambda: Shards(folder, MODEL, AUGMENT), "Shards")
    verified = tried(lambda: Shards(folder, MODEL, AUGMENT, verify=True), "verify")
    if changed and verified is not None:
        faults.append("silent: changed, and verified all the same")
    if shards is None:
        return "refused when opened", faults
    labels = tried(lambda: shards.labels, "labels")
    if labels is not None and not _values(labels):
        faults.append(f"garbage: labels {str(labels)[:200]}")
    tried(lambda: shards.order(torch.Generator().manual_seed(0)), "order")
    skipped = 0
    for index in range(min(len(shards), 4)):
        for generator in (None, torch.Generator().manual_seed(index)):
            sample = tried(lambda i=index, g=generator: shards.sample(i, g), "sample")
            if isinstance(sample, Sample):
                faults.extend(faults_of_sample(sample, shelf.media))
            elif isinstance(sample, Skipped):
                skipped += 1
    return ("refused when used" if any(told) else "a clip skipped" if skipped else "read"), faults


def run(case: int, shelf: Shelf, keep: bool = False) -> Outcome:
    folder = shelf.place / "case"
    shutil.rmtree(folder, ignore_errors=True)  # left by a worker that died
    shutil.copytree(shelf.honest, folder)
    try:
        done, agreed = damage(case, folder)
        step(done)
        before = {p.name: p.read_bytes() for p in shelf.honest.iterdir() if p.name in (TAR, BESIDE)}
        now = {name: (folder / name).read_bytes() for name in before if (folder / name).is_file() and not (folder / name).is_symlink()}
        outcome, faults = check(folder, shelf, not agreed and now != before)
    finally:
        if not keep:
            shutil.rmtree(folder)
    return Outcome(outcome, done, faults)
