"""The whole of one pre-training run, from clips to a report: what stands in a run's folder is decided here."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from lightning_fabric import Fabric

from mavil_edu import report
from mavil_edu.card import model_card
from mavil_edu.checkpoint import versions
from mavil_edu.config import Config, tiny, to_dict
from mavil_edu.data.batch import Batch, Clips, Labels, Skipped, evaluation_batch
from mavil_edu.data.folder import FolderClips, count_clips
from mavil_edu.data.shards import Shards
from mavil_edu.data.shuffled import ShuffledPairs
from mavil_edu.data.source import Data, open_run
from mavil_edu.data.world import World
from mavil_edu.evaluate import HeldOut, position_means
from mavil_edu.examples import write_example
from mavil_edu.files import check_new, write_json, write_text
from mavil_edu.mavil import Masks, MAViL, terms_left_out
from mavil_edu.processes import check_shared, from_first, join, machine, only_first
from mavil_edu.resume import RunError, stored_run
from mavil_edu.start import start_from
from mavil_edu.teacher import Teacher, check_health, health, lineage, load_teacher, remembering, student_config
from mavil_edu.train import make_fabric, steps_for, train, with_shards

MISSING_FILE = "missing.txt"  # in a run's folder: clips that a list names and that were not there
EVALUATION_FILE = "evaluation.json"  # likewise: probes and all else that needs labels, where the clips have some
PROBE_CLIPS, PROBE_COLUMNS = 1000, 6  # training clips that its probes are fitted on, and labels that are asked for, at most
EXAMPLES = 6  # held-out clips shown in a report
EVALUATION_CLIPS = 1000  # held-out clips that are evaluated, at most
MEAN_CLIPS = 512  # training clips over which the position means are taken, at most
TRAINING_WORLD, HELD_OUT_WORLD = 1, 2  # seeds of the demo's generated clips
DEMO_EVALUATION_CLIPS = 200


def _check_run(run: Path, resume: bool) -> None:
    """Raises RunError where the folder is not what a new or a resumed run needs."""
    if resume and not (run / "config.json").exists():
        raise RunError(f"{run} holds no run to resume. Start it without --resume.")
    if not resume and (run / "config.json").exists():
        raise RunError(f"{run} holds a run already. Go on with it by --resume, or give another --out; nothing is overwritten.")
    if not resume:
        check_new(run)


def with_fitting_batch(config: Config, clips: int, processes: int = 1) -> tuple[Config, str | None]:
    """The config with a batch that so many clips make and the processes share, and a sentence where that is another than the config's."""
    if clips >= config.train.batch:
        return config, None
    batch = max(clips - clips % processes, 1)
    note = f"There are {clips} training clips, so the batch is {batch} and not {config.train.batch}."
    return replace(config, train=replace(config.train, batch=batch, accumulate=min(config.train.accumulate, batch))), note


def _check_writable(run: Path) -> None:
    """Raises RunError where a run's folder cannot be made, or nothing can be written into it."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=run) as file:
            file.write(b"written")
    except OSError as error:
        raise RunError(f"{run} cannot be written ({error.strerror or error}). Give --out another folder, or make room there.") from error


def resumed_config(stored: dict, asked: Config) -> Config:
    """The stored run's config; its weights are sharded from now on where that is asked, for a run that turned out too large."""
    return with_shards(stored["config"], stored["config"].train.shard_weights or asked.train.shard_weights)


def _prepare(
    config: Config,
    data: Data,
    run: Path,
    seed: int,
    minutes: float | None,
    workers: int,
    origin: dict,
    teacher: Teacher | None,
    fabric: Fabric,
) -> tuple[Config, float]:
    """Fixes a new run's batch and number of steps, and writes its `config.json`; also the seconds that timing took."""
    config, note = with_fitting_batch(config, len(data.training), fabric.world_size)
    if note and fabric.is_global_zero:
        print(note, file=sys.stderr)
    check_shared(config.train.batch, config.train.accumulate, fabric.world_size)
    only_first(fabric, partial(_check_writable, run))  # before minutes are spent
    timed = 0.0
    if minutes is not None:
        steps, timed = steps_for(minutes, config, data.training, seed, workers, teacher)
        config = replace(config, train=replace(config.train, steps=steps))
        if fabric.is_global_zero:
            print(f"{steps} step{'s' * (steps != 1)} fit{'s' * (steps == 1)} into {minutes:g} minutes.", file=sys.stderr)
            if steps < report.FEW_STEPS:
                print(f"{report.FEW} More fit on a quiet machine, or with more --minutes.", file=sys.stderr)
    stored = {"config": to_dict(config), "seed": seed, "minutes": minutes, "command": ["mavil-edu", *sys.argv[1:]], **origin}
    only_first(fabric, lambda: write_json(run / "config.json", stored))
    return config, timed


def pretrain(
    data: Data,
    config: Config,
    run: Path,
    *,
    seed: int,
    minutes: float | None,
    workers: int,
    resume: bool,
    origin: dict[str, Any],
    teacher: str | None = None,
    allow_collapsed: bool = False,
    start: str | None = None,
) -> dict | None:
    """Trains stage 1, or with a teacher stage 2, and writes a run's folder; returns its summary, in process 0 where there are several.

    data: the clips. run: an empty or new folder, or one to resume, whose own config and seed then hold. minutes: fixes the number
    of steps by timing, in place of the config's. origin: where the clips came from, stored with the run. teacher: a run's folder, a
    model's folder or a name on the Hub; a resumed run has its own. allow_collapsed: also one that answers all clips alike. start: a
    model, named likewise, whose weights stage 1 goes on from.
    Raises RunError, TeacherError or TrainingError with a sentence.
    """
    timed, ancestors, fabric = 0.0, [], join()
    if resume:
        stored = from_first(fabric, partial(stored_run, run))
        config, seed, ancestors = resumed_config(stored, config), stored["seed"], stored.get("lineage", [])
        only_first(fabric, partial(_check_writable, run))
    frozen, fabric = None, make_fabric(config)
    device = fabric.device
    if start is not None and not resume:
        if teacher is not None:
            raise RunError("A student starts from fresh weights; give --start or --teacher, not both.")
        origin = origin | {"start": start}
        fresh = start_from(MAViL(config), start)  # said before minutes are spent
        if fresh and fabric.is_global_zero:
            print(f"Not in {start}, and so fresh: {', '.join(sorted({name.split('.')[0] for name in fresh}))}.", file=sys.stderr)
    if ancestors or teacher is not None:
        source = load_teacher(ancestors[-1]["path"], ancestors[-1]["weights"]) if ancestors else load_teacher(teacher)
        if not resume:
            config = student_config(config, source.config)
            origin = origin | {"lineage": lineage(teacher, source)}
        frozen = Teacher(source, config.objective, remembering(config, data.training, config.model.target_width, device))

    def measured() -> tuple[HeldOut, list[int], list[Skipped]]:
        """The held-out clips, which they are, and what had to be skipped."""
        means_batch, _, _ = evaluation_batch(data.training, MEAN_CLIPS)
        means = position_means(means_batch, config.model, device, frozen)
        if frozen and not allow_collapsed and not resume:
            check_health(health(frozen, means_batch, means, config.model))
        evaluation, kept, skipped = evaluation_batch(data.evaluation, EVALUATION_CLIPS)
        return HeldOut(evaluation, means, config.model, config.objective, make_targets=frozen), kept, skipped

    looked = only_first(fabric, measured)
    if not resume:
        config, timed = _prepare(config, data, run, seed, minutes, workers, origin, frozen, fabric)
    without = terms_left_out(config.model, config.objective)
    for sentence in without if fabric.is_global_zero else []:
        print(sentence, file=sys.stderr)
    generation = len(from_first(fabric, partial(stored_run, run)).get("lineage", []))
    held_out, kept, skipped = looked or (None, [], [])
    model, progress = train(
        config,
        data.training,
        held_out,
        run,
        seed=seed,
        workers=workers,
        resume=resume,
        generation=generation,
        make_targets=frozen,
        start=start,
    )
    if held_out is None:
        return None
    left_out = data.skipped + [{"path": s.path, "reason": s.reason} for s in skipped]
    left_out += [{"path": path, "reason": reason} for path, reason in progress.skipped.items()]
    summary = held_out.summary(model) | {
        "seconds": round(progress.seconds + timed, 1),
        "steps": progress.step,
        "held_out": data.held_out,
        "clips": {
            "trained": len(data.training),
            "held_out": count_clips(data.evaluation, kept),
            "windows": len(kept),
            "missing": len(data.missing),
            "skipped": list({entry["path"]: entry for entry in left_out}.values()),
            "silent_windows": progress.skipped_draws,
            "dropped": progress.dropped,
        },
        "terms_left_out": without,
        "shuffled_pairs": isinstance(data.training, ShuffledPairs),
        "parameters": sum(p.numel() for p in model.parameters()),
        "versions": versions(),
        "machine": machine(device),
        "processes": fabric.world_size,
        "command": " ".join(stored_run(run)["command"]),
    }
    write_json(run / "summary.json", summary)
    write_text(run / "model" / "README.md", model_card(model.config, run.name, run))
    labels = {name: [values[i] for i in kept] for name, values in data.evaluation.labels.items()}
    if labels and data.training.labels:
        write_json(run / EVALUATION_FILE, _scorecard(model, data.training, held_out.batch, labels))
    if data.missing:
        write_text(run / MISSING_FILE, "".join(f"{name}\n" for name in data.missing))
    if frozen is None:  # a student predicts tokens, which cannot be drawn
        write_examples(model, held_out.batch, [data.evaluation.name(i) for i in kept], held_out.masks, run)
    report.write_report(run)
    return summary


def _scorecard(model: MAViL, training: Clips, held_out: Batch, labels: Labels) -> dict:
    """What the embeddings of held-out clips hold, asked by probes that are fitted on training clips; for the first columns."""
    from mavil_edu.scorecard import scorecard  # scikit-learn takes a second to import

    fitted, kept, _ = evaluation_batch(training, PROBE_CLIPS)
    fitted_labels = {name: [values[i] for i in kept] for name, values in training.labels.items()}
    columns = [name for name in labels if name in fitted_labels][:PROBE_COLUMNS]
    classes = [name for name in columns if isinstance(labels[name][0], str)][:1]
    clips = len(held_out.waveform)
    few = clips < report.FEW_CLIPS
    card = scorecard(
        model, fitted, fitted_labels, held_out, labels,
        columns=[] if few else columns, methods=("linear", "knn"), class_columns=[] if few else classes,
    )  # fmt: skip
    why = f"probes take {report.FEW_CLIPS} held-out clips, and there {'is' if clips == 1 else 'are'} {clips}."
    return card | {"left_out": dict.fromkeys(columns, why)} if few else card


def pretrain_on(
    path: Path,
    eval_path: Path | None,
    config: Config,
    run: Path,
    *,
    listed: Path | None = None,
    classes: Path | None = None,
    seed: int = 0,
    minutes: float | None = None,
    workers: int | None = None,
    min_seconds: float = 1.0,
    resume: bool = False,
    shuffled_pairs: bool = False,
    teacher: str | None = None,
    allow_collapsed: bool = False,
    start: str | None = None,
) -> dict | None:
    """`mavil-edu pretrain`: trains on the clips at a path, or goes on with a run; returns its summary, in process 0.

    path, eval_path, listed, classes, min_seconds: as `mavil_edu.data.source.open_run` takes them. shuffled_pairs: the control in which
    each training sound comes with another clip's picture. teacher, allow_collapsed, start: as `pretrain` takes them.
    """

    def opened() -> tuple[Data, Config, int, int, dict[str, Any]]:
        """The clips, the config, the seed, the workers, and where the clips came from."""
        _check_run(run, resume)
        stored = stored_run(run) if resume else {"config": config, "seed": seed}  # the clips, and how they are split, are those of the run
        if shuffled_pairs and resume and not stored.get("shuffled_pairs"):
            raise RunError(f"The run in {run} began with true pairs; resume it without --shuffled-pairs, or begin another.")
        now = resumed_config(stored, config)
        options = {"seed": stored["seed"], "listed": listed, "classes": classes, "min_seconds": min_seconds}
        data = open_run(path, eval_path, now.model, now.train.augment, **options)
        for note in data.notes:
            print(note, file=sys.stderr)
        if resume and stored["clips"] != data.fingerprint:
            raise RunError(f"The clips in {path} are not those that the run in {run} began with; resume it with its own clips.")
        few = len(data.training) <= now.train.batch or not isinstance(data.training, FolderClips | Shards)
        places = {"data": path, "eval_data": eval_path, "list": listed, "classes": classes}
        origin = {name: None if place is None else str(place) for name, place in places.items()} | {"clips": data.fingerprint}
        if shuffled_pairs or stored.get("shuffled_pairs"):
            data, origin = replace(data, training=ShuffledPairs(data.training, stored["seed"])), origin | {"shuffled_pairs": True}
        return data, now, stored["seed"], (0 if few else 1) if workers is None else workers, origin

    data, config, seed, workers, origin = from_first(join(), opened)
    return pretrain(
        data,
        config,
        run,
        seed=seed,
        minutes=minutes,
        workers=workers,
        resume=resume,
        origin=origin,
        teacher=teacher,
        allow_collapsed=allow_collapsed,
        start=start,
    )


def self_train_on(path: Path, run: Path, teacher: str, iterations: int, resume: bool, *arguments: Any, **options: Any) -> list[dict | None]:
    """`mavil-edu pretrain --teacher --iterations K`: each student becomes the next one's teacher; their summaries, in process 0.

    Runs stand in RUN/1 to RUN/K. path, run, options, arguments: as `pretrain_on` takes them. With `resume`, complete iterations stay,
    the one that was broken off goes on, and the others follow.
    """
    summaries, fabric = [], join()
    for k in range(1, iterations + 1):
        place = run / str(k)

        def stands(place: Path = place) -> tuple[dict | None, bool]:
            """The summary of a complete iteration, and whether one has begun."""
            done = place / "summary.json"
            return json.loads(done.read_text(encoding="utf-8")) if done.exists() else None, (place / "config.json").exists()

        done, begun = from_first(fabric, stands) if resume else (None, False)
        if done:
            summaries.append(done)
        else:
            if fabric.is_global_zero:
                print(f"Iteration {k} of {iterations}: {teacher} teaches {place}.", file=sys.stderr)
            summaries.append(pretrain_on(path, *arguments, run=place, teacher=teacher, resume=begun, **options))
        teacher = str(place)
    return summaries


def demo(run: Path, minutes: float | None, clips: int, seed: int, config: Config | None = None) -> dict:
    """`mavil-edu demo`: trains the tiny preset on generated clips, evaluated on clips that it never sees; returns its summary.

    minutes: of training, or None for the config's own number of steps. config: in place of `tiny()`.
    """
    config = config or tiny()
    _set_aside(run)
    worlds = [
        World(number, world_seed, config.model, config.train.augment, cache=run.parent / "cache")
        for number, world_seed in ((clips, TRAINING_WORLD), (DEMO_EVALUATION_CLIPS, HELD_OUT_WORLD))
    ]
    data = Data(*worlds, held_out=True, skipped=[])
    return pretrain(data, config, run, seed=seed, minutes=minutes, workers=0, resume=False, origin={"data": f"{clips} generated clips"})


def _set_aside(run: Path) -> None:
    """Renames an earlier run's folder to the first free RUN-1, RUN-2, …, so that nothing is lost."""
    if run.exists() and any(run.iterdir()):
        kept = next(place for i in count(1) if not (place := run.with_name(f"{run.name}-{i}")).exists())
        run.rename(kept)
        print(f"The earlier run is kept in {kept}.", file=sys.stderr)


def write_examples(model: MAViL, batch: Batch, names: Sequence[str], masks: Masks, run: Path) -> None:
    """Pictures, sounds and videos of some held-out clips into a run's folder, and `examples.json` that lists them."""
    entries = []
    for i in range(min(EXAMPLES, len(names))):
        one = Batch(*(field[i : i + 1] for field in batch))
        entries.append(write_example(model, one, Masks(*(m[i : i + 1] for m in masks)), names[i], f"clip-{i:03d}", run))
    write_json(run / "examples.json", entries)
