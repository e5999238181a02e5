"""Drawings that explain one step of a lesson, in the manner of `figures.py`: from tensors alone, each with its sentence."""

from typing import Literal

import matplotlib
import numpy as np
import torch
from einops import rearrange
from matplotlib.patches import Rectangle
from torch import Tensor

from mavil_edu.figures import (
    BLUE,
    GREEN,
    GRID,
    INK,
    ORANGE,
    PAPER,
    TRACE,
    Picture,
    _array,
    _axes,
    _draw_spectrogram,
    _limits,
    mel_frequency,
)
from mavil_edu.overlay import Overlay

COLOURS = (BLUE, ORANGE, GREEN, INK, TRACE)
STYLES = ("-", "--", "-.", ":", "-")
MARK = "#00e5ff"  # stands out from every colour of a spectrogram


def lines(curves: dict[str, tuple[Tensor, Tensor]], x: str, y: str, log: bool | Literal["x"] = False) -> Picture:
    """Curves in one pair of axes.

    curves: title -> (places along x, values), each (n,). x, y: what the axes hold, with the unit. log: both axes logarithmic, or x alone.
    Raises ValueError where there is no curve, or where a curve's two tensors differ in length.
    """
    if not curves:
        raise ValueError("There is no curve to draw; give one or more.")
    figure, axes = _axes(7.2, 2.4)
    ax, parts = axes[0, 0], []
    for number, (title, (places, values)) in enumerate(curves.items()):
        if len(places) != len(values):
            raise ValueError(f"{title}: {len(places)} places and {len(values)} values; give as many of one as of the other.")
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
        ax.plot(_array(places), _array(values), color=colour, linestyle=style, linewidth=1.3, label=title)
        highest = int(torch.as_tensor(values).argmax())
        parts.append(f"{title} from {float(values.min()):.2g} to {float(values.max()):.2g}, highest at {float(places[highest]):.3g}")
    if log:
        ax.set_xscale("log")
    if log is True:
        ax.set_yscale("log")
    elif not log and not any(torch.as_tensor(places).is_floating_point() for places, _ in curves.values()):
        ax.xaxis.get_major_locator().set_params(integer=True)  # there is no step 2½
    ax.set_xlabel(x, fontsize=8, color=INK)
    ax.set_ylabel(y, fontsize=8, color=INK)
    ax.grid(color=GRID, linewidth=0.4)
    if len(curves) <= len(COLOURS):
        ax.legend(fontsize=7, facecolor=PAPER, edgecolor=GRID, labelcolor=INK)
    shown = parts if len(parts) <= len(COLOURS) else [parts[0], f"{len(parts) - 2} more", parts[-1]]
    return Picture(figure, f"{y} against {x}: {'; '.join(shown)}.")


def stacked(rows: dict[str, dict[str, float]], x: str, shares: bool = False) -> Picture:
    """Bars made of parts, one below another.

    rows: title -> the parts of its bar by name, 0 or more each; a name has the same colour in all. x: what the bars hold, with the unit.
    shares: each bar is brought to 100 %. Raises ValueError where there is no bar, or more names than colours.
    """
    names = list(dict.fromkeys(name for parts in rows.values() for name in parts))
    if not names or len(names) > len(COLOURS):
        raise ValueError(f"There are {len(names)} parts to draw; give 1 to {len(COLOURS)}.")
    figure, axes = _axes(7.2, 0.9 + 0.38 * len(rows))
    ax, told = axes[0, 0], []
    for place, (title, parts) in enumerate(rows.items()):
        left, whole = 0.0, sum(parts.values())
        for name, value in parts.items():
            width = 100 * value / whole if shares and whole else value
            label = name if name not in ax.get_legend_handles_labels()[1] else None
            ax.barh(place, width, left=left, height=0.62, color=COLOURS[names.index(name)], edgecolor=PAPER, linewidth=0.8, label=label)
            left += width
        said = [f"{name} {100 * value / whole:.0f} %" if shares and whole else f"{name} {value:.2g}" for name, value in parts.items()]
        told.append(f"{title}: {', '.join(said)}")
    ax.set_yticks(range(len(rows)), rows)
    ax.invert_yaxis()
    ax.set_xlabel(x, fontsize=8, color=INK)
    ax.grid(color=GRID, linewidth=0.4, axis="x")
    ax.set_axisbelow(True)
    figure.legend(
        *ax.get_legend_handles_labels(), loc="outside upper left", ncols=len(names), fontsize=7, facecolor=PAPER, edgecolor=GRID,
        labelcolor=INK,
    )  # fmt: skip
    return Picture(figure, f"{x}. {'; '.join(told)}.")


def maps(panels: dict[str, Tensor], x: tuple[str, float, float], y: tuple[str, float, float]) -> Picture:
    """Tables of numbers as colours beside one another, on one scale.

    panels: title -> (rows, columns), row 0 below. x, y: (what the axis holds, its first value, its last).
    """
    figure, axes = _axes(7.2, 2.5, 1, len(panels), sharey=True)
    low = min(float(values.min()) for values in panels.values())
    high = max(float(values.max()) for values in panels.values())
    parts = []
    for ax, (title, values) in zip(axes[0], panels.items(), strict=True):
        ax.imshow(
            _array(values),
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=low,
            vmax=high,
            extent=(*x[1:], *y[1:]),
            interpolation="nearest",
        )
        ax.set_title(title, fontsize=9, color=INK)
        ax.set_xlabel(x[0], fontsize=8, color=INK)
        bright = (values > (low + high) / 2).float().mean()
        parts.append(f"{title}, {values.shape[0]} × {values.shape[1]}, {100 * bright:.0f} % bright")
    axes[0, 0].set_ylabel(y[0], fontsize=8, color=INK)
    return Picture(figure, f"Maps of {y[0]} over {x[0]}: {'; '.join(parts)} (above the middle of the scale).")


def similar_places(similarity: Tensor, place: tuple[int, int, int]) -> Picture:
    """How similar each place of a video's grid is to one of them: (t, h, w), one panel for each time, the place ringed."""
    t, h, w = similarity.shape
    figure, axes = _axes(1.8 * t, 2.1, 1, t)
    for number, (ax, values) in enumerate(zip(axes[0], similarity, strict=True)):
        ax.imshow(_array(values), cmap="cividis", vmin=float(similarity.min()), vmax=float(similarity.max()), interpolation="nearest")
        ax.set_title(f"time patch {number}", fontsize=9, color=INK)
        ax.set_xticks([])
        ax.set_yticks([])
    axes[0, place[0]].plot(place[2], place[1], "o", markersize=11, markerfacecolor="none", markeredgecolor=ORANGE, markeredgewidth=2)
    row, column = (place[1] + 1) % h, (place[2] + 1) % w
    said = {
        "itself": similarity[place],
        "one place across": similarity[place[0], place[1], column],
        "one place down": similarity[place[0], row, place[2]],
        "one step in time": similarity[(place[0] + 1) % t, place[1], place[2]],
        "the least similar": similarity.min(),
    }
    words = ", ".join(f"{name} {float(value):.2f}" for name, value in said.items())
    return Picture(figure, f"Similarity of {t} × {h} × {w} places to place {place}: {words}.")


def tubelets(frames: Tensor, patch: tuple[int, int, int], chosen: dict[str, int]) -> Picture:
    """A filmstrip with some tubelets marked, and below it what each of them holds, enlarged.

    frames: (t, height, width, 3) uint8. patch: (frames, rows, columns) of a tubelet. chosen: title -> token, in the order (t h w).
    """
    t, height, width = frames.shape[:3]
    pt, ph, pw = patch
    rows, columns = height // ph, width // pw
    figure, axes = _axes(7.4, 1.3 + 1.5, 2, 1, height_ratios=[1, 1.35])
    strip, below = axes[0, 0], axes[1, 0]
    padded = torch.nn.functional.pad(frames, (0, 0, 1, 1, 1, 1), value=233)
    strip.imshow(_array(rearrange(padded, "t h w c -> h (t w) c")), interpolation="nearest")
    parts, left = [], 0.0
    below.set_xlim(0, 8.6)
    below.set_ylim(-0.32, 1.12)
    for title, token in chosen.items():
        time, row, column = token // (rows * columns), token // columns % rows, token % columns
        cut = frames[time * pt : (time + 1) * pt, row * ph : (row + 1) * ph, column * pw : (column + 1) * pw]
        for number in range(pt):
            corner = (time * pt + number) * (width + 2) + 0.5 + column * pw
            strip.add_patch(Rectangle((corner, row * ph + 0.5), pw, ph, fill=False, edgecolor=ORANGE, linewidth=1.6))
            below.imshow(_array(cut[number]), extent=(left, left + 1, 0, 1), interpolation="nearest")
            left += 1.08
        below.text(left - 1.08 * pt, -0.26, f"{title} (token {token})", fontsize=8, color=INK)
        change = (cut[1:].float() - cut[:-1].float()).abs().mean() / 2.55 if pt > 1 else torch.tensor(0.0)
        parts.append(f"{title}: token {token} at (t {time}, h {row}, w {column}), mean change between its frames {float(change):.0f} %")
        left += 0.5
    below.set_xlim(0, max(8.6, left))
    below.set_ylim(-0.32, 1.05)
    below.set_aspect("equal", adjustable="box", anchor="W")
    for ax in (strip, below):
        ax.set_xticks([])
        ax.set_yticks([])
    for spine in below.spines.values():
        spine.set_visible(False)
    return Picture(figure, f"{t} frames of {width} × {height} with tubelets of {pt} × {ph} × {pw} marked: {'; '.join(parts)}.")


class PatchView:
    """A spectrogram on which one patch is marked, and beside it that patch among its neighbours, drawn quickly again and again.

    Everything that stays is drawn once; `png` lays the mark and the enlarged part over it (some 20 ms instead of 300).
    """

    def __init__(self, log_mel: Tensor, patch: tuple[int, int], seconds: float):
        """log_mel: (frames, mel bins), cut into whole patches of `patch` (frames, bins). Raises ValueError where it cannot be."""
        if log_mel.ndim != 2 or log_mel.shape[0] % patch[0] or log_mel.shape[1] % patch[1] or not log_mel.numel():
            raise ValueError(f"A log-mel of shape {tuple(log_mel.shape)} cannot be cut into patches of {patch[0]} × {patch[1]}.")
        self.patch, self.seconds, self.log_mel = patch, seconds, log_mel.detach().cpu()
        self.grid = (log_mel.shape[0] // patch[0], log_mel.shape[1] // patch[1])
        self._hertz = mel_frequency(log_mel.shape[1])
        limits = _limits(self.log_mel)
        figure, axes = _axes(8.6, 2.5, 1, 2, width_ratios=[3, 1])
        self._whole, self._near = axes[0]
        _draw_spectrogram(self._whole, self.log_mel, seconds, limits)
        self._whole.set_xlabel("seconds", fontsize=8, color=INK)
        for t in range(1, self.grid[0]):
            self._whole.axvline(t * patch[0] / len(log_mel) * seconds, color=PAPER, linewidth=0.6)
        for f in range(1, self.grid[1]):
            self._whole.axhline(f * patch[1], color=PAPER, linewidth=0.6)
        self._near.set_title("the patch and its neighbours", fontsize=8, color=INK)
        self._near.set(xticks=[], yticks=[], xlim=(0, 3), ylim=(0, 3))
        self._overlay = Overlay(figure)
        low, high = limits
        colours = matplotlib.colormaps["magma"]
        self._coloured = colours(((self.log_mel.numpy().T - low) / (high - low)).clip(0, 1))[..., :3]

    def hertz(self, f: int) -> tuple[float, float]:
        """The middles of the lowest and the highest band of a frequency patch, in Hz."""
        first = f * self.patch[1]
        return float(self._hertz[first]), float(self._hertz[first + self.patch[1] - 1])

    def span(self, t: int) -> tuple[float, float]:
        """Where a time patch begins and ends, in seconds."""
        step = self.seconds / self.grid[0]
        return t * step, (t + 1) * step

    def sentence(self, t: int, f: int) -> str:
        """What is marked: the token's number, time, frequency, and how loud it is among all."""
        cells = rearrange(self.log_mel, "(t pt) (f pf) -> (t f) (pt pf)", t=self.grid[0], f=self.grid[1]).mean(dim=1)
        token, (start, stop), (low, high) = t * self.grid[1] + f, self.span(t), self.hertz(f)
        louder = round(100 * float((cells < cells[token]).float().mean()))
        return (
            f"Token {token} of {len(cells)}: time patch {t}, frequency patch {f}; {start:.2f} to {stop:.2f} s, {low:.0f} to {high:.0f} Hz; "
            f"louder than {louder} % of the tokens."
        )

    def png(self, t: int, f: int) -> bytes:
        """The picture with patch (t, f) marked. Raises ValueError where there is no such patch."""
        if not (0 <= t < self.grid[0] and 0 <= f < self.grid[1]):
            raise ValueError(f"There is no patch ({t}, {f}); the grid is {self.grid[0]} × {self.grid[1]}, counted from 0.")
        start, stop = self.span(t)
        marked = Rectangle((start, f * self.patch[1]), stop - start, self.patch[1], fill=False, edgecolor=MARK, linewidth=2.2)
        self._whole.add_patch(marked)
        near = np.full((3 * self.patch[1], 3 * self.patch[0], 3), 0.6)  # grey where the spectrogram has ended
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                tt, ff = t + across, f + down
                if 0 <= tt < self.grid[0] and 0 <= ff < self.grid[1]:
                    rows, columns = slice(*self._range(ff, 1)), slice(*self._range(tt, 0))
                    near[slice(*self._range(down + 1, 1)), slice(*self._range(across + 1, 0))] = self._coloured[rows, columns]
        image = self._near.imshow(near, origin="lower", extent=(0, 3, 0, 3), aspect="auto", interpolation="nearest")
        around = Rectangle((1, 1), 1, 1, fill=False, edgecolor=MARK, linewidth=2.2)
        self._near.add_patch(around)
        return self._overlay.png((marked, image, around))

    def _range(self, number: int, axis: int) -> tuple[int, int]:
        return number * self.patch[axis], (number + 1) * self.patch[axis]
