"""An optimiser steps: the training loop of both stages on Lightning Fabric, on whatever device there is."""

import ctypes
import json
import math
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from lightning_fabric import Fabric
from torch import nn

from mavil_edu.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint, save_model
from mavil_edu.config import Config, ObjectiveConfig, TrainConfig
from mavil_edu.data.batch import Clips, to_inputs
from mavil_edu.data.loader import Step, generator_for, training_steps
from mavil_edu.evaluate import HeldOut, MakeTargets, scored_patches
from mavil_edu.losses import log_b
from mavil_edu.masking import scheduled_ratio
from mavil_edu.mavil import Losses, MAViL, draw_masks, draw_second_masks, losses_of, patch_targets
from mavil_edu.progress import ProgressBar, terms_line

GENERATION = 1_000_003  # between the seeds of a teacher's and its student's first weights
TIMED_STEPS = 30  # steps that --minutes times
TRAINING_SHARE = 0.92  # of a run's time; looks at held-out clips and checkpoints take the rest


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to do."""


@dataclass
class Progress:
    """Where a run is; with the model and the optimiser it is all that resuming needs."""

    step: int = 0
    drawn: int = 0  # draws from the data set
    seconds: float = 0.0  # of training, over all its parts
    skipped: dict[str, str] = field(default_factory=dict)  # path -> reason, of clips that gave no sample
    skipped_draws: int = 0
    dropped: int = 0  # clips that ended an epoch as an incomplete batch


def learning_rate(step: int, train: TrainConfig) -> float:
    """The rate at a step: linear warm-up from 0, then half a cosine down to 0 at the last step. A pure function of the step."""
    warmup = train.warmup * train.steps
    if step < warmup:
        return train.peak_lr * (step + 1) / (warmup + 1)
    return train.peak_lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(train.steps - warmup, 1)))


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


def make_optimiser(model: nn.Module, train: TrainConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only: biases, norms, class and mask tokens are left alone, as in MAE."""
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": train.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=train.peak_lr, betas=train.betas, fused=True)


def keep_freed_memory() -> None:
    """Lets glibc keep blocks of up to 32 MB when they are freed; elsewhere nothing is done.

    By default it hands them back to the system, and the next step's same block costs page faults again: 9,000 to 15,000 a step of `tiny`
    on a CPU, a tenth of its time, against 130 with this.
    """
    if platform.libc_ver()[0] == "glibc":
        libc, trim_threshold, mmap_threshold = ctypes.CDLL(None), -1, -3  # the numbers of <malloc.h>
        libc.mallopt(mmap_threshold, 2**25)
        libc.mallopt(trim_threshold, 2**31 - 1)


def make_fabric(config: Config) -> Fabric:
    """One process on the best device there is: CUDA, MPS or CPU."""
    keep_freed_memory()
    return Fabric(accelerator="auto", devices=1, precision=config.train.precision)


def _backward(
    fabric: Fabric, model: nn.Module, data: Step, config: Config, seed: int, step: int, make_targets: MakeTargets | None
) -> Losses:
    """One step's gradients over its accumulation rounds, and the mean of each loss term."""
    make_targets = make_targets or partial(patch_targets, config=config.model)
    rounds = []
    rows = math.ceil(len(data.batch.waveform) / config.train.accumulate)
    batch = data.batch.to(fabric.device)
    objective, first_view = objective_at(step, config), first_view_at(step, config, seed)
    for start in range(0, len(batch.waveform), rows):
        inputs = to_inputs(type(batch)(*(part[start : start + rows] for part in batch)), config.model)
        generator = generator_for(seed, 2, step, start)
        masks = draw_masks(len(inputs.audio), config.model, first_view, generator)
        second = draw_second_masks(len(inputs.audio), config.model, objective, generator)
        output = model(inputs.audio, inputs.video, masks, second)
        scored = scored_patches(masks, inputs, config.objective)
        with fabric.autocast():  # a teacher computes in the student's precision
            targets = make_targets(inputs.audio, inputs.video)
        losses = losses_of(output, targets, *scored, config.objective)
        fabric.backward(losses.total * (len(inputs.audio) / len(batch.waveform)))
        rounds.append(losses)
    return Losses(*(None if terms[0] is None else torch.stack([t.detach() for t in terms]).mean() for terms in zip(*rounds, strict=True)))


def _check_finite(losses: Losses, norm: torch.Tensor, step: int) -> None:
    for name, value in losses._asdict().items():
        if value is not None and not bool(torch.isfinite(value)):
            raise TrainingError(
                f"The {name} loss is {float(value)} at step {step}. The last checkpoint is intact: "
                "go on from it with --resume, or start anew with a lower learning rate (--config.train.base-lr)."
            )
    if not bool(torch.isfinite(norm)):
        raise TrainingError(f"The gradient's norm is {float(norm)} at step {step}; start anew with a lower learning rate.")


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
    norm = fabric.clip_gradients(model, optimiser, max_norm=config.train.clip_norm, error_if_nonfinite=False)
    _check_finite(losses, norm, step)
    optimiser.step()
    optimiser.zero_grad()
    return losses, norm


def _row(step: int, losses: Losses, trivial: dict[str, float], **more: float) -> dict:
    terms = {
        ("audio_mse" if name == "audio" else "video_mse" if name == "video" else name): None if value is None else float(value)
        for name, value in losses._asdict().items()
    }
    return {"step": step} | terms | {f"{name}_trivial": value for name, value in trivial.items()} | more


class MetricsFile:
    """`metrics.jsonl`: one JSON object a line; on resuming, what lies beyond the checkpoint is cut off."""

    def __init__(self, path: Path, step: int):
        kept = []
        if path.exists() and step:
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _order(line) < (step, False)]
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self.file = path.open("a", encoding="utf-8")

    def write(self, row: dict) -> None:
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()


def _order(line: str) -> tuple[float, bool]:
    """Where a line stands in time: the held-out look at step s comes before training step s."""
    try:
        row = json.loads(line)
        return row["step"] - (0.5 if row.get("held_out") else 0), False
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf, True  # a line cut short by a kill


class Interrupt:
    """Turns Ctrl-C and SIGTERM into a flag, so that a step is finished and saved before the program ends."""

    def __init__(self):
        self.by: signal.Signals | None = None

    def _note(self, number: int, _frame: object) -> None:
        if self.by:  # asked twice: at once
            raise KeyboardInterrupt("stopped in the middle of a step")
        self.by = signal.Signals(number)

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


def steps_for(
    minutes: float, config: Config, clips: Clips, seed: int, workers: int, make_targets: MakeTargets | None = None
) -> tuple[int, float]:
    """How many steps fit into so many minutes, by timing 30 steps on a throw-away model; and the seconds that took."""
    started = time.perf_counter()
    fabric = make_fabric(config)
    torch.manual_seed(seed)
    model = MAViL(config)
    model, optimiser = fabric.setup(model, make_optimiser(model, config.train))
    ends = []
    stream = training_steps(clips, config.train.batch, seed, workers=workers)
    for step, data in zip(range(TIMED_STEPS), stream, strict=False):
        along = step * config.train.steps // TIMED_STEPS  # steps all along the run: with a ratio schedule they differ in length
        losses, _ = update(fabric, model, optimiser, data, config, seed, along, make_targets)
        float(losses.total)  # waits for a device that computes on its own
        ends.append(time.perf_counter())
    each = median(later - earlier for earlier, later in pairwise(ends))  # the time between two steps' ends: the loader's is in it
    spent = time.perf_counter() - started
    return max(1, int((60 * minutes - spent) * TRAINING_SHARE / each)), spent


def train(
    config: Config,
    clips: Clips,
    held_out: HeldOut,
    run: Path,
    *,
    seed: int = 0,
    workers: int = 0,
    resume: bool = False,
    generation: int = 0,
) -> tuple[MAViL, Progress]:
    """Trains for `config.train.steps` steps, writing checkpoints, `model/`, `metrics.jsonl` and TensorBoard files into `run`.

    The stage is that of the held-out clips' targets: the input's patches, or a teacher's tokens. generation: how many teachers came
    before; a student never starts from the first weights of one, though their runs have the same seed.
    All that is random in step s follows from the seed and s, so a resumed run goes on as the uninterrupted one would.
    Raises TrainingError where a loss or gradient is not finite, KeyboardInterrupt after Ctrl-C or SIGTERM and a checkpoint.
    """
    from torch.utils.tensorboard import SummaryWriter

    # 1. device, model, optimiser
    fabric = make_fabric(config)
    torch.manual_seed(seed + GENERATION * generation)
    bare = MAViL(config)
    bare_optimiser = make_optimiser(bare, config.train)
    progress = Progress()
    if resume and list_checkpoints(run / "checkpoints"):  # a run killed before its first checkpoint begins again
        progress = Progress(**load_checkpoint(run / "checkpoints", bare, bare_optimiser))
    model, optimiser = fabric.setup(bare, bare_optimiser)

    # 2. what each loss has to beat
    per_round = math.ceil(config.train.batch / config.train.accumulate)
    trivial = {
        "audio_mse": min(held_out.audio_trivial.values()),
        "video_mse": min(held_out.video_trivial.values()),
        "inter": log_b(per_round),
        "intra": log_b(per_round),
    }

    if config.model.target == "teacher":  # both trivial answers of stage 2 stand beside its curve
        sides = (("audio_mse", held_out.audio_trivial), ("video_mse", held_out.video_trivial))
        trivial |= {f"{side}_{answer}": value for side, answers in sides for answer, value in answers.items()}

    # 3. where it is written
    run.mkdir(parents=True, exist_ok=True)
    metrics = MetricsFile(run / "metrics.jsonl", progress.step)
    board = SummaryWriter(run / "tensorboard", purge_step=progress.step)

    def log(row: dict) -> None:
        metrics.write(row)
        for name, value in row.items():
            if name not in ("step", "held_out") and value is not None:
                board.add_scalar(f"{'held_out' if row.get('held_out') else 'training'}/{name}", value, row["step"])

    def look() -> None:
        """Held-out clips."""
        bare.eval()
        row = _row(progress.step, Losses(**{k: v if v is None else torch.tensor(v) for k, v in held_out.losses(bare).items()}), trivial)
        chunk_log_b = log_b(min(64, len(held_out.batch.waveform)))
        log(row | {"inter_trivial": chunk_log_b, "intra_trivial": chunk_log_b, "held_out": True})
        bar.say(f"step {progress.step}, held-out clips: {terms_line(row | {'inter_trivial': chunk_log_b, 'intra_trivial': chunk_log_b})}")
        bare.train()

    def save() -> None:
        save_checkpoint(run / "checkpoints", bare, bare_optimiser, asdict(progress))
        save_model(bare, run / "model")

    # 4. the loop
    stream: Iterator[Step] = training_steps(clips, config.train.batch, seed, progress.drawn, workers)
    started = time.perf_counter() - progress.seconds
    bare.train()
    with ProgressBar("training", config.train.steps, progress.step) as bar, Interrupt().watching() as interrupt:
        try:
            while progress.step < config.train.steps:
                data = next(stream)
                rate = learning_rate(progress.step, config.train)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                losses, norm = update(fabric, model, optimiser, data, config, seed, progress.step, held_out.make_targets)

                progress.seconds = time.perf_counter() - started
                row = _row(progress.step, losses, trivial, lr=rate, gradient_norm=float(norm), seconds=round(progress.seconds, 3))
                if config.objective.ratio_start is not None or config.objective.whole_hidden:
                    now = first_view_at(progress.step, config, seed)
                    row |= {"audio_ratio": now.audio_ratio, "video_ratio": now.video_ratio}
                log(row)
                progress.step += 1
                progress.drawn = data.drawn
                progress.dropped = data.dropped
                progress.skipped_draws += len(data.skipped)
                progress.skipped |= {skip.path: skip.reason for skip in data.skipped}
                bar.update(progress.step, terms_line(row))
                last = progress.step == config.train.steps
                if progress.step % config.train.evaluate_every == 0 or last:
                    look()
                if progress.step % config.train.save_every == 0 or last or interrupt.by:
                    save()
                if interrupt.by and not last:
                    raise KeyboardInterrupt(f"stopped by {interrupt.by.name} after step {progress.step}")
        finally:
            metrics.close()
            board.close()
    return bare.eval(), progress
