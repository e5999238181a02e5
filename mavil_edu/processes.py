"""Several processes train one model: how they find each other, what they exchange, and how they agree. Nothing else here knows of them,
but for `mavil_edu.sharding`, by which they share one model's weights.

Each process (a rank) computes its own rows of every global batch. What a loss compares is gathered from all of them, with gradients, so
that a loss is the whole batch's in every process; and the gradient of the weights, averaged over processes, is then the whole batch's.
"""

import logging
import os
import platform
import re
import signal
import threading
from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta
from inspect import signature
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from einops import rearrange
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor, nn

from mavil_edu.hosts import watch_hosts
from mavil_edu.launch import LEFT_ALONE, launched, place
from mavil_edu.sharding import shard

Found = TypeVar("Found")
PATIENCE = timedelta(minutes=30)  # that processes wait for the first one, which evaluates and writes alone
LOST = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe|socket|peer|store", re.IGNORECASE)


class ProcessError(RuntimeError):
    """The processes of a run cannot work together; the message says why and what to do."""


class LeftAlone(ProcessError):
    """Another process has gone, so that this one cannot go on."""

    status = LEFT_ALONE


class ToldByFirst(RuntimeError):
    """Process 0 has ended with an error that it tells itself."""

    quiet, status = True, LEFT_ALONE


def _take_over_from_fabric_run() -> None:
    """Takes the options of `fabric run` out of the environment, where Fabric would hold them against ours; raises where they differ."""
    given = {
        name: os.environ.pop(f"LT_{name}", None) for name in ("CLI_USED", "ACCELERATOR", "DEVICES", "NUM_NODES", "STRATEGY", "PRECISION")
    }
    if given["STRATEGY"] not in (None, "auto", "ddp"):
        raise ProcessError(
            f"fabric run was told --strategy {given['STRATEGY']}: leave the option out. Weights are sharded by an "
            "option of mavil-edu's own, --config.train.shard-weights."
        )
    if given["PRECISION"] is not None:
        raise ProcessError("Give the precision to mavil-edu (--config.train.precision bf16-mixed), and not to fabric run.")


def _replicated() -> DDPStrategy:
    """Every process holds the whole model."""
    # A step with all of one modality hidden leaves weights without a gradient, in every process the same: found anew each step.
    # Positions never change, so that buffers need not be sent each step; the option has two names, by torch's version.
    named = signature(nn.parallel.DistributedDataParallel).parameters
    buffers = {"forward_sync_buffers" if "forward_sync_buffers" in named else "broadcast_buffers": False}
    return DDPStrategy(find_unused_parameters=True, timeout=PATIENCE, **buffers)


def _sharded(ranks: int, precision: str) -> ModelParallelStrategy:
    """Every process holds a part of the model. Raises ProcessError for a precision, or a torch, that this cannot be done with."""
    if precision == "16-mixed":
        raise ProcessError("Weights are sharded in 32-true or bf16-mixed; for 16-mixed leave --config.train.shard-weights out.")
    from torch.distributed.tensor import distribute_tensor

    if "src_data_rank" not in signature(distribute_tensor).parameters:
        raise ProcessError(
            f"Sharded weights need torch 2.7 or newer, and this is {torch.__version__}; leave --config.train.shard-weights out."
        )
    return ModelParallelStrategy(shard, data_parallel_size=ranks, tensor_parallel_size=1, timeout=PATIENCE)


def join(precision: str = "32-true", shard_weights: bool = False) -> Fabric:
    """This process's place among those of its run: CUDA, MPS or CPU where it is alone; else NCCL on CUDA, gloo on CPU.

    Processes are those that `mavil-edu pretrain --processes`, `torchrun` or `fabric run` started. May be called again: they meet once.
    shard_weights: what this Fabric sets up is sharded (`mavil_edu.sharding`); a process that is alone keeps all of it.
    Raises ProcessError where a machine has GPUs, but fewer than processes; and for sharded weights in 16-mixed.
    """
    if launched() == 1:
        return Fabric(accelerator="auto", devices=1, precision=precision)
    _take_over_from_fabric_run()
    here = place()
    gpus = torch.cuda.device_count()
    if 0 < gpus < here.here:
        raise ProcessError(
            f"This machine has {gpus} GPUs for {here.here} processes; start {gpus}, or hide the GPUs to use the CPU: CUDA_VISIBLE_DEVICES="
        )
    strategy: Strategy = _sharded(here.ranks, precision) if shard_weights else _replicated()
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # no banner
    fabric = Fabric(
        accelerator="cuda" if gpus else "cpu",
        devices=here.here,
        num_nodes=here.ranks // here.here,
        strategy=strategy,
        precision=precision,
    )
    fabric.launch()
    watch_hosts(here.rank, here.ranks // here.here, here.rank % here.here == 0, fabric.broadcast)
    return fabric


def is_sharded(fabric: Fabric) -> bool:
    """Whether what this Fabric sets up is sharded."""
    return isinstance(fabric.strategy, ModelParallelStrategy)


def machine(device: torch.device) -> str:
    """What computed, in a few words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {device.type}, {torch.get_num_threads()} threads"


class WithLosses(nn.Module):
    """A model whose forward pass ends in its losses: only then can DDP see which weights a step has no gradient for."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, audio: Tensor, video: Tensor, masks: Any, second: Any, losses: Callable[[Any], Any], asked: Any = None) -> Any:
        """`losses` of the model's output; they are computed in full precision."""
        output = self.model(audio, video, masks, second, asked)
        with torch.autocast(audio.device.type, enabled=False):
            return losses(output)


class _Gathered(torch.autograd.Function):
    """The tensors of all processes, stacked; backward, the sum of what all processes have as this one's gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        found = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(found, x.contiguous())
        return torch.stack(found)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.contiguous()
        dist.all_reduce(summed)
        return summed[dist.get_rank()]


def gather_rows(fabric: Fabric, x: Tensor) -> Tensor:
    """The rows of all processes, in order, with gradients: (b, …) -> (ranks · b, …); those of a single process as they are.

    Backward, each process's rows get the sum of the gradients that all processes have for them.
    """
    return x if fabric.world_size == 1 else rearrange(_Gathered.apply(x), "ranks b ... -> (ranks b) ...")


@contextmanager
def meeting(fabric: Fabric):
    """Where processes exchange something: if one of them has gone, a LeftAlone says so."""
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, dist.DistError) or (type(error) is RuntimeError and LOST.search(str(error)))
        if fabric.world_size == 1 or not lost:
            raise
        raise LeftAlone(
            f"Another of the {fabric.world_size} processes has gone, so the run ends here. Go on from the last checkpoint with --resume."
        ) from error


def from_first(fabric: Fabric, make: Callable[[], Found]) -> Found:
    """What `make` returns in process 0, in every process; if it raises there, all stop, and process 0 tells why."""
    if fabric.world_size == 1:
        return make()
    found, error = None, None
    if fabric.is_global_zero:
        try:
            found = make()
        except BaseException as raised:  # the others have to hear of anything, a KeyboardInterrupt too, or they would wait
            error = raised
    with meeting(fabric):
        found, good = fabric.broadcast((found, error is None))
    if error is not None:
        raise error
    if not good:
        raise ToldByFirst("Process 0 has stopped and says why.")
    return found


def only_first(fabric: Fabric, make: Callable[[], Found]) -> Found | None:
    """What `make` returns in process 0, there; None in the others, which wait for it, and stop if it raises."""
    kept = []
    from_first(fabric, lambda: kept.append(make()))
    return kept[0] if kept else None


def from_all(fabric: Fabric, items: list[Found]) -> list[Found]:
    """The items of all processes, by their order; in each of them."""
    if fabric.world_size == 1:
        return list(items)
    found: list[list[Found]] = [[]] * fabric.world_size
    with meeting(fabric):
        dist.all_gather_object(found, items)
    return [item for some in found for item in some]


def share_of(rows: Tensor, fabric: Fabric) -> Tensor:
    """This process's part of the rows of a global batch: (ranks · b, …) -> (b, …)."""
    return rearrange(rows, "(ranks b) ... -> ranks b ...", ranks=fabric.world_size)[fabric.global_rank]


def check_same(fabric: Fabric, here: object, what: str) -> None:
    """Raises ProcessError where processes do not find the same, such as the checkpoint to go on from."""
    found = from_all(fabric, [here])
    if any(one != found[0] for one in found):
        raise ProcessError(f"The processes find different {what}: {found}. Their machines have to see the same --data and --out folders.")


def check_shared(batch: int, accumulate: int, ranks: int) -> None:
    """Raises ProcessError where a batch cannot be shared out evenly to processes and accumulation rounds."""
    if ranks > 1 and batch % (ranks * accumulate):
        rounds = f" in {accumulate} rounds" if accumulate > 1 else ""
        raise ProcessError(
            f"A batch of {batch}{rounds} cannot be shared by {ranks} processes; give a batch that is a multiple of {ranks * accumulate} "
            "(--config.train.batch), or start another number of processes."
        )


class Interrupt:
    """Turns Ctrl-C and SIGTERM into a flag, so that a step is finished and saved before the program ends."""

    def __init__(self):
        self.by: signal.Signals | None = None

    def _note(self, number: int, _frame: object) -> None:
        if self.by:  # asked twice: at once
            raise KeyboardInterrupt("stopped at once, as asked twice: the steps since the last checkpoint are lost")
        self.by = signal.Signals(number)

    def anywhere(self, fabric: Fabric) -> signal.Signals | None:
        """The signal that any process has got, the same answer in all of them: so they stop after the same step."""
        if fabric.world_size == 1:
            return self.by
        number = torch.tensor(int(self.by or 0), device=fabric.device)
        dist.all_reduce(number, dist.ReduceOp.MAX)
        return signal.Signals(int(number)) if number else None

    @contextmanager
    def watching(self):
        """Listens while the block runs; outside the main thread signals cannot be caught, and nothing is done."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        old = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
