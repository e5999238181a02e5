"""Sharded weights (FSDP): each process keeps its part of them, of their gradients and of the optimiser's moments.

A block's weights are gathered in every process while it is computed, and dropped again. For looks at held-out clips and for checkpoints,
process 0 gathers a whole model in main memory. What this needs is imported where it is used: it takes a second and more.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


PART = 2**29  # bytes of an optimiser's moments that process 0 gathers at once


def shard(module: nn.Module, mesh: "DeviceMesh") -> nn.Module:
    """Leaves each process its part of a module's weights: block by block, and of all the rest together."""
    from torch.distributed.fsdp import fully_shard

    from mavil_edu.transformer import Block, CrossBlock

    data_parallel = mesh["data_parallel"]
    for part in module.modules():
        if isinstance(part, Block | CrossBlock):
            fully_shard(part, mesh=data_parallel)
    return fully_shard(module, mesh=data_parallel)


def gathered(x: Any) -> Any:
    """A sharded tensor as a whole one, for which all processes have to ask; anything else as it is."""
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def part_of(x: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, cut as `like` is; `x` itself where that is whole, or of another shape."""
    if not hasattr(like, "placements") or x.shape != like.shape:
        return x
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(x.to(like.device), like.device_mesh, like.placements, src_data_rank=None)  # each process has all of x


@torch.no_grad()
def gather_into(target: nn.Module | None, sharded: nn.Module) -> None:
    """Copies sharded weights into a whole model of the same kind; every process takes part, those without a target as well."""
    own = {} if target is None else target.state_dict()
    for name, value in sharded.state_dict().items():
        whole = gathered(value)
        if target is not None:
            own[name].copy_(whole)


def whole_moments(optimiser: torch.optim.Optimizer, keep: bool = True) -> Iterator[dict[str, Tensor]]:
    """An optimiser's moments by "parameter.name", whole and on the CPU, in parts of `PART` bytes or a little more.

    Where they are sharded, every process has to go through all parts. keep: False in those that do not save; their parts are empty.
    """
    part, size = {}, 0
    for index, values in optimiser.state_dict()["state"].items():
        for name, value in values.items():
            if size >= PART:
                yield part
                part, size = {}, 0
            whole = torch.as_tensor(gathered(value))
            if keep:
                part[f"{index}.{name}"] = whole.detach().cpu().contiguous()
                size += whole.nbytes
    yield part
