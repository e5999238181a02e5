"""What a run of the lab is: an arm, with the budget that it runs at, and the digest by which one run serves several claims."""

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from mavil_edu.config import Config, TransformerConfig, digits, from_dict, tiny, to_dict
from mavil_edu.data.world import VERSION

ROWS = 1  # goes up whenever the same arm would give another row
NULL_SHIFT = 100  # between the seeds of an arm and of its null twin
FRESH_SHIFT = 200  # between the seeds of an arm and of the one that asks the same again
TRAINING = 1  # seed of the world that is trained on
SPLITS = {"validation": (2, 3), "test": (12, 13)}  # seeds of the worlds that are asked, and that probes are fitted on
LABELLED = (211, 212, 213)  # seeds of the worlds that classifiers are trained, stopped and tested on; nothing else uses them
LATER = {  # numbers that a config did not have when the first rows were made: at these values a digest leaves them out
    "model": {"decoder_attention": "self"},
    "objective": {"decoded_share": 1.0},
    "train": {"compile": False, "recompute": False, "shard_weights": False},
}
Kind = Literal["trained", "untrained", "raw", "labels"]
BudgetName = Literal["quick", "standard", "long"]
Split = Literal["validation", "test"]


@dataclass(frozen=True)
class Arm:
    """One recipe of a comparison. Its changes are relative to `tiny()`, or on AV-MNIST to `digits()`; run once a seed."""

    name: str
    changes: tuple[tuple[str, Any], ...] = ()  # ("objective.alpha", 0.0), …
    kind: Kind = "trained"  # or fresh weights; or features that need no model; or a classifier fine-tuned on labels
    data: Literal["world", "av_mnist"] = "world"
    clips: int | None = None  # to train on; None: the budget's
    shuffled: bool = False  # each sound with another clip's picture
    steps: float = 1.0  # times the budget's steps
    compute_of: str | None = None  # the arm whose multiply-adds it spends, in place of its steps
    needs: str | None = None  # the arm that teaches it, or whose weights it is fine-tuned from
    labels: float = 1.0  # share of the labels, for kind "labels"
    shift: int = 0  # added to the seed


@dataclass(frozen=True)
class Budget:
    """How much is spent on a run."""

    name: BudgetName
    steps: int | None  # of pre-training; None: the preset's own
    label_steps: int  # of fine-tuning, at most
    clips: int  # to train on, at most
    asked: int  # held-out clips
    fitted: int  # clips that probes are fitted on
    labelled: int  # clips with labels, for fine-tuning
    seeds: int
    micro: bool = False  # a model too small to learn

    @property
    def proves(self) -> bool:
        """Whether a verdict at this budget means anything."""
        return not self.micro


BUDGETS = {
    "quick": Budget("quick", 3, 2, 96, 48, 72, 60, 2, micro=True),
    "standard": Budget("standard", 600, 300, 7500, 500, 2000, 2000, 5),
    "long": Budget("long", None, 600, 7500, 500, 2000, 2000, 5),
}
QUICK_LABEL = "QUICK BUDGET: a smoke run of a model too small to learn. It proves nothing."


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """The config with some of its numbers set, by names such as "objective.alpha". Raises ValueError where there is no such number."""
    values = to_dict(config)
    for name, value in changes.items():
        *path, last = name.split(".")
        place = values
        for part in path:
            place = place.get(part) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            raise ValueError(f"There is no {name} in the config.")
        place[last] = value
    return from_dict(Config, values)


def command_line() -> str:
    """The command that is running, for whoever wants to run it again; places on this machine alone (absolute paths) are left out."""
    return re.sub(r" --\S+[ =](/|[A-Za-z]:[\\/])\S*", "", " ".join(["mavil-edu", *sys.argv[1:]]))


def config_of(arm: Arm, budget: Budget) -> Config:
    """An arm's config at a budget; steps that follow from another arm's compute are set where the run begins."""
    config = tiny() if arm.data == "world" else digits()
    if budget.micro:
        small = TransformerConfig(width=16, depth=1, heads=2)
        config = replace(config, model=replace(config.model, encoder=small, decoder=small, fusion_depth=1, projection=16))
        config = replace(config, train=replace(config.train, batch=8))
    steps = max(1, round(arm.steps * (budget.steps or config.train.steps)))
    config = replace(config, train=replace(config.train, steps=steps))
    return changed(config, dict(arm.changes))


def _digested(config: Config) -> dict:
    """A config as its digest reads it: without what was added later, where that stands as if it were not there."""
    values = to_dict(config)
    for part, numbers in LATER.items():
        for name, value in numbers.items():
            if values[part][name] == value:
                values[part].pop(name)
    return values


def digest(arm: Arm, budget: Budget, split: Split, arms: Mapping[str, Arm]) -> str:
    """12 letters that follow from everything that decides an arm's rows but the seed, and not from its name.

    arms: all arms by name, for those that it needs or whose compute it spends.
    """
    what = asdict(arm) | {"config": _digested(config_of(arm, budget)), "budget": asdict(budget), "split": SPLITS[split], "world": VERSION}
    for key in ("needs", "compute_of"):
        what[key] = what[key] and digest(arms[what[key]], budget, split, arms)
    for key in ("name", "changes"):
        what.pop(key)
    for key in ("name", "seeds"):
        what["budget"].pop(key)
    return hashlib.sha256(json.dumps([ROWS, what], sort_keys=True).encode()).hexdigest()[:12]
