"""Explorers: controls on top of pictures and sounds. Core ipywidgets, driven by traits; each shows the same without a kernel.

The controls are number fields and buttons, because ipywidgets ties a name to those: the handle of its slider has none, and a screen
reader would say "slider" and nothing else. All of them work by keyboard.
"""

import html
import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import NamedTuple

import torch
from ipywidgets import HTML, BoundedIntText, Button, HBox, Layout, ToggleButtons, VBox
from ipywidgets.widgets.valuewidget import ValueWidget
from torch import Tensor
from torch.nn.functional import pad

from mavil_edu import audio
from mavil_edu.config import AudioConfig
from mavil_edu.diagrams import PatchView
from mavil_edu.display import Player, player
from mavil_edu.figures import image_html

AROUND = 4  # frames of silence before and after a patch that is played alone
PEAK = 0.4  # what the loudest sample of a patch is brought to
ROUNDS = 24  # of Griffin-Lim: a third of the usual, so that a choice is heard at once


def choice(options: Mapping[str, object] | Iterable[str], value: object, description: str) -> ToggleButtons:
    """One of several, by a row of buttons: Tab and Enter. `.value` is the option's value, or its text where options have none.

    A drop-down list takes less room, but JupyterLab takes its keys: an arrow goes to the next cell, and `d` twice deletes the cell.
    """
    tooltips = [f"{description}: {text}" for text in options]
    layout, style = Layout(width="auto"), {"button_width": "auto"}
    return ToggleButtons(options=options, value=value, description=description, tooltips=tooltips, layout=layout, style=style)


class Shown(NamedTuple):
    """What an explorer shows for one choice."""

    sentence: str
    png: bytes
    sound: Player | None = None


class Explorer(VBox):
    """Controls, a line that says what they chose, a picture and a player; every choice is computed once and kept."""

    def __init__(
        self, controls: Mapping[str, ValueWidget], show: Callable[..., Shown], buttons: Mapping[str, Callable[[], None]] | None = None
    ):
        """controls: name -> widget, whose values are handed to `show` under these names. show: the choice -> what is shown, in under
        150 ms. buttons: text -> what a click does (it sets the value of a control)."""
        self.controls = dict(controls)
        self._show = cache(show)
        self.said, self.picture, self.sound = HTML(), HTML(), HTML()
        self.buttons = {text: Button(description=text, layout=Layout(width="auto")) for text in buttons or {}}
        for text, button in self.buttons.items():
            button.on_click(lambda _, act=buttons[text]: act())
        for control in self.controls.values():
            control.style.description_width = "initial"
            control.observe(self._renew, "value")
        wrap = Layout(flex_flow="row wrap")
        rows = [HBox(list(self.controls.values()), layout=wrap), HBox(list(self.buttons.values()), layout=wrap)]
        super().__init__([*rows, self.picture, self.said, self.sound])
        self._renew()

    @property
    def shown(self) -> Shown:
        """What stands on the page now."""
        return self._show(**{name: control.value for name, control in self.controls.items()})

    def _renew(self, change=None) -> None:
        shown = self.shown
        text = html.escape(shown.sentence)
        self.picture.value = _image(shown)
        # A new live region is only read out as an alert; aria-live makes it wait for its turn.
        self.said.value = f'<p role="alert" aria-live="polite" style="margin:0">{text}</p>'
        self.sound.value = shown.sound.html if shown.sound else ""

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        """The widget; and for pages without a kernel its picture, player and sentence."""
        shown = self.shown
        sound, said = (shown.sound.html, f" {shown.sound.sentence}") if shown.sound else ("", "")
        bundle = super()._repr_mimebundle_(include=include, exclude=exclude)
        return bundle | {"text/html": image_html(shown.png, shown.sentence) + sound, "text/plain": shown.sentence + said}


def _image(shown: Shown) -> str:
    """The picture without a caption: the line that is read out says the same."""
    return image_html(shown.png, shown.sentence).partition("<figcaption>")[0] + "</figure>"


# ------------------------------------------------------------------------------------------------------------------- tokens


def patch_sound(log_mel: Tensor, frames: slice, bins: slice) -> tuple[Tensor, float]:
    """Some patches of a spectrogram as sound, all else silent: (samples,) with its peak at 0.4, and by how many dB it was raised.

    log_mel: (frames, mel bins), natural logarithm of power; a frame whose bands are all alike is padding, and is not played.
    A part without any sound stays silent, raised by 0 dB.
    """
    here = log_mel[frames]
    alone = torch.full_like(here, audio.FLOOR)
    alone[:, bins] = here[:, bins].masked_fill(here.amax(1, keepdim=True) == here.amin(1, keepdim=True), audio.FLOOR)
    waveform = audio.to_waveform(pad(alone, (0, 0, AROUND, AROUND), value=audio.FLOOR)[None], ROUNDS)[0]
    peak = float(waveform.abs().max())
    if peak < 1e-6:
        return torch.zeros_like(waveform), 0.0
    return waveform * (PEAK / peak), 20 * math.log10(PEAK / peak)


HEAR = {"this patch alone": 0, "with its neighbours": 1}


def tokens_explorer(log_mel: Tensor, config: AudioConfig, t: int = 0, f: int = 0) -> Explorer:
    """Choose a patch of a spectrogram: see it among its neighbours, hear it alone.

    log_mel: (config.frames, config.mel_bins), from `audio.to_log_mel`. t, f: the patch that is chosen first.
    Raises ValueError where the spectrogram is not of the config's size.
    """
    if tuple(log_mel.shape) != (config.frames, config.mel_bins):
        raise ValueError(f"The log-mel has shape {tuple(log_mel.shape)}; this config's is ({config.frames}, {config.mel_bins}).")
    patch = (config.patch_frames, config.patch_bins)
    view = PatchView(log_mel, patch, config.frames * audio.HOP / 16_000)
    times, pitches = config.grid

    def show(time: int, frequency: int, hear: int) -> Shown:
        part = [slice(max(n - hear, 0) * size, (n + 1 + hear) * size) for n, size in zip((time, frequency), patch, strict=True)]
        waveform, raised = patch_sound(view.log_mel, *part)
        what = "with its neighbours" if hear else "alone"
        louder = f", played {abs(raised):.0f} dB {'louder' if raised > 0 else 'softer'}" if raised else ""
        caption = f"Token {time * pitches + frequency} {what}{louder}"
        return Shown(view.sentence(time, frequency), view.png(time, frequency), player(waveform, caption))

    narrow = Layout(width="15em")
    controls = {
        "time": BoundedIntText(value=t, min=0, max=times - 1, description="Time patch", layout=narrow),
        "frequency": BoundedIntText(value=f, min=0, max=pitches - 1, description="Frequency patch", layout=narrow),
        "hear": choice(HEAR, 0, "Hear"),
    }

    def move(name: str, step: int) -> Callable[[], None]:
        def act() -> None:
            controls[name].value += step  # the field itself keeps to its limits

        return act

    buttons = {
        "◀ earlier": move("time", -1),
        "later ▶": move("time", 1),
        "▲ higher": move("frequency", 1),
        "▼ lower": move("frequency", -1),
    }
    return Explorer(controls, show, buttons)
