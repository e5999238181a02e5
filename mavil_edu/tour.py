"""A tour of the generated world: one clip, of which each cause is varied alone, to be seen and heard."""

import html
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mavil_edu import audio, figures
from mavil_edu.config import AudioConfig
from mavil_edu.data.factors import AMBIENCES, BACKGROUNDS, LONGEST_FLIGHT, MATERIALS, SHORTEST_FLIGHT, Factors, sample_factors
from mavil_edu.data.world_picture import render_video
from mavil_edu.data.world_sound import render_audio
from mavil_edu.display import video_player
from mavil_edu.files import check_new, write_text

SECONDS, SIZE, RATE = 2.56, 96, 25
STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 66rem; padding: 0 1rem }
.row { display: flex; flex-wrap: wrap; gap: .8rem } .row figure { max-width: 9.5rem } figcaption { font-size: .8rem; opacity: .85 }
"""


def _starting_clip(seed: int) -> Factors:
    """A clip with a soft, steady background sound in a dry room, in the middle of everything else."""
    clip = sample_factors(1, seed, SECONDS)
    middle = {name: torch.zeros_like(getattr(clip, name)) for name in ("ambience", "room", "gain", "lamp", "camera", "drift")}
    numbers = {"size": 0.4, "light": 1.0, "ambience_level": -48.0, "place": 0.5}
    return replace(clip, **middle, **{name: torch.full_like(getattr(clip, name), value) for name, value in numbers.items()})


def _series(clip: Factors, name: str, values: dict[str, object]) -> dict[str, Factors]:
    """The clip with one field set to each value, by caption."""
    old = getattr(clip, name)
    return {caption: replace(clip, **{name: torch.as_tensor(value, dtype=old.dtype).expand_as(old)}) for caption, value in values.items()}


def variations(seed: int = 3) -> dict[str, dict[str, Factors]]:
    """One clip again and again: for each cause, by name, the clip at some values of that cause, by caption, all else unchanged."""
    clip = _starting_clip(seed)

    def numbers(name: str, values: list[float], caption: Callable[[float], str] = "{:g}".format) -> dict[str, Factors]:
        return _series(clip, name, {caption(value): value for value in values})

    gaps = {"quick": SHORTEST_FLIGHT, "slow": LONGEST_FLIGHT, "mixed": ([0.42, 0.9, 0.5, 0.7] * 10)[: clip.gaps.shape[1]]}
    return {
        "material": _series(clip, "material", {name: i for i, name in enumerate(MATERIALS)}),
        "size": numbers("size", [0, 0.2, 0.4, 0.6, 0.8, 1]),
        "event": _series(clip, "struck", {"bouncing": False, "struck": True}),
        "rhythm": _series(clip, "gaps", gaps),
        "background": _series(clip, "background", {name: i for i, name in enumerate(BACKGROUNDS)}),
        "light": numbers("light", [0.75, 0.95, 1.15]),
        "lamp": _series(clip, "lamp", {"from the left": -1.0, "from the front": 0.0, "from the right": 1.0}),
        "camera": _series(clip, "camera", {"to the left": (-0.08, 0), "ahead": (0, 0), "to the right": (0.08, 0), "upwards": (0, -0.04)}),
        "place": numbers("place", [0.3, 0.5, 0.7]),
        "drift": numbers("drift", [-0.1, 0, 0.1]),
        "ambience": _series(_series(clip, "ambience_level", {"": -36.0})[""], "ambience", {name: i for i, name in enumerate(AMBIENCES)}),
        "ambience level": numbers("ambience_level", [-52, -45, -38, -32], "{:g} dB".format),
        "room": numbers("room", [0, 0.33, 0.67, 1]),
        "gain": numbers("gain", [-12, -6, 0], "{:g} dB".format),
    }


KINDS = {
    "seen and heard": ("material", "size", "event", "rhythm"),
    "seen only": ("background", "light", "lamp", "camera", "place", "drift"),
    "heard only": ("ambience", "ambience level", "room", "gain"),
}


def _rendered(clip: Factors) -> tuple[Tensor, Tensor]:
    times = torch.arange(round(SECONDS * RATE), dtype=torch.float64) / RATE
    return render_video(clip, times, SIZE, SIZE)[0], render_audio(clip, SECONDS)[0]


def write_tour(out: Path, seed: int = 3) -> list[Path]:
    """Writes `tour.html`, where each variation plays, and `tour.png`, where all are seen; returns both paths.

    Raises ValueError where `out` is not new or empty: nothing is overwritten.
    """
    page, picture = out / "tour.html", out / "tour.png"
    check_new(out)
    config = AudioConfig(seconds=SECONDS, frames=256)
    cells: dict[str, list[tuple[str, Tensor, Tensor]]] = {}
    sections = []
    series = variations(seed)
    for kind, names in KINDS.items():
        sections.append(f"<h2>{kind[0].upper()}{kind[1:]}</h2>")
        for name in names:
            players, cells[name] = [], []
            for caption, clip in series[name].items():
                frames, waveform = _rendered(clip)
                cells[name].append((caption, frames[len(frames) * 4 // 5], audio.spectrogram(waveform[None], config)[0, 0]))
                players.append(video_player(frames, RATE, waveform, caption, width=144).html)
            sections.append(f'<h3>{html.escape(name)}</h3><div class="row">{"".join(players)}</div>')
    out.mkdir(parents=True, exist_ok=True)
    figures.variations(cells, SECONDS).save(picture)
    write_text(
        page,
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>The generated world</title><style>{STYLE}</style></head><body>'
        "<h1>The generated world, one cause at a time</h1><p>One clip again and again: in each row a single cause is varied, "
        f"and all else stays as it is.</p>{''.join(sections)}</body></html>\n",
    )
    return [page, picture]
