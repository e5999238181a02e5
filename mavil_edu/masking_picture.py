"""Every masking strategy on one clip, as one picture: that of docs/masking.md."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mavil_edu import audio, figures, media, video
from mavil_edu.config import SAMPLE_RATE, ModelConfig, tiny
from mavil_edu.data.factors import sample_factors
from mavil_edu.data.world_picture import render_video
from mavil_edu.data.world_sound import render_audio
from mavil_edu.masking import AUDIO_STRATEGIES, VIDEO_STRATEGIES, Strategy


def _generated(model: ModelConfig, seed: int) -> tuple[Tensor, Tensor]:
    """A generated clip's waveform (samples,) and frames (t, height, width, 3), the frames from the middle of the sound."""
    seconds, config = max(model.audio.seconds, model.video.seconds), model.video
    clip = sample_factors(1, seed, seconds)
    times = (seconds - config.seconds) / 2 + (torch.arange(config.frames, dtype=torch.float64) + 0.5) / config.frame_rate
    start = round((seconds - model.audio.seconds) / 2 * SAMPLE_RATE)
    return render_audio(clip, seconds)[0, start : start + model.audio.samples], render_video(clip, times, config.height, config.width)[0]


def _read(path: Path, model: ModelConfig) -> tuple[Tensor, Tensor, str]:
    """A file's waveform and frames, and what there is to say where it does not fill the window."""
    found = media.read_clip(path, model.audio.seconds, model.video.seconds, model.video.frames, 0.5)
    sound = (found.heard[1] - found.heard[0]) / SAMPLE_RATE
    seen = model.video.seconds * float(found.seen.float().mean())
    fills = sound > 0.9 * model.audio.seconds and seen > 0.9 * model.video.seconds
    note = (
        f" The window takes {model.audio.seconds:g} s of sound and {model.video.seconds:g} s of pictures, of which {path.name} fills "
        f"{sound:.1f} and {seen:.1f} s; the rest is padding."
    )
    note += " --preset tiny has a shorter window." if model.audio.seconds > tiny().model.audio.seconds else ""
    return found.waveform, video.fit(found.frames, model.video), "" if fills else note


def _drawn(strategies: dict[str, Strategy], grid: tuple[int, ...], ratios: Sequence[float], seed: int) -> dict[str, dict[float, Tensor]]:
    return {
        name: {ratio: strategy(1, grid, ratio, torch.Generator().manual_seed(seed))[0] for ratio in ratios}
        for name, strategy in strategies.items()
    }


def write_masking(out: Path, model: ModelConfig, ratios: Sequence[float], clip: Path | None = None, seed: int = 0) -> figures.Picture:
    """Writes the picture of every strategy at every ratio, on a clip's file or on a generated clip; the same seed, the same picture.

    Raises ValueError where `out` is no PNG's name, no ratio is given, or one lies outside [0, 1]; MediaError where the clip is no clip.
    """
    if out.suffix != ".png":
        raise ValueError(f"{out} is not the name of a PNG file; give --out a name that ends in .png.")
    if not ratios:
        raise ValueError("There is nothing to draw: give --ratios one number or more, such as 0.5 0.8.")
    waveform, frames, note = _read(clip, model) if clip else (*_generated(model, seed), "")
    picture = figures.masking(
        audio.to_log_mel(audio.spectrogram(waveform[None], model.audio), model.audio)[0],
        frames[:: model.video.patch_frames],
        _drawn(AUDIO_STRATEGIES, model.audio.grid, ratios, seed),
        _drawn(VIDEO_STRATEGIES, model.video.grid, ratios, seed),
        model.audio.grid,
        model.video.grid,
        model.audio.seconds,
    )
    picture.save(out)
    return replace(picture, sentence=picture.sentence + note)
