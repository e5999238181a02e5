"""Anyone's clips: media files as training windows drawn at random, and as tiles in evaluation."""

import math
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple, Self

from torch import Generator

from mavil_edu import media
from mavil_edu.config import AugmentConfig, ModelConfig
from mavil_edu.data.batch import Clips, Labels, Sample, Skipped
from mavil_edu.data.labels import take
from mavil_edu.data.windows import as_sample, draw_window, has_one_window, short_side

KEPT_BYTES = 2 << 30  # decoded clips that are kept in memory, at most


class FolderClips:
    """Clips read from files of any length: a random window in training, the middle one in evaluation.

    labels: of each clip, in the order of `paths`. root: a folder in which all of them lie: a clip is named by its path below it, without it
    by its file's name alone, which two may share.

    The two windows, of sound and of picture, have one centre; a clip shorter than a window is padded at the end with zeros, `heard` and
    `seen` tell where, and padding is not scored as content unless the objective says so. A clip no longer than the windows has one window;
    it is decoded once and kept, up to 2 GiB in all. A silent window is drawn again, up to 8 times; then the clip is skipped, with its
    reason. `TiledClips` sees all of a longer clip.
    """

    modalities: tuple[str, ...] = ("audio", "video")  # that its samples have

    def __init__(
        self, paths: list[Path], model: ModelConfig, augment: AugmentConfig, labels: Labels | None = None, root: Path | None = None
    ):
        self.paths, self.model, self.augment, self.root = paths, model, augment, root
        self.labels: Labels = labels or {}
        if wrong := [name for name, column in self.labels.items() if len(column) != len(paths)]:
            raise ValueError(f"The label {wrong[0]!r} has {len(self.labels[wrong[0]])} values for {len(paths)} clips; give one for each.")
        self._kept: dict[int, media.Clip] = {}
        self._kept_bytes = 0

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        path = self.paths[index]
        return path.name if self.root is None else path.relative_to(self.root).as_posix()

    def subset(self, numbers: list[int]) -> Self:
        """Some of these clips as a data set of their own."""
        return type(self)([self.paths[i] for i in numbers], self.model, self.augment, take(self.labels, numbers), root=self.root)

    def sample(self, index: int, generator: Generator | None) -> Sample | Skipped:
        """A window of clip `index`, augmented where a generator is given; see `mavil_edu.data.batch.Clips`."""
        name, pictures = str(self.paths[index]), "video" in self.modalities
        return draw_window(lambda position: self._read(index, position), name, self.model, self.augment, generator, pictures)

    def window(self, index: int, position: float, generator: Generator | None = None) -> Sample | Skipped:
        """The window of clip `index` at one place, from 0 (the first possible) to 1 (the last); augmented where a generator is given."""
        try:
            clip = self._read(index, position)
        except (media.MediaError, OSError) as error:
            return Skipped(str(self.paths[index]), str(error))
        sample = as_sample(clip, self.model, self.augment, generator, "video" in self.modalities)
        return Skipped(str(self.paths[index]), "silent, or without picture, in this window") if sample is None else sample

    def seconds(self, index: int) -> float | None:
        """The length of clip `index` by its header; None where the file cannot be opened."""
        try:
            return media.clip_seconds(self.paths[index])
        except (media.MediaError, OSError):
            return None

    def _read(self, index: int, position: float) -> media.Clip:
        if index in self._kept:
            return self._kept[index]
        audio, picture = self.model.audio, self.model.video
        side = short_side(self.model, self.augment)
        clip = media.read_clip(self.paths[index], audio.seconds, picture.seconds, picture.frames, position, side)
        size = clip.waveform.nbytes + clip.frames.nbytes
        if has_one_window(clip, self.model) and self._kept_bytes + size <= KEPT_BYTES:
            self._kept[index] = clip
            self._kept_bytes += size
        return clip


class Tile(NamedTuple):
    """One window of a clip that is covered by windows."""

    clip: int  # its number
    position: float  # where the window lies, from 0 (the first possible place) to 1 (the last)
    start: float  # seconds from the clip's start to the window's, by the file's header


def tiles_of(clip: int, seconds: float, window: float) -> list[Tile]:
    """Windows one after another that cover a clip; the last one ends with it, and so may overlap the one before (our choice).

    seconds, window: lengths. A clip no longer than the window has one, in its middle.
    """
    if seconds <= window * (1 + 1e-3):  # what sticks out by a rounding of the header is no window of its own
        return [Tile(clip, 0.5, 0.0)]
    count = math.ceil(seconds / window - 1e-3)
    starts = [min(i * window, seconds - window) for i in range(count)]
    return [Tile(clip, start / (seconds - window), start) for start in starts]


class TiledClips:
    """A view of clips in which each window that covers them is an item of its own: for evaluation.

    The longer of the model's two windows is laid out, end to end; the shorter stands in the middle of each. Items come
    in rounds, every clip's first window, then every clip's second, and `turns` are the rounds' numbers: where some items stand for all
    (`mavil_edu.data.batch.some_of`), as many clips as can be are among them. An item has its clip's labels, and its clip's name with the
    window's start; a silent window is skipped, and none is drawn in its stead.
    """

    def __init__(self, clips: FolderClips):
        self.clips = clips
        window = max(clips.model.audio.seconds, clips.model.video.seconds)
        covers = [tiles_of(index, clips.seconds(index) or 0.0, window) for index in range(len(clips))]
        self.counts = [len(cover) for cover in covers]  # windows of each clip
        laid = [(turn, tile) for turn, layer in enumerate(zip_longest(*covers)) for tile in layer if tile is not None]
        self.turns, self.tiles = [turn for turn, _ in laid], [tile for _, tile in laid]
        self.labels: Labels = take(clips.labels, [tile.clip for tile in self.tiles])

    def __len__(self) -> int:
        return len(self.tiles)

    def name(self, index: int) -> str:
        tile = self.tiles[index]
        name = self.clips.name(tile.clip)
        return name if self.counts[tile.clip] == 1 else f"{name} at {tile.start:.2f} s"

    def sample(self, index: int, generator: Generator | None) -> Sample | Skipped:
        """Window `index`, augmented where a generator is given; a clip of one window as `FolderClips` gives it."""
        tile = self.tiles[index]
        if self.counts[tile.clip] == 1:
            return self.clips.sample(tile.clip, generator)
        return self.clips.window(tile.clip, tile.position, generator)


def count_clips(clips: Clips, items: list[int]) -> int:
    """How many different clips some items of a data set belong to."""
    return len({clips.tiles[i].clip for i in items}) if isinstance(clips, TiledClips) else len(items)
