"""Shards: the same bytes however they are written, the same windows as from files, every clip exactly once."""

import json
import math
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from made_clips import make_clip, pictures, tone

from mavil_edu import media, tiny
from mavil_edu.cli import main
from mavil_edu.config import AugmentConfig
from mavil_edu.data.batch import Sample, Skipped
from mavil_edu.data.folder import FolderClips
from mavil_edu.data.loader import evaluation_samples, generator_for, training_steps
from mavil_edu.data.shard_files import Settings, ShardError
from mavil_edu.data.shard_writer import write_shards
from mavil_edu.data.shards import Shards, is_shards

ROOT = Path(__file__).parent.parent
CONFIG = tiny()
PLAIN = AugmentConfig(roll=False, magnitude=False, crop=(1.0, 1.0), flip=False)
SETTINGS = Settings(size=32, frame_rate=12.5, max_seconds=60.0, min_seconds=1.0, quality=90, clips_per_shard=3)


def write(clips: Path, out: Path, settings: Settings = SETTINGS, **options):
    return write_shards(clips, out, settings, lambda: (media.find_media([clips]), []), **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".lock"}


def numbers(shards: Shards) -> dict[str, int]:
    return {shards.name(i): i for i in range(len(shards))}


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """10 generated clips of 2.56 s."""
    folder = tmp_path_factory.mktemp("clips")
    for path in sorted((ROOT / "data_samples").glob("*.mp4"))[:10]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def long_clips(tmp_path_factory) -> Path:
    """One clip of 8 s whose grey tells the time, one of 1.2 s, one that begins silent."""
    folder = tmp_path_factory.mktemp("long")
    make_clip(folder / "long.mp4", pictures(200), sound=tone(8.0))
    make_clip(folder / "short.mp4", pictures(30), sound=tone(1.2))
    sound = tone(8.0)
    sound[:80_000] = 0
    make_clip(folder / "late.mp4", pictures(200), sound=sound)
    return folder


@pytest.fixture(scope="module")
def shards(clips, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "shards"
    write(clips, folder, labels={path.name: {"digit": path.stem, "number": float(i)} for i, path in enumerate(sorted(clips.iterdir()))})
    return folder


# ------------------------------------------------------------------------------------------------------------------ writing


def test_three_processes_write_the_same_bytes_as_one(clips, tmp_path):
    write(clips, tmp_path / "one")
    write(clips, tmp_path / "three", workers=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")
    assert len(list((tmp_path / "one").glob("shard-*.tar"))) == 4


WRITER = """
import sys
from pathlib import Path
from mavil_edu import media
from mavil_edu.data.shard_files import Settings
from mavil_edu.data.shard_writer import write_shards

if __name__ == "__main__":
    clips, out, each, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    write_shards(clips, out, Settings(32, 12.5, 60.0, 1.0, 90, each), lambda: (media.find_media([clips]), []), workers)
"""


def writer(clips: Path, out: Path, clips_per_shard: int, workers: int, file_limit: int | None = None) -> subprocess.Popen:
    """A process of its own that writes shards, which may write no file larger than a limit."""
    script = out.with_suffix(".py")
    script.write_text(WRITER)
    command = [sys.executable, *map(str, (script, clips, out, clips_per_shard, workers))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    limit = None if file_limit is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=limit)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_command_given_again_ends_with_the_bytes_of_one_that_was_not(clips, tmp_path):
    out = tmp_path / "killed"
    process = writer(clips, out, clips_per_shard=1, workers=2)
    deadline = time.monotonic() + 120
    while not list(out.glob("shard-*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*.json")}
    assert 1 <= len(finished) < 10 and not (out / "index.json").exists() and not is_shards(out)
    while any(map(running, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(workers) >= 2 and not any(map(running, workers)), "a worker outlives the command"
    (out / ".shard-000009.tar.tmp").write_bytes(b"left over")
    write(clips, out, replace(SETTINGS, clips_per_shard=1))
    assert {name: (out / name).stat().st_mtime_ns for name in finished} == finished, "a finished shard was written again"
    write(clips, tmp_path / "whole", replace(SETTINGS, clips_per_shard=1))
    assert contents(out) == contents(tmp_path / "whole")


def test_a_full_disk_is_told_in_one_sentence_and_the_command_can_be_given_again(clips, tmp_path):
    process = writer(clips, tmp_path / "out", clips_per_shard=10, workers=1, file_limit=300_000)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert said.rstrip().splitlines()[-1].startswith("mavil_edu.data.shard_files.ShardError: ") and "Make room and give the same" in said
    assert not list((tmp_path / "out").glob("*shard-*"))
    assert write(clips, tmp_path / "out", replace(SETTINGS, clips_per_shard=10)).shards[0].clips == 10


def test_the_command_writes_verifies_and_tells_of_files_that_cannot_be_used(clips, tmp_path, capsys):
    folder = tmp_path / "clips"
    shutil.copytree(clips, folder)
    (folder / "broken.mp4").write_bytes(b"not a film")
    command = ["shards", "--data", str(folder), "--out", str(tmp_path / "out")]
    for _ in range(2):  # given again when all is done, it says the same
        assert main([*command, "--workers", "1", "--json"]) == 0
        told = capsys.readouterr()
        answer = json.loads(told.out)
        assert answer["clips"] == 10 and [skip["path"] for skip in answer["skipped"]] == ["broken.mp4"]
        assert "broken.mp4: unreadable" in told.err
    assert main(["shards", "--verify", "--out", str(tmp_path / "out")]) == 0
    path = tmp_path / "out" / "shard-000000.tar"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert main(["shards", "--verify", "--out", str(tmp_path / "out")]) == 2
    assert "another checksum" in capsys.readouterr().err
    for wrong in (command[:1] + command[3:], [*command, "--verify"], [*command, "--frame-rate", "-1"], [*command, "--size", "-3"]):
        assert main(wrong) == 2, wrong


def test_a_shard_that_was_damaged_is_written_again(clips, tmp_path):
    write(clips, tmp_path)
    before = contents(tmp_path)
    path = tmp_path / "shard-000001.tar"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    write(clips, tmp_path)
    assert contents(tmp_path) == before


def test_other_settings_other_clips_and_other_files_are_refused_and_nothing_is_changed(clips, shards, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(shards, folder)
    before = contents(folder)
    with pytest.raises(ShardError, match="another settings: .*'quality': 90.* and not .*'quality': 80.*nothing is overwritten"):
        write(clips, folder, Settings(32, 12.5, 60.0, 1.0, 80, 3))
    with pytest.raises(ShardError, match="another source"):
        write(clips, folder)  # without the labels that it was begun with
    listing = sorted(clips.iterdir())
    with pytest.raises(ValueError, match="holds other files already, such as 000.mp4"):
        write(clips, clips)
    assert contents(folder) == before and sorted(clips.iterdir()) == listing
    for wrong in ({"size": 0}, {"quality": 101}, {"frame_rate": 0.0}, {"max_seconds": 1e6}, {"clips_per_shard": 0}):
        with pytest.raises(ShardError):
            Settings(**(vars(SETTINGS) | wrong))


def test_two_commands_never_write_into_one_folder(clips, tmp_path):
    import fcntl

    tmp_path.joinpath(".lock").touch()
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ShardError, match="Another mavil-edu shards is writing"):
            write(clips, tmp_path)


def test_a_clip_that_breaks_is_left_out_and_named_and_the_others_stay(clips, tmp_path):
    folder = tmp_path / "clips"
    shutil.copytree(clips, folder)
    (folder / "005.mp4").write_bytes(b"not a film")
    index = write(folder, tmp_path / "out")
    assert [skip["path"] for skip in index.skipped] == ["005.mp4"] and "cannot be read" in index.skipped[0]["reason"]
    shards = Shards(tmp_path / "out", CONFIG.model, PLAIN, verify=True)
    assert sorted(numbers(shards)) == [f"{i:03d}.mp4" for i in range(10) if i != 5]


def test_the_middle_of_a_clip_that_is_too_long_is_kept_and_told(long_clips, tmp_path):
    index = write(long_clips, tmp_path, Settings(32, 12.5, 4.0, 1.0, 90, 3))
    assert index.cut == 2
    shards, files = Shards(tmp_path, CONFIG.model, PLAIN), FolderClips([long_clips / "long.mp4"], CONFIG.model, PLAIN)
    one, other = shards.sample(numbers(shards)["long.mp4"], None), files.sample(0, None)
    assert (one.frames.float() - other.frames.float()).abs().mean() < 7  # two pictures of the source differ by 12
    assert (one.waveform - other.waveform).abs().max() < 1e-3


def test_the_webdataset_library_reads_our_shards(clips, shards):
    import webdataset

    files = [str(path) for path in sorted(shards.glob("shard-*.tar"))]
    samples = list(webdataset.WebDataset(files, shardshuffle=False).decode("rgb8"))
    assert sorted(sample["json"]["name"] for sample in samples) == sorted(path.name for path in clips.iterdir())
    for sample in samples:
        assert sample["json"]["picture_times"] == pytest.approx([i / 12.5 for i in range(32)])
        assert sample["0031.jpg"].shape == (32, 32, 3) and "0032.jpg" not in sample
        assert sample["wav"][:4] == b"RIFF" and len(sample["wav"]) == 44 + 2 * 40_960


# ------------------------------------------------------------------------------------------------------------------ reading


def test_a_clip_from_a_shard_is_the_clip_from_its_file(clips, shards):
    files, stored = FolderClips(sorted(clips.iterdir()), CONFIG.model, PLAIN), Shards(shards, CONFIG.model, PLAIN, verify=True)
    assert len(stored) == 10 and is_shards(shards) and not is_shards(clips)
    where = numbers(stored)
    for i in range(10):
        one, other = files.sample(i, None), stored.sample(where[files.name(i)], None)
        assert torch.equal(one.heard, other.heard) and torch.equal(one.seen, other.seen)
        assert (one.waveform - other.waveform).abs().max() < 2 / 32767  # a step of 16 bits
        error = (one.frames.float() - other.frames.float()).square().mean()
        assert 10 * math.log10(255**2 / float(error)) > 33  # dB; JPEG of quality 90, at 32 pixels


def test_half_a_picture_before_the_first_one_there_is_none_as_in_the_file(tmp_path):
    folder, times = tmp_path / "late", [0.2 + 0.1 * i for i in range(22)]
    folder.mkdir()
    path = make_clip(folder / "late.mkv", pictures(22), times=times, sound=tone(2.4))
    write(folder, tmp_path / "out", replace(SETTINGS, frame_rate=3.125))  # at 0, 0.32, …; the window's first moment is 0.16
    files, stored = FolderClips([path], CONFIG.model, PLAIN), Shards(tmp_path / "out", CONFIG.model, PLAIN)
    assert stored._stored(0)[1].first_picture == 1
    one, other = files.sample(0, None), stored.sample(0, None)
    assert isinstance(other, Sample) and one.seen.tolist()[:3] == other.seen.tolist()[:3] == [False, True, True]


def test_windows_in_time_are_those_of_the_files(long_clips, tmp_path):
    write(long_clips, tmp_path)
    paths = sorted(long_clips.iterdir())
    files, stored = FolderClips(paths, CONFIG.model, PLAIN), Shards(tmp_path, CONFIG.model, PLAIN)
    for i, path in enumerate(paths):
        for seed in range(6):
            one, other = (c.sample(n, generator_for(seed)) for c, n in ((files, i), (stored, numbers(stored)[path.name])))
            assert torch.equal(one.seen, other.seen)
            assert (one.heard - other.heard).abs().max() < 1024  # AAC's last packet may ring on after the clip's end
            inner = slice(int(one.heard[0]) + 700, int(one.heard[1]) - 700)  # at the edges of its window a file is resampled anew
            assert (one.waveform[inner] - other.waveform[inner]).abs().max() < 0.15  # a place of one sample is 1/16 of the tone's period
            apart = (one.frames.float() - other.frames.float()).abs().mean(dim=(1, 2, 3))
            assert (apart % 228 < 16).all() or path.stem == "short", apart  # the picture before or after, of 20 greys that recur


def test_worker_processes_and_positions_change_nothing(shards):
    clips = Shards(shards, CONFIG.model, CONFIG.train.augment)
    whole = list(islice(training_steps(clips, 4, seed=3), 6))
    for workers, first in ((2, 0), (1, 3), (3, 2)):
        drawn = whole[first - 1].drawn if first else 0
        again = islice(training_steps(clips, 4, seed=3, drawn=drawn, workers=workers), 6 - first)
        for step, same in zip(whole[first:], again, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(step.batch, same.batch, strict=True))
            assert (step.drawn, step.dropped) == (same.drawn, same.dropped)


def _rank(folder: Path, rank: int, keep: list[int] | None, found: multiprocessing.Queue) -> None:
    clips = Shards(folder, CONFIG.model, PLAIN, keep)
    found.put([clips.name(i) for i, sample in evaluation_samples(clips, rank, 2, workers=3) if isinstance(sample, Sample)])


@pytest.mark.parametrize("keep", [None, [7]], ids=["10 clips", "1 clip"])
def test_three_workers_in_each_of_two_processes_evaluate_every_clip_once(shards, clips, keep):
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    processes = [context.Process(target=_rank, args=(shards, rank, keep, found)) for rank in range(2)]
    for process in processes:
        process.start()
    names = found.get(timeout=60) + found.get(timeout=60)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    everything = Shards(shards, CONFIG.model, PLAIN)
    assert sorted(names) == sorted(everything.name(i) for i in keep or range(10))


def test_an_epochs_order_is_a_permutation_that_stays_within_blocks_of_shards(shards, monkeypatch):
    monkeypatch.setattr("mavil_edu.data.shards.BLOCK_SHARDS", 2)
    clips = Shards(shards, CONFIG.model, PLAIN)
    orders = [clips.order(generator_for(seed)) for seed in range(20)]
    assert orders[0] == clips.order(generator_for(0))
    assert all(sorted(order) == list(range(10)) for order in orders) and len({tuple(order) for order in orders}) == 20
    shard_of = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    mixed = 0
    for order in orders:
        visited = [shard_of[index] for index in order]
        first = set(visited[:1]) | {s for s in visited if visited.index(s) < visited.count(visited[0])}
        size = next(n for n in range(1, 10) if len(set(visited[:n])) == 2 and not set(visited[:n]) & set(visited[n:]))
        assert size in (4, 6) and len(first) <= 2  # two shards are exhausted before another is begun
        mixed += visited[:size] != sorted(visited[:size]) and visited[:size] != sorted(visited[:size], reverse=True)
    assert mixed > 10


def test_labels_and_parts_keep_to_their_clips(shards):
    clips = Shards(shards, CONFIG.model, PLAIN)
    assert clips.labels["digit"] == [Path(clips.name(i)).stem for i in range(10)]
    assert clips.labels["number"] == [float(Path(clips.name(i)).stem) for i in range(10)]
    part = clips.subset([8, 2, 5]).subset([2, 0])
    assert [part.name(i) for i in range(len(part))] == [clips.name(5), clips.name(8)]
    assert part.labels["digit"] == [clips.labels["digit"][5], clips.labels["digit"][8]]
    assert torch.equal(part.sample(1, None).frames, clips.sample(8, None).frames)
    assert sorted(part.order(generator_for(1))) == [0, 1]


def test_a_damaged_picture_costs_its_clip_only(shards, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(shards, folder)
    listing = json.loads((folder / "shard-000000.json").read_text())["clips"][1]
    path = folder / "shard-000000.tar"
    raw = bytearray(path.read_bytes())
    first = listing["offset"] + sum(512 + -(-size // 512) * 512 for size in listing["sizes"][:4])  # the picture shown at 0.16 s
    raw[first + 512 : first + 512 + listing["sizes"][4]] = b"\0" * listing["sizes"][4]
    path.write_bytes(raw)
    clips = Shards(folder, CONFIG.model, PLAIN)
    results = [clips.sample(i, None) for i in range(10)]
    assert [i for i, sample in enumerate(results) if isinstance(sample, Skipped)] == [1]
    assert "--verify" in results[1].reason and results[1].path == listing["name"]
    with pytest.raises(ShardError, match="another checksum"):
        Shards(folder, CONFIG.model, PLAIN, verify=True)
