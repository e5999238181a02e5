"""What `tiny` learns in minutes on two CPU cores, beside every control: the numbers of docs/small-scale.md.

    python scripts/small_scale.py                                   # everything: 27 runs of a quarter of an hour, one after the other
    python scripts/small_scale.py --jobs 2 --threads 1               # two at a time: the same runs, for steps are counted and not minutes
    python scripts/small_scale.py --only full --seeds 0              # a part; its rows take the place of those that are stored for it
    python scripts/small_scale.py --only full --seeds 0 --steps 2500 --set objective.alpha=0.2 --out trial.json   # one trial

Each condition trains the preset for the same steps on generated clips and is scored on 500 others; probes are fitted on 2,000
more. A run that is already there, of the same config, is not run again. Results go to docs/small-scale.json, whose rows `--table`
prints as Markdown: mean ± standard deviation over seeds. `--paired full "stage 2"` prints the second minus the first instead, seed by
seed, with the 95 % interval of the mean by Student's t.
"""

import argparse
import json
import shutil
import statistics
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch
from scipy.stats import t

from mavil_edu import MAViL
from mavil_edu.config import PRESETS, Config, from_dict, to_dict
from mavil_edu.data.batch import Batch, Clips, evaluation_batch
from mavil_edu.data.shuffled import ShuffledPairs
from mavil_edu.data.source import Data
from mavil_edu.data.world import VERSION, World
from mavil_edu.evaluate import input_chunks
from mavil_edu.files import write_json
from mavil_edu.probes import features, probe, raw_features
from mavil_edu.run import machine, pretrain, versions
from mavil_edu.scorecard import collapse

TRAINING, HELD_OUT, PROBE = 1, 2, 3  # seeds of the worlds; no clip is in two of them
CLIPS, HELD_OUT_CLIPS, PROBE_CLIPS = 7500, 500, 2000
COLUMNS = {
    "audio": ("material", "size", "event", "beat", "ambience", "room"),
    "video": ("material", "size", "event", "beat", "background", "place"),
}


def changed(config: Config, changes: list[str]) -> Config:
    """The config with some of its numbers set, each given as "objective.alpha=0.2"; values are read as JSON."""
    values = to_dict(config)
    for change in changes:
        name, _, value = change.partition("=")
        *path, last = name.split(".")
        place = values
        for part in path:
            place = place[part]
        if last not in place:
            raise SystemExit(f"There is no {name} in the config.")
        place[last] = json.loads(value)
    return from_dict(Config, values)


def conditions(config: Config) -> dict[str, tuple[Config, dict]]:
    """By name: the config, and what is special about the clips or the targets: a teacher is the run of another condition, same seed."""

    def objective(**changes: float) -> Config:
        return replace(config, objective=replace(config.objective, **changes))

    return {
        "full": (config, {}),
        "shuffled pairs": (config, {"shuffled": True}),
        "contrast alone": (objective(reconstruction=0.0), {}),
        "inter-modal contrast alone": (objective(reconstruction=0.0, beta=0.0, inter_views=1), {}),
        "reconstruction alone": (objective(alpha=0.0, beta=0.0, inter_views=1), {}),
        "hard world": (config, {"difficulty": "hard"}),
        "easy world": (config, {"difficulty": "easy"}),
        "bottleneck fusion": (replace(config, model=replace(config.model, fusion_kind="bottleneck")), {}),
        "stage 2": (config, {"teacher": "full"}),
    }


def world(clips: int, seed: int, config: Config, cache: Path, difficulty: str) -> World:
    return World(clips, seed, config.model, config.train.augment, difficulty=difficulty, cache=cache)


@torch.no_grad()
def with_projections(model: MAViL, batch: Batch) -> dict[str, torch.Tensor]:
    """`features`, and what InfoNCE compares: "audio, projection" and "video, projection", (b, e) each, of length 1."""
    found = features(model, batch)
    encoded = [model.encode(inputs.audio, inputs.video) for _, inputs in input_chunks(batch, model.config, torch.device("cpu"))]
    for modality in ("audio", "video"):
        found[f"{modality}, projection"] = torch.cat([getattr(one, f"{modality}_projection") for one in encoded])
    return found


def scores(sets: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]], fitted: Clips, held: Clips) -> dict[str, dict]:
    """A linear probe of each column: by "column from modality" the score, its standard error over clips, chance."""
    train, test = sets
    found = {}
    for modality, columns in COLUMNS.items():
        for name in [key for key in train if key.split(",")[0] == modality]:
            for column in columns:
                score = probe(train[name], fitted.labels[column], test[name], held.labels[column])
                found[f"{column} from {name}"] = {"value": score.value, "error": score.error, "chance": score.chance}
    return found


def folder(name: str, seed: int, runs: Path) -> Path:
    return runs / f"{name.replace(' ', '-')}-{seed}"


def _same(asked: dict, stored: dict) -> bool:
    """Whether a stored run is the one that is asked for; a field that its config did not have yet is at its default."""
    try:
        return asked == stored | {"config": to_dict(from_dict(Config, stored["config"]))}
    except ValueError:  # a field that is no more
        return False


def one(name: str, config: Config, special: dict, seed: int, minutes: float | None, runs: Path) -> dict:
    """Trains and scores one condition with one seed, or reads what an earlier call found with the same config."""
    run = folder(name, seed, runs)
    asked = {"config": to_dict(config), "clips": [CLIPS, HELD_OUT_CLIPS, PROBE_CLIPS], "world": VERSION, "minutes": minutes}
    stored = run / "row.json"
    if stored.exists() and _same(asked, (found := json.loads(stored.read_text()))["asked"]):
        return found["row"]
    difficulty = special.get("difficulty", "default")
    training, held, fitted = worlds(config, runs, difficulty)
    shown = ShuffledPairs(training, seed) if special.get("shuffled") else training
    teacher = str(folder(special["teacher"], seed, runs)) if "teacher" in special else None
    begun = run.with_suffix(".asked.json")
    goes_on = begun.exists() and _same(asked, json.loads(begun.read_text())["asked"]) and any(run.glob("checkpoints/*/state.json"))
    if not goes_on:  # what was interrupted goes on from its last checkpoint; anything else starts afresh
        shutil.rmtree(run, ignore_errors=True)
        write_json(begun, {"asked": asked})
    data = Data(shown, held, held_out=True, skipped=[])
    origin = {"data": f"{CLIPS} generated clips"}
    summary = pretrain(data, config, run, seed=seed, minutes=minutes, workers=0, resume=goes_on, origin=origin, teacher=teacher)
    model = MAViL.from_pretrained(run)
    batches = [evaluation_batch(part)[0] for part in (fitted, held)]
    ours = tuple(with_projections(model, batch) for batch in batches)
    row = {
        "seed": seed,
        "steps": summary["steps"],
        "seconds": summary["seconds"],
        "audio": summary["audio"],
        "video": summary["video"],
        "retrieval": summary["retrieval"],
        "probes": scores(ours, fitted, held),
        "collapse": collapse(ours[1]),
    }
    write_json(stored, {"asked": asked, "row": row})
    return row


def worlds(config: Config, runs: Path, difficulty: str) -> list[World]:
    """The clips trained on, the held-out ones, and those that probes are fitted on; rendered once, kept in a file."""
    cache = runs.parent / "cache"
    parts = ((CLIPS, TRAINING), (HELD_OUT_CLIPS, HELD_OUT), (PROBE_CLIPS, PROBE))
    return [world(count, seed, config, cache, difficulty) for count, seed in parts]


def baselines(config: Config, runs: Path, seeds: list[int]) -> dict[str, list[dict]]:
    """The same probes on raw features and on encoders that were never trained."""
    _, held, fitted = worlds(config, runs, "default")
    batches: list[Batch] = [evaluation_batch(part)[0] for part in (fitted, held)]
    raw = tuple(raw_features(batch, config.model) for batch in batches)
    rows = {"raw features": [{"probes": scores(raw, fitted, held)}], "untrained": []}
    for seed in seeds:
        torch.manual_seed(seed)
        model = MAViL(config).eval()
        rows["untrained"].append({"probes": scores(tuple(with_projections(model, batch) for batch in batches), fitted, held)})
    return rows


def _gain(part: dict) -> float:
    return 100 * (1 - part["masked_mse"] / part["best_trivial_mse"])


def numbers(row: dict) -> dict[str, float]:
    """A run's numbers for the table, by name; in per cent but for the steps and R²."""
    found: dict[str, float] = {}
    if "audio" in row:
        found |= {
            "steps": row["steps"],
            "audio MSE below trivial, %": _gain(row["audio"]),
            "video MSE below trivial, %": _gain(row["video"]),
        }
        for way, label in (("audio_to_video", "audio→video"), ("video_to_audio", "video→audio")):
            found |= {f"R@{k} {label}, %": 100 * row["retrieval"][way][f"r{k}"] for k in (1, 5)}
    for name, score in row["probes"].items():
        quantity = name.split(" ")[0] in ("size", "beat", "room", "place")
        found[f"{name}, {'R²' if quantity else '%'}"] = score["value"] * (1 if quantity else 100)
    return found


def table(results: dict[str, list[dict]]) -> str:
    """The results as Markdown: a row a number, a column a condition."""
    columns = {name: [numbers(row) for row in rows] for name, rows in results.items() if rows}
    names = list(dict.fromkeys(number for rows in columns.values() for row in rows for number in row))
    lines = ["| | " + " | ".join(f"{name} ({len(rows)})" for name, rows in columns.items()) + " |", "|---" * (len(columns) + 1) + "|"]
    for number in names:
        cells = []
        for rows in columns.values():
            values = [row[number] for row in rows if number in row]
            digits = 0 if number == "steps" else 2 if "R²" in number else 1
            spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.{digits}f}{spread}" if values else "")
        lines.append(f"| {number} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def paired(results: dict[str, list[dict]], first: str, second: str) -> str:
    """The second condition minus the first, over the seeds that both have, as Markdown; bold where the interval leaves out 0."""
    one, other = ({row["seed"]: numbers(row) for row in results.get(name, [])} for name in (first, second))
    seeds = sorted(one.keys() & other.keys())
    if len(seeds) < 2:
        raise SystemExit(f"{first} and {second} need two seeds in common; they have {len(seeds)}.")
    lines = [f"| | {first} | {second} | difference ({len(seeds)} seeds) |", "|---|---|---|---|"]
    for number in one[seeds[0]]:
        if number == "steps":
            continue
        before, after = ([rows[seed][number] for seed in seeds] for rows in (one, other))
        differences = [b - a for a, b in zip(before, after, strict=True)]
        middle, half = statistics.mean(differences), t.ppf(0.975, len(seeds) - 1) * statistics.stdev(differences) / len(seeds) ** 0.5
        digits = 2 if "R²" in number else 1
        said = f"{middle:+.{digits}f} ± {half:.{digits}f}"
        told = abs(middle) > half
        cells = [number, f"{statistics.mean(before):.{digits}f}", f"{statistics.mean(after):.{digits}f}", f"**{said}**" if told else said]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def arguments_of(command_line: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="tiny")
    parser.add_argument("--steps", type=int, help="of training, for each run; by default the preset's")
    parser.add_argument("--minutes", type=float, help="of training, in place of steps")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="numbers of the config, such as objective.alpha=0.2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=[], help="conditions, or 'baselines'")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, help="of each run; by default as many as torch takes")
    parser.add_argument("--runs", type=Path, default=Path("runs/small-scale"))
    parser.add_argument("--out", type=Path, default=Path("docs/small-scale.json"))
    parser.add_argument("--table", action="store_true", help="print the stored results and stop")
    parser.add_argument("--paired", nargs=2, metavar="CONDITION", help="print the second minus the first, and stop")
    found = parser.parse_args(command_line)
    found.config = changed(PRESETS[found.preset](), found.set)
    if found.steps:
        found.config = replace(found.config, train=replace(found.config.train, steps=found.steps))
    if unknown := set(found.only) - set(conditions(found.config)) - {"baselines"}:
        parser.error(f"no such condition: {', '.join(sorted(unknown))}; choose from {', '.join([*conditions(found.config), 'baselines'])}")
    return found


def main() -> None:
    asked = arguments_of()
    stored = json.loads(asked.out.read_text()) if asked.out.exists() else {"results": {}}
    if asked.table or asked.paired:
        print(paired(stored["results"], *asked.paired) if asked.paired else table(stored["results"]))
        return
    wanted = {name: part for name, part in conditions(asked.config).items() if not asked.only or name in asked.only}
    order = [*conditions(asked.config), "raw features", "untrained"]
    stored |= {"versions": versions(), "machine": machine(torch.device("cpu")), "steps": asked.config.train.steps, "minutes": asked.minutes}

    def keep(rows: dict[str, list[dict]]) -> None:
        results = stored["results"] | rows
        stored["results"] = {name: results[name] for name in order if name in results}
        write_json(asked.out, stored)

    if not asked.only or "baselines" in asked.only:
        keep(baselines(asked.config, asked.runs, asked.seeds))
    for difficulty in {special.get("difficulty", "default") for _, special in wanted.values()}:
        worlds(asked.config, asked.runs, difficulty)  # before several runs ask for them at once
    rows: dict[str, list[dict]] = {name: [] for name in wanted}
    start = (asked.threads,) if asked.threads else (torch.get_num_threads(),)
    with ProcessPoolExecutor(asked.jobs, get_context("spawn"), torch.set_num_threads, start) as pool:
        for taught in (False, True):  # students after all teachers
            pending = {
                pool.submit(one, name, *wanted[name], seed, asked.minutes, asked.runs): name
                for seed in asked.seeds  # all conditions of a seed before the next
                for name in wanted
                if ("teacher" in wanted[name][1]) == taught
            }
            for done in as_completed(pending):
                rows[pending[done]].append(done.result())
                rows[pending[done]].sort(key=lambda row: row["seed"])
                keep({pending[done]: rows[pending[done]]})
    print(table(stored["results"]))


if __name__ == "__main__":
    main()
