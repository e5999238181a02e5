"""The contrast explorer: which picture does a sound choose, and what does the temperature make of it; seen and heard."""

import math

import torch
from einops import rearrange
from ipywidgets import BoundedIntText, Layout
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn.functional import pad

from mavil_edu.display import player
from mavil_edu.explorers.widgets import Explorer, Shown, choice
from mavil_edu.figures import BLUE, GREEN, INK, PAPER, _array, _axes
from mavil_edu.overlay import Overlay
from mavil_edu.retrieval import similarities

TEMPERATURES = (0.01, 0.03, 0.1, 0.3, 1.0)
SHOWN = 4  # pictures beside the table
LOUDEST = 0.5  # what a sound's loudest sample is brought to
MARK = "#00e5ff"


class ContrastView:
    """A table of probabilities, one row of it as bars, and the pictures that the row likes best; drawn quickly again and again."""

    def __init__(self, frames: Tensor):
        """frames: (n, height, width, 3) uint8, a picture of each clip."""
        figure, axes = _axes(8.8, 3.1, 1, 3, width_ratios=[3, 3, 2.4])
        self._table, self._bars, self._pictures = axes[0]
        self._frames, n = pad(frames, (0, 0, 1, 1, 1, 1), value=233), len(frames)
        self._table.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5))
        self._table.set_xlabel("picture of clip", fontsize=8, color=INK)
        self._table.set_ylabel("sound of clip", fontsize=8, color=INK)
        self._bars.set(xlim=(-0.6, n - 0.4), ylim=(0, 1.02))
        self._bars.set_xlabel("picture of clip; green: its own", fontsize=8, color=INK)
        self._bars.axhline(1 / n, color=INK, linewidth=0.8, linestyle=":")
        for ax, title in zip(
            axes[0], ("probability (dark 0, bright 1)", "the chosen sound's row", "the pictures it likes best"), strict=True
        ):
            ax.set_title(title, fontsize=8, color=INK, loc="left")
        side = 2 * self._frames.shape[1]
        self._pictures.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5), xticks=[], yticks=[], aspect="equal")
        self._overlay = Overlay(figure)

    def png(self, probabilities: Tensor, clip: int) -> bytes:
        """The picture for a table (n, n) whose rows sum to 1, with this clip's row chosen."""
        n, row = len(probabilities), probabilities[clip]
        best = row.topk(min(SHOWN, n)).indices
        four = pad(self._frames[best], (0, 0, 0, 0, 0, 0, 0, SHOWN - len(best)), value=233)
        height = four.shape[1]
        artists = [
            self._table.imshow(_array(probabilities), cmap="cividis", vmin=0, vmax=1, interpolation="nearest", aspect="auto"),
            self._table.add_patch(Rectangle((-0.5, clip - 0.5), n, 1, fill=False, edgecolor=MARK, linewidth=1.4)),
            *self._bars.bar(range(n), _array(row), color=[GREEN if place == clip else BLUE for place in range(n)]),
            self._pictures.imshow(_array(rearrange(four, "(r c) h w k -> (r h) (c w) k", r=2)), interpolation="nearest"),
        ]
        for place, chosen in enumerate(best.tolist()):
            corner = (place % 2 * height - 0.5, place // 2 * height - 0.5)
            if chosen == clip:
                artists.append(self._pictures.add_patch(Rectangle(corner, height, height, fill=False, edgecolor=GREEN, linewidth=3)))
            label = f"{chosen}: {100 * float(row[chosen]):.0f} %"
            text = self._pictures.text(corner[0] + 2, corner[1] + 4, label, fontsize=7, color=INK, va="top")
            text.set_bbox({"facecolor": PAPER, "edgecolor": "none", "pad": 1})
            artists.append(text)
        return self._overlay.png(artists)


def contrast_explorer(audio: Tensor, video: Tensor, waveforms: Tensor, frames: Tensor, clip: int = 0, temperature: float = 0.1) -> Explorer:
    """Choose a sound and a temperature: see how probable each picture is as its partner, hear the sound, see what it likes best.

    audio, video: (n, e) embeddings, row i of both from clip i. waveforms: (n, samples) in [−1, 1], 16 kHz. frames: (n, height, width, 3)
    uint8, a picture of each clip. clip, temperature: what is chosen first; the temperature is one of TEMPERATURES.
    Raises ValueError where the four are not of as many clips, or there are fewer than two.
    """
    counts = [len(audio), len(video), len(waveforms), len(frames)]
    if len(set(counts)) > 1 or counts[0] < 2:
        raise ValueError(f"There are {counts} sounds' and pictures' embeddings, waveforms and frames; give as many of each, two or more.")
    cosines, n, view = similarities(audio, video), counts[0], ContrastView(frames)

    def show(clip: int, temperature: float) -> Shown:
        scores = cosines / temperature
        probabilities, losses = scores.softmax(dim=1), 0.0 - scores.log_softmax(dim=1).diagonal()
        row = cosines[clip]
        place, first = int((row > row[clip]).sum()) + 1, int((cosines.argmax(dim=1) == torch.arange(n)).sum())
        share, loss, batch = float(probabilities[clip, clip]), float(losses[clip]), float(losses.mean())
        sentence = (
            f"Temperature {temperature:g}. The sound of clip {clip} gives its own picture {100 * share:.0f} % (even: {100 / n:.0f} %), "
            f"place {place} of {n}; its loss is {loss:.2f}, the batch's {batch:.2f} (knowing nothing: {math.log(n):.2f}). "
            f"{first} of {n} sounds like their own picture best, at any temperature."
        )
        sound = waveforms[clip] * (LOUDEST / waveforms[clip].abs().max().clamp(min=1e-6))
        return Shown(sentence, view.png(probabilities, clip), player(sound, f"The sound of clip {clip}, made louder"))

    controls = {
        "clip": BoundedIntText(value=clip, min=0, max=n - 1, description="Sound of clip", layout=Layout(width="13em")),
        "temperature": choice({f"{t:g}": t for t in TEMPERATURES}, temperature, "Temperature"),
    }

    def move(by: int) -> None:
        controls["clip"].value += by  # the field itself keeps to its limits

    return Explorer(controls, show, {"◀ before": lambda: move(-1), "next ▶": lambda: move(1)})
