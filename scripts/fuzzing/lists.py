"""Tables: VGGSound's and AudioSet's lists with their classes, and labels.csv; read, drawn from, written again, made targets."""

import csv
import io
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fuzzing.mutations import ANYWHERE
from fuzzing.pool import Outcome, step
from fuzzing.sources import ROOT
from fuzzing.told import attempt
from mavil_edu.data.labels import folder_labels, sampling_weights, targets
from mavil_edu.data.listing import ID, Listing, find_clips
from mavil_edu.data.official import draw, read_list, write_subset

CASES = 1600
MADE = {  # where $MAVIL_DATA names no official lists
    "vggsound_test.csv": "".join(f"abcdefghij{n}_00{n:04d}.mp4,{('dog barking', 'playing harp')[n % 2]}\n" for n in range(1, 10)),
    "vggsound_classes.csv": 'dog barking,5,animals\nplaying harp,4,music\n"bird chirping, tweeting",1,animals\n',
    "audioset_eval_segments.csv": "# Segments csv\n# num_ytids=3, num_segs=3\n# YTID, start_seconds, end_seconds, positive_labels\n"
    '-0RWZT-miFs, 420.000, 430.000, "/m/03v3yw,/m/0k4j"\n-0SdAVK79lg, 30.000, 40.000, "/m/0k4j"\n',
    "audioset_class_labels_indices.csv": 'index,mid,display_name\n0,/m/03v3yw,"Keys jangling"\n1,/m/0k4j,"Car"\n',
    "vggsound.csv": '-0DdlOuIFUI,50,"playing harp",train\n_1abcdefghi,110,"dog barking",test\n',
}
FIELDS = [
    "", " ", "nan", "inf", "-inf", "1e999", "-1", "0", "1e308", "9" * 400, "9" * 5000, "²", "٣", "1_000", "0x10", "1,5", "true",
    "../../etc/passwd", "/etc/passwd", "a" * 5000, "a/" * 300, "CON", "=1+1", '"', '""', "'", "\\", "\t", "#", "é", "é", "\u202e", "\ufeff",
    "train", "test", "val", "-0DdlOuIFUI_000050.mp4", "a_999999.mp4", "_000000", "/m/09x0r", ",", ";", "%s%n", "{0}", "\x1b[2J",
]  # fmt: skip
SUITES = {
    "vggsound_test.csv": ["vggsound_test.csv", "vggsound_classes.csv"],
    "vggsound.csv": ["vggsound.csv"],
    "audioset_eval_segments.csv": ["audioset_eval_segments.csv", "audioset_class_labels_indices.csv"],
    "labels.csv": ["labels.csv"],
}
LINES = 24  # of a list that are kept; of classes all


@dataclass
class Tables:
    texts: dict[str, bytes]
    place: Path


def prepare(place: Path) -> Tables:
    texts = {name: text.encode() for name, text in MADE.items()}
    real = Path(os.environ.get("MAVIL_DATA", "")) / "labels"
    for name in texts:
        if os.environ.get("MAVIL_DATA") and (real / name).is_file():
            lines = (real / name).read_bytes().splitlines(keepends=True)
            texts[name] = b"".join(lines if "class" in name else lines[:LINES])
    labels = (ROOT / "data_samples" / "labels.csv").read_text().splitlines(keepends=True)
    texts["labels.csv"] = "".join(labels[:13]).encode()
    return Tables(texts, place)


def _change_field(rng: Random, raw: bytearray) -> str:
    """One field of one line is replaced, left out, repeated or moved."""
    lines = bytes(raw).decode("utf-8", "surrogateescape").splitlines()
    if not lines:
        return "nothing"
    number = rng.randrange(len(lines)) if rng.random() < 0.7 else 0
    fields = next(csv.reader([lines[number][:100_000]], skipinitialspace=True), [""]) or [""]
    which, how = (
        rng.randrange(len(fields)),
        rng.choice(["replace", "replace", "replace", "append", "remove", "twice", "swap", "line", "many"]),
    )
    value = rng.choice(FIELDS)
    if how == "replace":
        fields[which] = value
    elif how == "append":
        fields[which] += value
    elif how == "remove":
        del fields[which]
    elif how == "twice":
        fields.insert(which, fields[which])
    elif how == "swap":
        fields.reverse()
    elif how == "many":
        fields += [value[:20]] * 3000
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields)
    raw_line = value if rng.random() < 0.1 else text.getvalue()
    lines[number : number + 1] = [raw_line, raw_line] if how == "line" else [raw_line]
    raw[:] = rng.choice(["\n", "\n", "\r\n", "\r"]).join(lines).encode("utf-8", "surrogateescape")
    return f"line {number + 1}, field {which + 1}: {how} {value[:20]!r}"


def _change_text(rng: Random, raw: bytearray) -> str:
    how = rng.choice(["utf16", "latin", "bom", "empty", "zero", "blank", "long", "same"])
    if how == "utf16":
        raw[:] = bytes(raw).decode("utf-8", "replace").encode("utf-16")
    elif how == "latin":
        raw[len(raw) // 2 : len(raw) // 2] = b"\xe9"
    elif how == "bom":
        raw[:0] = b"\xef\xbb\xbf" * rng.choice([1, 2])
    elif how == "empty":
        raw[:] = b""
    elif how == "zero":
        raw[len(raw) // 3 : len(raw) // 3] = b"\0"
    elif how == "blank":
        raw[:] = b"\n \n\t\n" * 100
    elif how == "long":
        raw[:] = raw + b"x" * 2_000_000
    else:
        raw[:] = (bytes(raw).splitlines() or [b""])[-1] + b"\n"
        raw[:] = raw * 50
    return how


def damage(case: int, tables: Tables, folder: Path) -> tuple[str, Path]:
    rng = Random(f"lists {case}")
    suite = rng.choice(list(SUITES))
    for name in SUITES[suite]:
        (folder / name).write_bytes(tables.texts[name])
    path = folder / (rng.choice(SUITES[suite]) if rng.random() < 0.5 else suite)
    raw, told = bytearray(path.read_bytes()), []
    for _ in range(rng.choice([1, 1, 2, 4])):
        change = rng.choice([_change_field, _change_field, _change_field, _change_text, rng.choice(ANYWHERE)])
        told.append(change(rng, raw))
    path.write_bytes(raw)
    return f"{path.name}: {'; '.join(told)}", folder / suite


def _faults_of_listing(listing: Listing) -> list[str]:
    faults = []
    for entry in listing.entries:
        times = 0 <= entry.start < entry.end < math.inf
        if not times or not ID.fullmatch(entry.id) or set(entry.name) & set("/\\\n\0"):
            faults.append(f"garbage: {entry.id[:40]!r} from {entry.start} to {entry.end}")
        if not entry.labels or not set(entry.labels) <= set(listing.classes):
            faults.append(f"garbage: labels {entry.labels}")
    keys = [(entry.id, entry.start) for entry in listing.entries]
    return faults[:3] + ["garbage: a clip twice"] * (len(set(keys)) < len(keys))


def check(path: Path, folder: Path) -> tuple[str, list[str]]:
    """Reads a table and goes on with it as the commands do."""
    faults, clips = [], folder / "clips"
    clips.mkdir()

    def tried(work, name: str):
        step(name)
        value, error, wrong = attempt(work)
        faults.extend(wrong)
        return value, error

    if path.name == "labels.csv":
        path.rename(clips / path.name)
        files = [clips / f"{number:03d}.mp4" for number in range(12)]
        for file in files:
            file.touch()
        found, error = tried(lambda: folder_labels(clips, files), "labels")
        if error is not None:
            return "refused", faults
        labels, note = found
        for column in labels.values():
            if len(column) != len(files) or len({type(value) for value in column}) > 1 or any(v in (math.inf, -math.inf) for v in column):
                faults.append(f"garbage: a column {column[:3]}")
            if isinstance(column[0], str):
                weights, _ = tried(lambda c=column: sampling_weights(targets(c, sorted(set(c)))), "weights")
                if weights is not None and not bool(weights.isfinite().all()):
                    faults.append("nan: sampling weights")
        return ("labels" if labels else "no labels") + (", told" if note else ""), faults
    listing, error = tried(lambda: read_list(path), "read_list")
    if error is not None:
        return "refused", faults
    faults += _faults_of_listing(listing)
    for entry in listing.entries[:3]:
        (clips / f"{entry.name[:200]}.mp4").touch()
    tried(lambda: find_clips(listing.entries, clips), "find_clips")
    drawn, _ = tried(lambda: draw(listing, per_class=1, seed=0), "draw")
    if drawn:
        wrote, _ = tried(lambda: write_subset(listing, drawn, folder / "out", clips), "write_subset")
        if wrote is not None:
            again, _ = tried(lambda: read_list(folder / "out" / path.name), "read again")
            if again is not None and [(e.id, e.start, e.labels) for e in again.entries] != [(e.id, e.start, e.labels) for e in drawn]:
                faults.append("garbage: the subset, read again, is another")
    weights, _ = tried(lambda: sampling_weights(targets([e.labels for e in listing.entries], listing.classes)), "weights")
    if weights is not None and not bool(weights.isfinite().all()):
        faults.append("nan: sampling weights")
    return "read", faults


def run(case: int, tables: Tables, keep: bool = False) -> Outcome:
    folder = tables.place / "case"
    shutil.rmtree(folder, ignore_errors=True)  # left by a worker that died
    folder.mkdir()
    try:
        done, path = damage(case, tables, folder)
        step(done)
        outcome, faults = check(path, folder)
    finally:
        if not keep:
            shutil.rmtree(folder)
    return Outcome(outcome, done, faults)
