"""The masking explorer: a way of hiding, a share and a draw, on a spectrogram and on frames at once, with the sound of what is left."""

import math

import numpy as np
import torch
from einops import rearrange, repeat
from ipywidgets import BoundedIntText, Layout
from matplotlib.colors import to_rgb
from torch import Tensor
from torch.nn.functional import pad

from mavil_edu import audio
from mavil_edu.config import AudioConfig, VideoConfig
from mavil_edu.display import player
from mavil_edu.explorers.widgets import Explorer, Shown, choice
from mavil_edu.figures import HIDDEN, INK, _axes, _draw_spectrogram, _draw_strip, _limits, hidden_cells
from mavil_edu.masking import AUDIO_STRATEGIES, VIDEO_STRATEGIES
from mavil_edu.overlay import Overlay

ROUNDS = 16  # of Griffin-Lim: a quarter of the usual, so that a choice is heard at once
LOUDEST = 0.8  # what the loudest sample of the whole sound is brought to; its parts are raised by the same
STEP = 10  # per cent more or less that a button hides
DRAWS = 999  # the highest seed
HEAR = {"what is left": 0, "what is hidden": 1, "the whole sound": 2}


def beside_visible(mask: Tensor, grid: tuple[int, ...]) -> float:
    """The share of the hidden patches that share a side with a visible one, and might be copied from it: 0 to 1; 0 with none hidden.

    mask: (tokens,) bool, True = hidden. grid: patches along each axis. A random mask at ratio r gives about 1 − r⁴ in a spectrogram and
    1 − r⁶ in a video, less at the edges.
    """
    hidden = mask.reshape(grid)
    near = torch.zeros_like(hidden)
    for axis, size in enumerate(grid):
        visible = ~hidden.transpose(0, axis)
        beside = near.transpose(0, axis)  # a view: what is set here is set in `near`
        beside[1:] |= visible[: size - 1]
        beside[: size - 1] |= visible[1:]
    return float((near & hidden).sum() / hidden.sum().clamp(min=1))


def masked_sound(log_mel: Tensor, hidden: Tensor, samples: int, rounds: int = ROUNDS) -> Tensor:
    """What a masked spectrogram sounds like: hidden cells are silent, the others as loud as they were. Returns (samples,).

    log_mel: (frames, mel bins), natural logarithm of power. hidden: the same shape, bool. rounds: of Griffin-Lim.
    """
    return audio.to_waveform(log_mel.masked_fill(hidden, audio.FLOOR)[None], rounds, samples)[0]


class MaskView:
    """A spectrogram above a filmstrip, drawn once; `png` lays grey over what a mask hides (some 30 ms instead of 300)."""

    def __init__(self, log_mel: Tensor, frames: Tensor, audio_config: AudioConfig, video_config: VideoConfig):
        """log_mel: (frames, mel bins) and frames: (t, height, width, 3) uint8 of the configs' sizes; else ValueError."""
        wanted = (audio_config.frames, audio_config.mel_bins), (video_config.frames, video_config.height, video_config.width, 3)
        for what, tensor, shape in zip(("log-mel", "frames"), (log_mel, frames), wanted, strict=True):
            if tuple(tensor.shape) != shape:
                raise ValueError(f"The shape of the {what} is {tuple(tensor.shape)}; this config's is {shape}.")
        self.audio, self.video = audio_config, video_config
        figure, axes = _axes(8.6, 3.2, 2, 1, height_ratios=[1.75, 1])
        self._sound, self._strip = axes[:, 0]
        seconds = audio_config.frames * audio.HOP / 16_000
        _draw_spectrogram(self._sound, log_mel, seconds, _limits(log_mel))
        self._sound.set_xlabel("seconds", fontsize=8, color=INK)
        _draw_strip(self._strip, frames)
        self._extents = (0, seconds, 0, audio_config.mel_bins), self._strip.get_images()[0].get_extent()
        self._overlay = Overlay(figure)

    def png(self, audio_mask: Tensor, video_mask: Tensor) -> bytes:
        """The picture with the tokens of two masks, (tokens,) bool, drawn grey."""
        patch = (self.audio.patch_frames, self.audio.patch_bins)
        cells = hidden_cells(audio_mask, self.audio.grid, patch).T.flip(0)
        t, h, w = self.video.grid
        size = {"pt": self.video.patch_frames, "ph": self.video.patch_height, "pw": self.video.patch_width}
        places = repeat(video_mask, "(t h w) -> (t pt) (h ph) (w pw)", t=t, h=h, w=w, **size)
        strip = rearrange(pad(places, (1, 1, 1, 1)), "t h w -> h (t w)")
        covers = []
        for ax, hidden, extent in zip((self._sound, self._strip), (cells, strip), self._extents, strict=True):
            cover = np.zeros((*hidden.shape, 4))
            cover[hidden.numpy()] = (*to_rgb(HIDDEN), 1)
            covers.append(ax.imshow(cover, extent=extent, aspect=ax.get_aspect(), origin="upper", interpolation="nearest"))
        return self._overlay.png(covers)


def _said(what: str, strategy: str, mask: Tensor, grid: tuple[int, ...]) -> str:
    hidden, size = int(mask.sum()), " × ".join(map(str, grid))
    text = f"{what}, {strategy}: {hidden} of {len(mask)} patches ({size}) hidden, {len(mask) - hidden} visible"
    if 0 < hidden < len(mask):
        text += f"; {100 * beside_visible(mask, grid):.0f} % of the hidden ones share a side with a visible one"
    return text


def masking_explorer(
    log_mel: Tensor, frames: Tensor, audio_config: AudioConfig, video_config: VideoConfig, ratio: int = 80, seed: int = 0
) -> Explorer:
    """Choose how sound and picture are hidden, how much, and which draw: see both at once, hear what is left.

    log_mel: (frames, mel bins), from `audio.to_log_mel`. frames: (t, height, width, 3) uint8. ratio: per cent hidden of both at first;
    seed: the first draw, 0 to 999. Raises ValueError where the tensors are not of the configs' sizes.
    """
    view = MaskView(log_mel, frames, audio_config, video_config)
    peak = float(masked_sound(log_mel, torch.zeros_like(log_mel, dtype=torch.bool), audio_config.samples).abs().max())
    louder = LOUDEST / peak if peak > 1e-6 else 1.0

    def show(sound: str, picture: str, ratio: int, seed: int, hear: int) -> Shown:
        one, other = (torch.Generator().manual_seed(seed) for _ in range(2))  # so that neither mask depends on how the other is drawn
        audio_mask = AUDIO_STRATEGIES[sound](1, audio_config.grid, ratio / 100, one)[0]
        video_mask = VIDEO_STRATEGIES[picture](1, video_config.grid, ratio / 100, other)[0]
        left, right = _said("Sound", sound, audio_mask, audio_config.grid), _said("Picture", picture, video_mask, video_config.grid)
        hidden = hidden_cells(audio_mask, audio_config.grid, (audio_config.patch_frames, audio_config.patch_bins))
        silent = (hidden, ~hidden, torch.zeros_like(hidden))[hear]
        waveform = (louder * masked_sound(log_mel, silent, audio_config.samples)).clamp(-1, 1)
        what = next(text for text, number in HEAR.items() if number == hear).capitalize()
        heard = player(waveform, f"{what}, played {20 * math.log10(louder):.0f} dB louder" if waveform.any() else what)
        return Shown(f"{ratio} % asked for. {left}. {right}.", view.png(audio_mask, video_mask), heard)

    narrow = Layout(width="13em")
    controls = {
        "sound": choice(list(AUDIO_STRATEGIES), "random", "Hide in the sound"),
        "picture": choice(list(VIDEO_STRATEGIES), "random", "Hide in the picture"),
        "ratio": BoundedIntText(value=ratio, min=0, max=100, step=5, description="Per cent hidden", layout=narrow),
        "seed": BoundedIntText(value=seed, min=0, max=DRAWS, description="Draw number", layout=narrow),
        "hear": choice(HEAR, 0, "Hear"),
    }

    def add(name: str, amount: int) -> None:
        controls[name].value += amount  # the field itself keeps to its limits

    buttons = {
        "◀ hide less": lambda: add("ratio", -STEP),
        "hide more ▶": lambda: add("ratio", STEP),
        "draw again": lambda: add("seed", 1),
    }
    return Explorer(controls, show, buttons)
