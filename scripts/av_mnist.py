"""What the preset `digits` learns of spoken and written digits without their labels: the numbers of docs/small-scale.md.

    MAVIL_DATA=… python scripts/av_mnist.py --seeds 0 1 2             # some ten minutes a seed on two cores
    MAVIL_DATA=… python scripts/av_mnist.py --steps 500 1000 4000     # a curve against steps
    MAVIL_DATA=… python scripts/av_mnist.py --seeds 0 --set model.decoder.depth=2 --runs runs/two --out trial.json    # one trial

Pre-trains on the 1,500 training pairs of the speaker-disjoint protocol and fits a linear probe on the same pairs' embeddings, which
is scored on the 1,000 test pairs of other speakers and writers. A run that is there already is not run again.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from mavil_edu.config import digits
from mavil_edu.files import write_json

BARS = {"audio": 0.831, "video": 0.890, "fused": 0.958}  # logistic regression on raw features; fused: the sum of its log-probabilities


def mavil(*arguments: object) -> str:
    return subprocess.run([sys.executable, "-m", "mavil_edu", *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout


def one(data: Path, run: Path, seed: int, steps: int, preset: str, changes: list[str]) -> dict:
    if not (run / "summary.json").exists():
        options = [part for change in changes for part in (f"--config.{change.partition('=')[0]}", *change.partition("=")[2].split())]
        mavil("pretrain", "--data", data, "--preset", preset, "--seed", seed, "--steps", steps, "--out", run, *options)
    summary = json.loads((run / "summary.json").read_text())
    card = json.loads(mavil("probe", "--checkpoint", run, "--data", data, "--column", "digit", "--method", "linear", "--json"))
    probes = {row["modality"]: {name: score["value"] for name, score in row["scores"].items()} for row in card["probes"]}
    return {"seed": seed, "steps": summary["steps"], "seconds": summary["seconds"], "probes": probes}


def table(rows: list[dict]) -> str:
    kinds = list(dict.fromkeys(kind for row in rows for part in row["probes"].values() for kind in part))
    lines = ["| digit from | " + " | ".join(kinds) + " | to beat |", "|---" * (len(kinds) + 2) + "|"]
    for modality, bar in BARS.items():
        cells = []
        for kind in kinds:
            values = [100 * row["probes"][modality][kind] for row in rows if kind in row["probes"][modality]]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}" if values else "")
        lines.append(f"| {modality}, % | " + " | ".join(cells) + f" | {100 * bar:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, nargs="+", default=[digits().train.steps], help="several give a curve")
    parser.add_argument("--preset", default="digits")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help='numbers of the config, such as "train.augment.speed=0.9 1.1"'
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MAVIL_DATA", ".")) / "av_mnist")
    parser.add_argument("--runs", type=Path, default=Path("runs/av-mnist"))
    parser.add_argument("--out", type=Path, default=Path("docs/av-mnist.json"))
    asked = parser.parse_args()
    if asked.set and asked.out == parser.get_default("out"):
        raise SystemExit("Results of --set belong into a file of their own: give --out, and --runs.")
    results = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    for steps in asked.steps:
        rows = [one(asked.data, asked.runs / f"{steps}-{seed}", seed, steps, asked.preset, asked.set) for seed in asked.seeds]
        results[str(steps)] = rows
        write_json(asked.out, dict(sorted(results.items(), key=lambda part: int(part[0]))))
        print(f"{steps} steps\n{table(rows)}", flush=True)


if __name__ == "__main__":
    main()
