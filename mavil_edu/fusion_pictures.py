"""Drawings of where sound and picture meet: attention between them, where in the frames it falls, and what a partner is worth."""

import torch
from einops import rearrange, reduce, repeat
from matplotlib.colors import PowerNorm
from torch import Tensor

from mavil_edu.figures import BLUE, GREEN, GRID, INK, ORANGE, PAPER, TRACE, Picture, _array, _axes

COLOURS = (BLUE, GREEN, TRACE, INK)


def attention_table(attention: Tensor, audio: int) -> Picture:
    """One attention map over sound and picture tokens, cut into its four quarters.

    attention: (n, n), each query's row sums to 1; the first `audio` tokens are sound, the others picture, class tokens counted.
    Raises ValueError where the map is not square or has no tokens of one modality.
    """
    n = len(attention)
    if attention.ndim != 2 or attention.shape[1] != n or not 0 < audio < n:
        raise ValueError(f"Give a square map with tokens of both modalities; this one is {tuple(attention.shape)}, {audio} of sound.")
    figure, axes = _axes(4.4, 3.7)
    ax = axes[0, 0]
    values = _array(attention)
    image = ax.imshow(values, cmap="magma", norm=PowerNorm(0.5, vmin=0, vmax=float(values.max())), interpolation="nearest")
    figure.colorbar(image, ax=ax).ax.tick_params(colors=INK, labelsize=7)
    for line in (ax.axvline, ax.axhline):
        line(audio - 0.5, color=PAPER, linewidth=1.6)
    middles = ([audio / 2, audio + (n - audio) / 2], ["sound", "picture"])
    ax.set_xticks(*middles)
    ax.set_yticks(*middles, rotation=90, va="center")
    ax.set_xlabel("who answers (keys)", fontsize=8, color=INK)
    ax.set_ylabel("who asks (queries)", fontsize=8, color=INK)
    heard, seen = (float(rows[:, :audio].sum(dim=1).mean()) for rows in (attention[:audio], attention[audio:]))
    return Picture(
        figure,
        f"Attention of {n} tokens to each other, {audio} of sound and {n - audio} of picture: a sound token gives "
        f"{100 * (1 - heard):.0f} % of its attention to the picture, a picture token {100 * seen:.0f} % of its own to the sound.",
    )


def places_looked_at(frames: Tensor, maps: dict[str, Tensor]) -> Picture:
    """Attention laid over the frames, a map a row, above them the frames alone; no colour where it is even, orange where it is more.

    frames: (t, height, width, 3) uint8. maps: title -> (time patches, down, across), shares that sum to 1.
    Raises ValueError where the frames cannot be cut into a map's grid.
    """
    t, height, width = frames.shape[:3]
    figure, axes = _axes(7.2, 0.3 + 1.15 * (len(maps) + 1), len(maps) + 1)
    parts, first = [], next(iter(maps.values()))
    for shares in maps.values():
        if any(size % cells for size, cells in zip((t, height, width), shares.shape, strict=True)):
            raise ValueError(f"Frames of {t} × {height} × {width} cannot be cut into a grid of {' × '.join(map(str, shares.shape))}.")
    shown = frames[t // first.shape[0] // 2 :: t // first.shape[0]].float() / 255  # one frame for each time patch
    grey = repeat(reduce(shown, "t h w c -> t h w", "mean"), "t h w -> t h w c", c=3)
    orange = torch.tensor([int(ORANGE[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    strips = {"the frames, one for each time patch": shown}
    for title, shares in maps.items():
        more = (shares * shares.numel() - 1).clamp(0, 1)  # 0 where the share is even or less, 1 from twice as much on
        down, across = height // shares.shape[1], width // shares.shape[2]
        cover = repeat(more, "t h w -> t (h ph) (w pw) 1", ph=down, pw=across)
        strips[title] = 0.75 * grey * (1 - 0.85 * cover) + 0.85 * cover * orange
        place = [int(i) for i in torch.unravel_index(shares.argmax(), shares.shape)]
        times = float(shares.max()) * shares.numel()
        parts.append(f"{title} most at (t {place[0]}, h {place[1]}, w {place[2]}), {times:.1f} times an even share")
    for ax, (title, strip) in zip(axes[:, 0], strips.items(), strict=True):
        padded = torch.nn.functional.pad(strip, (0, 0, 1, 1, 1, 1), value=0.91)
        ax.imshow(_array(rearrange(padded, "t h w c -> h (t w) c").clamp(0, 1)), interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.set_title(title, fontsize=9, color=INK, loc="left")
    return Picture(figure, f"Where in {shown.shape[0]} frames of {width} × {height} attention falls: {'; '.join(parts)}.")


def worth_of_a_partner(errors: dict[str, dict[str, float]], bars: dict[str, dict[str, float]], percents: bool = True) -> Picture:
    """Errors under several partners as columns, group by group, and the answers without a model as lines across each group.

    errors: group -> {partner: error}. bars: group -> {answer: error}, for the same groups.
    The sentence gives whole percents of each group's first line; with percents=False only who is below it and who is not, for
    a model trained on the spot, whose last digits differ from machine to machine.
    """
    figure, axes = _axes(7.2, 2.6, 1, len(errors))
    parts = []
    for ax, (group, found) in zip(axes[0], errors.items(), strict=True):
        lines = bars[group]
        for place, error in enumerate(found.values()):
            ax.bar(place, error, width=0.6, color=COLOURS[place % len(COLOURS)])
            ax.text(place, error / 5, f"{error:.2f}", ha="center", va="center", fontsize=9, color="white")
        for style, (answer, error) in zip(("--", ":", "-."), lines.items(), strict=False):
            ax.axhline(error, color=ORANGE, linestyle=style, linewidth=1.5, label=answer)
        ax.set_xticks(range(len(found)), list(found), fontsize=8)
        ax.set_ylim(0, 1.35 * max(*found.values(), *lines.values()))
        ax.set_title(group, fontsize=9, color=INK)
        ax.legend(fontsize=7, facecolor=PAPER, edgecolor=GRID, labelcolor=INK, loc="upper right", ncols=2)
        name, trivial = next(iter(lines.items()))
        if not percents:
            below = [partner for partner, error in found.items() if error < trivial]
            above = [partner for partner in found if partner not in below]
            parts.append(f"{group}: below {name}: {', '.join(below) or 'none'}; not below: {', '.join(above) or 'none'}")
            continue
        others = {answer: error for answer, error in lines.items() if answer != name}
        told = ", ".join(f"{whose} {100 * error / trivial:.0f} %" for whose, error in {**found, **others}.items())
        parts.append(f"{group}: {told} (of {name}'s error)")
    return Picture(figure, f"Errors with each partner. {'; '.join(parts)}.")
