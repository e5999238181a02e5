"""What `tiny` learns in minutes on two CPU cores, beside every control: the numbers of docs/small-scale.md.

    python scripts/small_scale.py                                   # everything, about 90 minutes on two quiet cores
    python scripts/small_scale.py --only full --seeds 0 --minutes 5  # a part; its rows are replaced in the file, the others stay
    python scripts/small_scale.py --only full --seeds 0 --steps 3800 --set objective.alpha=0.2 --out trial.json   # one trial

Each condition trains the preset for the same minutes on generated clips and is scored on 500 others; probes are fitted on 2,000
more. Results go to docs/small-scale.json, whose rows `--table` prints as Markdown: mean ± standard deviation over seeds.
"""

import argparse
import json
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import torch

from mavil_edu import MAViL, small, tiny
from mavil_edu.checkpoint import write_json
from mavil_edu.config import Config, from_dict, to_dict
from mavil_edu.data.batch import Batch, Clips, evaluation_batch
from mavil_edu.data.shuffled import ShuffledPairs
from mavil_edu.data.source import Data
from mavil_edu.data.world import World
from mavil_edu.probes import features, probe, raw_features
from mavil_edu.run import machine, pretrain, versions
from mavil_edu.scorecard import collapse

TRAINING, HELD_OUT, PROBE = 1, 2, 3  # seeds of the worlds; no clip is in two of them
CLIPS, HELD_OUT_CLIPS, PROBE_CLIPS = 7500, 500, 2000
COLUMNS = {
    "audio": ("material", "size", "event", "beat", "ambience", "room"),
    "video": ("material", "size", "event", "beat", "background", "place"),
}
PRESETS = {"tiny": tiny, "small": small}


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
    """By name: the config, and what is special about the clips."""

    def objective(**changes: float) -> Config:
        return replace(config, objective=replace(config.objective, **changes))

    return {
        "full": (config, {}),
        "shuffled pairs": (config, {"shuffled": True}),
        "contrast alone": (objective(reconstruction=0.0), {}),
        "reconstruction alone": (objective(alpha=0.0, beta=0.0, inter_views=1), {}),
        "hard world": (config, {"difficulty": "hard"}),
        "easy world": (config, {"difficulty": "easy"}),
    }


def world(clips: int, seed: int, config: Config, cache: Path, difficulty: str) -> World:
    return World(clips, seed, config.model, config.train.augment, difficulty=difficulty, cache=cache)


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


def one(name: str, config: Config, clips: dict, seed: int, minutes: float | None, runs: Path) -> dict:
    """Trains and scores one condition with one seed."""
    difficulty = clips.get("difficulty", "default")
    cache = runs / "cache"
    training, held, fitted = (
        world(count, world_seed, config, cache, difficulty)
        for count, world_seed in ((CLIPS, TRAINING), (HELD_OUT_CLIPS, HELD_OUT), (PROBE_CLIPS, PROBE))
    )
    shown = ShuffledPairs(training, seed) if clips.get("shuffled") else training
    run = runs / f"{name.replace(' ', '-')}-{seed}"
    shutil.rmtree(run, ignore_errors=True)
    data = Data(shown, held, held_out=True, skipped=[])
    summary = pretrain(data, config, run, seed=seed, minutes=minutes, workers=0, resume=False, origin={"data": f"{CLIPS} generated clips"})
    model = MAViL.from_pretrained(run)
    batches = [evaluation_batch(part)[0] for part in (fitted, held)]
    ours = tuple(features(model, batch) for batch in batches)
    return {
        "steps": summary["steps"],
        "seconds": summary["seconds"],
        "audio": summary["audio"],
        "video": summary["video"],
        "retrieval": summary["retrieval"],
        "probes": scores(ours, fitted, held),
        "collapse": collapse(ours[1]),
    }


def baselines(config: Config, runs: Path, seeds: list[int]) -> dict[str, list[dict]]:
    """The same probes on raw features and on encoders that were never trained."""
    held, fitted = (world(n, seed, config, runs / "cache", "default") for n, seed in ((HELD_OUT_CLIPS, HELD_OUT), (PROBE_CLIPS, PROBE)))
    batches: list[Batch] = [evaluation_batch(part)[0] for part in (fitted, held)]
    raw = tuple(raw_features(batch, config.model) for batch in batches)
    rows = {"raw features": [{"probes": scores(raw, fitted, held)}], "untrained": []}
    for seed in seeds:
        torch.manual_seed(seed)
        model = MAViL(config).eval()
        rows["untrained"].append({"probes": scores(tuple(features(model, batch) for batch in batches), fitted, held)})
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="tiny")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, for each run")
    parser.add_argument("--steps", type=int, help="of training, in place of minutes")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="numbers of the config, such as objective.alpha=0.2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the full condition; the others take the first")
    parser.add_argument("--only", nargs="+", default=[], help="conditions, or 'baselines'")
    parser.add_argument("--runs", type=Path, default=Path("runs/small-scale"))
    parser.add_argument("--out", type=Path, default=Path("docs/small-scale.json"))
    parser.add_argument("--table", action="store_true", help="print the stored results and stop")
    arguments = parser.parse_args()

    config = changed(PRESETS[arguments.preset](), arguments.set)
    if arguments.steps:
        config = replace(config, train=replace(config.train, steps=arguments.steps))
    minutes = None if arguments.steps else arguments.minutes
    stored = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"results": {}}
    if arguments.table:
        print(table(stored["results"]))
        return
    wanted = conditions(config)
    if unknown := set(arguments.only) - set(wanted) - {"baselines"}:
        parser.error(f"no such condition: {', '.join(sorted(unknown))}; choose from {', '.join([*wanted, 'baselines'])}")

    def keep(rows: dict[str, list[dict]]) -> None:
        stored["results"] |= rows
        stored["minutes"], stored["versions"], stored["machine"] = minutes, versions(), machine(torch.device("cpu"))
        write_json(arguments.out, stored)

    if not arguments.only or "baselines" in arguments.only:
        keep(baselines(config, arguments.runs, arguments.seeds))
    for name, (run_config, clips) in wanted.items():
        if arguments.only and name not in arguments.only:
            continue
        seeds = arguments.seeds if name in ("full", "shuffled pairs") else arguments.seeds[:1]
        keep({name: [one(name, run_config, clips, seed, minutes, arguments.runs) for seed in seeds]})
    print(table(stored["results"]))


if __name__ == "__main__":
    main()
