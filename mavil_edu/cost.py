"""What a pre-training run costs: hours from the arithmetic of its steps and a rate at which devices do it. Nothing is measured here."""

from typing import Any, NamedTuple

from mavil_edu.config import Config
from mavil_edu.footprint import FLOAT, MOMENTS, block_weights, footprint, parameters_by_part
from mavil_edu.multiply_adds import forward_by_part, step_by_part

BACKWARD_SHARE = 2 / 3  # of a step's arithmetic: the time in which gradients can already be sent
DISK = 1.0  # GB/s at which checkpoints are written


class Rate(NamedTuple):
    """How fast one device computes."""

    tflops: float  # 10^12 operations a second, of those that are counted; two for each multiply-add
    front_ms: float = 0.0  # of a clip: spectrogram, pictures, masks, whose arithmetic is not counted
    optimiser_ms: float = 0.0  # of a step, whatever its clips


class Reading(NamedTuple):
    """How fast clips come to one device."""

    clips_per_second: float | None = None  # None: they are always there
    behind: bool = True  # they are made ready while a step is computed; False: between steps


class Plan(NamedTuple):
    """What is to be trained."""

    clips: int
    epochs: int
    devices: int = 1
    held_out: int = 0  # clips that process 0 looks at, while the others wait
    gigabytes_a_second: float = 25.0  # that a device sends, and at the same time gets


def check(config: Config, plan: Plan) -> None:
    """Raises ValueError for a plan that cannot be: numbers below 1, or a batch that clips or devices do not make."""
    batch, rounds = config.train.batch, config.train.accumulate
    if min(plan.clips, plan.epochs, plan.devices) < 1 or plan.held_out < 0 or not plan.gigabytes_a_second > 0:
        raise ValueError(
            f"A prediction needs 1 clip, epoch and device or more ({plan.clips}, {plan.epochs}, {plan.devices}), "
            f"0 held-out clips or more ({plan.held_out}) and a bandwidth above 0 ({plan.gigabytes_a_second:g})."
        )
    if batch > plan.clips:
        raise ValueError(f"A batch of {batch} cannot be drawn from {plan.clips} clips; give --batch {plan.clips} or less.")
    if batch % (plan.devices * rounds):
        raise ValueError(
            f"A batch of {batch} cannot be shared by {plan.devices} devices in {rounds} rounds; give a --batch that is a multiple "
            f"of {plan.devices * rounds}."
        )


def sent_weights(config: Config) -> int:
    """Numbers of weights and gradients that go round in one step, once counted for each time that a ring of devices carries one.

    DDP adds every gradient up and hands it out: twice. Sharded, a block's weights are gathered for each forward pass and for its backward
    pass, and its gradients go once for each, to where they belong; encoders' blocks have as many passes as there are views. What is outside
    the blocks is gathered once a round. Gradients wait for the last round.
    """
    rounds, all_weights = config.train.accumulate, sum(parameters_by_part(config.model).values())
    if not config.train.shard_weights:
        return 2 * all_weights
    blocks = {kind: sum(some) for kind, some in block_weights(config.model).items()}
    passes = {kind: 2 if kind == "encoders" and config.objective.beta else 1 for kind in blocks}
    rest = all_weights - sum(blocks.values())
    return sum((2 * rounds + 1) * passes[kind] * weights for kind, weights in blocks.items()) + (rounds + 1) * rest


def exchanged_bytes(config: Config, devices: int) -> tuple[float, float]:
    """Bytes that a device sends in one step: weights and gradients, by a ring; and what InfoNCE and the masked errors gather, both ways.

    A ring of N devices sends each number (N − 1) / N times for each time that it is gathered or added up.
    """
    ring, train, model = (devices - 1) / devices, config.train, config.model
    views = 2 if config.objective.beta else 1
    numbers = model.audio.tokens + model.video.tokens + 2 * views * (model.projection or model.encoder.width)
    marks = model.audio.tokens + model.video.tokens  # a byte each: which places count
    return ring * FLOAT * sent_weights(config), train.batch * ring * (3 * FLOAT * numbers + marks)


def step_seconds(config: Config, plan: Plan, rate: Rate, reading: Reading) -> dict[str, float]:
    """Seconds of one step, by what takes them; devices work side by side, each on its share of the batch."""
    batch, rounds = config.train.batch, config.train.accumulate
    rows = batch // plan.devices
    operations = 2 * sum(step_by_part(config, batch // rounds).values()) * rounds / plan.devices
    arithmetic, front = operations / (rate.tflops * 1e12), rate.front_ms * rows / 1000
    gradients, gathered = (size / (plan.gigabytes_a_second * 1e9) for size in exchanged_bytes(config, plan.devices))
    exchange = gathered + max(0.0, gradients - BACKWARD_SHARE * arithmetic / rounds)  # the last round's gradients go while it computes
    optimiser = rate.optimiser_ms / 1000
    reading_takes = 0.0 if reading.clips_per_second is None else rows / reading.clips_per_second
    busy = arithmetic + front + exchange + optimiser
    waiting = max(0.0, reading_takes - busy) if reading.behind else reading_takes
    return {"arithmetic": arithmetic, "front ends": front, "optimiser": optimiser, "exchange": exchange, "waiting for clips": waiting}


def look_seconds(config: Config, plan: Plan, rate: Rate) -> float:
    """Seconds of one look at the held-out clips: their front ends and forward pass, in process 0."""
    operations = 2 * plan.held_out * sum(forward_by_part(config, 1).values())
    return operations / (rate.tflops * 1e12) + rate.front_ms * plan.held_out / 1000


def predict(config: Config, plan: Plan, rate: Rate, reading: Reading) -> dict[str, Any]:
    """Steps, seconds by what takes them, and the memory of one device, of a whole run's training.

    Every epoch has as many steps as whole batches. The seconds are those of a run's summary.json. Not counted: the run's beginning (files
    are listed, held-out clips made ready) and its end (the look and the checkpoint after the last step, the report). Assumed: all devices
    are equally fast at their share of a batch as at the measured one; gradients are sent during the backward pass, and only what is left
    is waited for; latency is nothing; checkpoints go to disk at 1 GB/s while all wait.
    Raises ValueError as `check`. Our choice [O].
    """
    check(config, plan)
    train = config.train
    steps = plan.clips // train.batch * plan.epochs
    each = step_seconds(config, plan, rate, reading)
    seconds = {name: steps * value for name, value in each.items()}
    saved = (2 + MOMENTS) * FLOAT * sum(parameters_by_part(config.model).values())  # weights stand in model/ too
    seconds["held-out clips"] = (steps - 1) // train.evaluate_every * look_seconds(config, plan, rate)
    seconds["checkpoints"] = (steps - 1) // train.save_every * saved / (DISK * 1e9)
    total, rows = sum(seconds.values()), train.batch // plan.devices // train.accumulate
    return {
        "clips": plan.clips,
        "epochs": plan.epochs,
        "steps": steps,
        "batch": train.batch,
        "accumulate": train.accumulate,
        "devices": plan.devices,
        "clips_at_once": rows,
        "held_out": plan.held_out,
        "precision": train.precision,
        "gigabytes_a_second": plan.gigabytes_a_second,
        "operations": 2 * steps * sum(step_by_part(config, train.batch // train.accumulate).values()) * train.accumulate,
        "step_seconds": sum(each.values()),
        "seconds": seconds,
        "hours": total / 3600,
        "device_hours": total / 3600 * plan.devices,
        "memory_megabytes": {name: value / 2**20 for name, value in footprint(config, rows, plan.devices)._asdict().items()},
    }
