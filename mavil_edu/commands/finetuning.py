"""The command that trains a model on labels: finetune."""

import json as json_module
from pathlib import Path
from typing import Literal

import tyro

from mavil_edu.commands.common import say
from mavil_edu.recipe import FinetuneConfig

SMALL = FinetuneConfig()


def tell(out: Path, summary: dict) -> None:
    """A fine-tuning's verdict in the terminal: its number on test clips beside what needs no fine-tuning."""
    test, trivial, clips = summary["test"], summary["trivial"], summary["clips"]
    several = summary["metric"] == "map"
    label = "mAP" if several else "accuracy"
    error = "" if several else f" ± {100 * test['error']:.1f}"
    say(
        f"{summary['column']}, {summary['arm']}, {summary['modality']}: {label} {100 * test[summary['metric']]:.1f}{error} % on "
        f"{clips['held_out']} test clips; trained on {clips['trained']} labelled clips, {summary['steps']} steps"
    )
    without = f"share of clips that have a class {100 * trivial['map']:.1f} %"
    if not several:
        without = f"the most frequent class {100 * trivial['majority']:.1f} %, chance {100 * trivial['chance']:.1f} %"
    say(f"without looking: {without}")
    for kind, value in (summary["controls"] or {}).items():
        if isinstance(value, dict):
            say(f"a linear probe of the {kind}: {100 * value['value']:.1f} ± {100 * value['error']:.1f} %")
        elif isinstance(value, str):
            say(f"a linear probe of the {kind}: none. {value}")
    say(f"Each clip's scores are in {out / 'predictions.csv'}, pictures in {out / 'figures'}, the model in {out / 'model'}.")


def finetune(
    data: str,
    out: Path,
    checkpoint: str = "tiny",
    modality: Literal["both", "audio", "video"] | None = None,
    column: str | None = None,
    labels: float = 1.0,
    frozen: tyro.conf.FlagCreatePairsOff[bool] = False,
    from_scratch: tyro.conf.FlagCreatePairsOff[bool] = False,
    balanced: tyro.conf.FlagCreatePairsOff[bool] = False,
    loss: Literal["ce", "bce"] | None = None,
    test_data: Path | None = None,
    list: Path | None = None,
    test_list: Path | None = None,
    classes: Path | None = None,
    fold: int = 5,
    clips: int = 2000,
    recipe: Literal["small", "paper"] = "small",
    steps: int | None = None,
    seed: int = 0,
    workers: int = 0,
    min_seconds: float = 1.0,
    controls: tyro.conf.FlagCreatePairsOff[bool] = True,
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
    config: FinetuneConfig = SMALL,
) -> None:
    """Trains a pre-trained model on labels, and tests it once, beside the answers that need no fine-tuning.

    Example: mavil-edu finetune --data av_mnist --checkpoint runs/digits --labels 0.1 --out runs/few-labels

    Example: mavil-edu finetune --data av_mnist --checkpoint runs/digits --labels 0.1 --from-scratch --out runs/control

    Example: mavil-edu finetune --data ESC-50 --checkpoint runs/mine --fold 1 --out runs/esc50

    Args:
        data: labelled clips: a folder whose sub-folders or labels.csv name their classes, AV-MNIST, ESC-50, Speech Commands, shards, the
            clips of a --list, or "world" for generated ones.
        out: the run's folder, new or empty.
        checkpoint: a run's folder, a model's folder, a name on the Hub, or a file in the layout of the released MAViL; "tiny" comes with
            the package.
        modality: what the classifier reads; by default all that the clips have.
        column: which labels, where there are several.
        labels: the share of the training labels that is used, of each class, at least one clip; validation keeps all of its own.
        frozen: train the classifier alone.
        from_scratch: the control: the same model with fresh weights.
        balanced: draw each class equally often, however rare it is.
        loss: cross-entropy or binary cross-entropy; by default the latter where clips have several classes.
        test_data: a folder of other clips to test on; by default the data set's own test split, else a fifth of the clips.
        list: VGGSound's or AudioSet's CSV file; its train split is trained on.
        test_list: such a file of the test clips, where they have their own.
        classes: the lists' file of class names; by default the one beside them.
        fold: of ESC-50, the one that is tested on; the one before it validates.
        clips: of the generated world, training clips.
        recipe: the recipe to start from, every number of which can be changed by the options below.
        steps: of training at most, in place of the recipe's, with as many looks at validation clips.
        seed: of the fresh weights, the clips drawn, the order, the masks and the mixing.
        workers: processes that decode clips.
        min_seconds: least length of a clip's sound and picture together.
        controls: fit linear probes on raw features and on untrained and pre-trained embeddings.
        json: print the summary as an object too.
        config: the recipe's numbers.
    """
    if frozen and from_scratch:
        raise ValueError("--frozen keeps the pre-trained encoders, --from-scratch has none: give one of them.")

    from mavil_edu.data.labelled import WORLD, open_task
    from mavil_edu.finetune_run import check_folder, finetune_on, load_start, with_steps

    check_folder(out)
    chosen = with_steps(config, steps)
    pretrained = load_start(checkpoint)
    task = open_task(
        data,
        pretrained.config,
        chosen.train.augment,
        column=column,
        labels=labels,
        balanced=balanced,
        batch=chosen.train.batch,
        seed=seed,
        test_path=test_data,
        listed=list,
        classes=classes,
        test_listed=test_list,
        fold=fold,
        min_seconds=min_seconds,
        world_clips=clips,
    )
    for note in task.notes:
        say(note)
    for entry in task.skipped:
        say(f"left out: {entry['path']}: {entry['reason']}")
    summary = finetune_on(
        task,
        pretrained,
        chosen,
        out,
        classes_from=modality,
        arm="frozen" if frozen else "from scratch" if from_scratch else "fine-tuned",
        bce=None if loss is None else loss == "bce",
        seed=seed,
        workers=workers,
        with_controls=controls,
        origin={"data": data if data == WORLD else str(Path(data)), "checkpoint": checkpoint, "labels": labels, "clips": task.fingerprint},
    )
    if json:
        print(json_module.dumps(summary, indent=1))
    tell(out, summary)
