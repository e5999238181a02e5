"""What a data set hands to a model: samples, batches, and the inputs that the front ends make of them."""

from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from mavil_edu import audio, video
from mavil_edu.config import AugmentConfig, ModelConfig
from mavil_edu.progress import tracked

MANY = 256  # clips of which reading shows its progress


class Sample(NamedTuple):
    """One window of one clip, before the front ends."""

    waveform: Tensor  # (samples,) float32 in [-1, 1], 16 kHz
    heard: Tensor  # (2,) long: the samples [start, stop) that hold sound; the rest is padding
    frames: Tensor  # (t, height, width, 3) uint8, of the model's size
    seen: Tensor  # (t,) bool: False where a frame is padding


class Skipped(NamedTuple):
    """A clip that gave no sample, and why."""

    path: str
    reason: str


class Batch(NamedTuple):
    """Samples stacked along a first axis b."""

    waveform: Tensor
    heard: Tensor
    frames: Tensor
    seen: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(field.to(device, non_blocking=True) for field in self))


class Inputs(NamedTuple):
    """A batch as the model takes it, and which of its patches hold content (not padding only)."""

    audio: Tensor  # (b, 1, frames, mel bins) normalised log-mel
    video: Tensor  # (b, 3, frames, height, width) normalised
    audio_content: Tensor  # (b, audio tokens) bool
    video_content: Tensor  # (b, video tokens) bool


# What is known of the clips, for evaluation and never for pre-training: by the name of a column one value per clip. Text is a
# class, a number is a quantity, a tuple of texts several classes at once. What is not known of a clip is "", NaN or ().
Labels = dict[str, list[str] | list[float] | list[tuple[str, ...]]]


class Clips(Protocol):
    """A data set: numbered clips, each of which can be drawn anew."""

    labels: Labels

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What to call clip `index` in a report: a file's name, say."""
        ...

    def sample(self, index: int, generator: Generator | None) -> Sample | Skipped:
        """A random, augmented window of clip `index`; without a generator its middle window, unchanged: for evaluation."""
        ...


def collate(samples: list[Sample]) -> Batch:
    """Stacks samples."""
    return Batch(*(torch.stack(field) for field in zip(*samples, strict=True)))


def augment_sample(sample: Sample, model: ModelConfig, augment: AugmentConfig, generator: Generator) -> Sample:
    """A training clip's changes: waveform rolled and scaled, frames cropped and mirrored, as the config says."""
    waveform = audio.augment_waveform(sample.waveform[None], sample.heard[None], augment, generator)[0]
    return sample._replace(waveform=waveform, frames=video.augment(sample.frames, model.video, augment, generator))


def to_inputs(batch: Batch, model: ModelConfig) -> Inputs:
    """The front ends on a batch, on whatever device it is."""
    return Inputs(
        audio=audio.spectrogram(batch.waveform, model.audio, batch.heard),
        video=video.normalise(batch.frames, model.video),
        audio_content=audio.audio_content(batch.heard, model.audio),
        video_content=video.video_content(batch.seen, model.video),
    )


def some_of(clips: Clips, limit: int | None) -> list[int]:
    """The numbers of at most `limit` clips that stand for all, in order; None: of all. The same each time.

    A random choice, for files stand by class and AV-MNIST's pairs by speaker: the first of them are of the first ones. A data set may have
    `turns`, a number of each clip, and then those of lower numbers are chosen first. So generated clips and shards, which are mixed from
    the start, give their first, and of long clips as many as can be are met.
    """
    if not limit or limit >= len(clips):
        return list(range(len(clips)))
    order, turns = torch.randperm(len(clips), generator=Generator().manual_seed(0)).tolist(), getattr(clips, "turns", None)
    if turns is not None:
        order.sort(key=turns.__getitem__)
    return sorted(order[:limit])


def evaluation_batch(clips: Clips, limit: int | None = None) -> tuple[Batch, list[int], list[Skipped]]:
    """The middle windows of at most `limit` clips of a data set, as `some_of` chooses them: one batch, their numbers, and what was skipped.

    Raises ValueError where no clip gives a sample.
    """
    chosen = some_of(clips, limit)
    numbers = tracked(chosen, "reading clips", len(chosen)) if len(chosen) > MANY else chosen
    drawn = {index: clips.sample(index, None) for index in numbers}
    kept = [index for index, sample in drawn.items() if isinstance(sample, Sample)]
    skipped = [sample for sample in drawn.values() if isinstance(sample, Skipped)]
    if not kept:
        why = f" The first: {skipped[0].path}: {skipped[0].reason}" if skipped else ""
        raise ValueError(f"None of {len(drawn)} clips gives a window with sound and picture.{why}")
    return collate([drawn[index] for index in kept]), kept, skipped
