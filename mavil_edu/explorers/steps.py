"""The steps explorer: what a masked autoencoder makes of one clip, after a few steps of training and after many, seen and heard."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import pad

from mavil_edu import audio
from mavil_edu.display import player
from mavil_edu.explorers.widgets import Explorer, Shown, choice
from mavil_edu.figures import BLUE, INK, ORANGE, _array, _axes, _draw_spectrogram, _draw_strip, _limits
from mavil_edu.overlay import Overlay

ROUNDS = 16  # of Griffin-Lim: a quarter of the usual, so that a choice is heard at once
LOUDEST = 0.8  # what the loudest sample of the original is brought to; what the model makes is raised by the same


class Look(NamedTuple):
    """What the model makes of a clip after some steps, and how well it does on all held-out clips."""

    step: int
    spectrogram: Tensor  # (frames, mel bins), log-mel units
    frames: Tensor  # (t, height, width, 3) uint8
    audio_mse: float  # masked MSE of the sound, over held-out clips
    video_mse: float  # and of the pictures


class StepsView:
    """The original above, one look below it, and the errors' course with the look marked; drawn quickly again and again."""

    def __init__(self, original: Look, looks: Sequence[Look], trivial: tuple[float, float], seconds: float):
        figure, axes = _axes(8.6, 3.6, 2, 3, width_ratios=[3, 3, 2])
        self._limits, self.seconds = _limits(original.spectrogram), seconds
        for row, title in zip(axes, ("original", "the model, hidden patches filled in"), strict=True):
            _draw_spectrogram(row[0], original.spectrogram, seconds, self._limits)
            _draw_strip(row[1], two_rows(original.frames))
            row[0].set_title(title, fontsize=8, color=INK, loc="left")
        axes[0, 0].set_xticklabels([])
        axes[1, 0].set_xlabel("seconds", fontsize=8, color=INK)
        self._sound, self._strip = axes[1, :2]
        self._curves = axes[:, 2]
        for ax, title, values, bar in zip(
            self._curves, ("sound", "pictures"), ([x.audio_mse for x in looks], [x.video_mse for x in looks]), trivial, strict=True
        ):
            ax.plot([x.step for x in looks], values, color=BLUE, linewidth=1.3)
            ax.axhline(bar, color=ORANGE, linestyle="--", linewidth=1.3)
            ax.set_title(f"error, {title}; dashed: trivial", fontsize=8, color=INK, loc="left")
        axes[0, 2].set_xticklabels([])
        axes[1, 2].set_xlabel("step", fontsize=8, color=INK)
        self._overlay = Overlay(figure)

    def png(self, look: Look) -> bytes:
        """The picture with this look in it."""
        strip = rearrange(pad(two_rows(look.frames), (0, 0, 1, 1, 1, 1), value=233), "t h w c -> h (t w) c")
        images = [
            self._sound.imshow(
                _array(look.spectrogram.T),
                origin="lower",
                aspect="auto",
                cmap="magma",
                vmin=self._limits[0],
                vmax=self._limits[1],
                extent=(0, self.seconds, 0, look.spectrogram.shape[1]),
                interpolation="nearest",
            ),
            self._strip.imshow(_array(strip), interpolation="nearest"),
        ]
        marks = [
            ax.plot([look.step], [value], marker="o", color=BLUE, markersize=6)[0]
            for ax, value in zip(self._curves, (look.audio_mse, look.video_mse), strict=True)
        ]
        return self._overlay.png([*images, *marks])


def two_rows(frames: Tensor) -> Tensor:
    """A strip's frames as half as many, each with its successor below it: (t, height, width, 3) -> (t / 2, 2 · height + 1, width, 3).

    An odd last frame stands above an empty place.
    """
    whole = pad(frames, (0, 0, 0, 0, 0, 0, 0, len(frames) % 2), value=233)
    above, below = whole[: len(whole) // 2], whole[len(whole) // 2 :]
    return torch.cat([pad(above, (0, 0, 0, 0, 0, 1), value=233), below], dim=1)


def steps_explorer(original: Look, looks: Sequence[Look], trivial: tuple[float, float], seconds: float, first: int = 0) -> Explorer:
    """Choose how long the model has been trained: see and hear what it makes of one clip, beside the error on all held-out clips.

    original: the clip itself (its step and errors are not used). looks: one or more, in the order of their steps. trivial: the
    best trivial answers' errors, of the sound and of the pictures. seconds: of the clip. first: the number of the look shown first.
    Raises ValueError where there is no look, or steps do not grow.
    """
    steps = [look.step for look in looks]
    if not steps or any(later <= earlier for earlier, later in zip(steps, steps[1:], strict=False)):
        raise ValueError(f"The steps are {steps}; give one look or more, each of a later step than the one before.")
    view = StepsView(original, looks, trivial, seconds)
    samples = len(original.spectrogram) * audio.HOP
    peak = float(audio.to_waveform(original.spectrogram[None], ROUNDS, samples)[0].abs().max())
    louder = LOUDEST / peak if peak > 1e-6 else 1.0

    def show(number: int) -> Shown:
        look = looks[number]
        said = [
            f"{title} {error:.2f} (best trivial answer {bar:.2f}, {'beaten' if error < bar else 'not beaten'})"
            for title, error, bar in zip(("sound", "pictures"), (look.audio_mse, look.video_mse), trivial, strict=True)
        ]
        waveform = (louder * audio.to_waveform(look.spectrogram[None], ROUNDS, samples)[0]).clamp(-1, 1)
        sentence = f"After {look.step} steps. Error on held-out clips: {'; '.join(said)}."
        return Shown(sentence, view.png(look), player(waveform, f"After {look.step} steps"))

    number = choice({f"{step} steps": i for i, step in enumerate(steps)}, first, "Trained for")

    def move(by: int) -> None:
        number.value = min(max(number.value + by, 0), len(steps) - 1)

    return Explorer({"number": number}, show, {"◀ earlier": lambda: move(-1), "later ▶": lambda: move(1)})
