"""Run by test_processes.py as a program: steps and runs in 1, 2 and 4 processes, forked after one import, their results in a folder."""

import json
import os
import shutil
import signal
import sys
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import save_file
from test_train import Noise, held_out_of, small_config
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from mavil_edu import sharding, train
from mavil_edu.data.batch import Batch
from mavil_edu.data.loader import training_steps
from mavil_edu.launch import free_port, variables
from mavil_edu.mavil import MAViL
from mavil_edu.processes import ProcessError, ToldByFirst, from_all, from_first, join
from mavil_edu.sharding import gathered

BATCH = 8


class Padded(Noise):
    """Clips of unlike lengths: of most, some of the sound and one frame is padding."""

    def sample(self, index, generator):
        sample = super().sample(index, generator)
        stop = len(sample.waveform) * (2 + index % 3) // 4
        sample.waveform[stop:] = 0
        seen = sample.seen.clone()
        seen[-1 - index % 2 :] = index % 2 == 0
        return sample._replace(heard=torch.tensor([0, stop]), seen=seen)


def config_of(case: str):
    sharded, rounds = case.startswith("sharded"), 2 if case.endswith("accumulated") else 1
    config = small_config(accumulate=rounds, recompute=case.endswith("recomputed"))
    objective = replace(config.objective, alpha=1.0, beta=1.0, score_padding=False, second_ratio=None)
    if case.endswith("hidden"):  # all the sound, in the first view: nothing to contrast with, and weights without a gradient
        objective = replace(objective, audio_ratio=1.0, inter_views=1)
    if case.endswith("a part decoded"):
        config = replace(config, model=replace(config.model, decoder_attention="cross"))
        objective = replace(objective, decoded_share=0.25)
    return replace(config, objective=objective, train=replace(config.train, batch=BATCH, shard_weights=sharded))


def gradients(case: str, rank: int, ranks: int, out: Path) -> None:
    """One step's losses and gradients, in float64, which is no precision to train in."""
    torch.set_default_dtype(torch.float64)  # in which Fabric hands out a model's outputs
    config = config_of(case)
    sharded = config.train.shard_weights
    fabric = join("32-true" if sharded else "64-true", sharded)
    torch.manual_seed(0)
    bare = MAViL(config)
    model, _ = train.set_up(fabric, bare, config.train)
    for _ in range(2):  # DDP orders its work anew after the first
        data = next(training_steps(Padded(20, config), BATCH, 0, rank=rank, ranks=ranks))
        data = data._replace(batch=Batch(data.batch.waveform.double(), *data.batch[1:]))
        model.zero_grad()
        losses = train._backward(fabric, model, data, config, 0, 3, None)
    found = {name: gathered(parameter.grad) for name, parameter in bare.named_parameters() if parameter.grad is not None}
    found |= {f"loss {name}": value for name, value in losses._asdict().items() if value is not None}
    save_file({name: value.detach().clone() for name, value in found.items()}, out / f"{case}-{ranks}-{rank}.safetensors")


def kept(tensors) -> int:
    """Numbers that this process holds of some tensors."""
    return sum((x.to_local() if isinstance(x, DTensor) else x).numel() for x in tensors)


def steps(case: str, rank: int, ranks: int, out: Path) -> None:
    """Six whole steps in float64: draws, masks, losses, gradients, clipping, optimiser; the weights before and after, and what is held."""
    torch.set_default_dtype(torch.float64)
    config = config_of(case)
    fabric = train.make_fabric(config)
    torch.manual_seed(0)
    bare = MAViL(config)
    model, optimiser = train.set_up(fabric, bare, config.train)
    before = {f"before {name}": gathered(value).clone() for name, value in bare.state_dict().items()}
    stream = training_steps(Padded(20, config), BATCH, 0, rank=rank, ranks=ranks)
    for step, data in zip(range(6), stream, strict=False):
        data = data._replace(batch=Batch(data.batch.waveform.double(), *data.batch[1:]))
        train.update(fabric, model, optimiser, data, config, 0, step)
    after = {name: gathered(value).clone() for name, value in bare.state_dict().items()}
    save_file(before | after, out / f"{case} steps-{ranks}-{rank}.safetensors")
    moments = [value for values in optimiser.state_dict()["state"].values() for value in values.values() if value.ndim]
    units = sum(isinstance(part, FSDPModule) for part in model.modules())
    held = {"weights": kept(bare.parameters()), "moments": kept(moments), "units": units}
    (out / f"{case} steps-{ranks}-{rank}.json").write_text(json.dumps(held))


def run(name: str, rank: int, ranks: int, out: Path) -> None:
    """A whole run of 8 steps, in float32, or with products in bfloat16 (emulated); process 0 alone is told the run's folder."""
    config = small_config(shard_weights=name.startswith("sharded"), precision="bf16-mixed" if "bf16" in name else "32-true")
    held_out = held_out_of(config, Noise(6, config)) if rank == 0 else None
    model, _ = train.train(config, Noise(10, config), held_out, out / f"{name}-{ranks}" if rank == 0 else out / f"none-{rank}")
    if rank == 0 or name == "run":  # where weights are sharded, process 0 alone returns a whole model
        save_file({name: value.clone() for name, value in model.state_dict().items()}, out / f"{name}-{ranks}-{rank}.safetensors")


def broken_off(name: str, stops: bool, rank: int, ranks: int, out: Path) -> None:
    """The same run, which two processes leave when one of them, and not the one that writes, is told to end; others end it."""
    config, place = small_config(shard_weights=name.startswith("sharded")), out / name
    sharding.PART = 2**14  # bytes: moments are written in several files
    if stops and rank == 1:
        rate = train.learning_rate
        train.learning_rate = lambda step, schedule: (os.kill(os.getpid(), signal.SIGTERM) if step == 2 else None, rate(step, schedule))[1]
    try:
        held_out = held_out_of(config, Noise(6, config)) if rank == 0 else None
        train.train(config, Noise(10, config), held_out, place, resume=not stops)
    except KeyboardInterrupt as stop:
        (out / f"{name}-stopped-{rank}.txt").write_text(str(stop))


def ended(rank: int, ranks: int, out: Path) -> None:
    """A run of sharded weights that had ended is resumed."""
    config = small_config(shard_weights=True)
    held_out = held_out_of(config, Noise(6, config)) if rank == 0 else None
    model, _ = train.train(config, Noise(10, config), held_out, out / "sharded-broken-off", resume=True)
    if rank == 0:
        save_file({name: value.clone() for name, value in model.state_dict().items()}, out / "sharded-ended.safetensors")


def sharded_later(rank: int, ranks: int, out: Path) -> None:
    """The second half of a run whose first half one process took, with all of its weights."""
    config = small_config(shard_weights=True)
    held_out = held_out_of(config, Noise(6, config)) if rank == 0 else None
    train.train(config, Noise(10, config), held_out, out / "sharded-later", resume=True)


def refused(name: str, rank: int, ranks: int, out: Path) -> None:
    """First weights that differ between processes, and compiled blocks: neither is trained with sharded weights."""
    config = small_config(shard_weights=True, compile=name == "compiled")
    try:
        train.train(config, Noise(10, config), None, out / f"none-{name}", seed=rank if name == "different" else 0)
    except ProcessError as error:
        (out / f"{name}-{rank}.txt").write_text(f"{type(error).__name__}: {error}")


def agreement(rank: int, ranks: int, out: Path) -> None:
    """What two processes make of --minutes, by clocks that differ, with whole and sharded weights; and of an error of the first."""
    if rank == 1:
        train.time = SimpleNamespace(perf_counter=lambda: 3 * time.perf_counter())
    found = []
    for config in (small_config(), small_config(shard_weights=True)):
        steps, _ = train.steps_for(0.5, config, Noise(10, config), 0, 0)
        found.append(str(steps))
    fabric = join()

    def refuse():
        raise ValueError("the first process refuses") if rank == 0 else AssertionError("only the first makes it")

    try:
        from_first(fabric, refuse)
    except (ValueError, ToldByFirst) as error:
        said = f"{type(error).__name__}: {error}"
    (out / f"agreed-{rank}.txt").write_text(f"{' '.join(found)}\n{said}\n{from_all(fabric, [rank, -rank])}")


def in_processes(ranks: int, work) -> None:
    """Forks as many processes, each with torchrun's variables, and waits for them."""
    children, port = [], free_port()
    for rank in range(ranks):
        children.append(os.fork())
        if children[-1] == 0:
            os.environ |= variables(rank, ranks, port)
            status = 1
            try:
                work(rank, ranks)
                status = 0
            except Exception:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
    if any(os.waitpid(child, 0)[1] for child in children):
        sys.exit(f"A process of {ranks} failed.")


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for number in (1, 2, 4):
        for case in ("usual", "accumulated", "hidden", "a part decoded")[: 2 if number == 4 else 4]:
            in_processes(number, partial(gradients, case, out=folder))
            if number > 1:
                in_processes(number, partial(gradients, f"sharded {case}", out=folder))
        in_processes(number, partial(steps, "usual", out=folder))
        if number > 1:
            in_processes(number, partial(steps, "sharded", out=folder))
    in_processes(2, partial(gradients, "sharded recomputed", out=folder))
    for number, name in ((1, "run"), (2, "run"), (2, "sharded run"), (2, "bf16 run"), (2, "sharded bf16 run")):
        in_processes(number, partial(run, name, out=folder))
    in_processes(2, partial(agreement, out=folder))
    for name, ends in (("broken-off", 1), ("sharded-broken-off", 2)):
        in_processes(2, partial(broken_off, name, True, out=folder))
        in_processes(ends, partial(broken_off, name, False, out=folder))
    in_processes(2, partial(ended, out=folder))
    shutil.copytree(folder / "run-1", folder / "sharded-later")
    shutil.rmtree(folder / "sharded-later" / "checkpoints" / "step-0000008")
    in_processes(2, partial(sharded_later, out=folder))
    for name in ("different", "compiled"):
        in_processes(2, partial(refused, name, out=folder))
