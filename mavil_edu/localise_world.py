"""Localisation on the generated world, where the truth is known: the model beside answers without a model, and its controls."""

import torch
from torch import Tensor

from mavil_edu.config import AugmentConfig
from mavil_edu.data.batch import Batch, evaluation_batch, to_inputs
from mavil_edu.data.difficulty import DifficultyName
from mavil_edu.data.world import World
from mavil_edu.data.world_picture import object_mask
from mavil_edu.evaluate import input_chunks
from mavil_edu.localise import Localised, Method, baselines, heat_maps, localised, over, over_frames, summary_of
from mavil_edu.mavil import MAViL

OTHER_SEED = 8070  # of the clips that tell where objects are on average, and how large
OTHER_CLIPS = 500
FRESH_SEED = 0  # of the untrained model


def truth_of(world: World) -> Tensor:
    """Which pixels of which frame show the sounding object: (clips, frames, height, width) bool, at the model's sizes."""
    video = world.model.video
    times = (torch.arange(video.frames, dtype=torch.float64) + 0.5) / video.frame_rate
    return object_mask(world.factors, times, video.height, video.width)


def _maps(model: MAViL, batch: Batch, shift: int = 0, **options) -> Tensor:
    """The heat maps of a batch with each clip's own sound, or with that of the clip `shift` further on."""
    device = next(model.parameters()).device
    shifted = batch._replace(waveform=batch.waveform.roll(-shift, dims=0), heard=batch.heard.roll(-shift, dims=0))
    chunks = input_chunks(shifted, model.config, device)
    return torch.cat([heat_maps(model, inputs.audio, inputs.video, **options) for _, inputs in chunks])


def score_world(
    model: MAViL,
    clips: int = 300,
    seed: int = 8100,
    difficulty: DifficultyName = "default",
    method: Method = "views",
    **options,
) -> dict:
    """Pointing accuracy, cIoU and AUC of a model on generated clips, of the baselines, and of two controls.

    The controls: "another clip's sound", and "untrained": the same architecture with fresh weights. The share of the pixels that a map
    points at is the mean share of the object in 500 other clips, the same for every map. options: of `heat_maps`. Returns "scores", by
    name as `summary_of` gives them; "over_centre" and "over_mean_place" (`over`), and what was measured. Raises ValueError for clips < 2.
    """
    if clips < 2:
        raise ValueError(f"--clips is {clips}; a mean and its interval need 2 clips or more.")
    config = model.config
    world = World(clips, seed, config, AugmentConfig(), difficulty, quiet=True)
    elsewhere = World(OTHER_CLIPS, OTHER_SEED, config, AugmentConfig(), difficulty, keep=False)  # its pictures are not needed
    batch, _, _ = evaluation_batch(world)
    truth, others = truth_of(world), truth_of(elsewhere).float()
    share, mean_place = float(others.mean()), others.mean(dim=(0, 1))

    def scored(maps: Tensor) -> Localised:
        return localised(over_frames(maps, *truth.shape[1:]), truth, share)

    inputs = to_inputs(batch, config)
    found = {"model": scored(_maps(model, batch, method=method, **options))}
    found["another clip's sound"] = scored(_maps(model, batch, shift=1, method=method, **options))
    found["untrained"] = scored(_maps(_untrained(model), batch, method=method, **options))
    found |= {name: scored(make()) for name, make in baselines(inputs, config.video, mean_place).items()}
    return {
        "clips": clips,
        "seed": seed,
        "difficulty": difficulty,
        "method": method,
        "share": share,
        "scores": {name: summary_of(scores) for name, scores in found.items()},
        "over_centre": over(found["model"], found["centre"]),
        "over_mean_place": over(found["model"], found["mean place"]),
        "over_another_sound": over(found["model"], found["another clip's sound"]),
    }


def _untrained(model: MAViL) -> MAViL:
    """A model of the same architecture with fresh weights; what else is random is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(FRESH_SEED)
        return MAViL(model.config).eval().to(next(model.parameters()).device)
