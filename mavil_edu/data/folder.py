"""Anyone's clips: the usable media files of a folder as training windows."""

from pathlib import Path

from torch import Generator

from mavil_edu import media
from mavil_edu.config import AugmentConfig, ModelConfig
from mavil_edu.data.batch import Labels, Sample, Skipped
from mavil_edu.data.windows import draw_window, has_one_window, short_side

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
        return draw_window(lambda position: self._read(index, position), str(self.paths[index]), self.model, self.augment, generator)

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
