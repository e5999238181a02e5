"""Does pre-training help where labels are few? Fine-tuned, frozen and from scratch on AV-MNIST, with 1, 10 and 100 % of the labels.

    MAVIL_DATA=… python scripts/finetune_avmnist.py --pretrained runs/digits --seeds 0 1 2 3 4 --threads 1

A run of 400 steps took some 2 to 4 minutes on one thread of a busy machine; arms × shares × seeds × rates of them are made.
The arms share the architecture, the labelled clips of a seed, their order, the steps and the validation clips. Each arm chooses its
learning rate among the same --rates on the 500 validation clips; the 1,000 test clips (other speakers and writers) are asked of the chosen
run alone for the table. A finished row is not run again. Prints Markdown, and the verdict by a rule fixed here: pre-training helps where
the 95 % interval (t, over seeds, paired) of fine-tuned minus from scratch lies above 0.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import torch

from mavil_edu.data.labelled import open_task
from mavil_edu.files import write_json
from mavil_edu.finetune_run import finetune_on, load_start, with_steps
from mavil_edu.mavil import MAViL
from mavil_edu.recipe import FinetuneConfig
from mavil_edu.run import machine, versions

ARMS = ("fine-tuned", "from scratch", "frozen")


def one(data: Path, name: str, pretrained: MAViL, recipe: FinetuneConfig, run: Path, arm: str, labels: float, seed: int, modality: str):
    """One run's summary; one that is there is read, and one that was stopped begins anew. name: of the pre-trained run."""
    if (run / "summary.json").exists():
        other = json.loads((run / "config.json").read_text(encoding="utf-8"))["checkpoint"]
        if other != name:
            sys.exit(f"{run} began from {other}, not from {name}: give another --runs.")
    else:
        shutil.rmtree(run, ignore_errors=True)
        task = open_task(data, pretrained.config, recipe.train.augment, column="digit", labels=labels, batch=recipe.train.batch, seed=seed)
        with_controls = arm == ARMS[0]  # the same for all arms
        options = {"classes_from": modality, "arm": arm, "seed": seed, "with_controls": with_controls}
        finetune_on(task, pretrained, recipe, run, **options, origin={"checkpoint": name, "data": str(data), "labels": labels})
    return json.loads((run / "summary.json").read_text(encoding="utf-8"))


def interval(values: list[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95 % interval by Student's t; the latter NaN for a single value."""
    from scipy.stats import t

    if len(values) < 2:
        return values[0], math.nan
    return statistics.mean(values), float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def cell(values: list[float]) -> str:
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread}" if values else ""


def table(rows: list[dict]) -> str:
    """Test accuracy by arm and share of labels, mean ± standard deviation over seeds, and what needs no fine-tuning beside it."""
    shares = sorted({row["labels"] for row in rows})
    controls = list(dict.fromkeys(name for row in rows for name in row["controls"]))
    lines = ["| test accuracy, % | " + " | ".join(f"{100 * share:g} % of the labels" for share in shares) + " |"]
    lines.append("|---" * (len(shares) + 1) + "|")
    for arm in (arm for arm in ARMS if any(row["arm"] == arm for row in rows)):
        cells = [cell([row["test"] for row in rows if (row["arm"], row["labels"]) == (arm, share)]) for share in shares]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    for name in controls:
        cells = [cell([row["controls"][name] for row in rows if row["labels"] == share and name in row["controls"]]) for share in shares]
        lines.append(f"| linear probe, {name} | " + " | ".join(cells) + " |")
    clips = [next(row["clips"] for row in rows if row["labels"] == share) for share in shares]
    lines.append("| chance | " + " | ".join(["10.0"] * len(shares)) + " |")
    lines.append("| labelled training clips | " + " | ".join(map(str, clips)) + " |")
    return "\n".join(lines)


def verdicts(rows: list[dict]) -> list[str]:
    """A sentence for each share of labels: fine-tuned against from scratch, paired by seed."""
    said = []
    for share in sorted({row["labels"] for row in rows}):
        found = {arm: {row["seed"]: row["test"] for row in rows if (row["arm"], row["labels"]) == (arm, share)} for arm in ARMS[:2]}
        seeds = sorted(set(found[ARMS[0]]) & set(found[ARMS[1]]))
        if not seeds:
            continue
        mean, half = interval([100 * (found[ARMS[0]][seed] - found[ARMS[1]][seed]) for seed in seeds])
        if math.isnan(half):
            outcome = "one seed decides nothing"
        else:
            outcome = "pre-training helps" if mean - half > 0 else "pre-training harms" if mean + half < 0 else "undecided"
        width = "" if math.isnan(half) else f" ± {half:.1f}"
        said.append(
            f"{100 * share:g} % of the labels: fine-tuned minus from scratch {mean:+.1f}{width} points, {len(seeds)} seeds: {outcome}."
        )
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained", required=True, help="a run of `mavil-edu pretrain --preset digits` on AV-MNIST")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--labels", type=float, nargs="+", default=[0.01, 0.1, 1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-3, 6e-3], help="base rates, of which each arm takes its best")
    parser.add_argument("--steps", type=int, default=400, help="at most: early stopping holds for every arm")
    parser.add_argument("--modality", choices=("both", "audio", "video"), default="both")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MAVIL_DATA", ".")) / "av_mnist")
    parser.add_argument("--runs", type=Path, default=Path("runs/finetune-avmnist"))
    parser.add_argument("--out", type=Path, default=Path("docs/finetune-avmnist.json"))
    parser.add_argument("--threads", type=int, help="of torch")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    pretrained, base = load_start(asked.pretrained), with_steps(FinetuneConfig(), asked.steps)
    rows = []
    for seed in asked.seeds:
        for labels in asked.labels:
            for arm in asked.arms:
                tried = {}
                for rate in asked.rates:
                    run = asked.runs / f"{asked.modality}-{asked.steps}" / f"{arm.replace(' ', '-')}-{labels:g}-{seed}-{rate:g}"
                    recipe = replace(base, train=replace(base.train, base_lr=rate))
                    tried[rate] = one(asked.data, asked.pretrained, pretrained, recipe, run, arm, labels, seed, asked.modality)
                rate = max(tried, key=lambda rate: (tried[rate]["validation"]["accuracy"], -tried[rate]["validation"]["loss"]))
                best, controls = tried[rate], next((found["controls"] for found in tried.values() if found["controls"]), {})
                row = {"arm": arm, "labels": labels, "seed": seed, "rate": rate, "modality": asked.modality}
                row |= {"test": best["test"]["accuracy"], "validation": best["validation"]["accuracy"], "map": best["test"]["map"]}
                row |= {"clips": best["clips"]["trained"], "steps": best["steps"], "majority": best["trivial"]["majority"]}
                row |= {"seconds": sum(found["seconds"] for found in tried.values())}
                rows.append(row | {"controls": {k: v["value"] for k, v in controls.items() if isinstance(v, dict)}})
                write_json(
                    asked.out,
                    {
                        "command": " ".join(["python", *sys.argv]),
                        "versions": versions(),
                        "machine": machine(torch.device("cpu")),
                        "rates": asked.rates,
                        "steps": asked.steps,
                        "rows": rows,
                        "verdicts": verdicts(rows),
                    },
                )
                print(f"{row}", file=sys.stderr, flush=True)
    print(table(rows))
    print()
    print("\n".join(verdicts(rows)))


if __name__ == "__main__":
    main()
