"""How a model's blocks are computed: compiled, or again in the backward pass; their numbers stay what they were, up to the last bits."""

import sys

import torch
from torch import nn

from mavil_edu.transformer import Block, CrossBlock, CrossTransformer, Transformer

COMPILED_SHAPES = 64  # of a block's input, that torch.compile may meet: two views, fusion, two decoders, a teacher


def compile_blocks(model: nn.Module) -> None:
    """Compiles each block by itself: they are alike, so that few graphs serve them all, and masks, which break a graph, stay outside.

    The first steps then take minutes, in which shapes are met for the first time. Raises ValueError on Windows.
    """
    if sys.platform == "win32":
        raise ValueError("Compiled blocks need Linux or macOS; leave --config.train.compile out.")
    limits = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, COMPILED_SHAPES)
    limits.accumulated_recompile_limit = max(limits.accumulated_recompile_limit, COMPILED_SHAPES * 8)
    for module in model.modules():
        if isinstance(module, Block | CrossBlock):
            module.compile(dynamic=False)


def recompute_blocks(model: nn.Module, wanted: bool) -> None:
    """Activation checkpointing: a block keeps its input alone, and computes the rest again when the backward pass comes to it."""
    for module in model.modules():
        if isinstance(module, Transformer | CrossTransformer):
            module.recompute = wanted
