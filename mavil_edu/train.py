"""An optimiser steps: the training loop of both stages on Lightning Fabric, on whatever device there is."""

import hashlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from mavil_edu.blocks import compile_blocks, recompute_blocks
from mavil_edu.checkpoint import list_checkpoints, load_checkpoint, versions
from mavil_edu.config import Config, ObjectiveConfig, TrainConfig, from_dict, to_dict
from mavil_edu.data.batch import Clips, Skipped, to_inputs
from mavil_edu.data.loader import Step, generator_for, training_steps
from mavil_edu.evaluate import HeldOut, MakeTargets, scored_patches
from mavil_edu.logbook import Logbook, TrainingError
from mavil_edu.masking import scheduled_ratio
from mavil_edu.mavil import Losses, MAViL, draw_asked, draw_masks, draw_second_masks, losses_of, patch_targets
from mavil_edu.memory import keep_freed_memory
from mavil_edu.optimiser import learning_rate, make_optimiser
from mavil_edu.processes import (
    Interrupt,
    ProcessError,
    WithLosses,
    check_same,
    check_shared,
    from_all,
    from_first,
    gather_rows,
    is_sharded,
    join,
    meeting,
    share_of,
)
from mavil_edu.sharding import gather_into, gathered, whole_moments
from mavil_edu.start import start_from

GENERATION = 1_000_003  # between the seeds of a teacher's and its student's first weights
TIMED_STEPS = 30  # steps that --minutes times
TRAINING_SHARE = 0.92  # of a run's time; looks at held-out clips and checkpoints take the rest


@dataclass
class Progress:
    """Where a run is; with the model and the optimiser it is all that resuming needs."""

    step: int = 0
    drawn: int = 0  # draws from the data set
    seconds: float = 0.0  # of training, over all its parts
    skipped: dict[str, str] = field(default_factory=dict)  # path -> reason, of clips that gave no sample
    skipped_draws: int = 0
    dropped: int = 0  # clips that ended an epoch as an incomplete batch
    held_out: float | None = None  # the total loss on held-out clips after the last step, where they were looked at then

    def note(self, skipped: list[Skipped]) -> None:
        """Adds draws that gave no sample."""
        self.skipped_draws += len(skipped)
        self.skipped |= {skip.path: skip.reason for skip in skipped}


def objective_at(step: int, config: Config) -> ObjectiveConfig:
    """The objective with the mask ratios of a training step; held-out clips keep the final ratios."""
    objective = config.objective
    audio, video = (
        scheduled_ratio(step, config.train.steps, objective.ratio_start, end, objective.ratio_schedule)
        for end in (objective.audio_ratio, objective.video_ratio)
    )
    return replace(objective, audio_ratio=audio, video_ratio=video)


def first_view_at(step: int, config: Config, seed: int) -> ObjectiveConfig:
    """The objective of a step's first view: at a share `whole_hidden` of the steps, sound or picture is hidden wholly, either as often.

    So the decoder of the hidden modality learns to tell all of it from the other, which partial masks hardly teach. InfoNCE then has no
    first view of both; a second view is masked as ever. A pure function of step and seed; with `whole_hidden` 0, `objective_at` [O].
    """
    objective = objective_at(step, config)
    if not objective.whole_hidden:
        return objective
    chance, which = torch.rand(2, generator=generator_for(seed, 11, step)).tolist()
    if chance >= objective.whole_hidden:
        return objective
    return replace(objective, **{"audio_ratio" if which < 0.5 else "video_ratio": 1.0})


def make_fabric(config: Config) -> Fabric:
    """The best device there is: CUDA, MPS or CPU; one of several, where several processes train: `mavil_edu.processes`."""
    keep_freed_memory()
    return join(config.train.precision, config.train.shard_weights)


def with_shards(config: Config, wanted: bool) -> Config:
    """The config with its weights sharded, or not: the one choice that a run may change on its way."""
    return replace(config, train=replace(config.train, shard_weights=wanted))


def set_up(fabric: Fabric, model: MAViL, train: TrainConfig) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model on its device and among its processes, and its optimiser, as `update` takes them; blocks compiled where `train` says so."""
    recompute_blocks(model, train.recompute)
    if train.compile:
        if is_sharded(fabric):
            raise ProcessError("Compiled blocks were never tried with sharded weights; leave --config.train.compile or shard-weights out.")
        compile_blocks(model)
    if is_sharded(fabric):  # the optimiser's weights are this process's parts
        shared = fabric.setup_module(WithLosses(model))
        return shared, fabric.setup_optimizers(make_optimiser(model, train))
    return fabric.setup(WithLosses(model), make_optimiser(model, train))


def _shown(model: MAViL, fabric: Fabric) -> MAViL | None:
    """What process 0 looks at and saves: the model itself, or, where weights will be sharded, a whole copy in main memory; others none.

    Raises ProcessError where the first weights, of which each process will keep its part, are not the same in all.
    """
    if not is_sharded(fabric):
        return model
    sums = [float(value.double().sum()) for value in model.state_dict().values()]
    check_same(fabric, hashlib.sha256(repr(sums).encode()).hexdigest()[:12], "first weights")
    return deepcopy(model) if fabric.is_global_zero else None


@contextmanager
def _on_device(shown: MAViL, fabric: Fabric) -> Iterator[None]:
    """A copy in main memory is on the device only while it is looked at; what is there already stays."""
    before = next(shown.parameters()).device
    shown.to(fabric.device)
    try:
        yield
    finally:
        shown.to(before)


def _own(drawn: Any, fabric: Fabric) -> Any:
    """This process's part of what was drawn for a global batch."""
    return None if drawn is None else type(drawn)(*(share_of(part, fabric) for part in drawn))


def _backward(
    fabric: Fabric, model: nn.Module, data: Step, config: Config, seed: int, step: int, make_targets: MakeTargets | None
) -> Losses:
    """One step's gradients over its accumulation rounds, and the mean of each loss term; both are the global batch's.

    Clip i of the global batch belongs to round i mod `accumulate`. Masks are drawn for all of a round's clips, of which each process takes
    its own: so a step is the same, up to rounding, for any number of processes.
    """
    make_targets = make_targets or partial(patch_targets, config=config.model)
    batch = data.batch.to(fabric.device)
    rounds, terms = min(config.train.accumulate, len(batch.waveform)), []
    objective, first_view = objective_at(step, config), first_view_at(step, config, seed)
    for number in range(rounds):
        inputs = to_inputs(type(batch)(*(part[number::rounds] for part in batch)), config.model)
        rows, generator = len(inputs.audio) * fabric.world_size, generator_for(seed, 2, step, number)
        all_masks = draw_masks(rows, config.model, first_view, generator)
        masks, second = _own(all_masks, fabric), _own(draw_second_masks(rows, config.model, objective, generator), fabric)
        asked = _own(draw_asked(all_masks, config.model, objective, generator), fabric)  # last: without it the draws are the same
        scored = scored_patches(masks, inputs, config.objective)
        with fabric.autocast():  # a teacher computes in the student's precision
            targets = make_targets(inputs.audio, inputs.video)
        losses_from = partial(
            losses_of,
            targets=targets,
            audio_scored=scored[0],
            video_scored=scored[1],
            objective=config.objective,
            gather=partial(gather_rows, fabric),
        )
        with fabric.no_backward_sync(model, enabled=number < rounds - 1):
            losses = model(inputs.audio, inputs.video, masks, second, losses_from, asked)
            fabric.backward(losses.total * (len(inputs.audio) / len(batch.waveform)))
        terms.append(losses)
    return Losses(*(None if some[0] is None else torch.stack([t.detach() for t in some]).mean() for some in zip(*terms, strict=True)))


def check_gradient(fabric: Fabric, norm: torch.Tensor, step: int) -> None:
    """Raises TrainingError where a gradient's norm is not finite; in 16-mixed only where it overflows even unscaled [O].

    There a loss is scaled up, lest small gradients vanish in 16 bits. Where that is too much, at the start and whenever a larger scale is
    tried, the gradient overflows, the scaler leaves the step out and halves the scale; from its first one that ends after 16 steps.
    """
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    if not bool(torch.isfinite(norm)) and (scaler is None or scaler.get_scale() <= 1):
        raise TrainingError(f"The gradient's norm is {float(norm)} at step {step}; start anew with a lower learning rate.")


def told_norm(norm: torch.Tensor) -> float | None:
    """A gradient's norm as JSON can hold it; None where the gradient overflowed in 16-mixed and its step was left out."""
    return float(norm) if bool(torch.isfinite(norm)) else None


def _check_finite(losses: Losses, step: int) -> None:
    for name, value in losses._asdict().items():
        if value is not None and not bool(torch.isfinite(value)):
            raise TrainingError(
                f"The {name} loss is {float(value)} at step {step}. The last checkpoint is intact: "
                "go on from it with --resume, or start anew with a lower learning rate (--config.train.base-lr)."
            )


def update(
    fabric: Fabric,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    data: Step,
    config: Config,
    seed: int,
    step: int,
    make_targets: MakeTargets | None = None,
) -> tuple[Losses, torch.Tensor]:
    """One step of the optimiser: gradients, their norm clipped and checked, weights moved; its losses and the norm before clipping.

    make_targets: in stage 2 the teacher's; by default the patches of the input.
    """
    losses = _backward(fabric, model, data, config, seed, step, make_targets)
    norm = gathered(fabric.clip_gradients(model, optimiser, max_norm=config.train.clip_norm, error_if_nonfinite=False))
    _check_finite(losses, step)
    check_gradient(fabric, norm, step)
    optimiser.step()  # in 16-mixed by the scaler, which leaves out a step whose gradient overflowed
    optimiser.zero_grad()
    return losses, norm


def steps_for(
    minutes: float, config: Config, clips: Clips, seed: int, workers: int, make_targets: MakeTargets | None = None
) -> tuple[int, float]:
    """How many steps fit into so many minutes, by timing 30 steps on a throw-away model; and the seconds that took.

    With several processes all of them take the 30 steps, and the first one's clock counts for all. Raises TrainingError unless there
    are more than 0 minutes.
    """
    if not minutes > 0:
        raise TrainingError(f"--minutes is {minutes:g}; give more than 0.")
    started = time.perf_counter()
    fabric = make_fabric(config)
    check_shared(config.train.batch, config.train.accumulate, fabric.world_size)
    torch.manual_seed(seed)
    model, optimiser = set_up(fabric, MAViL(config), config.train)
    ends = []
    stream = training_steps(clips, config.train.batch, seed, 0, workers, fabric.global_rank, fabric.world_size)
    for step, data in zip(range(TIMED_STEPS), stream, strict=False):
        along = step * config.train.steps // TIMED_STEPS  # steps all along the run: with a ratio schedule they differ in length
        losses, _ = update(fabric, model, optimiser, data, config, seed, along, make_targets)
        float(losses.total)  # waits for a device that computes on its own
        ends.append(time.perf_counter())
    each = median(later - earlier for earlier, later in pairwise(ends))  # the time between two steps' ends: the loader's is in it
    spent = time.perf_counter() - started
    return from_first(fabric, lambda: (max(1, int((60 * minutes - spent) * TRAINING_SHARE / each)), spent))


def _go_on(run: Path, config: Config, model: MAViL, optimiser: torch.optim.Optimizer, fabric: Fabric) -> Progress:
    """Puts the newest checkpoint into model, optimiser, scaler and generators; a run that was killed before its first begins again."""
    if not list_checkpoints(run / "checkpoints"):
        return Progress()
    state = load_checkpoint(run / "checkpoints", model, optimiser)
    random = state.pop("random", {})
    stored = state.pop("config", None)
    if stored is not None and with_shards(from_dict(Config, stored), config.train.shard_weights) != config:
        raise TrainingError(f"The newest checkpoint in {run} was made by another config than the run's; put {run / 'config.json'} back.")
    if state.pop("versions", None) not in (None, versions()) and fabric.is_global_zero:
        print("The run began with other versions of its libraries: it goes on, but not bit for bit.", file=sys.stderr)
    if scaler := state.pop("scaler", None):
        fabric.strategy.precision.load_state_dict(scaler)
    if "cpu" in random:
        torch.set_rng_state(random["cpu"])
    if "cuda" in random and fabric.device.type == "cuda":
        torch.cuda.set_rng_state(random["cuda"], fabric.device)
    for name in ("seed", "generation", "processes"):
        state.pop(name, None)
    return from_dict(Progress, state)


def train(
    config: Config,
    clips: Clips,
    held_out: HeldOut | None,
    run: Path,
    *,
    seed: int = 0,
    workers: int = 0,
    resume: bool = False,
    generation: int = 0,
    make_targets: MakeTargets | None = None,
    start: str | None = None,
) -> tuple[MAViL, Progress]:
    """Trains for `config.train.steps` steps, writing checkpoints, `model/`, `metrics.jsonl` and TensorBoard files into `run`.

    held_out: clips that process 0 looks at; the others need none, and write nothing. make_targets: a teacher's, in stage 2; by default
    that of `held_out`, or the input's patches. generation: how many teachers came before; a student never starts from the first weights
    of one, though their runs have the same seed. start: a trained model whose weights a new run begins with.
    All that is random in step s follows from the seed and s, so a resumed run goes on as the uninterrupted one would: bit for bit on a
    CPU with 1 or 2 processes; with another number of processes than before, up to rounding. Where weights are sharded, process 0 returns a
    whole model, and each other one its part.
    Raises TrainingError where a loss or gradient is not finite or the run's folder cannot be written, ProcessError where another process
    has gone, KeyboardInterrupt after Ctrl-C or SIGTERM and a checkpoint.
    """
    # 1. device, model, optimiser
    fabric = make_fabric(config)
    check_shared(config.train.batch, config.train.accumulate, fabric.world_size)
    torch.manual_seed(seed + GENERATION * generation)
    bare = MAViL(config)
    if start is not None and not resume:
        start_from(bare, start)
    shown = _shown(bare, fabric)
    model, optimiser = set_up(fabric, bare, config.train)
    progress = _go_on(run, config, bare, optimiser, fabric) if resume else Progress()
    if resume and fabric.is_global_zero:
        print(f"Going on from step {progress.step} of {config.train.steps}.", file=sys.stderr)
    if shown is not bare:
        gather_into(shown, bare)  # of a run that has already ended, too
    check_same(fabric, (len(clips), progress.step), "numbers of clips or steps to go on from")
    make_targets = make_targets or (held_out.make_targets if held_out else None)
    skipped: list[Skipped] = []  # draws of this process, since the last checkpoint
    origin = {"config": to_dict(config), "seed": seed, "generation": generation, "versions": versions(), "processes": fabric.world_size}

    # 2. what is written, by process 0
    first = fabric.is_global_zero
    with Logbook(run, config, held_out, shown, progress.step) if first else nullcontext() as book:
        stream: Iterator[Step] = training_steps(
            clips, config.train.batch, seed, progress.drawn, workers, fabric.global_rank, fabric.world_size
        )
        started = time.perf_counter() - progress.seconds
        bare.train()

        # 3. the loop
        with Interrupt().watching() as interrupt, meeting(fabric):
            while progress.step < config.train.steps:
                data = next(stream)
                rate = learning_rate(progress.step, config.train)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                losses, norm = update(fabric, model, optimiser, data, config, seed, progress.step, make_targets)

                progress.seconds = time.perf_counter() - started
                more = {"lr": rate, "gradient_norm": told_norm(norm), "seconds": round(progress.seconds, 3)}
                if config.objective.ratio_start is not None or config.objective.whole_hidden:
                    now = first_view_at(progress.step, config, seed)
                    more |= {"audio_ratio": now.audio_ratio, "video_ratio": now.video_ratio}
                if first:
                    book.step(progress.step, losses, more)
                progress.step += 1
                progress.drawn = data.drawn
                progress.dropped = data.dropped
                skipped += data.skipped
                last = progress.step == config.train.steps
                progress.held_out = None
                stop = interrupt.anywhere(fabric)
                looks = progress.step % config.train.evaluate_every == 0 or last
                saves = progress.step % config.train.save_every == 0 or last or stop
                if (looks or saves) and shown is not bare:
                    gather_into(shown, bare)
                if first and looks:
                    with _on_device(shown, fabric):
                        progress.held_out = book.look(progress.step)
                if saves:
                    progress.note(from_all(fabric, skipped))
                    skipped.clear()
                    if first:
                        book.save(optimiser, asdict(progress) | origin, fabric)
                    else:
                        for _ in whole_moments(optimiser, keep=False):  # which process 0 gathers
                            pass
                if stop and not last:
                    raise KeyboardInterrupt(f"stopped by {stop.name} after step {progress.step}")
    return (bare if shown is None else shown.to(fabric.device)).eval(), progress
