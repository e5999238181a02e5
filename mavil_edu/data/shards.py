"""Clips from shards: what `mavil-edu shards` wrote, read by offset, in an order that keeps the disk's head where it is."""

import os
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Generator

from mavil_edu import media
from mavil_edu.config import SAMPLE_RATE, AugmentConfig, ModelConfig
from mavil_edu.data.batch import Labels, Sample, Skipped
from mavil_edu.data.shard_files import (
    INDEX,
    WAV_HEADER,
    Shard,
    ShardError,
    StoredClip,
    check_members,
    decode_picture,
    read_clips,
    read_index,
    verify_shard,
)
from mavil_edu.data.windows import draw_window

BLOCK_SHARDS = 16  # shards whose clips are shuffled among each other
OPEN_SHARDS = 4 * BLOCK_SHARDS  # archives that a process keeps open


def is_shards(path: Path) -> bool:
    """Whether a path is a folder of shards."""
    return (path / INDEX).is_file() and next(path.glob("shard-*.tar"), None) is not None


@dataclass
class _Open:
    """An archive that this process has opened and checked."""

    file: int  # descriptor
    clips: list[StoredClip]

    def __del__(self):
        os.close(self.file)


class Shards:
    """Clips read from a folder of shards; see `mavil_edu.data.batch.Clips`. Windows are drawn as from files.

    Only what a window needs is read: its samples, and of each of its moments the stored picture nearest in time. `keep` are the
    numbers of the clips that take part, all by default. Opening checks the index against the archives' sizes; an archive's
    members are checked when it is first used, and with `verify` all of them, checksums too, at once.
    Raises ShardError where something is missing, changed or hostile; a single damaged picture costs its clip only.
    """

    def __init__(self, folder: Path, model: ModelConfig, augment: AugmentConfig, keep: list[int] | None = None, verify: bool = False):
        self.folder, self.model, self.augment = folder, model, augment
        self.index = read_index(folder)
        if verify:
            for shard in self.index.shards:
                verify_shard(folder, shard)
        self._ends = list(accumulate(shard.clips for shard in self.index.shards))
        self._keep = range(self._ends[-1] if self._ends else 0) if keep is None else keep
        self._open: OrderedDict[int, _Open] = OrderedDict()

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_open": OrderedDict()}  # another process opens its own

    def __len__(self) -> int:
        return len(self._keep)

    @property
    def turns(self) -> range:
        """Where some clips stand for all, the first do (`mavil_edu.data.batch.some_of`): they were mixed when they were written."""
        return range(len(self))

    def subset(self, keep: list[int]) -> "Shards":
        """Some of these clips as a data set of their own: `keep` are numbers of this one."""
        return Shards(self.folder, self.model, self.augment, [self._keep[index] for index in keep])

    @cached_property
    def labels(self) -> Labels:
        """The columns that all clips have; read from the index when first asked for. Raises ShardError for one of several kinds."""
        table = [clip.labels for shard in self.index.shards for clip in read_clips(self.folder, shard)]
        rows = [table[number] for number in self._keep]
        names = [name for name in (rows[0] if rows else {}) if all(name in row for row in rows)]
        for name in names:
            if len({float if isinstance(row[name], int) else type(row[name]) for row in rows}) > 1:
                raise ShardError(f"{self.folder / INDEX}: the label {name!r:.40} is text of some clips and numbers of others.")
        return {name: [tuple(v) if isinstance(v := row[name], list) else v for row in rows] for name in names}

    def name(self, index: int) -> str:
        return self._stored(index)[1].name

    def names(self) -> set[tuple[str, int]]:
        """What tells these clips from any others: the checksum of each one's shard, and its number there."""
        return {(self.index.shards[shard].sha256, number) for shard, number in map(self._place, range(len(self)))}

    def order(self, generator: Generator) -> list[int]:
        """An epoch's order: shards permuted, then the clips of each 16 shards shuffled, so that reading stays within those."""
        blocks: dict[int, list[int]] = {}
        rank = torch.randperm(len(self.index.shards), generator=generator).tolist()
        for index in range(len(self)):
            blocks.setdefault(rank[self._place(index)[0]] // BLOCK_SHARDS, []).append(index)
        mixed = (torch.tensor(blocks[b])[torch.randperm(len(blocks[b]), generator=generator)].tolist() for b in sorted(blocks))
        return [index for block in mixed for index in block]

    def sample(self, index: int, generator: Generator | None) -> Sample | Skipped:
        """A window of clip `index`, augmented where a generator is given."""
        archive, clip = self._stored(index)
        return draw_window(lambda position: self._read(archive, clip, position), clip.name, self.model, self.augment, generator)

    def _place(self, index: int) -> tuple[int, int]:
        """A clip's shard, and its number there."""
        number = self._keep[index]
        shard = bisect_right(self._ends, number)
        return shard, number - (self._ends[shard - 1] if shard else 0)

    def _stored(self, index: int) -> tuple[_Open, StoredClip]:
        number, place = self._place(index)
        if number not in self._open:
            self._open[number] = self._opened(self.index.shards[number])
            if len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        archive = self._open[number]
        return archive, archive.clips[place]

    def _opened(self, shard: Shard) -> _Open:
        path, clips = self.folder / shard.name, read_clips(self.folder, shard)
        archive = _Open(os.open(path, os.O_RDONLY), clips)
        check_members(archive.file, path, shard, clips)
        return archive

    def _read(self, archive: _Open, clip: StoredClip, position: float) -> media.Clip:
        """One window, as `media.read_clip` gives it from a file."""
        audio, video = self.model.audio, self.model.video
        middle = media.centre(clip.seconds, audio.seconds, video.seconds, position)
        audio_start, video_start = middle - audio.seconds / 2, middle - video.seconds / 2
        members = [(offset, size) for _, offset, size in clip.members()]

        offset = round(audio_start * SAMPLE_RATE)
        start, stop = max(clip.heard[0], offset), min(clip.heard[1], offset + audio.samples)
        waveform = torch.zeros(audio.samples)
        if stop > start:
            content = _exactly(archive.file, members[1][0] + WAV_HEADER + 2 * start, 2 * (stop - start))
            waveform[start - offset : stop - offset] = torch.from_numpy(np.frombuffer(content, "<i2").astype(np.float32)) / 32767
        heard = (start - offset, stop - offset) if stop > start else (0, 0)

        frames = np.zeros((video.frames, clip.height, clip.width, 3), np.uint8)
        seen = torch.zeros(video.frames, dtype=torch.bool)
        pictures = len(members) - 2
        for number in range(video.frames):
            time = (video_start + (number + 0.5) / video.frame_rate) * self.index.settings.frame_rate - clip.first_picture
            nearest = round(time - 1e-6)  # in pictures since the first one stored; half-way, the earlier one
            if nearest < 0 or time >= pictures:
                continue
            where, size = members[2 + min(nearest, pictures - 1)]
            frames[number] = decode_picture(_exactly(archive.file, where, size), clip.height, clip.width, f"{clip.name} in the shards")
            seen[number] = True
        return media.Clip(waveform, heard, torch.from_numpy(frames), seen, clip.seconds, audio_start, video_start, None)


def _exactly(file: int, offset: int, size: int) -> bytes:
    content = os.pread(file, size, offset)
    if len(content) < size:
        raise media.MediaError("A shard was cut short while it was being read; look at the folder with mavil-edu shards --verify.")
    return content
