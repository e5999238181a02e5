"""Clips are decoded once and written as shards: the same clips and settings give the same bytes, by one process or many.

Which clip stands where follows from the names alone, mixed by their checksums so that a shard holds clips of all kinds. A shard is
written under another name and renamed when it is whole; the JSON beside it comes last and says that it is finished. So a run that
was killed goes on where it was.
"""

import errno
import hashlib
import io
import multiprocessing
import os
import signal
import tarfile
import threading
import wave
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mavil_edu import media
from mavil_edu.config import SAMPLE_RATE
from mavil_edu.data.shard_files import (
    INDEX,
    VERSION,
    Index,
    Settings,
    Shard,
    ShardError,
    StoredClip,
    as_json,
    encode_picture,
    read_json,
    sha256_of,
)
from mavil_edu.files import check_new, write_text
from mavil_edu.progress import ProgressBar

PLAN, LOCK = "plan.json", ".lock"  # which clips go in, found once; and who is writing
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Skips = list[dict[str, str]]  # path and reason


@dataclass(frozen=True)
class Task:
    """One shard to be written."""

    number: int
    first: int  # number of its first clip
    names: list[str]  # of its clips, as paths in `root`
    labels: list[dict[str, Any]]  # of each clip
    root: Path
    out: Path
    settings: Settings

    @property
    def path(self) -> Path:
        return self.out / f"shard-{self.number:06d}.tar"


def _wav(waveform: np.ndarray) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, SAMPLE_RATE, 0, "NONE", "not compressed"))
        sound.writeframes((waveform.astype(np.float64).clip(-1, 1) * 32767).round().astype("<i2").tobytes())
    return file.getvalue()


def _decoded(task: Task, place: int) -> tuple[dict[str, Any], list[bytes], bool]:
    """A clip's facts for the index, its files' contents, and whether it was cut. Raises MediaError or OSError where it cannot be read."""
    settings, name = task.settings, task.names[place]
    path = task.root / name
    clip = media.read_whole(path, settings.frame_rate, settings.max_seconds, settings.size)
    seconds = min(clip.seconds, len(clip.frames) / settings.frame_rate)
    if clip.heard[1] <= clip.heard[0] or not bool(clip.seen.any()):
        raise media.MediaError(f"{path} has no sound or no picture in the part that is kept.")
    shown = clip.seen.nonzero()[:, 0].tolist()  # one stretch: a picture is shown until the next one
    pictures = clip.frames[shown[0] : shown[-1] + 1].numpy()
    samples = max(round(seconds * SAMPLE_RATE), clip.heard[1])
    facts = {
        "key": f"{task.first + place:09d}",
        "name": name,
        "seconds": round(seconds, 6),
        "labels": task.labels[place],
    }
    described = facts | {
        "sample_rate": SAMPLE_RATE,
        "picture_times": [round((shown[0] + i) / settings.frame_rate, 6) for i in range(len(pictures))],
        "source_bytes": path.stat().st_size,
        "source_sha256": sha256_of(path),
        "starts_at": round(max(clip.audio_start, 0.0), 6),
        "note": clip.note,
    }
    facts |= {"samples": samples, "heard": list(clip.heard), "first_picture": shown[0]}
    facts |= {"height": pictures.shape[1], "width": pictures.shape[2]}
    jpegs = [encode_picture(picture, settings.quality) for picture in pictures]
    return facts, [as_json(described).encode(), _wav(clip.waveform[:samples].numpy()), *jpegs], clip.seconds > seconds


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Tells a full disk in one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise ShardError(
                f"{path} cannot be written: {error.strerror.lower()}. Make room and give the same command again; finished shards are kept."
            ) from error
        raise


def _write_archive(task: Task, file: io.BufferedWriter) -> tuple[list[StoredClip], Skips, int]:
    """Writes a shard's members; clips that cannot be read are left out, with the reason."""
    clips, skipped, cut = [], [], 0
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for place, name in enumerate(task.names):
            try:
                facts, contents, was_cut = _decoded(task, place)
            except (media.MediaError, OSError) as error:
                skipped.append({"path": name, "reason": str(error)})
                continue
            clip = StoredClip(**facts, offset=archive.offset, sizes=[len(content) for content in contents])
            for (member, _, size), content in zip(clip.members(), contents, strict=True):
                header = tarfile.TarInfo(member)  # mode 644, nobody's, of 1970: the same bytes everywhere
                header.size = size
                archive.addfile(header, io.BytesIO(content))
            clips.append(clip)
            cut += was_cut
    return clips, skipped, cut


def _finished(task: Task) -> dict[str, Any] | None:
    """The JSON beside a shard that is there and whole, else None."""
    beside = task.path.with_suffix(".json")
    if not beside.exists() or not task.path.exists():
        return None
    values = read_json(beside)
    known = isinstance(values, dict) and {"bytes", "sha256", "clips", "skipped", "cut"} <= values.keys()
    return values if known and task.path.stat().st_size == values["bytes"] and sha256_of(task.path) == values["sha256"] else None


def write_shard(task: Task) -> tuple[Shard, Skips, int]:
    """Writes one shard, or keeps it where it is finished; also the clips left out, and how many were cut.

    Raises ShardError where the disk is full.
    """
    path, beside = task.path, task.path.with_suffix(".json")
    values = _finished(task)
    with _telling(path):
        if values is None:
            temporary = path.with_name(f".{path.name}.tmp")
            try:
                with temporary.open("wb") as file:
                    clips, skipped, cut = _write_archive(task, file)
                    file.flush()
                    os.fsync(file.fileno())
                values = {"bytes": temporary.stat().st_size, "sha256": sha256_of(temporary), "clips": [asdict(clip) for clip in clips]}
                values |= {"skipped": skipped, "cut": cut}
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
            write_text(beside, as_json(values))
    shard = Shard(path.name, values["bytes"], values["sha256"], len(values["clips"]), sha256_of(beside))
    return shard, values["skipped"], values["cut"]


def _begin_worker() -> None:
    """A worker leaves Ctrl-C to the main process, and ends with it: one that was killed must not go on writing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _written(tasks: list[Task], workers: int) -> Iterator[tuple[int, tuple[Shard, Skips, int]]]:
    """Each task's number and result, as they come."""
    if workers == 1 or len(tasks) == 1:
        for task in tasks:
            yield task.number, write_shard(task)
        return
    context = multiprocessing.get_context("spawn")  # a copy of a process with threads may hang
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=_begin_worker) as pool:
        pending = {pool.submit(write_shard, task): task.number for task in tasks}
        try:
            for done in as_completed(pending):
                yield pending[done], done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after an error: what is begun is finished, nothing more is begun


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """A folder that is new, empty or begun, and no second command in it; the lock falls with the process that holds it."""
    import fcntl

    ours = (LOCK, PLAN, f".{PLAN}.")  # the last one: a plan that was being written when the command was killed
    if out.is_dir() and not (out / PLAN).exists():
        check_new(out, beside={path.name for path in out.iterdir() if path.name.startswith(ours)})
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ShardError(f"Another mavil-edu shards is writing into {out}; let it end, or give another --out.") from error
        yield


def _mixed(names: list[str]) -> list[str]:
    """Names in an order that depends on them alone and is as good as random."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())


def _planned(out: Path, wanted: dict[str, Any], inspect: Callable[[], tuple[list[str], Skips]]) -> dict[str, Any]:
    """The plan in the folder, which must be of the same clips and settings; else a new one, for which the clips are inspected."""
    path = out / PLAN
    if path.exists():
        stored = read_json(path)
        for what in ("version", "settings", "source"):
            if not isinstance(stored, dict) or stored.get(what) != wanted[what]:
                was = stored.get(what) if isinstance(stored, dict) else stored
                raise ShardError(
                    f"{out} was begun with another {what}: {was} and not {wanted[what]}. Give another --out, or the clips and options "
                    "that it was begun with; nothing is overwritten."
                )
        return stored
    usable, skipped = inspect()
    plan = wanted | {"clips": _mixed(usable), "skipped": skipped}
    write_text(path, as_json(plan))
    return plan


def write_shards(
    root: Path,
    out: Path,
    settings: Settings,
    inspect: Callable[[], tuple[list[Path], Skips]],
    workers: int = 1,
    labels: dict[str, dict[str, Any]] | None = None,
) -> Index:
    """Writes the usable clips of the folder `root` as shards into `out`, or goes on with it; returns the index.

    inspect: gives the usable files below `root` and the others with their reasons; called only where the folder is begun. workers:
    processes. labels: by a file's path below `root`, what is known of it, a value by the name of each column.
    Raises ShardError where `out` holds something else, was begun with other clips or settings, or the disk is full.
    """
    if workers < 1:
        raise ShardError(f"There must be 1 worker or more, not {workers}.")
    labels = labels or {}
    listing = [[path.relative_to(root).as_posix(), path.stat().st_size] for path in media.find_media([root])]
    known = {name: labels[name] for name, _ in listing if name in labels}
    digest = hashlib.sha256(as_json({"files": listing, "labels": known}).encode()).hexdigest()
    wanted = {"version": VERSION, "settings": asdict(settings), "source": {"files": len(listing), "digest": digest}}

    def relative() -> tuple[list[str], Skips]:
        usable, skipped = inspect()
        short = [skip | {"path": Path(skip["path"]).relative_to(root).as_posix()} for skip in skipped]
        return [path.relative_to(root).as_posix() for path in usable], short

    with _alone(out), _telling(out):
        plan = _planned(out, wanted, relative)
        for left in out.glob(".shard-*"):  # by a run that was killed
            left.unlink()
        names, each = plan["clips"], settings.clips_per_shard
        tasks = []
        for number, first in enumerate(range(0, len(names), each)):
            some = names[first : first + each]
            tasks.append(Task(number, first, some, [known.get(name, {}) for name in some], root, out, settings))
        results: dict[int, tuple[Shard, Skips, int]] = {}
        with ProgressBar("writing clips", len(names)) as bar:
            for number, result in _written(tasks, workers):
                results[number] = result
                bar.update(sum(len(tasks[done].names) for done in results))
        shards, skips, cuts = zip(*(results[number] for number in sorted(results)), strict=True)
        skipped = plan["skipped"] + [skip for some in skips for skip in some]
        index = Index(VERSION, settings, wanted["source"], skipped, sum(cuts), list(shards))
        write_text(out / INDEX, as_json(index))
    return index
