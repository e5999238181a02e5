"""The optimiser and its learning rate: what a training loop needs of one, apart from the loop, so that a lesson loads no more than this."""

import math

import torch
from torch import nn

from mavil_edu.config import TrainConfig


def learning_rate(step: int, train: TrainConfig) -> float:
    """The rate at a step: linear warm-up from 0, then half a cosine down to 0 at the last step. A pure function of the step."""
    warmup = train.warmup * train.steps
    if step < warmup:
        return train.peak_lr * (step + 1) / (warmup + 1)
    return train.peak_lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(train.steps - warmup, 1)))


def make_optimiser(model: nn.Module, train: TrainConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only: biases, norms, class and mask tokens are left alone, as in MAE.

    Fused, but for 16-mixed: a fused step would undo the gradients' scale by itself, too late for clipping.
    """
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": train.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=train.peak_lr, betas=train.betas, fused=train.precision != "16-mixed")
