"""A masked clip and what the model makes of it, as spectrogram, frames and sound."""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from mavil_edu import audio as audio_end
from mavil_edu import video as video_end
from mavil_edu.config import AudioConfig, VideoConfig
from mavil_edu.data.batch import Inputs
from mavil_edu.losses import patch_statistics
from mavil_edu.mavil import Masks, MAViL, Prediction
from mavil_edu.patches import patchify, unpatchify

FLOOR = -15.94  # log-mel of digital silence: what a hidden patch sounds like in the masked clip


class Views(NamedTuple):
    """One modality of one clip, four times: spectrograms (frames, mel bins) in log-mel units, or pictures (t, h, w, 3) uint8."""

    original: Tensor
    masked: Tensor  # hidden patches silent, or grey
    reconstruction: Tensor  # the model's word on every patch
    completed: Tensor  # the model's word on hidden patches, the original elsewhere


class Reconstruction(NamedTuple):
    """A clip's reconstruction; `borrowed` tells that pictures use the hidden patches' own mean and std."""

    spectrogram: Views
    frames: Views
    masks: Masks
    borrowed: bool


def _patches_of(prediction: Prediction, truth: Tensor, normalised: bool) -> Tensor:
    """Predicted patches as input values again: with predicted statistics where there are any, else with the true patch's own."""
    if not normalised:
        return prediction.patches
    if prediction.statistics is None:
        mean, std = patch_statistics(truth)
    else:
        mean, std = prediction.statistics[..., :1], prediction.statistics[..., 1:].clamp(min=0)
    return prediction.patches * std + mean


def _views(truth: Tensor, predicted: Tensor, mask: Tensor, fill: float, config: AudioConfig | VideoConfig) -> list[Tensor]:
    hidden = rearrange(mask, "b n -> b n 1")
    views = (truth, truth.masked_fill(hidden, fill), predicted, torch.where(hidden, predicted, truth))
    return [unpatchify(view, config) for view in views]


@torch.no_grad()
def reconstruct(model: MAViL, inputs: Inputs, masks: Masks) -> list[Reconstruction]:
    """Masks a batch of clips and lets the model fill in what is hidden; one Reconstruction a clip.

    inputs: from `to_inputs`, b clips. masks: b rows. Pictures of normalised targets use the model's own predicted means and
    standard deviations; where it has none, the hidden patches' own, which `borrowed` then says.
    Raises ValueError for a model of stage 2, whose targets are no patches.
    """
    config, normalised = model.config, model.config.target == "normalised"
    if config.target == "teacher":
        raise ValueError(
            "This model predicts its teacher's tokens, which are no pictures and no sounds; reconstruct with a model of stage 1, "
            "its teacher for one."
        )
    masks = Masks(masks.audio.to(inputs.audio.device), masks.video.to(inputs.audio.device))
    output = model(inputs.audio, inputs.video, masks)
    heard, seen = patchify(inputs.audio, config.audio), patchify(inputs.video, config.video)
    floor = (FLOOR - config.audio.mean) / (2 * config.audio.std)
    sounds = _views(heard, _patches_of(output.audio, heard, normalised), masks.audio, floor, config.audio)
    pictures = _views(seen, _patches_of(output.video, seen, normalised), masks.video, 0.0, config.video)
    sounds = [audio_end.to_log_mel(view, config.audio) for view in sounds]
    pictures = [video_end.denormalise(view, config.video) for view in pictures]
    borrowed = normalised and not config.predict_statistics
    return [
        Reconstruction(
            Views(*(view[i].cpu() for view in sounds)),
            Views(*(view[i].cpu() for view in pictures)),
            Masks(masks.audio[i].cpu(), masks.video[i].cpu()),
            borrowed,
        )
        for i in range(len(inputs.audio))
    ]
