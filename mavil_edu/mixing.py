"""What fine-tuning changes in a training clip beyond its window: tokens are hidden, and clips are mixed in pairs."""

from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from mavil_edu import audio, video
from mavil_edu.config import ModelConfig
from mavil_edu.data.batch import Batch
from mavil_edu.masking import frequency_mask, time_mask, tube_mask
from mavil_edu.mavil import Masks
from mavil_edu.recipe import FinetuneConfig


def augmentation_masks(rows: int, config: ModelConfig, recipe: FinetuneConfig, generator: torch.Generator) -> Masks:
    """Tokens hidden as an augmentation: time columns and frequency rows of the sound, places of the picture through all frames [A, R].

    A modality of which nothing is hidden has the mask None. Each row hides as many tokens as the others.
    """
    heard, seen, sizes = None, None, config.audio.grid
    if recipe.mask_time or recipe.mask_frequency:
        heard = time_mask(rows, sizes, recipe.mask_time, generator) | frequency_mask(rows, sizes, recipe.mask_frequency, generator)
    if recipe.mask_tubes:
        seen = tube_mask(rows, config.video.grid, recipe.mask_tubes, generator)
    return Masks(heard, seen)


class Mixed(NamedTuple):
    """How the clips of a batch are mixed in pairs."""

    partner: Tensor  # (b,) long
    share: Tensor  # (b,) of the clip itself, 1 where it stays as it is


def draw_mixing(rows: int, recipe: FinetuneConfig, seed: int, step: int) -> Mixed:
    """Partners and shares for a step: `mixup` of the clips are mixed, by shares from Beta(mixup_beta, mixup_beta)."""
    draws = np.random.default_rng([seed % 2**64, 7, step])  # NumPy takes no seed below 0, torch does
    share = draws.beta(recipe.mixup_beta, recipe.mixup_beta, rows)
    share[draws.random(rows) >= recipe.mixup] = 1.0
    return Mixed(torch.from_numpy(draws.permutation(rows)), torch.from_numpy(share).float())


def blend(x: Tensor, mixed: Mixed) -> Tensor:
    """Each row of x (b, ...) mixed with its partner's, by its share."""
    share = mixed.share.to(x.device).view(-1, *[1] * (x.ndim - 1))
    return share * x + (1 - share) * x[mixed.partner.to(x.device)]


def inputs_of(batch: Batch, config: ModelConfig, mixed: Mixed | None = None) -> dict[str, Tensor]:
    """What the classifier's modalities take: "audio" (b, 1, frames, mel bins), "video" (b, 3, frames, height, width).

    Sounds are mixed as waveforms, so that both are heard, and pictures after normalisation; of mixed clips the span that either fills
    counts as heard. That it is done so is AST's way for sound [R] and our choice for pictures.
    """
    source, made = config.classes_from, {}
    if source != "video":
        waveform, heard = batch.waveform, batch.heard
        if mixed is not None:
            other, changed = heard[mixed.partner.to(heard.device)], rearrange(mixed.share < 1, "b -> b 1").to(heard.device)
            union = torch.stack([torch.minimum(heard[:, 0], other[:, 0]), torch.maximum(heard[:, 1], other[:, 1])], dim=1)
            waveform, heard = blend(waveform, mixed), torch.where(changed, union, heard)
        made["audio"] = audio.spectrogram(waveform, config.audio, heard)
    if source != "audio":
        frames = video.normalise(batch.frames, config.video)
        made["video"] = frames if mixed is None else blend(frames, mixed)
    return made
