"""Which layers of a classifier learn in fine-tuning, how fast each does, and how often its branches are left out."""

import re
from typing import Literal

import torch
from torch import nn

from mavil_edu.config import ModelConfig
from mavil_edu.mavil import MAViL
from mavil_edu.recipe import FinetuneConfig
from mavil_edu.transformer import Block

Arm = Literal["fine-tuned", "frozen", "from scratch"]


def layer_number(name: str, config: ModelConfig) -> int:
    """How high a parameter stands: 0 for what embeds patches, then the encoder's blocks, the fusion's, and the classifier on top."""
    block = re.search(r"blocks\.(\d+)\.", name)
    if name.startswith("classifier."):
        return config.encoder.depth + (config.fusion_depth if config.classes_from == "both" else 0) + 1
    if name.startswith("fusion."):
        return config.encoder.depth + 1 + (int(block[1]) if block else 0)
    return int(block[1]) + 1 if block else 0


def trained_parameters(model: MAViL, arm: Arm) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name: those on the way to the classifier, or, frozen, the classifier's own."""
    source, parts = model.config.classes_from, ("classifier.",)
    if arm != "frozen":
        parts += ("audio_encoder.", "video_encoder.", "fusion.") if source == "both" else (f"{source}_encoder.",)
    return {name: parameter for name, parameter in model.named_parameters() if name.startswith(parts)}


def make_optimiser(model: MAViL, recipe: FinetuneConfig, arm: Arm) -> torch.optim.AdamW:
    """AdamW with a rate for each layer, `layer_decay` times that of the layer above; weight decay on matrices only.

    Each group's `scale` is its rate over the schedule's. From scratch every layer has the full rate [O]: there is nothing to spare. What
    does not learn is frozen.
    """
    trained, decay = trained_parameters(model, arm), 1.0 if arm == "from scratch" else recipe.layer_decay
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    top = max(layer_number(name, model.config) for name in trained)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        groups.setdefault((layer_number(name, model.config), parameter.ndim >= 2), []).append(parameter)
    made = [
        {"params": some, "scale": decay ** (top - layer), "weight_decay": recipe.train.weight_decay if matrix else 0.0}
        for (layer, matrix), some in sorted(groups.items())
    ]
    fused = recipe.train.precision != "16-mixed"  # as in mavil_edu.optimiser
    return torch.optim.AdamW(made, lr=recipe.train.peak_lr, betas=recipe.train.betas, fused=fused)


def set_drop_path(model: MAViL, share: float) -> None:
    """Gives each block its share of dropped branches: from 0 in the first block of an encoder to `share` in the fusion's last [A, R]."""
    config = model.config
    last = config.encoder.depth + (config.fusion_depth if config.classes_from == "both" else 0) - 1
    for name, block in model.named_modules():
        if isinstance(block, Block):
            block.drop_path = share * (layer_number(f"{name}.", config) - 1) / max(last, 1)
