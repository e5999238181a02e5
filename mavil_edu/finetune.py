"""Labels are used to train: a pre-trained model gets a classifier, on sound, on pictures or on both, and all of it learns (or only that).

The recipe is that of Audio-MAE's and MAViL's fine-tuning as far as it is known: layer-wise learning-rate decay, drop path, mixup,
2-D token masking, class-balanced sampling. Its numbers, with their sources, stand in `recipe.py`.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mavil_edu.classification import loss_of, metrics, probabilities, trivial_answers
from mavil_edu.config import ClassesFrom, ModelConfig
from mavil_edu.data.batch import Sample, Skipped, collate
from mavil_edu.data.labelled import Asked, Task
from mavil_edu.data.loader import evaluation_samples, generator_for, training_steps
from mavil_edu.evaluate import CHUNK
from mavil_edu.layerwise import Arm, make_optimiser, set_drop_path
from mavil_edu.mavil import Masks, MAViL
from mavil_edu.metrics_file import MetricsFile
from mavil_edu.mixing import augmentation_masks, blend, draw_mixing, inputs_of
from mavil_edu.optimiser import learning_rate
from mavil_edu.processes import Interrupt
from mavil_edu.progress import ProgressBar
from mavil_edu.recipe import FinetuneConfig
from mavil_edu.train import TrainingError, check_gradient, make_fabric, told_norm

HEAD_STD = 2e-5  # of the classifier's first weights: at the first step every class is scored alike [A]


def classifier_config(config: ModelConfig, task: Task, classes_from: ClassesFrom, added_fusion: int = 0) -> ModelConfig:
    """A pre-trained model's sizes with a classifier in place of its decoders and projection heads [C]."""
    fusion = config.fusion_depth + (added_fusion if classes_from == "both" else 0)
    return replace(
        config,
        fusion_depth=fusion,
        decoder=None,
        projection=None,
        target="normalised",
        target_width=None,
        predict_statistics=False,
        classes=len(task.classes),
        classes_from=classes_from,
        class_names=tuple(task.classes),
        multi_label=task.multi_label,
    )


def start(pretrained: MAViL, task: Task, classes_from: ClassesFrom, recipe: FinetuneConfig, arm: Arm, seed: int = 0) -> MAViL:
    """The model at its first step: the pre-trained encoders and fusion under a fresh classifier; all fresh for "from scratch".

    Decoders and projection heads are dropped; `added_fusion` blocks are fresh, and a frozen model gets none. Raises ValueError where
    sizes do not fit.
    """
    torch.manual_seed(seed)
    model = MAViL(classifier_config(pretrained.config, task, classes_from, 0 if arm == "frozen" else recipe.added_fusion))
    nn.init.trunc_normal_(model.classifier[1].weight, std=HEAD_STD)
    own = model.state_dict()
    kept = {name: value for name, value in pretrained.state_dict().items() if name in own and not name.startswith("classifier.")}
    if arm == "from scratch":
        kept = {name: value for name, value in kept.items() if name.endswith(".positions")}  # fixed, not learnt
    model.load_state_dict(kept, strict=False)
    return model


class Scored(NamedTuple):
    """Clips and a model's scores of them."""

    places: list[int]  # of those clips that could be scored, in the order of `Asked`
    logits: Tensor  # (n, classes), of the mean probability where a clip has several windows
    scores: Tensor  # (n, classes), in [0, 1]
    skipped: list[Skipped]  # windows that could not be read


@torch.no_grad()
def score(model: MAViL, asked: Asked, bce: bool, workers: int = 0) -> Scored:
    """A model's scores of clips, whole and unchanged: of a clip longer than the window the mean probability over the windows that cover it.

    Raises ValueError where no clip can be read.
    """
    device, config, training = next(model.parameters()).device, model.config, model.training
    sums, counts, skipped = torch.zeros(len(asked.values), config.classes), torch.zeros(len(asked.values)), []
    waiting: list[tuple[int, Sample]] = []

    def flush() -> None:
        if waiting:
            batch = collate([sample for _, sample in waiting]).to(device)
            owners = torch.tensor([asked.owners[number] for number, _ in waiting])
            sums.index_add_(0, owners, probabilities(model.classify(**inputs_of(batch, config)).float(), bce).cpu())
            counts.index_add_(0, owners, torch.ones(len(owners)))
            waiting.clear()

    model.eval()
    try:
        for number, sample in evaluation_samples(asked.windows, workers=workers):
            if isinstance(sample, Skipped):
                skipped.append(sample)
                continue
            waiting.append((number, sample))
            if len(waiting) == CHUNK:
                flush()
        flush()
    finally:
        model.train(training)
    places = counts.nonzero()[:, 0].tolist()
    if not places:
        raise ValueError(f"None of {len(asked.values)} clips can be read. The first: {skipped[0].path}: {skipped[0].reason}")
    scores = sums[places] / counts[places, None]
    safe = scores.clamp(1e-7, 1 - 1e-7)
    return Scored(places, safe.logit() if bce else safe.log(), scores, skipped)


@dataclass(frozen=True)
class Result:
    """A fine-tuned model, and how it came about."""

    model: MAViL  # with the weights that were best on validation clips
    best: dict  # the metrics of that look, and its step
    steps: int  # that were made
    seconds: float
    skipped: dict[str, str]  # path -> reason, of training clips that gave no sample


def _key(found: dict, multi_label: bool) -> tuple[float, float]:
    return found["map" if multi_label else "accuracy"], -found["loss"]


def evaluate(model: MAViL, task: Task, asked: Asked, bce: bool, workers: int = 0) -> tuple[dict, Scored]:
    """The metrics of a model on clips, its loss among them, and the scores."""
    scored = score(model, asked, bce, workers)
    target = task.targets([asked.values[i] for i in scored.places])
    return metrics(scored.scores, target, task.multi_label) | {"loss": float(loss_of(scored.logits, target, bce))}, scored


def finetune(
    pretrained: MAViL,
    task: Task,
    recipe: FinetuneConfig,
    run: Path,
    *,
    classes_from: ClassesFrom = "both",
    arm: Arm = "fine-tuned",
    bce: bool | None = None,
    seed: int = 0,
    workers: int = 0,
) -> Result:
    """Trains a classifier on a task's training clips, with a look at its validation clips every `evaluate_every` steps.

    The best look's weights are kept, and training ends early after `patience` looks without a better one; test clips are not touched.
    run: where `metrics.jsonl` is written, a line a step. classes_from: what is read. arm: "frozen" trains the classifier alone, without
    mixup, masks and drop path [O]; "from scratch" begins with fresh weights. bce: binary cross-entropy; None: where clips have several
    classes. All that is random follows from the seed.
    Raises TrainingError where a loss is not finite, KeyboardInterrupt after Ctrl-C or SIGTERM.
    """
    if arm == "frozen":
        recipe = replace(recipe, drop_path=0.0, mixup=0.0, mask_time=0.0, mask_frequency=0.0, mask_tubes=0.0)
    bce = task.multi_label if bce is None else bce
    if task.multi_label and not bce:
        raise ValueError("These clips have several classes each, and cross-entropy knows one: leave --loss out, or take bce.")

    # 1. model, optimiser, and what has to be beaten
    fabric = make_fabric(recipe)
    bare = start(pretrained, task, classes_from, recipe, arm, seed)
    bare.config = replace(bare.config, multi_label=bce)  # scores come from sigmoids, whether or not a clip has several classes
    set_drop_path(bare, recipe.drop_path)
    optimiser = make_optimiser(bare, recipe, arm)
    scales = [group["scale"] for group in optimiser.param_groups]
    model, optimiser = fabric.setup(bare, optimiser)
    model.mark_forward_method("classify")
    column = task.training.labels[task.column]
    train_target = task.targets(task.training_values)
    trivial = trivial_answers(train_target, task.targets(task.validation.values), task.multi_label, bce)
    own_trivial = trivial_answers(train_target, train_target, task.multi_label, bce)
    metric = "map" if task.multi_label else "accuracy"
    bar_to_beat = trivial["map" if task.multi_label else "majority"]

    # 2. the loop
    run.mkdir(parents=True, exist_ok=True)
    lines, steps, skipped = MetricsFile(run / "metrics.jsonl", 0), recipe.train.steps, {}
    best, best_state, unimproved, step = None, {}, 0, 0
    batch_size = recipe.train.batch
    stream = training_steps(task.training, batch_size, seed, workers=workers)
    torch.manual_seed(seed + 1)  # of drop path
    bare.train()
    started = time.perf_counter()
    with ProgressBar(arm, steps) as bar, Interrupt().watching() as interrupt:
        try:
            while True:
                if step % recipe.train.evaluate_every == 0 or step == steps:
                    found, _ = evaluate(bare, task, task.validation, bce, workers)
                    told = {key: value for key, value in found.items() if key not in ("per_class_ap", "error")}
                    beside = {f"{metric}_trivial": bar_to_beat, "loss_trivial": trivial["loss"]}
                    lines.write({"step": step} | told | beside | {"held_out": True})
                    better = best is None or _key(found, task.multi_label) > _key(best, task.multi_label)
                    unimproved = 0 if better or step <= recipe.train.warmup * steps else unimproved + 1
                    if better:
                        best = found | {"step": step}
                        best_state = {name: value.detach().cpu().clone() for name, value in bare.state_dict().items()}
                    bar.say(
                        f"step {step}, validation: {metric} {found[metric]:.3f} (without looking {bar_to_beat:.3f}), "
                        f"loss {found['loss']:.3f} (trivial {trivial['loss']:.3f})"
                    )
                    if step == steps or unimproved >= recipe.patience:
                        break
                data = next(stream)
                rate = learning_rate(step, recipe.train)
                for group, scale in zip(optimiser.param_groups, scales, strict=True):
                    group["lr"] = rate * scale
                mixed = draw_mixing(len(data.numbers), recipe, seed, step) if recipe.mixup else None
                target = task.targets([column[i] for i in data.numbers])
                target = target if mixed is None else blend(target, mixed)
                masks = augmentation_masks(len(target), bare.config, recipe, generator_for(seed, 8, step))
                masks = Masks(*(None if mask is None else mask.to(fabric.device) for mask in masks))
                inputs = inputs_of(data.batch.to(fabric.device), bare.config, mixed)
                with fabric.autocast():  # Fabric's wrapper would do so for `forward` alone
                    logits = model.classify(**inputs, masks=masks)
                loss = loss_of(logits.float(), target.to(fabric.device), bce)
                fabric.backward(loss)
                norm = fabric.clip_gradients(model, optimiser, max_norm=recipe.train.clip_norm, error_if_nonfinite=False)
                if not bool(torch.isfinite(loss)):
                    raise TrainingError(
                        f"The loss is {float(loss.detach())} at step {step}; start anew with a lower learning rate "
                        "(--config.train.base-lr)."
                    )
                check_gradient(fabric, norm, step)
                optimiser.step()
                optimiser.zero_grad()
                value = float(loss.detach())
                row = {"step": step, "loss": value, "loss_trivial": own_trivial["loss"], "lr": rate, "gradient_norm": told_norm(norm)}
                lines.write(row | {"seconds": round(time.perf_counter() - started, 3)})
                skipped |= {skip.path: skip.reason for skip in data.skipped}
                step += 1
                bar.update(step, f"loss {value:.3f} (trivial {own_trivial['loss']:.3f})")
                if interrupt.by:
                    raise KeyboardInterrupt(f"stopped by {interrupt.by.name} after step {step}; nothing but metrics.jsonl is kept")
        finally:
            lines.close()
    bare.load_state_dict(best_state)
    return Result(bare.eval(), best, step, time.perf_counter() - started, skipped)
