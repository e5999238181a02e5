"""What process 0 writes and shows of a run while it trains; whatever the disk refuses is told in one sentence."""

import errno
import math
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from mavil_edu.checkpoint import list_checkpoints, remove_leftovers, save_checkpoint, save_model
from mavil_edu.config import Config
from mavil_edu.evaluate import HeldOut
from mavil_edu.losses import log_b
from mavil_edu.mavil import Losses, MAViL
from mavil_edu.metrics_file import MetricsFile
from mavil_edu.progress import ProgressBar, terms_line


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to do."""


def random_states(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of torch's own generators, for a checkpoint; a step draws from none of them: its randomness follows from seed and step."""
    return {"cpu": torch.get_rng_state()} | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _row(step: int, losses: Losses, trivial: dict[str, float], **more: float | None) -> dict:
    terms = {
        ("audio_mse" if name == "audio" else "video_mse" if name == "video" else name): None if value is None else float(value)
        for name, value in losses._asdict().items()
    }
    return {"step": step} | terms | {f"{name}_trivial": value for name, value in trivial.items()} | more


def _trivial(config: Config, held_out: HeldOut) -> dict[str, float]:
    """What each loss has to beat."""
    per_round = math.ceil(config.train.batch / config.train.accumulate)  # of all processes
    trivial = {
        "audio_mse": min(held_out.audio_trivial.values()),
        "video_mse": min(held_out.video_trivial.values()),
        "inter": log_b(per_round),
        "intra": log_b(per_round),
    }
    if config.model.target == "teacher":  # both trivial answers of stage 2 stand beside its curve
        sides = (("audio_mse", held_out.audio_trivial), ("video_mse", held_out.video_trivial))
        trivial |= {f"{side}_{answer}": value for side, answers in sides for answer, value in answers.items()}
    return trivial


@contextmanager
def writing(run: Path) -> Iterator[None]:
    """Where a run's folder is written: what the disk refuses becomes a TrainingError with the way out."""
    try:
        yield
    except OSError as error:
        saved = list_checkpoints(run / "checkpoints")
        kept = (
            f"The last checkpoint, {saved[-1].name}, is whole: go on from it" if saved else "No checkpoint had been saved yet: begin again"
        )
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or re.search(r"no space|too large|quota", str(error), re.IGNORECASE)
        what = "there is no space left for it" if full else "writing is refused"
        raise TrainingError(f"{run} cannot be written: {what} ({error}). {kept} with --resume, once that is mended.") from error


def _tensorboard(folder: Path, first: int) -> Any:
    """A writer of TensorBoard files; None, told in a line, where TensorBoard is not installed: `metrics.jsonl` has all of it too."""
    if find_spec("tensorboard") is None:
        print("TensorBoard is not installed: the curves stand in metrics.jsonl alone.", file=sys.stderr)
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder, purge_step=first)


class Logbook:
    """What process 0 writes and shows of a run: `metrics.jsonl`, TensorBoard files, a bar, held-out clips, checkpoints, `model/`."""

    def __init__(self, run: Path, config: Config, held_out: HeldOut, model: MAViL, first: int):
        """first: the step that a resumed run goes on with."""
        self.run, self.held_out, self.model, self.trivial = run, held_out, model, _trivial(config, held_out)
        with writing(run):
            run.mkdir(parents=True, exist_ok=True)
            remove_leftovers(run)
            self.metrics = MetricsFile(run / "metrics.jsonl", first)
            self.board = _tensorboard(run / "tensorboard", first)
        self.bar = ProgressBar("training", config.train.steps, first)

    def __enter__(self) -> "Logbook":
        self.bar.__enter__()
        self.hook, threading.excepthook = threading.excepthook, self._in_thread
        return self

    def __exit__(self, *_) -> None:
        self.bar.__exit__()
        try:
            with writing(self.run):
                self.metrics.close()
                if self.board:
                    try:
                        self.board.flush()  # raises what the thread that writes TensorBoard's files has met
                    finally:
                        self.board.close()
        finally:
            threading.excepthook = self.hook

    def _in_thread(self, met: threading.ExceptHookArgs) -> None:
        """Keeps the errors of the disk in TensorBoard's own thread from being shown: the board's next call raises them again."""
        if not (issubclass(met.exc_type, OSError) and type(met.thread).__module__.startswith("tensorboard")):
            self.hook(met)

    def _log(self, row: dict) -> None:
        with writing(self.run):
            self.metrics.write(row)
            for name, value in row.items() if self.board else ():
                if name not in ("step", "held_out") and value is not None:
                    self.board.add_scalar(f"{'held_out' if row.get('held_out') else 'training'}/{name}", value, row["step"])

    def step(self, step: int, losses: Losses, more: dict[str, float | None]) -> None:
        """A training step."""
        row = _row(step, losses, self.trivial, **more)
        self._log(row)
        self.bar.update(step + 1, terms_line(row))

    def look(self, step: int) -> float:
        """Held-out clips after `step` steps; returns their total loss."""
        self.model.eval()
        losses = self.held_out.losses(self.model)
        row = _row(step, Losses(**{k: v if v is None else torch.tensor(v) for k, v in losses.items()}), self.trivial)
        chunk_log_b = log_b(min(64, len(self.held_out.batch.waveform)))
        row |= {"inter_trivial": chunk_log_b, "intra_trivial": chunk_log_b}
        self._log(row | {"held_out": True})
        self.bar.say(f"step {step}, held-out clips: {terms_line(row)}")
        self.model.train()
        return losses["total"]

    def save(self, optimiser: torch.optim.Optimizer, state: dict, fabric: Fabric) -> None:
        """`model/`, and a checkpoint, as `save_checkpoint` takes it."""
        scaler = fabric.strategy.precision.state_dict()  # of 16-mixed; empty otherwise
        with writing(self.run):
            self.metrics.to_disk()
            save_model(self.model, self.run / "model")  # before: a run that is killed in between writes it again when it is resumed
            state = state | {"scaler": scaler}
            save_checkpoint(self.run / "checkpoints", self.model, optimiser, state, random_states(fabric.device))
