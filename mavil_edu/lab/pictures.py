"""The lab's pictures: a forest plot of every difference, one difference seed by seed, and loss curves to compare one's own with."""

import math
from collections.abc import Sequence
from textwrap import fill

from mavil_edu.figures import BLUE, GRID, INK, PAPER, Picture, _axes
from mavil_edu.lab.verdicts import Interval, Verdict

COLOURS = {"holds": "#1a7f5a", "does not hold": "#b4432f", "undecided": "#8a6d1f"}
MARKS = {"holds": "o", "does not hold": "X", "undecided": "D"}  # told by shape too, not by colour alone
LINES = ("#2b5fa8", "#b4432f", "#1a7f5a", "#8a6d1f", "#7a4fa0", "#4d5563")


def forest(claims: dict[str, dict], label: str = "") -> Picture:
    """A line for each difference that was run: mean and interval, in points of its metric, with 0 as no difference.

    claims: as `ledger.json` has them. label: a warning that stands on the picture. Raises ValueError where nothing was run.
    """
    lines = [(name, one) for name, claim in claims.items() for one in claim["differences"] if one.get("mean") is not None]
    if not lines:
        raise ValueError("No claim has been run yet, so there is nothing to draw.")
    figure, axes = _axes(11, 1.4 + 0.32 * len(lines))
    ax = axes[0, 0]
    widest = max(abs(value) for _, one in lines for value in (one["low"], one["high"], one["mean"]) if value is not None)
    for place, (_, one) in enumerate(lines):
        low = -2 * widest if one["low"] is None else one["low"]
        high = 2 * widest if one["high"] is None else one["high"]
        colour = COLOURS[one["verdict"]]
        ax.plot([low, high], [place, place], color=colour, lw=2 if one["decides"] else 1)
        face = colour if one["decides"] else PAPER
        ax.plot(one["mean"], place, MARKS[one["verdict"]], color=colour, markerfacecolor=face, markersize=6)
    ax.axvline(0, color=INK, lw=1)
    ax.set_xlim(-1.1 * widest - 1, 1.1 * widest + 1)
    ax.set_yticks(range(len(lines)), [fill(f"{name} · {one['what']}", 68) for name, one in lines], color=INK, fontsize=7)
    ax.invert_yaxis()
    ax.set_xlabel("difference, points of the metric; interval over seeds", color=INK)
    for verdict, colour in COLOURS.items():
        ax.plot([], [], MARKS[verdict], color=colour, label=verdict)
    ax.legend(loc="best", fontsize=7)
    if label:
        figure.suptitle(label, color=COLOURS["does not hold"], fontsize=9)
    held = sum(one["verdict"] == "holds" for _, one in lines)
    sentence = f"{label + ' ' if label else ''}Of {len(lines)} differences {held} hold; filled marks decide, hollow ones do not."
    return Picture(figure, sentence)


def seed_by_seed(more: Sequence[float], less: Sequence[float], found: Interval, verdict: Verdict, least: float, paired: bool) -> Picture:
    """Both sides of a difference by seed, joined where they are paired; and beside them the difference of each seed, with its interval.

    more, less: by seed, in points of the metric. least: the smallest difference of interest, drawn as a grey band about 0.
    """
    figure, axes = _axes(8.8, 2.6, 1, 2, layout=None, width_ratios=[3, 5])  # looking for room takes longer than drawing
    arms, points = axes[0]
    arms.set_position((0.05, 0.12, 0.3, 0.76))
    points.set_position((0.43, 0.12, 0.55, 0.76))
    seeds, colour = len(more), COLOURS[verdict]
    shown = [a - b for a, b in zip(more, less, strict=True)]
    for low, high in zip(less, more, strict=True):
        arms.plot([0, 1], [low, high], color=BLUE, linestyle="-" if paired else "none", linewidth=1, marker="o", markersize=4)
    arms.set(xlim=(-0.4, 1.4))
    arms.set_xticks([0, 1], ["taken off", "added"], color=INK, fontsize=7)
    points.axvspan(-least, least, color=GRID, alpha=0.6, linewidth=0)
    points.axvline(0, color=INK, linewidth=0.8)
    points.plot(shown, range(seeds), "o", color=BLUE, markersize=5)
    widest = max(map(abs, [*shown, 2 * least, *filter(math.isfinite, (found.low, found.high))])) * 1.15
    points.plot([max(found.low, -9 * widest), min(found.high, 9 * widest)], [seeds, seeds], color=colour, linewidth=3)
    points.plot([found.mean], [seeds], MARKS[verdict], color=colour, markersize=7)
    points.set(xlim=(-widest, widest), ylim=(seeds + 0.6, -0.6))
    points.set_yticks(range(seeds + 1), [*(f"seed {seed}" for seed in range(seeds)), "interval"], color=INK, fontsize=7)
    for ax, title in ((arms, "both sides, in points"), (points, "added less taken off; grey: too small to matter")):
        ax.set_title(title, color=INK, fontsize=8, loc="left")
    ends = f"{found.low:+.1f} to {found.high:+.1f}" if math.isfinite(found.low) else "endless"
    return Picture(figure, f"A difference over {seeds} seeds: mean {found.mean:+.1f}, interval {ends}: {verdict}.")


def loss_curves(rows: dict[str, dict[int, dict]], arms: tuple[str, ...], label: str = "") -> Picture:
    """Losses of held-out clips over steps for some arms, each the mean over seeds, with what no learning reaches, dashed.

    rows: by arm and seed. Raises ValueError where none of the arms has a curve.
    """
    shown = [name for name in arms if any("curve" in row for row in rows.get(name, {}).values())]
    if not shown:
        raise ValueError("None of the arms has been run yet, so there are no curves.")
    terms = {"audio": "sound, masked MSE", "video": "pictures, masked MSE", "inter": "between modalities, InfoNCE"}
    figure, axes = _axes(11, 3.6, columns=len(terms))
    for ax, (term, title) in zip(axes[0], terms.items(), strict=True):
        for colour, name in zip(LINES, shown, strict=False):
            curves = [row["curve"] for row in rows[name].values() if "curve" in row]
            steps = [point["step"] for point in curves[0]]
            if all(term in point for curve in curves for point in curve):
                means = [sum(curve[i][term] for curve in curves) / len(curves) for i in range(len(steps))]
                ax.plot(steps, means, color=colour, label=f"{name} ({len(curves)})")
        trivial = [row["trivial"][term] for row in rows[shown[0]].values() if "trivial" in row]
        ax.axhline(sum(trivial) / len(trivial), color=INK, ls="--", lw=1, label="trivial answer")
        ax.set_title(title, color=INK, fontsize=9)
        ax.set_xlabel("step", color=INK)
        ax.legend(fontsize=7)
    if label:
        figure.suptitle(label, color=COLOURS["does not hold"], fontsize=9)
    return Picture(figure, f"{label + ' ' if label else ''}Held-out losses of {', '.join(shown)}, beside their trivial answers.")
