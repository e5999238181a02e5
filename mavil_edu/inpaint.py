"""In-painting across modalities: most or all of one modality is hidden and told from the other, scored beside what needs no partner.

Four ways to fill the same hidden patches stand beside one another: with the clip's own partner (its sound, for a picture), with
another clip's, with none, and without a model. Only the difference between the first and the others is what crosses modalities.
"""

from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mavil_edu.config import ObjectiveConfig
from mavil_edu.data.batch import Batch, Inputs
from mavil_edu.evaluate import PositionMeans, input_chunks, scored_patches
from mavil_edu.localise import mean_and_interval
from mavil_edu.losses import mean_plus_residual, nearest_visible
from mavil_edu.mavil import Masks, MAViL, draw_masks, patch_targets

Modality = Literal["audio", "video"]
PARTNER: dict[str, Modality] = {"audio": "video", "video": "audio"}
WORDS = {"audio": "sound", "video": "picture"}
PARTNERS = {
    "own": "with its own {partner}",
    "another's": "with another clip's {partner}",
    "none": "from the same modality alone",
}


class Filled(NamedTuple):
    """The error of each clip's hidden patches, by what they were filled from: (b,) mean squared error in the space of the target."""

    partners: dict[str, Tensor]  # "own", "another's", "none"
    trivial: dict[str, Tensor]  # "position mean", "nearest visible", "mean plus residual"; the second only where something is visible


def hiding(modality: Modality, ratio: float = 1.0, partner_ratio: float = 0.0) -> ObjectiveConfig:
    """The masks of in-painting: `ratio` of a modality hidden at random, `partner_ratio` of the other. Padding is not scored.

    Raises ValueError for another modality, or a ratio that hides nothing or lies outside [0, 1].
    """
    if modality not in PARTNER:
        raise ValueError(f"There is no modality {modality!r}; choose audio (the sound is hidden) or video (the picture).")
    if not 0 < ratio <= 1:
        raise ValueError(f"The hidden share is {ratio}; it must be above 0, and 1 at most.")
    ratios = {f"{modality}_ratio": ratio, f"{PARTNER[modality]}_ratio": partner_ratio}
    return replace(ObjectiveConfig(score_padding=False), **ratios)


def with_partner(inputs: Inputs, others: Inputs, masks: Masks, modality: Modality, partner: str) -> tuple[Inputs, Masks]:
    """The clips as they are given for one of PARTNERS: "own" as they are, "another's" with the other clips' partner, "none" with none.

    inputs, others: b clips each. masks: b rows, of which those of `modality` never change; "none" hides all of the partner, whose class
    token, which has not seen anything, still enters the fusion [O].
    """
    other = PARTNER[modality]
    if partner == "another's":
        return inputs._replace(**{other: getattr(others, other)}), masks
    if partner == "none":
        return inputs, masks._replace(**{other: torch.ones_like(getattr(masks, other))})
    return inputs, masks


def next_clips(batch: Batch) -> Batch:
    """Each clip replaced by the one after it, the last by the first: the strangers."""
    return Batch(*(field.roll(-1, dims=0) for field in batch))


def _clip_errors(prediction: Tensor, target: Tensor, scored: Tensor) -> Tensor:
    """(b, n, values) twice and (b, n) bool -> (b,), NaN for a clip of which nothing is scored."""
    error = (prediction.float() - target.float()).square().mean(dim=-1)
    return (error * scored).sum(dim=1) / scored.sum(dim=1)


@torch.no_grad()
def fill(model: MAViL, batch: Batch, means: PositionMeans, modality: Modality, objective: ObjectiveConfig, seed: int = 0) -> Filled:
    """Fills the hidden patches of a batch of two clips or more, from each partner and without a model; the same masks throughout.

    means: of training clips (`evaluate.position_means`), made with the same target. objective: from `hiding`.
    Raises ValueError for a model whose target is a teacher's tokens, and for fewer than two clips.
    """
    config, grid = model.config, getattr(model.config, modality).grid
    if config.target == "teacher":
        raise ValueError("This model predicts its teacher's tokens, which are no pictures and no sounds; take a model of stage 1.")
    if len(batch.waveform) < 2:
        raise ValueError("In-painting needs two clips or more: one clip has no other's sound or picture to be compared with.")
    device = next(model.parameters()).device
    everywhere = draw_masks(len(batch.waveform), config, objective, torch.Generator().manual_seed(seed))
    partners: dict[str, list[Tensor]] = {name: [] for name in PARTNERS}
    trivial: dict[str, list[Tensor]] = {}
    pairs = zip(input_chunks(batch, config, device), input_chunks(next_clips(batch), config, device), strict=True)
    for (rows, inputs), (_, others) in pairs:
        masks = Masks(*(mask[rows].to(device) for mask in everywhere))
        scored = dict(zip(("audio", "video"), scored_patches(masks, inputs, objective), strict=True))[modality]
        mask, mean = getattr(masks, modality), getattr(means, modality)
        target = getattr(patch_targets(inputs.audio, inputs.video, config), modality)
        for name, errors in partners.items():
            given, shown = with_partner(inputs, others, masks, modality, name)
            errors.append(_clip_errors(getattr(model(given.audio, given.video, shown), modality).patches, target, scored))
        answers = {"position mean": mean.expand_as(target), "mean plus residual": mean_plus_residual(target, mask, grid, mean)}
        if not bool(mask.all()):
            answers["nearest visible"] = nearest_visible(target, mask, grid)
        for name, answer in answers.items():
            trivial.setdefault(name, []).append(_clip_errors(answer, target, scored))
    return Filled(*({name: torch.cat(parts).cpu() for name, parts in side.items()} for side in (partners, trivial)))


def _relative(difference: Tensor, to: Tensor) -> dict[str, float]:
    """A paired difference in per cent of a mean, with its 95 % interval over clips."""
    found = mean_and_interval(difference)
    return {name: 100 * value / float(to.mean()) for name, value in found.items()}


def summary_of(filled: Filled) -> dict:
    """Mean errors with their 95 % intervals over clips, and what the partner brings, paired by clip.

    Returns "partners" and "trivial", each by name {"mean", "interval95"}; "best_trivial", its name; in per cent of the error with the own
    partner, above 0 where that is better: "worse_with_another's", "worse_with_none" and "worse_with_best_trivial"; "clips". Clips of
    which nothing was hidden but padding are left out. Raises ValueError where that leaves fewer than two.
    """
    known = torch.isfinite(filled.partners["own"])
    if int(known.sum()) < 2:
        raise ValueError("Fewer than two clips have hidden patches to fill; hide more, or take other clips.")
    partners, trivial = ({name: errors[known].double() for name, errors in side.items()} for side in filled)
    best = min(trivial, key=lambda name: float(trivial[name].mean()))
    own, others = partners["own"], {"another's": partners["another's"], "none": partners["none"], "best_trivial": trivial[best]}
    found = {f"worse_with_{name}": _relative(errors - own, own) for name, errors in others.items()}
    tables = {
        side: {name: mean_and_interval(errors) for name, errors in table.items()}
        for side, table in (("partners", partners), ("trivial", trivial))
    }
    return tables | {"best_trivial": best} | found | {"clips": int(known.sum())}
