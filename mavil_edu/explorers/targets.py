"""The targets explorer: what a place of a clip is to be predicted as, in stage 1 and in stage 2, and what else it is like."""

from collections.abc import Mapping

import torch
from einops import rearrange
from ipywidgets import BoundedIntText, Layout
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn.functional import normalize

from mavil_edu.config import AudioConfig
from mavil_edu.display import player
from mavil_edu.explorers.widgets import Explorer, Shown, choice
from mavil_edu.figures import INK, _array, _axes, _limits
from mavil_edu.overlay import Overlay

NEAREST = 10  # places in other clips
LOUDEST = 0.5  # what a sound's loudest sample is brought to
MARK = "#00e5ff"


class TargetsView:
    """A spectrogram with a place marked, and for each kind of target how alike the clip's other places are to it."""

    def __init__(self, config: AudioConfig, kinds: list[str]):
        figure, axes = _axes(8.8, 2.6, 1, 1 + len(kinds))
        self._config, (times, pitches) = config, config.grid
        for ax, title in zip(axes[0], ("the clip's sound", *kinds), strict=True):
            ax.set(xlim=(0, times), ylim=(0, pitches), xticks=[], yticks=[])
            ax.set_title(title, fontsize=8, color=INK, loc="left")
            ax.set_xlabel("time →", fontsize=8, color=INK)
        axes[0, 0].set_ylabel("pitch →", fontsize=8, color=INK)
        self._axes, self._overlay = list(axes[0]), Overlay(figure)

    def png(self, spectrogram: Tensor, likeness: list[Tensor], time: int, pitch: int) -> bytes:
        """spectrogram: (frames, mel bins). likeness: of each kind (tokens,), cosines. time, pitch: the place that is marked."""
        times, pitches = self._config.grid
        whole, low_high = (0, times, 0, pitches), _limits(spectrogram)
        panels = [(spectrogram.T, "magma", low_high)]
        panels += [(rearrange(one, "(t f) -> f t", t=times), "cividis", (-1, 1)) for one in likeness]
        artists = []
        for ax, (values, colours, (low, high)) in zip(self._axes, panels, strict=True):
            image = ax.imshow(
                _array(values), origin="lower", extent=whole, aspect="auto", cmap=colours, vmin=low, vmax=high, interpolation="nearest"
            )
            mark = ax.add_patch(Rectangle((time, pitch), 1, 1, fill=False, edgecolor=MARK, linewidth=1.6))
            artists += [image, mark]
        return self._overlay.png(artists)


def targets_explorer(
    targets: Mapping[str, Tensor],
    spectrograms: Tensor,
    waveforms: Tensor,
    labels: list[str],
    config: AudioConfig,
    clip: int = 0,
    time: int = 0,
) -> Explorer:
    """Choose a place of a sound: which places are like it, by each kind of target, in its own clip and in the others.

    targets: kind -> (n, tokens, values), what a student of each stage has to predict at every place. Each place's mean over the clips is
    taken off first, for what all clips share at a place tells nothing. spectrograms: (n, frames, mel bins). waveforms: (n, samples) in
    [−1, 1], 16 kHz. labels: each clip's class, of which the ten nearest places in other clips are asked. clip, time: what is chosen first.
    Raises ValueError where these are not of as many clips, fewer than three, or of another size than the config's.
    """
    n, tokens = len(labels), config.tokens
    sizes = {len(spectrograms), len(waveforms), n, *(len(one) for one in targets.values())}
    if len(sizes) > 1 or n < 3 or any(one.shape[1] != tokens for one in targets.values()):
        raise ValueError(
            f"There are {sorted(sizes)} clips; give targets, spectrograms, waveforms and labels of as many, with {tokens} places each."
        )
    unit = {kind: normalize((one - one.mean(dim=0)).float(), dim=-1) for kind, one in targets.items()}
    classes = torch.tensor([sorted(set(labels)).index(label) for label in labels])
    (times, pitches), view = config.grid, TargetsView(config, list(targets))

    def show(clip: int, time: int, pitch: int) -> Shown:
        place, alike, told = time * pitches + pitch, [], []
        others = classes == classes[clip]
        chance = (float(others.sum()) - 1) / (n - 1)
        for kind, vectors in unit.items():
            cosines = vectors @ vectors[clip, place]  # (n, tokens)
            alike.append(cosines[clip])
            foreign = cosines.clone()
            foreign[clip] = -2
            nearest = foreign.flatten().topk(NEAREST).indices // tokens
            told.append(f"{kind}: {int(others[nearest].sum())} of {NEAREST}")
        sentence = (
            f"Clip {clip} ({labels[clip]}), time {time}, pitch {pitch}. Of the {NEAREST} places most like it in other clips, so many are "
            f"of a clip that is {labels[clip]}, too (by chance {NEAREST * chance:.1f}): {'; '.join(told)}."
        )
        sound = waveforms[clip] * (LOUDEST / waveforms[clip].abs().max().clamp(min=1e-6))
        return Shown(sentence, view.png(spectrograms[clip], alike, time, pitch), player(sound, f"The sound of clip {clip}, made louder"))

    narrow = Layout(width="11em")
    controls = {
        "clip": BoundedIntText(value=clip, min=0, max=n - 1, description="Clip", layout=narrow),
        "time": BoundedIntText(value=time, min=0, max=times - 1, description="Time", layout=narrow),
        "pitch": choice({str(f): f for f in range(pitches)}, 0, "Pitch"),
    }

    def move(name: str, step: int):
        def act() -> None:
            controls[name].value += step  # the field itself keeps to its limits

        return act

    return Explorer(controls, show, {"◀ earlier": move("time", -1), "later ▶": move("time", 1), "next clip": move("clip", 1)})
