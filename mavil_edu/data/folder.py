"""Anyone's clips: the usable media files of a folder as training windows."""

import math
from pathlib import Path

import torch
from torch import Generator

from mavil_edu import media, video
from mavil_edu.config import AugmentConfig, ModelConfig
from mavil_edu.data.batch import Labels, Sample, Skipped, augment_sample

TRIES = 8  # windows drawn from a clip before it is given up as silent
KEPT_BYTES = 2 << 30  # decoded clips that are kept in memory, at most


class FolderClips:
    """Clips read from files: a random window in training, the middle one in evaluation.

    A clip no longer than the windows has one window; it is decoded once and kept, up to 2 GiB in all. A silent window is
    drawn again, up to 8 times; then the clip is skipped, with its reason.
    """

    def __init__(self, paths: list[Path], model: ModelConfig, augment: AugmentConfig):
        self.paths, self.model, self.augment = paths, model, augment
        self.labels: Labels = {}
        self._kept: dict[int, media.Clip] = {}
        self._kept_bytes = 0

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return self.paths[index].name

    def sample(self, index: int, generator: Generator | None) -> Sample | Skipped:
        """A window of clip `index`, augmented where a generator is given; see `mavil_edu.data.batch.Clips`."""
        for attempt in range(TRIES):
            if generator is not None:
                position = float(torch.rand((), generator=generator))
            else:
                position = (0.5 + 0.381966 * attempt) % 1  # the middle first, then places spread over the clip
            try:
                clip = self._read(index, position)
            except (media.MediaError, OSError) as error:
                return Skipped(str(self.paths[index]), str(error))
            start, stop = clip.heard
            if stop > start and not media.is_silent(clip.waveform[start:stop]) and bool(clip.seen.any()):
                sample = Sample(clip.waveform, torch.tensor(clip.heard), clip.frames, clip.seen)
                if generator is None:
                    return sample._replace(frames=video.fit(clip.frames, self.model.video))
                return augment_sample(sample, self.model, self.augment, generator)
            if self._has_one_window(clip):
                break
        return Skipped(str(self.paths[index]), "silent, or without picture, in every window tried")

    def _has_one_window(self, clip: media.Clip) -> bool:
        return clip.seconds <= min(self.model.audio.seconds, self.model.video.seconds)

    def _read(self, index: int, position: float) -> media.Clip:
        if index in self._kept:
            return self._kept[index]
        audio, picture = self.model.audio, self.model.video
        smallest_crop = self.augment.crop[0]
        short_side = math.ceil(max(picture.height, picture.width) / math.sqrt(smallest_crop))
        clip = media.read_clip(self.paths[index], audio.seconds, picture.seconds, picture.frames, position, short_side)
        size = clip.waveform.nbytes + clip.frames.nbytes
        if self._has_one_window(clip) and self._kept_bytes + size <= KEPT_BYTES:
            self._kept[index] = clip
            self._kept_bytes += size
        return clip
