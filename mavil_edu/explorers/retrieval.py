"""The retrieval explorer: pick a sound and see the videos that a model finds for it, or pick a picture and hear the sounds."""

import torch
from einops import rearrange
from ipywidgets import BoundedIntText, Layout
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn.functional import pad

from mavil_edu.display import Player, player, video_player
from mavil_edu.explorers.widgets import Explorer, Shown, choice
from mavil_edu.figures import GREEN, INK, _array, _axes
from mavil_edu.overlay import Overlay
from mavil_edu.retrieval import WAYS, similarities

ANSWERS = 4  # that are shown, the most similar first
LOUDEST = 0.5  # what a sound's loudest sample is brought to
ENLARGED = 96  # pixels that a film's side is brought to, or beyond


class AnswersView:
    """Filmstrips under one another, a line of text beside each; drawn quickly again and again."""

    def __init__(self, frames: Tensor):
        """frames: (n, t, height, width, 3) uint8, the pictures of each clip."""
        self._frames = pad(frames, (0, 0, 1, 1, 1, 1), value=233)
        _, t, self._height, width, _ = self._frames.shape
        figure, axes = _axes(8.8, 4.2, 1, 2, width_ratios=[1, 3.2])
        self._texts, self._strips = axes[0]
        for ax in axes[0]:
            ax.set(ylim=((ANSWERS + 1) * self._height - 0.5, -0.5), xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set_visible(False)
        self._width = t * width
        self._strips.set(xlim=(-0.5, self._width - 0.5))
        self._texts.set(xlim=(0, 1))
        self._overlay = Overlay(figure)

    def png(self, rows: list[tuple[int, str]], own: int) -> bytes:
        """The picture of these clips, each with its text; the own one's strip is framed."""
        artists = []
        for place, (clip, text) in enumerate(rows):
            top = place * self._height
            strip = rearrange(self._frames[clip], "t h w c -> h (t w) c")
            extent = (-0.5, self._width - 0.5, top + self._height - 0.5, top - 0.5)
            artists.append(self._strips.imshow(_array(strip), extent=extent, aspect="auto", interpolation="nearest"))
            artists.append(self._texts.text(0, top + self._height / 2, text, fontsize=8, color=INK, va="center"))
            if clip == own:
                corner = (0, top)
                frame = Rectangle(corner, self._width - 1.5, self._height - 1, fill=False, edgecolor=GREEN, linewidth=3)
                artists.append(self._strips.add_patch(frame))
        self._strips.set(xlim=(-0.5, self._width - 0.5), ylim=((ANSWERS + 1) * self._height - 0.5, -0.5))  # imshow moves them
        return self._overlay.png(artists)


def _louder(waveform: Tensor) -> Tensor:
    return waveform * (LOUDEST / waveform.abs().max().clamp(min=1e-6))


def retrieval_explorer(audio: Tensor, video: Tensor, waveforms: Tensor, frames: Tensor, frame_rate: float, clip: int = 0) -> Explorer:
    """Pick a clip's sound and see the films a model finds for it, or its film and hear the sounds; hear and watch any of the answers.

    audio, video: (n, e) embeddings, row i of both from clip i. waveforms: (n, samples) in [−1, 1], 16 kHz. frames: (n, t, height, width, 3)
    uint8, at `frame_rate` a second. clip: what is asked with first.
    Raises ValueError where the four are not of as many clips, or there are fewer than four.
    """
    counts = [len(audio), len(video), len(waveforms), len(frames)]
    if len(set(counts)) > 1 or counts[0] < ANSWERS:
        raise ValueError(
            f"There are {counts} sounds' and pictures' embeddings, waveforms and films; give as many of each, {ANSWERS} or more."
        )
    cosines, n, view = similarities(audio, video), counts[0], AnswersView(frames)
    table = {"audio_to_video": cosines, "video_to_audio": cosines.T}
    factor = -(-ENLARGED // min(frames.shape[2:4]))

    def film(one: int, caption: str) -> Player:
        large = frames[one].repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
        return video_player(large, frame_rate, _louder(waveforms[one]), caption)

    def show(clip: int, way: str, answer: int) -> Shown:
        row = table[way][clip]
        best = row.sort(descending=True, stable=True).indices[:ANSWERS].tolist()
        rank = int((row > row[clip]).sum()) + 1
        given, wanted = WAYS[way].split(" to ")
        rows = [(clip, f"clip {clip} asks (green: its own)")]
        rows += [(one, f"{place}. clip {one}, cosine {float(row[one]):.2f}") for place, one in enumerate(best, 1)]
        chosen = best[answer - 1]
        sentence = (
            f"Asked with the {given} of clip {clip}, the model puts its own {wanted} at place {rank} of {n} (chance {(n + 1) / 2:g}). "
            f"First come clips {', '.join(str(one) for one in best)}."
        )
        asked = player(_louder(waveforms[clip]), f"The sound of clip {clip}, made louder")
        found = film(chosen, f"Answer {answer}, clip {chosen}" + (", its own" if chosen == clip else ""))
        if way == "video_to_audio":
            asked, found = (
                film(clip, f"Clip {clip}, with its own sound"),
                player(_louder(waveforms[chosen]), f"Answer {answer}: clip {chosen}"),
            )
        return Shown(sentence, view.png(rows, clip), Player(asked.html + found.html, f"{asked.sentence} {found.sentence}"))

    controls = {
        "clip": BoundedIntText(value=clip, min=0, max=n - 1, description="Clip", layout=Layout(width="11em")),
        "way": choice({name: way for way, name in WAYS.items()}, "audio_to_video", "Ask"),
        "answer": choice({str(place): place for place in range(1, ANSWERS + 1)}, 1, "Play answer"),
    }

    def move(by: int) -> None:
        controls["clip"].value += by  # the field itself keeps to its limits

    def draw() -> None:
        controls["clip"].value = int(torch.randint(n, ()))

    return Explorer(controls, show, {"◀ before": lambda: move(-1), "next ▶": lambda: move(1), "any": draw})
