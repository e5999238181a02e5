"""A control: each sound with the picture of another clip. What is learnt from such pairs needs no correspondence."""

import torch
from torch import Generator

from mavil_edu.data.batch import Clips, Labels, Sample, Skipped


def derangement(n: int, seed: int) -> list[int]:
    """A fixed order of n places in which none keeps its own. Raises ValueError for fewer than two."""
    if n < 2:
        raise ValueError("Pairs can be shuffled among two clips or more.")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    partner = [0] * n
    for here, there in zip(order, order[1:] + order[:1], strict=True):
        partner[here] = there
    return partner


class ShuffledPairs:
    """Clips whose pictures are exchanged, once and for all: clip i has its own sound and another clip's picture.

    It has no labels, since what is seen and what is heard are not of one kind. Raises ValueError for fewer than two clips.
    """

    def __init__(self, clips: Clips, seed: int = 0):
        self.clips, self.labels = clips, Labels()
        self.partner = derangement(len(clips), seed)

    def __len__(self) -> int:
        return len(self.clips)

    def name(self, index: int) -> str:
        return f"sound of {self.clips.name(index)}, picture of {self.clips.name(self.partner[index])}"

    def sample(self, index: int, generator: Generator | None) -> Sample | Skipped:
        """Clip `index`; skipped where either of its two clips gives nothing."""
        heard = self.clips.sample(index, generator)
        seen = self.clips.sample(self.partner[index], generator)
        for part in (heard, seen):
            if isinstance(part, Skipped):
                return part
        return heard._replace(frames=seen.frames, seen=seen.seen)
