"""Metrics on held-out clips: masked reconstruction against its trivial answers, and what retrieval needs."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from einops import einsum
from torch import Tensor

from mavil_edu.config import ModelConfig, ObjectiveConfig
from mavil_edu.data.batch import Batch, Clips, Inputs, Sample, Skipped, collate, to_inputs
from mavil_edu.losses import token_answers, trivial_answers
from mavil_edu.mavil import Losses, Masks, MAViL, Targets, draw_masks, draw_second_masks, losses_of, patch_targets
from mavil_edu.progress import tracked
from mavil_edu.retrieval import retrieval

CHUNK = 64  # clips that are evaluated at once
MakeTargets = Callable[[Tensor, Tensor], Targets]  # of a batch's audio and video: `patch_targets` or a teacher's


class PositionMeans(NamedTuple):
    """The mean target of each position over training clips: what a model that ignores its input would answer at best."""

    audio: Tensor  # (n, values)
    video: Tensor  # (n, values)


def scored_patches(masks: Masks, inputs: Inputs, objective: ObjectiveConfig) -> tuple[Tensor, Tensor]:
    """The patches that the reconstruction losses count: hidden (or all), and content unless padding is scored too."""
    device = inputs.audio.device
    audio, video = (mask.to(device) | (objective.scored == "all") for mask in masks)
    if objective.score_padding:
        return audio, video
    return audio & inputs.audio_content, video & inputs.video_content


def input_chunks(batch: Batch, model: ModelConfig, device: torch.device) -> Iterator[tuple[slice, Inputs]]:
    for start in range(0, len(batch.waveform), CHUNK):
        rows = slice(start, start + CHUNK)
        yield rows, to_inputs(Batch(*(field[rows] for field in batch)).to(device), model)


def position_means(batch: Batch, model: ModelConfig, device: torch.device, make_targets: MakeTargets | None = None) -> PositionMeans:
    """The mean target of each position over a batch of training clips, padding left out.

    make_targets: in stage 2 the teacher's; by default the patches of the input.
    """
    make_targets, sums = make_targets or partial(patch_targets, config=model), []
    for _, inputs in input_chunks(batch, model, device):
        targets = make_targets(inputs.audio, inputs.video)
        for target, content in ((targets.audio, inputs.audio_content), (targets.video, inputs.video_content)):
            sums.append((einsum(target, content.float(), "b n values, b n -> n values"), content.sum(dim=0)))
    means = []
    for modality in (sums[0::2], sums[1::2]):
        total, counted = sum(s for s, _ in modality), sum(c for _, c in modality)
        means.append(total / counted.clamp(min=1)[:, None])
    return PositionMeans(*means)


class Reconstruction(NamedTuple):
    """How well one modality's hidden patches are predicted, and how well without learning."""

    masked_mse: float
    trivial: dict[str, float]  # by name

    def summary(self) -> dict:
        return {"masked_mse": self.masked_mse, "best_trivial_mse": min(self.trivial.values()), "trivial": self.trivial}


def _weighted(values: list[float], weights: list[int]) -> float:
    return sum(v * w for v, w in zip(values, weights, strict=True)) / max(sum(weights), 1)


class HeldOut:
    """Held-out clips under masks that stay the same, so that every look at them compares with the one before."""

    def __init__(
        self,
        batch: Batch,
        means: PositionMeans,
        model: ModelConfig,
        objective: ObjectiveConfig,
        seed: int = 0,
        make_targets: MakeTargets | None = None,
    ):
        """make_targets: in stage 2 the teacher's, and the one that `means` were made with; by default the patches of the input."""
        self.batch, self.means, self.model, self.objective = batch, means, model, objective
        self.make_targets = make_targets or partial(patch_targets, config=model)
        generator = torch.Generator().manual_seed(seed)
        self.masks = draw_masks(len(batch.waveform), model, objective, generator)
        self.second = draw_second_masks(len(batch.waveform), model, objective, generator)
        self.audio_trivial, self.video_trivial = self._trivial()

    def _views(self, rows: slice) -> tuple[Masks, Masks | None]:
        second = None if self.second is None else Masks(*(mask[rows] for mask in self.second))
        return Masks(*(mask[rows] for mask in self.masks)), second

    def _trivial(self) -> tuple[dict[str, float], dict[str, float]]:
        rows_of = {"audio": [], "video": []}
        for rows, inputs in input_chunks(self.batch, self.model, self.means.audio.device):
            masks, _ = self._views(rows)
            scored = scored_patches(masks, inputs, self.objective)
            targets = self.make_targets(inputs.audio, inputs.video)
            for name, mask, counted in zip(("audio", "video"), masks, scored, strict=True):
                target, mean = getattr(targets, name), getattr(self.means, name)
                if self.model.target == "teacher":
                    answers = token_answers(target, counted, mean)
                else:
                    answers = trivial_answers(target, mask.to(target.device), counted, getattr(self.model, name).grid, mean)
                rows_of[name].append((answers, int(counted.sum())))
        return tuple(
            {key: _weighted([a[key] for a, _ in chunks], [w for _, w in chunks]) for key in chunks[0][0]} for chunks in rows_of.values()
        )

    @torch.no_grad()
    def losses(self, model: MAViL) -> dict[str, float | None]:
        """Each loss term on the held-out clips; InfoNCE over chunks of 64 clips, so that log 64 is its trivial answer."""
        device = next(model.parameters()).device
        terms: dict[str, list[float]] = {name: [] for name in Losses._fields}
        weights: dict[str, list[int]] = {name: [] for name in Losses._fields}
        for rows, inputs in input_chunks(self.batch, self.model, device):
            masks, second = self._views(rows)
            audio_scored, video_scored = scored_patches(masks, inputs, self.objective)
            output = model(inputs.audio, inputs.video, masks, second)
            losses = losses_of(output, self.make_targets(inputs.audio, inputs.video), audio_scored, video_scored, self.objective)
            counts = {"audio": int(audio_scored.sum()), "video": int(video_scored.sum())}
            for name, value in losses._asdict().items():
                full = name in counts or len(inputs.audio) == min(CHUNK, len(self.batch.waveform))
                if value is not None and full:
                    terms[name].append(float(value))
                    weights[name].append(counts.get(name, len(inputs.audio)))
        return {name: _weighted(values, weights[name]) if values else None for name, values in terms.items()}

    def summary(self, model: MAViL) -> dict:
        """The reconstruction and retrieval parts of a run's `summary.json`."""
        losses = self.losses(model)
        return {
            "audio": Reconstruction(losses["audio"], self.audio_trivial).summary(),
            "video": Reconstruction(losses["video"], self.video_trivial).summary(),
            "retrieval": retrieval(*embed(model, self.batch)),
            "target": self.model.target,
        }


@torch.no_grad()
def embed(model: MAViL, batch: Batch) -> tuple[Tensor, Tensor]:
    """The audio and video projections of complete clips: two times (b, e), of length 1."""
    device = next(model.parameters()).device
    encoded = [model.encode(inputs.audio, inputs.video) for _, inputs in input_chunks(batch, model.config, device)]
    return torch.cat([e.audio_projection for e in encoded]), torch.cat([e.video_projection for e in encoded])


class EmbeddedClips(NamedTuple):
    """The projections of a data set's clips, and which clips they are."""

    audio: Tensor  # (n, e), of length 1, on the CPU
    video: Tensor  # (n, e)
    numbers: list[int]  # of the clips, one a row
    skipped: list[Skipped]


def embed_clips(model: MAViL, clips: Clips) -> EmbeddedClips:
    """The projections of every clip's middle window; only 64 clips are held at once, so that there may be any number of them.

    Raises ValueError where no clip gives a sample.
    """
    audio, video, numbers, skipped = [], [], [], []
    starts = range(0, len(clips), CHUNK)
    for start in tracked(starts, f"embedding clips, by {CHUNK}", len(starts)) if len(starts) > 4 else starts:
        drawn = {i: clips.sample(i, None) for i in range(start, min(start + CHUNK, len(clips)))}
        kept = {i: sample for i, sample in drawn.items() if isinstance(sample, Sample)}
        skipped += [sample for sample in drawn.values() if isinstance(sample, Skipped)]
        if kept:
            sounds, pictures = embed(model, collate(list(kept.values())))
            audio.append(sounds.cpu())
            video.append(pictures.cpu())
            numbers += kept
    if not numbers:
        why = f" The first: {skipped[0].path}: {skipped[0].reason}" if skipped else ""
        raise ValueError(f"None of {len(clips)} clips gives a window with sound and picture.{why}")
    return EmbeddedClips(torch.cat(audio), torch.cat(video), numbers, skipped)
