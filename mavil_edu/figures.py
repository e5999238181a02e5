"""Pictures, drawn from tensors alone, each with the sentence that says what it shows; nothing here knows the model."""

import base64
import html
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, repeat
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

PAPER, INK, GRID, HIDDEN = "#e9ebee", "#1f2430", "#b9bec7", "#9aa0ab"  # opaque and light: reads on a dark page and on a white one
BLUE, ORANGE, GREEN = "#0b62a4", "#c2570c", "#1b7a4b"  # told apart by colour-blind readers
TRACE = "#868d99"  # a curve in the background
DPI = 100


@dataclass(frozen=True)
class Picture:
    """A figure and its sentence; shows itself in a notebook with alt text, caption and a plain-text twin."""

    figure: Figure
    sentence: str

    def png(self) -> bytes:
        """The picture in 256 colours, which take fewer bytes; the same bytes each time."""
        full, small = io.BytesIO(), io.BytesIO()
        self.figure.savefig(full, format="png", dpi=DPI, facecolor=PAPER)
        Image.open(full).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
        return small.getvalue()

    def save(self, path: str | Path) -> Path:
        """Writes the PNG, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(self.png())
        os.replace(temporary, path)
        return path

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": image_html(self.png(), self.sentence), "text/plain": self.sentence}


def image_html(png: bytes, sentence: str) -> str:
    """A PNG as `<figure>` with alt text and caption, everything inline."""
    data, text = base64.b64encode(png).decode(), html.escape(sentence)
    return (
        f'<figure style="margin:0"><img alt="{text}" style="max-width:100%" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _array(tensor: Tensor) -> np.ndarray:
    """A tensor's numbers, wherever it lies and whether or not it has a gradient."""
    return tensor.detach().cpu().numpy()


def _axes(width: float, height: float, rows: int = 1, columns: int = 1, layout: str | None = "constrained", **options):
    figure = Figure(figsize=(width, height), facecolor=PAPER, layout=layout)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for ax in axes.flat:
        ax.set_facecolor(PAPER)
        ax.tick_params(colors=INK, labelsize=8)
        for spine in ax.spines.values():
            spine.set_color(GRID)
    return figure, axes


def mel_frequency(bins: int, sample_rate: int = 16_000) -> np.ndarray:
    """The middle of each mel band in Hz, from 20 Hz to half the sample rate, on Kaldi's mel scale."""
    low, high = (1127 * np.log(1 + f / 700) for f in (20, sample_rate / 2))
    return 700 * (np.exp((low + (high - low) * (np.arange(bins) + 1) / (bins + 1)) / 1127) - 1)


def _peak_hz(spectrogram: Tensor) -> int:
    return int(round(mel_frequency(spectrogram.shape[1])[int(spectrogram.exp().mean(dim=0).argmax())], -1))


def _draw_spectrogram(ax, spectrogram: Tensor, seconds: float, limits: tuple[float, float], hidden: Tensor | None = None) -> None:
    """hidden: (frames, mel bins) bool, drawn grey."""
    values = np.ma.masked_array(_array(spectrogram.T), mask=False if hidden is None else _array(hidden.T))
    ax.set_facecolor(HIDDEN)
    bins = spectrogram.shape[1]
    ax.imshow(
        values,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=limits[0],
        vmax=limits[1],
        extent=(0, seconds, 0, bins),
        interpolation="nearest",
    )
    hertz = mel_frequency(bins)
    places = [int(np.abs(hertz - f).argmin()) for f in (250, 1000, 4000)]
    ax.set_yticks([p + 0.5 for p in places], ["250 Hz", "1 kHz", "4 kHz"])


def _limits(spectrogram: Tensor) -> tuple[float, float]:
    """The range of the colours; frames whose bands are all alike are padding or digital silence, and do not set it."""
    values = _array(spectrogram)
    sounding = values[np.ptp(values, axis=1) > 0]
    low, high = np.quantile(sounding if len(sounding) else values, (0.02, 0.998))
    return float(low), float(max(high, low + 1e-3))


def hidden_cells(mask: Tensor, grid: tuple[int, int], patch: tuple[int, int]) -> Tensor:
    """A token mask (tokens,) as a mask of the spectrogram's values (frames, mel bins)."""
    return repeat(mask, "(t f) -> (t pt) (f pf)", t=grid[0], f=grid[1], pt=patch[0], pf=patch[1])


def spectrogram_panels(panels: dict[str, Tensor], seconds: float, hidden: dict[str, Tensor] | None = None) -> Picture:
    """Log-mel spectrograms above one another on one colour scale.

    panels: title -> (frames, mel bins). hidden: title -> (frames, mel bins) bool, True where a panel is drawn grey.
    """
    hidden = hidden or {}
    first = next(iter(panels.values()))
    figure, axes = _axes(7.2, 0.4 + 1.35 * len(panels), len(panels), sharex=True)
    for ax, (title, spectrogram) in zip(axes[:, 0], panels.items(), strict=True):
        _draw_spectrogram(ax, spectrogram, seconds, _limits(first), hidden.get(title))
        ax.set_title(title, fontsize=9, color=INK, loc="left")
    axes[-1, 0].set_xlabel("seconds", fontsize=8, color=INK)
    parts = []
    for title, spectrogram in panels.items():
        share = "" if title not in hidden else f", {100 * hidden[title].float().mean():.0f} % hidden"
        parts.append(f"{title} (loudest band near {_peak_hz(spectrogram)} Hz{share})")
    return Picture(figure, f"Spectrogram, {first.shape[0]} × {first.shape[1]} over {seconds:g} s: {'; '.join(parts)}.")


def frame_panels(panels: dict[str, Tensor], seconds: float) -> Picture:
    """Filmstrips above one another: title -> (t, height, width, 3) uint8."""
    first = next(iter(panels.values()))
    figure, axes = _axes(7.2, 0.25 + 1.12 * len(panels), len(panels))
    for ax, (title, frames) in zip(axes[:, 0], panels.items(), strict=True):
        _draw_strip(ax, frames)
        ax.set_title(title, fontsize=9, color=INK, loc="left")
    parts = [f"{title} (mean brightness {frames.float().mean() / 2.55:.0f} %)" for title, frames in panels.items()]
    t, height, width = first.shape[:3]
    return Picture(figure, f"Filmstrip, {t} frames of {width} × {height} over {seconds:g} s: {'; '.join(parts)}.")


def _draw_strip(ax, frames: Tensor) -> None:
    padded = torch.nn.functional.pad(frames, (0, 0, 1, 1, 1, 1), value=233)
    ax.imshow(_array(rearrange(padded, "t h w c -> h (t w) c")), interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])


def reconstruction(
    frames: dict[str, Tensor], spectrograms: dict[str, Tensor], hidden: Tensor, seconds: float, hidden_frames: float, borrowed: bool
) -> Picture:
    """One clip's original, masked, reconstructed and completed frames and spectrograms, side by side.

    frames, spectrograms: title -> tensor, the same titles in the same order, the second of them the masked one.
    hidden: (frames, mel bins) bool. hidden_frames: share of the video patches that is hidden.
    borrowed: the pictures use the hidden patches' own mean and std, which the caption then says.
    """
    titles = list(frames)
    figure, axes = _axes(12.0, 0.4 + 1.4 * len(titles), len(titles), 2, width_ratios=[1.35, 1])
    original = spectrograms[titles[0]]
    for row, title in zip(axes, titles, strict=True):
        _draw_strip(row[0], frames[title])
        row[0].set_title(title, fontsize=10, color=INK, loc="left")
        _draw_spectrogram(row[1], spectrograms[title], seconds, _limits(original), hidden if title == titles[1] else None)
        if title != titles[-1]:
            row[1].set_xticklabels([])
    axes[-1, 1].set_xlabel("seconds", fontsize=8, color=INK)
    error = ""  # with nothing hidden there is none
    if bool(hidden.any()):
        error = f"; there the reconstruction is off by {float((spectrograms[titles[2]] - original).abs()[hidden].mean()):.1f} log-mel units"
        error += " on average"
    how = "using the hidden patches' own mean and std" if borrowed else "nothing borrowed from the hidden patches"
    sentence = (
        f"Frames (left) and spectrogram (right) of {seconds:g} s: {', '.join(titles)}. {100 * hidden_frames:.0f} % of the picture and "
        f"{100 * hidden.float().mean():.0f} % of the sound hidden{error}; {how}."
    )
    return Picture(figure, sentence)


def _named_answers(rows: list[dict], name: str) -> dict[str, float]:
    """The trivial answers that stand in the rows by their own names, "audio_mse_constant_vector_trivial" say, the lowest first."""
    found = {}
    for key, value in (rows[-1] if rows else {}).items():
        if key.startswith(f"{name}_") and key.endswith("_trivial") and key != f"{name}_trivial":
            found[key.removeprefix(f"{name}_").removesuffix("_trivial").replace("_", " ")] = value
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def curves(rows: list[dict], terms: dict[str, str]) -> Picture:
    """Each loss over the steps, in training and on held-out clips, each with its own trivial answer dashed.

    InfoNCE's trivial answer, log B, differs where held-out clips are compared in other numbers than a training batch holds. In stage 2
    the constant vector and the position mean have a line each.

    rows: of metrics.jsonl. terms: name in the rows -> title; names that no row has are left out.
    """
    terms = {name: title for name, title in terms.items() if any(row.get(name) is not None for row in rows)}
    figure, axes = _axes(2.9 * max(len(terms), 1), 2.7, 1, max(len(terms), 1))
    parts = []
    for ax, (name, title) in zip(axes[0], terms.items(), strict=False):
        bars = {}  # trivial answer -> what it is the answer of
        named = _named_answers(rows, name)
        for held_out, colour, width in ((False, TRACE, 0.8), (True, BLUE, 1.8)):
            chosen = [r for r in rows if bool(r.get("held_out")) == held_out and r.get(name) is not None]
            if not chosen:
                continue
            label = "held-out clips" if held_out else "training"
            steps, values = [r["step"] for r in chosen], [r[name] for r in chosen]
            ax.plot(steps, values, color=colour, linewidth=width, label=label, marker="o", markersize=3 * held_out, zorder=2 + held_out)
            last, trivial = values[-1], chosen[-1].get(f"{name}_trivial")
            if trivial is not None and not named:
                bars.setdefault(round(trivial, 6), []).append(label)
        for place, of in bars.items():
            shared = len(bars) == 1
            label = "best trivial answer" if shared else f"trivial answer, {of[0]}"
            ax.axhline(place, color=ORANGE, linestyle="--" if shared or of[0] != "training" else ":", linewidth=1.4, label=label, zorder=4)
        for (label, place), line in zip(named.items(), ("--", ":"), strict=False):
            ax.axhline(place, color=ORANGE, linestyle=line, linewidth=1.4, label=label, zorder=4)
        ax.set_title(title, fontsize=9, color=INK)
        ax.set_xlabel("step", fontsize=8, color=INK)
        ax.grid(color=GRID, linewidth=0.4)
        beside = ", ".join(f"{label} {place:.2f}" for label, place in named.items())
        beside = beside or (trivial is not None and f"trivial {trivial:.2f}")
        parts.append(f"{title} {last:.2f}" + (f" ({beside})" if beside else ""))
    if not terms:
        return Picture(figure, "No losses were written.")
    lines = {line.get_label(): line for ax in axes[0] for line in ax.get_lines()}  # one legend below all, where it hides no curve
    figure.legend(
        lines.values(),
        lines,
        loc="outside lower center",
        ncols=min(len(lines), len(terms) * 3 // 2),
        fontsize=7,
        frameon=False,
        labelcolor=INK,
    )
    return Picture(figure, f"Losses after {max(r['step'] for r in rows)} steps: {'; '.join(parts)}.")


def similarity(matrix: Tensor, rows: str = "sound", columns: str = "picture", limits: tuple[float, float] | None = None) -> Picture:
    """A similarity matrix (i, j), square, whose diagonal holds the true pairs.

    limits: the values of the darkest and the brightest colour; by default the matrix's own. Raises ValueError for other shapes.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"A similarity matrix is square, row i and column i from one clip; this one is {tuple(matrix.shape)}.")
    matrix = matrix.detach().cpu()
    figure, axes = _axes(4.4, 3.6)
    image = axes[0, 0].imshow(matrix.numpy(), cmap="cividis", interpolation="nearest", clim=limits)
    figure.colorbar(image, ax=axes[0, 0]).ax.tick_params(colors=INK, labelsize=8)
    axes[0, 0].set_xlabel(f"{columns} of clip", fontsize=8, color=INK)
    axes[0, 0].set_ylabel(f"{rows} of clip", fontsize=8, color=INK)
    first = int((matrix.argmax(dim=1) == torch.arange(len(matrix))).sum())
    return Picture(figure, f"Similarity of {len(matrix)} {rows}s and {matrix.shape[1]} {columns}s: {first} of {len(matrix)} {rows}s are "
                           f"most like their own {columns}; by chance it would be 1.")  # fmt: skip


def patch_grid(spectrogram: Tensor, patch: tuple[int, int], seconds: float, hidden: Tensor | None = None) -> Picture:
    """A spectrogram (frames, mel bins) cut into its patches by lines, the hidden ones grey."""
    figure, axes = _axes(7.2, 2.4)
    _draw_spectrogram(axes[0, 0], spectrogram, seconds, _limits(spectrogram), hidden)
    frames, bins = spectrogram.shape
    for t in range(0, frames + 1, patch[0]):
        axes[0, 0].axvline(t / frames * seconds, color=PAPER, linewidth=0.8)
    for f in range(0, bins + 1, patch[1]):
        axes[0, 0].axhline(f, color=PAPER, linewidth=0.8)
    axes[0, 0].set_xlabel("seconds", fontsize=8, color=INK)
    count = (frames // patch[0]) * (bins // patch[1])
    covered = 0 if hidden is None else round(float(hidden.float().mean()) * count)
    sentence = f"Spectrogram, {frames} × {bins} over {seconds:g} s, loudest band near {_peak_hz(spectrogram)} Hz, cut into {count} patches"
    return Picture(figure, f"{sentence} of {patch[0]} × {patch[1]}; {covered} of {count} hidden.")


def waveform(samples: Tensor, sample_rate: int = 16_000) -> Picture:
    """A sound (samples,) in [−1, 1] over time; between two pixels the lowest and the highest value are drawn."""
    values = _array(samples)
    if not len(values):
        raise ValueError("The sound has no samples; there is nothing to draw.")
    seconds, columns = len(values) / sample_rate, min(len(values), 700)
    parts = np.array_split(values, columns)
    figure, axes = _axes(7.2, 1.7)
    times = (np.arange(columns) + 0.5) * seconds / columns
    axes[0, 0].fill_between(times, [p.min() for p in parts], [p.max() for p in parts], color=BLUE, linewidth=0.6, edgecolor=BLUE)
    axes[0, 0].set_xlim(0, seconds)
    axes[0, 0].set_ylim(-1.05, 1.05)
    axes[0, 0].set_xlabel("seconds", fontsize=8, color=INK)
    axes[0, 0].grid(color=GRID, linewidth=0.4)
    loudest = int(np.abs(values).argmax())
    peak = f"peak {abs(values[loudest]):.2f} of 1 at {loudest / sample_rate:.2f} s" if values.any() else "silent throughout"
    return Picture(figure, f"Waveform, {len(values)} samples over {seconds:.2f} s, {peak}.")


def mask_grid(mask: Tensor, grid: tuple[int, ...]) -> Picture:
    """A token mask (tokens,), True = hidden, on its grid: (time, pitch) of a sound, or (time, down, across) of a video."""
    cells = _array(mask).reshape(grid)
    panels = [cells.T] if len(grid) == 2 else list(cells)
    figure, axes = _axes(1.9 * max(len(panels), 2), 2.2, 1, len(panels))
    for number, (ax, cell) in enumerate(zip(axes[0], panels, strict=True)):
        ax.pcolormesh(cell, cmap=ListedColormap([BLUE, HIDDEN]), vmin=0, vmax=1, edgecolors=PAPER, linewidth=1.2)
        ax.set_aspect("equal")
        ax.set_xticks([])
        ax.set_yticks([])
        if len(grid) == 3:
            ax.invert_yaxis()  # row 0 of a picture is on top; of a spectrogram, below
            ax.set_title(f"time patch {number + 1}", fontsize=9, color=INK)
        else:
            ax.set_xlabel("time patches", fontsize=8, color=INK)
            ax.set_ylabel("pitch patches", fontsize=8, color=INK)
    size = " × ".join(map(str, grid))
    return Picture(figure, f"Mask, {size} patches: {int(cells.sum())} of {cells.size} hidden (grey), the others visible (blue).")


def variations(cells: dict[str, list[tuple[str, Tensor, Tensor]]], seconds: float) -> Picture:
    """One cause a row, one of its values a cell: a frame, and the spectrogram below it.

    cells: by the cause's name, its values as (caption, frame (height, width, 3) uint8, spectrogram (frames, mel bins)).
    """
    columns = max(len(row) for row in cells.values())
    figure, axes = _axes(1.45 * columns, 2.2 * len(cells), 2 * len(cells), columns, height_ratios=[1.35, 1] * len(cells))
    limits = _limits(torch.cat([spectrogram for row in cells.values() for _, _, spectrogram in row]))
    for ax in axes.flat:
        ax.axis("off")
    for row, (name, values) in enumerate(cells.items()):
        for column, (caption, frame, spectrogram) in enumerate(values):
            above, below = axes[2 * row, column], axes[2 * row + 1, column]
            above.imshow(_array(frame))
            if column == 0:
                above.set_title(f"{name}: {caption}", color=INK, fontsize=8, loc="left")
            else:
                above.set_title(caption, color=INK, fontsize=8)
            _draw_spectrogram(below, spectrogram, seconds, limits)
            below.set(xlabel="", ylabel="")
    names = ", ".join(cells)
    return Picture(
        figure, f"One generated clip of which one cause a row is varied alone: {names}. A frame, and the log-mel spectrogram below."
    )


def _draw_masked_strip(ax, frames: Tensor, hidden: Tensor) -> None:
    """frames: (t, height, width, 3) uint8. hidden: (t, height, width) bool, drawn grey."""
    grey = torch.tensor([int(HIDDEN[i : i + 2], 16) for i in (1, 3, 5)], dtype=torch.uint8)
    gap = max(1, frames.shape[2] // 40)
    shown = torch.nn.functional.pad(torch.where(hidden[..., None], grey, frames), (0, 0, gap, gap), value=233)
    ax.imshow(_array(rearrange(shown, "t h w c -> h (t w) c")), interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])


def masking(
    spectrogram: Tensor,
    frames: Tensor,
    audio_masks: dict[str, dict[float, Tensor]],
    video_masks: dict[str, dict[float, Tensor]],
    audio_grid: tuple[int, int],
    video_grid: tuple[int, int, int],
    seconds: float,
) -> Picture:
    """Masking strategies on one clip: a strategy a row, a ratio a column, what is hidden grey, and how many patches that is.

    spectrogram: (frames, mel bins). frames: (t, height, width, 3) uint8, one for each time patch. audio_masks, video_masks: by the
    strategy's name and the ratio, (tokens,) bool, the same ratios everywhere. seconds: of the spectrogram.
    """
    rows = [("sound", name, masks) for name, masks in audio_masks.items()] + [("picture", name, m) for name, m in video_masks.items()]
    ratios = list(rows[0][2])
    (bins, height, width), limits, counts = (spectrogram.shape[1], *frames.shape[1:3]), _limits(spectrogram), []
    cell = 3.1  # inches across
    tall = cell / len(frames) * height / width  # a strip of square pixels fills its cell
    heights = [1.0 if side == "sound" else tall for side, _, _ in rows]
    figure, axes = _axes(
        0.5 + cell * len(ratios), 0.5 + sum(heights) + 0.3 * len(rows), len(rows), len(ratios), height_ratios=[h + 0.05 for h in heights]
    )
    for line, (side, name, masks) in zip(axes, rows, strict=True):
        for ax, (ratio, mask) in zip(line, masks.items(), strict=True):
            if side == "sound":
                patch = (len(spectrogram) // audio_grid[0], bins // audio_grid[1])
                _draw_spectrogram(ax, spectrogram, seconds, limits, hidden_cells(mask, audio_grid, patch))
                ax.set_xticks([])
                if ax is not line[0]:
                    ax.set_yticks([])
            else:
                t, h, w = video_grid
                _draw_masked_strip(ax, frames, repeat(mask, "(t h w) -> t (h ph) (w pw)", t=t, h=h, w=w, ph=height // h, pw=width // w))
            hidden = int(mask.sum())
            counts.append((side, name, ratio, hidden, len(mask)))
            ax.set_title(f"{name}, {ratio:g}: {hidden} of {len(mask)} hidden", fontsize=9, color=INK, loc="left")
    parts = [
        f"{name} " + ", ".join(f"{hidden} of {tokens} at {ratio:g}" for s, n, ratio, hidden, tokens in counts if (s, n) == (side, name))
        for side, name, _ in rows
    ]
    split = len(audio_masks)
    sentence = (
        f"Masking strategies on one clip, what is hidden grey. Sound, {' × '.join(map(str, audio_grid))} patches (time × pitch) over "
        f"{seconds:g} s: {'; '.join(parts[:split])}. Picture, {' × '.join(map(str, video_grid))} patches (time × down × across), "
        f"a frame for each time patch: {'; '.join(parts[split:])}."
    )
    return Picture(figure, sentence)
