"""The rule by which a window is drawn from a clip, wherever the clip is stored: at random in training, near the middle in evaluation."""

import math
from collections.abc import Callable

import torch
from torch import Generator

from mavil_edu import audio, media, video
from mavil_edu.config import AugmentConfig, ModelConfig
from mavil_edu.data.batch import Sample, Skipped, augment_sample

TRIES = 8  # windows drawn from a clip before it is given up as silent


def has_one_window(clip: media.Clip, model: ModelConfig) -> bool:
    """Whether every position gives the same window: the clip is no longer than either."""
    return clip.seconds <= min(model.audio.seconds, model.video.seconds)


def short_side(model: ModelConfig, augment: AugmentConfig) -> int:
    """Pixels of the shorter side of which the smallest random crop still has the model's size."""
    return math.ceil(max(model.video.height, model.video.width) / math.sqrt(augment.crop[0]))


def as_sample(
    clip: media.Clip, model: ModelConfig, augment: AugmentConfig, generator: Generator | None, pictures: bool = True
) -> Sample | None:
    """A window that was read as a sample, augmented where a generator is given; None where it is silent or without picture.

    pictures: False for sounds alone: the frames are then black, and `seen` is False throughout.
    """
    start, stop = clip.heard
    if stop <= start or media.is_silent(clip.waveform[start:stop]) or (pictures and not bool(clip.seen.any())):
        return None
    if not pictures:
        size = model.video
        frames, seen = torch.zeros(size.frames, size.height, size.width, 3, dtype=torch.uint8), torch.zeros(size.frames, dtype=torch.bool)
        sample = Sample(clip.waveform, torch.tensor(clip.heard), frames, seen)
        if generator is not None:
            waveform = audio.augment_waveform(sample.waveform[None], sample.heard[None], augment, generator)[0]
            sample = sample._replace(waveform=waveform)
        return sample
    sample = Sample(clip.waveform, torch.tensor(clip.heard), clip.frames, clip.seen)
    if generator is None:
        return sample._replace(frames=video.fit(clip.frames, model.video))
    return augment_sample(sample, model, augment, generator)


def draw_window(
    read: Callable[[float], media.Clip],
    name: str,
    model: ModelConfig,
    augment: AugmentConfig,
    generator: Generator | None,
    pictures: bool = True,
) -> Sample | Skipped:
    """A clip's window as `mavil_edu.data.batch.Clips.sample` gives it; a silent one is drawn again, up to 8 times.

    read: gives the window at a position in [0, 1]; what it raises as MediaError or OSError costs this clip only. name: of the clip,
    for the report. pictures: as `as_sample` takes it.
    """
    for attempt in range(TRIES):
        if generator is not None:
            position = float(torch.rand((), generator=generator))
        else:
            position = (0.5 + 0.381966 * attempt) % 1  # the middle first, then places spread over the clip
        try:
            clip = read(position)
        except (media.MediaError, OSError) as error:
            return Skipped(name, str(error))
        if (sample := as_sample(clip, model, augment, generator, pictures)) is not None:
            return sample
        if has_one_window(clip, model):
            break
    return Skipped(name, f"silent{', or without picture,' if pictures else ''} in every window tried")
