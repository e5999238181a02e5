"""A heat map of where a sound comes from, as files: a film with its sound, and a filmstrip."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib import colormaps
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from mavil_edu import figures, media, video
from mavil_edu.config import SAMPLE_RATE, ModelConfig, VideoConfig
from mavil_edu.data.batch import Sample, collate, to_inputs
from mavil_edu.data.difficulty import DifficultyName
from mavil_edu.data.factors import sample_factors
from mavil_edu.data.world_picture import object_mask, render_video
from mavil_edu.data.world_sound import render_audio
from mavil_edu.localise import heat_maps, over_frames
from mavil_edu.mavil import MAViL

RATE = 25  # frames a second of the film
SIDE = 192  # pixels of the film's shorter side, or a little more: a multiple of the model's
STRENGTH = 0.6  # how much of a picture its hottest place covers
COLOURS = "inferno"


class Watched(NamedTuple):
    """A clip at the model's sizes, and larger, to be watched."""

    name: str
    sample: Sample
    frames: Tensor  # (t, height, width, 3) uint8, 25 a second
    truth: Tensor | None  # (t, height, width) bool, where the sounding object is; None where that is not known


def _film_config(config: VideoConfig) -> VideoConfig:
    larger = -(-SIDE // min(config.height, config.width))
    frames = max(1, round(config.seconds * RATE / config.patch_frames)) * config.patch_frames
    return replace(config, frames=frames, height=larger * config.height, width=larger * config.width)


def read(path: Path, model: ModelConfig, position: float = 0.5) -> Watched:
    """A window of a media file. Raises ValueError (MediaError) with a sentence where it lacks sound or picture."""
    if not 0 <= position <= 1:
        raise ValueError(f"--position is {position}; it must lie between 0 (the clip's start) and 1 (its end).")
    config, film = model.video, _film_config(model.video)
    seconds = (model.audio.seconds, config.seconds)
    found = media.read_clip(path, *seconds, config.frames, position)
    if media.is_silent(found.waveform[slice(*found.heard)]):
        raise ValueError(f"{path} has no sound in this window, so there is nothing to look for; try another --position.")
    if not bool(found.seen.any()):
        raise ValueError(f"{path} has no picture in this window, so there is nowhere to look; try another --position.")
    sample = Sample(found.waveform, torch.tensor(found.heard), video.fit(found.frames, config), found.seen)
    watched = media.read_clip(path, *seconds, film.frames, position).frames
    return Watched(path.stem, sample, video.fit(watched, film), None)


def generate(number: int, seed: int, model: ModelConfig, difficulty: DifficultyName = "default") -> Watched:
    """Clip `number` of a generated world, and where its object is."""
    config, film = model.video, _film_config(model.video)
    factors = sample_factors(1, seed, config.seconds, number, difficulty)
    waveform = (render_audio(factors, model.audio.seconds)[0] * 32767).round() / 32767  # as the world keeps it

    def times(frames: int) -> Tensor:
        return (torch.arange(frames, dtype=torch.float64) + 0.5) * config.seconds / frames

    frames = render_video(factors, times(config.frames), config.height, config.width)[0]
    sample = Sample(waveform, torch.tensor([0, len(waveform)]), frames, torch.ones(config.frames, dtype=torch.bool))
    size = (film.height, film.width)
    truth = object_mask(factors, times(film.frames), *size)[0]
    return Watched(f"world-{seed}-{number}", sample, render_video(factors, times(film.frames), *size)[0], truth)


def overlay(frames: Tensor, heat: Tensor, truth: Tensor | None = None) -> Tensor:
    """Frames with a heat map over them, light where it is hot; the truth, where given, with a white edge.

    frames: (t, height, width, 3) uint8. heat: (t', h, w), any range: its coldest place is left as it is, its hottest is covered most.
    truth: (t, height, width) bool. Returns frames of the same shape; even heat covers nothing.
    """
    t, height, width = frames.shape[:3]
    wide = over_frames(heat[None], t, height, width)[0]
    wide = (wide - wide.amin()) / (wide.amax() - wide.amin()).clamp(min=1e-9)
    colours = torch.from_numpy(colormaps[COLOURS](wide.numpy())[..., :3]).float() * 255
    cover = STRENGTH * wide[..., None]
    shown = frames * (1 - cover) + colours * cover
    if truth is not None:
        inside = 1 - max_pool2d(1 - truth[:, None].float(), 3, stride=1, padding=1)[:, 0]
        shown[truth & (inside == 0)] = 255
    return shown.round().clamp(0, 255).to(torch.uint8)


def _alongside(waveform: Tensor, seconds: float) -> Tensor:
    """The middle of a sound as long as the pictures' window; where the sound is shorter, silence around it."""
    spare = round(seconds * SAMPLE_RATE) - len(waveform)
    return pad(waveform, (spare // 2, spare - spare // 2))  # a negative number cuts


def filmstrip(clip: Watched, own: Tensor, other: Tensor, seconds: float) -> figures.Picture:
    """A picture from each time patch, plain, with the heat map of the clip's own sound, and with that of another's: (t, h, w) each."""
    places = ((torch.arange(len(own)) + 0.5) * len(clip.frames) / len(own)).long()
    frames, truth = clip.frames[places], None if clip.truth is None else clip.truth[places]
    panels = {
        "the clip": frames,
        "its own sound": overlay(frames, own, truth),
        "another clip's sound, for control": overlay(frames, other, truth),
    }
    picture = figures.frame_panels(panels, seconds)
    edge = "; the white edge is the object that sounds" if clip.truth is not None else ""
    ranges = ", ".join(f"{float(h.min()):.2f} to {float(h.max()):.2f} with {name}" for h, name in ((own, "its own"), (other, "another's")))
    sentence = f"{clip.name}: where the sound comes from, by the model. Light is most similar to the sound (cosines {ranges}){edge}."
    return figures.Picture(picture.figure, f"{sentence} {picture.sentence}")


def write_localised(model: MAViL, clip: Watched, stranger: Watched, out: Path, **options) -> list[dict[str, str]]:
    """Writes a clip's heat map as NAME-heat.mp4, with its sound, and NAME-heat.png; returns each file's name and its sentence.

    stranger: the clip whose sound is the control. options: of `heat_maps`.
    """
    device, seconds = next(model.parameters()).device, model.config.video.seconds
    inputs = to_inputs(collate([clip.sample, stranger.sample]).to(device), model.config)
    own, other = heat_maps(model, inputs.audio, inputs.video[:1].expand_as(inputs.video), **options)
    out.mkdir(parents=True, exist_ok=True)
    film, strip = out / f"{clip.name}-heat.mp4", out / f"{clip.name}-heat.png"
    media.write_mp4(film, overlay(clip.frames, own, clip.truth), RATE, _alongside(clip.sample.waveform, seconds))
    picture = filmstrip(clip, own, other, seconds)
    picture.save(strip)
    return [
        {"file": film.name, "caption": f"{clip.name}: the heat map over the film, with its sound"},
        {"file": strip.name, "caption": picture.sentence},
    ]
