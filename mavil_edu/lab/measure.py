"""One run of the lab: an arm and a seed become a row. All arms of a seed begin alike and see the same clips in the same order."""

import hashlib
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mavil_edu.checkpoint import save_model, versions
from mavil_edu.config import AugmentConfig, Config
from mavil_edu.data.avmnist import AVMNIST, is_avmnist
from mavil_edu.data.batch import Clips, evaluation_batch
from mavil_edu.data.labelled import Part, open_task
from mavil_edu.data.loader import training_steps
from mavil_edu.data.shuffled import ShuffledPairs
from mavil_edu.data.world import World
from mavil_edu.evaluate import HeldOut, embed, position_means
from mavil_edu.files import write_json
from mavil_edu.finetune_run import finetune_on, with_steps
from mavil_edu.lab.arms import LABELLED, ROWS, SPLITS, TRAINING, Arm, Budget, Split, command_line, config_of, digest
from mavil_edu.losses import log_b
from mavil_edu.mavil import MAViL
from mavil_edu.optimiser import learning_rate
from mavil_edu.probes import ProbeError, features, probe, raw_features
from mavil_edu.recipe import FinetuneConfig
from mavil_edu.retrieval import retrieval
from mavil_edu.run import MEAN_CLIPS, machine
from mavil_edu.teacher import Teacher, check_health, health, remembering, student_config
from mavil_edu.train import make_fabric, set_up, update
from mavil_edu.transformer import initialise

LOOKS = 6  # at held-out clips, of which the last is the end
COLUMNS = {  # what probes ask; of sound and picture together, the causes of both
    "audio": ("material", "size", "event", "ambience"),
    "video": ("material", "size", "event", "background", "place"),
    "fused": ("material", "size", "event", "ambience", "background", "place"),
}
MICRO_COLUMNS = ("size", "event")  # of those, all that a quick run asks
LABEL_COLUMN = "material"  # of the world, that fine-tuning tells


@dataclass(frozen=True)
class Place:
    """Where the lab reads and writes."""

    rows: Path  # a JSON file a run
    work: Path  # models that other arms need, and generated clips
    av_mnist: Path | None  # AV-MNIST's folder, where there is one


@dataclass(frozen=True)
class Job:
    """One run to be made."""

    arm: Arm
    seed: int
    budget: Budget
    split: Split
    arms: dict[str, Arm]  # all of them, for those that this one needs
    place: Place
    keep: bool  # whether another arm needs its weights

    @property
    def digest(self) -> str:
        return digest(self.arm, self.budget, self.split, self.arms)

    @property
    def row(self) -> Path:
        return self.place.rows / f"{self.digest}-{self.seed}.json"

    @property
    def model(self) -> Path:
        return self.place.work / f"{self.digest}-{self.seed}" / "model"

    @property
    def done(self) -> bool:
        return self.row.exists()

    def __str__(self) -> str:
        return f"{self.arm.name}, seed {self.seed}"

    def other(self, name: str) -> "Job":
        """The run of another arm with the same seed."""
        return replace(self, arm=self.arms[name], keep=True)


def paired_start(config: Config, seed: int, generation: int = 0) -> MAViL:
    """A fresh model whose weights follow from the seed and each module's name: two configs share those of the modules that they share.

    generation: how many teachers came before; a student never begins as its teacher did.
    """
    model = MAViL(config)
    with torch.random.fork_rng(devices=[]):
        for name, module in model.named_modules():
            words = hashlib.sha256(f"{seed} {generation} {name}".encode()).digest()
            torch.manual_seed(int.from_bytes(words[:7], "big"))
            if isinstance(module, nn.Linear | nn.LayerNorm):
                initialise(module)
            else:
                for parameter in module.parameters(recurse=False):  # class, mask and bottleneck tokens
                    nn.init.normal_(parameter, std=0.02)
    return model


def first(clips: Clips, count: int) -> Clips:
    """The first clips of a data set, or all where there are fewer."""
    return clips if count >= len(clips) else Part(clips, list(range(count)), next(iter(clips.labels)))


def training_clips(job: Job, config: Config) -> Clips:
    """What an arm is trained on, without labels' help."""
    count = min(job.arm.clips or job.budget.clips, job.budget.clips)
    if job.arm.data == "av_mnist":
        clips = first(AVMNIST(job.place.av_mnist, "train", config.model, config.train.augment), count)
    else:
        cache = job.place.work / "cache"
        clips = first(World(job.budget.clips, TRAINING, config.model, config.train.augment, cache=cache, quiet=True), count)
    return ShuffledPairs(clips, job.seed) if job.arm.shuffled else clips


def asked_clips(job: Job, config: Config) -> tuple[Clips, Clips]:
    """Held-out clips, and those that probes are fitted on: neither is trained on, and those of "test" were never tuned on."""
    if job.arm.data == "av_mnist":
        held = AVMNIST(job.place.av_mnist, "val" if job.split == "validation" else "test", config.model, AugmentConfig())
        fitted = AVMNIST(job.place.av_mnist, "train", config.model, AugmentConfig())
        return first(held, job.budget.asked), first(fitted, job.budget.fitted)
    counts, cache = (job.budget.asked, job.budget.fitted), job.place.work / "cache"
    parts = zip(counts, SPLITS[job.split], strict=True)
    return tuple(World(count, seed, config.model, AugmentConfig(), cache=cache, quiet=True) for count, seed in parts)


def skills(
    sets: tuple[dict[str, Tensor], dict[str, Tensor]], fitted: Clips, held: Clips, micro: bool = False
) -> tuple[dict[str, float], dict[str, dict]]:
    """What probes read, in points: 0 is chance and 100 perfect, the mean over columns; and each probe by itself."""
    probes, means, (train, test) = {}, {}, sets
    for modality, columns in COLUMNS.items():
        asked = columns if "material" in held.labels else [name for name in held.labels if name == "digit"]
        asked = [name for name in asked if name in MICRO_COLUMNS] if micro and "material" in held.labels else asked
        found = []
        for column in asked:
            try:
                score = probe(train[modality], fitted.labels[column], test[modality], held.labels[column])
            except ProbeError as error:
                raise ValueError(f"{column} from {modality}: {error}") from error
            probes[f"{column} from {modality}"] = {"value": score.value, "error": score.error, "chance": score.chance}
            found.append(100 * (score.value - score.chance) / (1 - score.chance))
        means[f"skill_{modality}"] = sum(found) / len(found)
    return means | {"skill": sum(means.values()) / len(means)}, probes


def multiply_adds(config: Config, clips: Clips, teacher: Teacher | None = None) -> int:
    """Floating-point operations of one step's matrix products, forward and back, a teacher's included."""
    from torch.utils.flop_counter import FlopCounterMode

    fabric = make_fabric(config)
    model, optimiser = set_up(fabric, MAViL(config), config.train)
    with FlopCounterMode(display=False) as counter:
        update(fabric, model, optimiser, next(training_steps(clips, config.train.batch, 0)), config, 0, 0, teacher)
    return counter.get_total_flops()


def matched_steps(job: Job, config: Config, clips: Clips) -> int:
    """The steps in which an arm spends what the arm that it is matched to spends in its own."""
    other = config_of(job.arms[job.arm.compute_of], job.budget)
    share = multiply_adds(other, clips) / multiply_adds(config, clips)
    return max(1, round(other.train.steps * share))


def generation_of(arm: Arm, arms: dict[str, Arm]) -> int:
    return 0 if arm.needs is None else 1 + generation_of(arms[arm.needs], arms)


def _train(job: Job, config: Config, clips: Clips, held: Clips) -> tuple[MAViL, dict]:
    """Trains one arm, with looks at held-out clips on the way; the model and its part of the row."""
    seed, teacher = job.seed + job.arm.shift, None
    if job.arm.needs:
        source = MAViL.from_pretrained(job.other(job.arm.needs).model)
        config = student_config(config, source.config)
        kept = remembering(config, clips, config.model.target_width, torch.device("cpu"))
        teacher = Teacher(source, config.objective, kept)
    means_batch, _, _ = evaluation_batch(clips, min(MEAN_CLIPS, len(clips)))
    means = position_means(means_batch, config.model, torch.device("cpu"), teacher)
    if teacher and job.budget.proves:
        check_health(health(teacher, means_batch, means, config.model))
    looks = HeldOut(evaluation_batch(held)[0], means, config.model, config.objective, make_targets=teacher)
    if job.arm.compute_of:
        config = replace(config, train=replace(config.train, steps=matched_steps(job, config, clips)))
    bare = paired_start(config, seed, generation_of(job.arm, job.arms))
    fabric = make_fabric(config)
    model, optimiser = set_up(fabric, bare, config.train)
    steps, curve, started, looking = config.train.steps, [], time.perf_counter(), 0.0
    at = {round(steps * look / LOOKS) for look in range(LOOKS + 1)}
    stream = training_steps(clips, config.train.batch, seed)
    for step in range(steps + 1):
        if step in at:
            begun = time.perf_counter()
            bare.eval()
            curve.append({"step": step} | {name: value for name, value in looks.losses(bare).items() if value is not None})
            bare.train()
            looking += time.perf_counter() - begun
        if step == steps:
            break
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, config.train)
        update(fabric, model, optimiser, next(stream), config, seed, step, teacher)
    seconds = time.perf_counter() - started - looking
    summary = looks.summary(bare.eval())
    trivial = {name: summary[name]["best_trivial_mse"] for name in ("audio", "video")}
    trivial |= {"inter": log_b(min(64, len(held)))}
    return bare, {"steps": steps, "train_seconds": seconds, "curve": curve, "trivial": trivial, "held_out": summary}


def _scored(job: Job, config: Config) -> dict:
    """The row of an arm that needs no labels to train."""
    held, fitted = asked_clips(job, config)
    batches = [evaluation_batch(part)[0] for part in (fitted, held)]
    if job.arm.kind == "raw":
        raw = [raw_features(batch, config.model) for batch in batches]
        sets = tuple({name: part[f"{name}, mean and std"] for name in ("audio", "video")} for part in raw)
        sets = tuple(part | {"fused": torch.cat([part["audio"], part["video"]], dim=1)} for part in sets)
        metrics, probes = skills(sets, fitted, held, job.budget.micro)
        return {"metrics": metrics, "probes": probes, "steps": 0}
    if job.arm.kind == "untrained":
        model, found = paired_start(config, job.seed).eval(), {"steps": 0}
        ways, metrics = retrieval(*embed(model, batches[1])), {}
    else:
        model, found = _train(job, config, training_clips(job, config), held)
        ways, metrics = found["held_out"]["retrieval"], {}
        if found["held_out"]["target"] != "teacher":
            mses = [found["held_out"][name]["masked_mse"] for name in ("audio", "video")]
            metrics["reconstruction"] = 100 * (1 - sum(mses) / 2)
        if job.keep:
            save_model(model, job.model, name=job.arm.name)
    read, probes = skills(tuple(features(model, batch) for batch in batches), fitted, held, job.budget.micro)
    recall = 50 * sum(ways[way]["r5"] for way in ("audio_to_video", "video_to_audio"))
    metrics |= read | {"retrieval": recall, "overall": (read["skill"] + recall) / 2}
    return found | {"metrics": metrics, "probes": probes, "chance": {"retrieval": 100 * ways["chance_r5"]}}


def _labelled(job: Job, config: Config) -> dict:
    """The row of a classifier, fine-tuned from another arm's weights or from fresh ones; its clips for the test are asked once."""
    budget, arm = job.budget, job.arm
    pretrained = MAViL.from_pretrained(job.other(arm.needs).model) if arm.needs else paired_start(config, job.seed)
    recipe = with_steps(FinetuneConfig(), budget.label_steps)
    if budget.micro:
        recipe = replace(recipe, train=replace(recipe.train, batch=8))
    augment = config.train.augment if arm.data == "world" else recipe.train.augment
    where = "world" if arm.data == "world" else job.place.av_mnist
    column = LABEL_COLUMN if arm.data == "world" else "digit"
    options = {"column": column, "labels": arm.labels, "batch": recipe.train.batch, "seed": job.seed}
    worlds = {"world_clips": budget.labelled, "world_cache": job.place.work / "cache", "world_seeds": LABELLED}
    task = open_task(where, pretrained.config, augment, **options, **worlds)
    run = job.place.work / f"{job.digest}-{job.seed}"
    shutil.rmtree(run, ignore_errors=True)  # of a run that was stopped
    start = "fine-tuned" if arm.needs else "from scratch"
    summary = finetune_on(task, pretrained, recipe, run, arm=start, seed=job.seed, with_controls=False)
    asked = summary["test" if job.split == "test" else "validation"]
    found = {"metrics": {"accuracy": 100 * asked["accuracy"]}, "chance": {"accuracy": 100 * summary["trivial"]["majority"]}}
    shutil.rmtree(run)
    return found | {"steps": summary["steps"], "labelled_clips": len(task.training_values)}


def run_job(job: Job) -> dict:
    """Makes one run and writes its row, whole or not at all; a run that is done is read by the caller instead.

    Raises ValueError with a sentence where the run cannot be made.
    """
    if job.arm.data == "av_mnist" and not (job.place.av_mnist and is_avmnist(job.place.av_mnist)):
        raise ValueError("AV-MNIST is not here: set MAVIL_DATA to the folder that holds av_mnist (made by mavil-edu avmnist).")
    started, config = time.perf_counter(), config_of(job.arm, job.budget)
    found = _labelled(job, config) if job.arm.kind == "labels" else _scored(job, config)
    row = {
        "arm": job.arm.name,
        "seed": job.seed,
        "digest": job.digest,
        "budget": job.budget.name,
        "proves": job.budget.proves,
        "split": job.split,
        "version": ROWS,
        "seconds": round(time.perf_counter() - started, 1),
        **found,
        "command": command_line(),
        "versions": versions(),
        "machine": machine(torch.device("cpu")),
        "cores": os.cpu_count(),
    }
    job.row.parent.mkdir(parents=True, exist_ok=True)
    write_json(job.row, row)
    return row
