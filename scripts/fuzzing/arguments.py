"""Command lines: options and paths that nobody would give on purpose; each has to end with status 0, 1 or 2 and a sentence."""

import io
import os
import pkgutil
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from random import Random

import mavil_edu
from fuzzing.pool import Outcome, step
from fuzzing.sources import ROOT
from mavil_edu import cli, tiny
from mavil_edu.config import to_dict

CASES = 1000
WORDS = [
    "", " ", "-1", "0", "nan", "inf", "-inf", "1e999", "-0.5", "1.5", "٣", "²", "x", "None", "--", "-", "é", "\u202e", "a b", "'", '"', "*",
    "9" * 5000, "1e-400", "[]", "{}", "a\nb", "/dev/null", "/dev/zero", "/", "..", "x" * 5000, "file:x", "concat:a|b", "http://localhost:9/x.mp4",
    "\\\\server\\x", "%s", "$HOME", "~", "\udcff", "-v", "1_000", "0x10", "True", "tiny", "paper", "train", "test",
]  # fmt: skip
# What is tried, whole and harmless; a word of it, or an option's value, is then replaced. PLACE is an empty folder, CLIP a film.
COMMANDS = [
    "inspect CLIP --preset tiny --min-seconds 1.0",
    "inspect CLIP --json --full",
    "subset --list LIST --per-class 1 --seed 0 --split test --out PLACE/out",
    "subset --list LIST --only Car --out PLACE/out --clips PLACE",
    "world --clips 1 --seed 0 --seconds 0.32 --size 16 --out PLACE/out --difficulty default",
    "masks --out PLACE/masks.png --preset tiny --ratios 0.5 --clip CLIP --seed 0",
    "reconstruct CLIP --out PLACE/out --audio-ratio 2 --video-ratio 0.8 --position 0.5 --seed 0 --checkpoint tiny",
    "reconstruct PLACE/none.mp4 --out PLACE/out --audio-masking time --video-masking tube",
    "retrieve PLACE/none.mp4 --checkpoint tiny --data PLACE",
    "embed PLACE --checkpoint tiny --out PLACE/out.parquet",
    "probe --checkpoint PLACE --column material size",
    "localise PLACE/none.mp4 --out PLACE/out",
    "inpaint --hide video --ratio 2 --out PLACE/out",
    "finetune --data PLACE/none --checkpoint tiny --labels 0.1 --out PLACE/out",
    "shards --data PLACE/none --out PLACE/out --workers 1 --size 32",
    "check PLACE/none.ipynb",
    "benchmark data --data PLACE/none",
    "pretrain --data PLACE/none --preset tiny --steps 3 --out PLACE/run --seed 0 --min-seconds 1 --workers 0",
    "pretrain --data PLACE/none --out PLACE/run --minutes 1 --list LIST --classes PLACE/none.csv",
    "pretrain --data PLACE/none --out PLACE/run --resume",
    "pretrain --data PLACE/none --out PLACE/run --start PLACE",
    "pretrain --data PLACE/none --out PLACE/run --teacher PLACE --iterations 2",
]


@dataclass
class Ground:
    place: Path
    options: list[tuple[str, str]]  # the config's, with their values


def _flat(values: dict, name: str = "--config") -> list[tuple[str, str]]:
    found = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += _flat(value, f"{name}.{key.replace('_', '-')}")
        elif not isinstance(value, list) and value is not None and not isinstance(value, bool):
            found.append((f"{name}.{key.replace('_', '-')}", str(value)))
    return found


def prepare(place: Path) -> Ground:
    for module in pkgutil.walk_packages(mavil_edu.__path__, "mavil_edu."):  # once, so that no case waits for imports
        if not module.name.endswith("__main__"):
            import_module(module.name)
    import torchvision.transforms.v2  # noqa: F401

    os.environ |= {"HF_HUB_OFFLINE": "1", "COLUMNS": "100", "MAVIL_EDU_PROGRESS": ""}
    return Ground(place, _flat(to_dict(tiny())))


def command(case: int, ground: Ground, folder: Path) -> list[str]:
    rng = Random(f"arguments {case}")
    (folder / "list.csv").write_text("abcdefghijk_000030.mp4,Car\nabcdefghijl_000030.mp4,Dog\n")
    (folder / "empty").mkdir()
    words = rng.choice(COMMANDS).split()
    names = {"CLIP": str(ROOT / "data_samples" / "000.mp4"), "LIST": str(folder / "list.csv")}
    words = [names.get(word, word).replace("PLACE", str(folder / "empty")) for word in words]
    if words[0] == "pretrain" and rng.random() < 0.7:
        for _ in range(rng.choice([1, 2, 3])):
            option, value = rng.choice(ground.options)
            words += [option, rng.choice([*WORDS, value])]
    else:
        outs = {i for i, word in enumerate(words) if word.startswith(str(folder))}  # writing stays in the folder
        for _ in range(rng.choice([1, 1, 2])):
            open_ = [i for i in range(1, len(words)) if i not in outs] or [0]
            which, how = rng.choice(open_), rng.random()
            if how < 0.75:
                words[which] = rng.choice(WORDS)
            elif how < 0.85:
                words.insert(which, rng.choice(WORDS))
                outs = {i + (i >= which) for i in outs}
            elif how < 0.95 and which not in outs:
                del words[which]
                outs = {i - (i > which) for i in outs}
            else:
                words.append(f"--{rng.choice(WORDS)}")
    return words


def check(words: list[str], folder: Path) -> tuple[str, list[str]]:
    """Runs a command line in this process."""
    said, before = io.StringIO(), os.getcwd()
    os.chdir(folder)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(said):
            try:
                status = cli.main(words)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
    finally:
        os.chdir(before)
    text, faults = said.getvalue(), []
    if status not in (0, 1, 2):
        faults.append(f"untold: status {status}")
    if status == 2 and not text.strip():
        faults.append("untold: status 2 without a word")
    if "Traceback" in text:
        faults.append("untold: a traceback")
    error = re.search(r"^error: (.*?)(?:\n\(MAVIL_EDU_TRACEBACK|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    if error and ("\n" in error[1].strip() and not any("\n" in word for word in words) or len(error[1]) > 8000):
        faults.append(f"untold: no sentence: {error[1][:300]!r}")
    if error and re.match(
        r"(\[Errno|cannot convert|could not convert|invalid literal|math domain|Exceeds the limit|'\w+' codec)", error[1]
    ):
        faults.append(f"untold: not in our words: {error[1][:200]!r}")
    if error and re.search(r"allocate|not enough memory", error[1]):
        faults.append(f"memory: refused by the system and not by a limit: {error[1][:200]!r}")
    return f"status {status}", faults


def run(case: int, ground: Ground, keep: bool = False) -> Outcome:
    folder = ground.place / "case"
    shutil.rmtree(folder, ignore_errors=True)  # left by a worker that died
    folder.mkdir()
    try:
        words = command(case, ground, folder)
        done = " ".join(f"{word[:60]!r}" if not word.isprintable() or not word else word[:60] for word in words)
        done = done.replace(str(folder), "PLACE").replace(str(ROOT), "ROOT").encode("utf-8", "replace").decode()
        step(done)
        outcome, faults = check(words, folder)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return Outcome(outcome, done, faults)
