"""How a model is fine-tuned on labels: the recipe's numbers, with letters for their sources as in `config.py`."""

from dataclasses import dataclass, field

from mavil_edu.checks import check_kinds, require
from mavil_edu.config import AugmentConfig, TrainConfig


def _small_training() -> TrainConfig:
    return TrainConfig(
        steps=600,
        batch=64,
        base_lr=4e-3,
        warmup=0.1,
        weight_decay=0.05,
        betas=(0.9, 0.999),
        evaluate_every=50,
        augment=AugmentConfig(roll=False, magnitude=True, crop=(0.6, 1.0), flip=False),
    )


@dataclass(frozen=True)
class FinetuneConfig:
    """How labels train a model. The defaults are for small models and few clips [O]; `paper_recipe()` has the paper's, as recalled."""

    train: TrainConfig = field(default_factory=_small_training)  # save_every is not used: only the best weights are kept
    layer_decay: float = 0.75  # a layer's rate over that of the layer above it; from scratch 1 is used [A, R; from scratch: O]
    drop_path: float = 0.1  # share of the clips that leave out a residual branch, from 0 in the first block to this in the last [A, R]
    mixup: float = 0.5  # share of the clips that are mixed with another clip, labels and all [A, R]
    mixup_beta: float = 10.0  # the shares of the two are drawn from Beta(this, this) [R, from AST]
    mask_time: float = 0.2  # share of the sound's time columns that is hidden in training [A, R]
    mask_frequency: float = 0.2  # … of its frequency rows [A, R]
    mask_tubes: float = 0.2  # … of the picture's places, through all frames [the idea: R; tubes and the number: O]
    added_fusion: int = 0  # fresh blocks on top of the pre-trained fusion; the released fine-tuned model has one [C: 3 in place of 2]
    patience: int = 6  # looks at validation clips after warm-up, none of them the best so far, after which training stops [O]

    def __post_init__(self):
        check_kinds(self)
        require(self.train.accumulate == 1, "Fine-tuning takes whole batches: leave train.accumulate at 1, and make the batch smaller.")
        require(0 < self.layer_decay <= 1, f"layer_decay is {self.layer_decay}; it must be above 0 and at most 1.")
        for name in ("mixup", "mask_time", "mask_frequency", "mask_tubes", "drop_path"):
            value, top = getattr(self, name), 1 if name == "mixup" else 0.95
            require(0 <= value <= top, f"{name} is {value}; it must lie between 0 and {top}.")
        require(self.mixup_beta > 0, f"mixup_beta is {self.mixup_beta}; it must be above 0.")
        require(self.added_fusion >= 0, f"added_fusion is {self.added_fusion}; it must be 0 or more.")
        require(self.patience >= 1, f"patience is {self.patience}; it must be 1 or more.")


def paper_recipe() -> FinetuneConfig:
    """For ViT-B on AudioSet or VGGSound, many GPUs' work; not run here, so no numbers to expect.

    Layer decay, drop path, mixup and masking are recalled, and stand in Audio-MAE's code [A, R]; the third fusion block [C]; steps, batch
    and rate are recalled from Audio-MAE's scripts for AudioSet-20K (60 epochs of 20,000 clips) and are to be tried [R].
    """
    train = TrainConfig(
        steps=9_400,
        batch=128,
        base_lr=1e-3,
        warmup=0.07,
        weight_decay=1e-4,
        betas=(0.9, 0.999),
        evaluate_every=500,
        augment=AugmentConfig(),
    )
    return FinetuneConfig(train=train, added_fusion=1, patience=20)


RECIPES = {"small": FinetuneConfig, "paper": paper_recipe}
