"""Run by test_processes.py as a program: steps and runs in 1, 2 and 4 processes, forked after one import, their results in a folder."""

import os
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

from mavil_edu import train
from mavil_edu.data.batch import Batch
from mavil_edu.data.loader import training_steps
from mavil_edu.launch import free_port, variables
from mavil_edu.mavil import MAViL
from mavil_edu.processes import ToldByFirst, from_all, from_first, join

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
    config = small_config(precision="64-true", accumulate=2 if case == "accumulated" else 1)
    objective = replace(config.objective, alpha=1.0, beta=1.0, score_padding=False, second_ratio=None)
    if case == "hidden":  # all the sound, in the first view: nothing to contrast with, and weights without a gradient
        objective = replace(objective, audio_ratio=1.0, inter_views=1)
    if case == "a part decoded":
        config = replace(config, model=replace(config.model, decoder_attention="cross"))
        objective = replace(objective, decoded_share=0.25)
    return replace(config, objective=objective, train=replace(config.train, batch=BATCH))


def gradients(case: str, rank: int, ranks: int, out: Path) -> None:
    """One step's losses and gradients, in float64."""
    torch.set_default_dtype(torch.float64)  # in which Fabric hands out a model's outputs
    config = config_of(case)
    fabric = train.make_fabric(config)
    torch.manual_seed(0)
    bare = MAViL(config)
    model, _ = train.set_up(fabric, bare, config.train)
    for _ in range(2):  # DDP orders its work anew after the first
        data = next(training_steps(Padded(20, config), BATCH, 0, rank=rank, ranks=ranks))
        data = data._replace(batch=Batch(data.batch.waveform.double(), *data.batch[1:]))
        model.zero_grad()
        losses = train._backward(fabric, model, data, config, 0, 3, None)
    found = {name: parameter.grad for name, parameter in bare.named_parameters() if parameter.grad is not None}
    found |= {f"loss {name}": value for name, value in losses._asdict().items() if value is not None}
    save_file({name: value.detach().clone() for name, value in found.items()}, out / f"{case}-{ranks}-{rank}.safetensors")


def steps(rank: int, ranks: int, out: Path) -> None:
    """Six whole steps in float64: draws, masks, losses, gradients, clipping, optimiser; the weights before and after."""
    torch.set_default_dtype(torch.float64)
    config = config_of("usual")
    fabric = train.make_fabric(config)
    torch.manual_seed(0)
    bare = MAViL(config)
    model, optimiser = train.set_up(fabric, bare, config.train)
    before = {f"before {name}": value.clone() for name, value in bare.state_dict().items()}
    stream = training_steps(Padded(20, config), BATCH, 0, rank=rank, ranks=ranks)
    for step, data in zip(range(6), stream, strict=False):
        data = data._replace(batch=Batch(data.batch.waveform.double(), *data.batch[1:]))
        train.update(fabric, model, optimiser, data, config, 0, step)
    save_file(before | {name: value.clone() for name, value in bare.state_dict().items()}, out / f"steps-{ranks}-{rank}.safetensors")


def run(rank: int, ranks: int, out: Path) -> None:
    """A whole run of 8 steps, in float32; process 0 alone is told the run's folder."""
    config = small_config()
    held_out = held_out_of(config, Noise(6, config)) if rank == 0 else None
    model, _ = train.train(config, Noise(10, config), held_out, out / f"run-{ranks}" if rank == 0 else out / f"none-{rank}")
    save_file({name: value.clone() for name, value in model.state_dict().items()}, out / f"run-{ranks}-{rank}.safetensors")


def broken_off(rank: int, ranks: int, out: Path) -> None:
    """The same run, which two processes leave when one of them, and not the one that writes, is told to end; one process ends it."""
    config, place = small_config(), out / "broken-off"
    if rank == 1:
        rate = train.learning_rate
        train.learning_rate = lambda step, schedule: (os.kill(os.getpid(), signal.SIGTERM) if step == 2 else None, rate(step, schedule))[1]
    try:
        held_out = held_out_of(config, Noise(6, config)) if rank == 0 else None
        model, _ = train.train(config, Noise(10, config), held_out, place, resume=ranks == 1)
    except KeyboardInterrupt as stop:
        (out / f"stopped-{rank}.txt").write_text(str(stop))
    else:
        save_file({name: value.clone() for name, value in model.state_dict().items()}, out / "broken-off.safetensors")


def agreement(rank: int, ranks: int, out: Path) -> None:
    """What each of two processes makes of --minutes, by clocks that differ, and of an error of the first."""
    config = small_config()
    if rank == 1:
        train.time = SimpleNamespace(perf_counter=lambda: 3 * time.perf_counter())
    found, _ = train.steps_for(0.5, config, Noise(10, config), 0, 0)
    fabric = join()

    def refuse():
        raise ValueError("the first process refuses") if rank == 0 else AssertionError("only the first makes it")

    try:
        from_first(fabric, refuse)
    except (ValueError, ToldByFirst) as error:
        said = f"{type(error).__name__}: {error}"
    (out / f"agreed-{rank}.txt").write_text(f"{found}\n{said}\n{from_all(fabric, [rank, -rank])}")


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
        in_processes(number, partial(steps, out=folder))
    for number in (1, 2):
        in_processes(number, partial(run, out=folder))
    in_processes(2, partial(agreement, out=folder))
    for number in (2, 1):
        in_processes(number, partial(broken_off, out=folder))
