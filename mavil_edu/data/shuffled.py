"""A control: clips whose sound comes with another clip's picture, so that nothing true can be learnt from their going together."""

from collections.abc import Sequence

import torch
from torch import Generator

from mavil_edu.data.batch import Clips, Labels, Sample, Skipped
from mavil_edu.data.loader import generator_for


def derangement(n: int, seed: int) -> list[int]:
    """An order of n things in which none stands in its own place; each such order is equally likely.

    Raises ValueError for fewer than two. Some 2.7 orders are drawn until one has no thing in its place.
    """
    if n < 2:
        raise ValueError(f"Pairs cannot be shuffled among {n} clips; give two or more.")
    generator, own = generator_for(seed, n), torch.arange(n)
    while True:
        order = torch.randperm(n, generator=generator)
        if not bool((order == own).any()):
            return order.tolist()


class ShuffledPairs:
    """Clips with the sound of clip i and the picture of another, always the same one; see `mavil_edu.data.batch.Clips`.

    A model that is trained on them meets the same sounds and the same pictures as one trained on the clips themselves; what the latter
    knows beyond it, it owes to their belonging together. Each picture is used once. Pairs stay as they are over epochs, so they can be
    learnt by heart. There are no labels, for a clip of two halves has none. Each sample takes two samples of the clips, so drawing takes
    twice as long.
    """

    labels: Labels

    def __init__(self, clips: Clips, seed: int):
        self.clips, self.partners = clips, derangement(len(clips), seed)
        self.labels = {}

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def turns(self) -> Sequence[int] | None:
        """Those of the sounds' clips, where they have some; see `mavil_edu.data.batch.some_of`."""
        return getattr(self.clips, "turns", None)

    def name(self, index: int) -> str:
        return f"sound of {self.clips.name(index)}, picture of {self.clips.name(self.partners[index])}"

    def sample(self, index: int, generator: Generator | None) -> Sample | Skipped:
        """The sound of clip `index` and its partner's picture, each window drawn for itself; skipped where either clip is."""
        heard = self.clips.sample(index, generator)
        if isinstance(heard, Skipped):
            return heard
        seen = self.clips.sample(self.partners[index], generator)
        return seen if isinstance(seen, Skipped) else heard._replace(frames=seen.frames, seen=seen.seen)
