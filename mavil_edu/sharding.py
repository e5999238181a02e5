"""Weights shared out among processes (FSDP): each keeps its part of them, of their gradients and of the optimiser's moments.

A block's weights are brought together in every process while it is computed, and dropped again; so are whole ones where process 0 shows or
saves a model. A checkpoint is the same with and without: a run goes on either way, and with any number of processes.
"""

from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from mavil_edu.transformer import Block, CrossBlock


def share_out(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Leaves each process its part of a module's weights: block by block, and of all the rest together."""
    data_parallel = mesh["data_parallel"]
    for part in module.modules():
        if isinstance(part, Block | CrossBlock):
            fully_shard(part, mesh=data_parallel)
    return fully_shard(module, mesh=data_parallel)


def is_shared_out(fabric: Fabric) -> bool:
    """Whether processes share out the weights of what this Fabric sets up."""
    return isinstance(fabric.strategy, ModelParallelStrategy)


def whole(x: Any) -> Any:
    """A tensor brought together from all processes, which all have to ask for it; anything else as it is."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def part_of(x: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, cut as `like` is; `x` itself where that is whole, or of another shape."""
    if not isinstance(like, DTensor) or x.shape != like.shape:
        return x
    return distribute_tensor(x.to(like.device), like.device_mesh, like.placements, src_data_rank=None)  # each process has all of x


@torch.no_grad()
def bring_together(shared: nn.Module, target: nn.Module | None) -> None:
    """Copies weights that are shared out into a whole model of the same kind; every process takes part, those without a target as well."""
    wanted = {} if target is None else target.state_dict()
    for name, value in shared.state_dict().items():
        found = whole(value)
        if target is not None:
            wanted[name].copy_(found)


def whole_state(optimiser: torch.optim.Optimizer, keep: bool) -> dict[str, Any]:
    """An optimiser's `state_dict`, brought together, on the CPU where it was shared out; every process takes part.

    keep: False drops each tensor as soon as it is brought together, in processes that do not save.
    """
    packed = optimiser.state_dict()

    def one(value: Any) -> Any:
        found = whole(value)
        return value if found is value else found.cpu() if keep else None

    return packed | {"state": {i: {name: one(value) for name, value in values.items()} for i, values in packed["state"].items()}}
