"""A wrong size fails with a sentence, and a config survives the way through JSON."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from mavil_edu.config import (
    PRESETS,
    AudioConfig,
    AugmentConfig,
    Config,
    ModelConfig,
    ObjectiveConfig,
    TrainConfig,
    TransformerConfig,
    VideoConfig,
    from_dict,
    paper,
    to_dict,
)
from mavil_edu.recipe import FinetuneConfig


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_config_comes_back_from_json_as_the_same_dataclasses(preset):
    config = preset()
    again = from_dict(Config, to_dict(config))
    assert again == config
    assert isinstance(again.model.audio, AudioConfig)
    assert isinstance(again.model.video.mean, tuple)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: AudioConfig(frames=1000), "1000 is not a multiple of 16"),
        (lambda: AudioConfig(seconds=0), "0.025 s"),
        (lambda: AudioConfig(std=0.0), "audio.std"),
        (lambda: VideoConfig(frames=7), "7 is not a multiple of 2"),
        (lambda: VideoConfig(height=100), "100 is not a multiple of 16"),
        (lambda: TransformerConfig(width=100, heads=12), "100 is not a multiple of 12"),
        (lambda: TransformerConfig(depth=-1), "depth is -1"),
        (lambda: ModelConfig(target="raw", predict_statistics=True), "already hold"),
        (lambda: ModelConfig(projection=0), "projection is 0"),
        (lambda: ObjectiveConfig(audio_ratio=1.2), "audio_ratio is 1.2"),
        (lambda: ModelConfig(fusion_kind="middle"), "fusion_kind is 'middle'; choose from joint, bottleneck, none"),
        (lambda: ModelConfig(bottlenecks=0), "bottlenecks is 0"),
        (lambda: ObjectiveConfig(audio_masking="tube"), "audio_masking is 'tube'; choose from random, time, frequency"),
        (lambda: ObjectiveConfig(video_masking="time"), "video_masking is 'time'; choose from random, tube, frame, block"),
        (lambda: ObjectiveConfig(ratio_start=-0.1), "ratio_start is -0.1"),
        (lambda: ObjectiveConfig(second_ratio=1.1), "second_ratio is 1.1"),
        (lambda: ObjectiveConfig(ratio_schedule="step"), "ratio_schedule is 'step'; choose from linear, cosine"),
        (lambda: ObjectiveConfig(tau_inter=0), "temperature"),
        (lambda: ObjectiveConfig(alpha=-1), "alpha is -1"),
        (lambda: AugmentConfig(crop=(0.9, 0.5)), "augment.crop"),
        (lambda: AugmentConfig(speed=(1.2, 0.8)), "augment.speed"),
        (lambda: TrainConfig(batch=0), "train.batch is 0"),
        (lambda: TrainConfig(base_lr=0), "train.base_lr"),
        (lambda: TrainConfig(warmup=2), "train.warmup"),
        (lambda: TrainConfig(clip_norm=0.0), "train.clip_norm is 0.0; it must be above 0"),
        (lambda: TrainConfig(clip_norm=-3.0), "train.clip_norm is -3.0"),
        (lambda: TrainConfig(weight_decay=-1e-5), "train.weight_decay is -1e-05"),
        (lambda: TrainConfig(betas=(0.9, 1.0)), r"train.betas is \(0.9, 1.0\); both must be 0 or more, and below 1"),
        (lambda: TrainConfig(betas=(-0.1, 0.9)), "train.betas"),
        (lambda: TrainConfig(betas=(0.9,)), "train.betas is .* give a tuple of 2 finite numbers"),
        (lambda: TrainConfig(betas=[0.9, 0.95]), "train.betas is .* give a tuple of 2 finite numbers"),
        (lambda: TrainConfig(precision="fp16"), "train.precision is 'fp16'; choose from 32-true, bf16-mixed, 16-mixed"),
        (lambda: TrainConfig(batch=32.5), "train.batch is 32.5; it must be a whole number"),
        (lambda: TrainConfig(steps=True), "train.steps is True; it must be a whole number"),
        (lambda: TrainConfig(base_lr=True), "train.base_lr is True; it must be a finite number"),
        (lambda: TrainConfig(warmup=float("nan")), "train.warmup is nan; it must be a finite number"),
        (lambda: TrainConfig(compile="no"), "train.compile is 'no'; it must be True or False"),
        (lambda: TrainConfig(augment=None), "train.augment is None; it must be of class AugmentConfig"),
        (lambda: ObjectiveConfig(inter_views=0), "inter_views is 0; choose from 1, 2"),
        (lambda: ObjectiveConfig(inter_views=3), "inter_views is 3; choose from 1, 2"),
        (lambda: ObjectiveConfig(inter_views=True), "inter_views is True; choose from 1, 2"),
        (lambda: ObjectiveConfig(second_ratio="half"), "second_ratio is 'half'; it must be a finite number, or None"),
        (lambda: ObjectiveConfig(normalise_targets=0), "normalise_targets is 0; it must be True or False"),
        (lambda: AudioConfig(frames=1024.0), "audio.frames is 1024.0; it must be a whole number"),
        (lambda: VideoConfig(mean=(0.5, 0.5)), "video.mean is .* give a tuple of 3 finite numbers"),
        (lambda: TransformerConfig(depth=1.5), "depth is 1.5; it must be a whole number"),
        (lambda: ModelConfig(projection=96.0), "projection is 96.0; it must be a whole number, or None"),
        (lambda: ModelConfig(classes=1, class_names="a"), "class_names is 'a'; give a tuple of texts"),
        (lambda: FinetuneConfig(mixup_beta=float("inf")), "mixup_beta is inf; it must be a finite number"),
        (lambda: FinetuneConfig(patience=2.5), "patience is 2.5; it must be a whole number"),
    ],
)
def test_a_value_that_cannot_be_is_named_at_birth(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_what_leaves_something_out_stays_legal():
    for kind, given in (
        (ObjectiveConfig, {"reconstruction": 0, "alpha": 0, "beta": 0.0, "second_ratio": None, "ratio_start": 0, "whole_hidden": 0}),
        (TrainConfig, {"weight_decay": 0, "betas": (0, 0.0), "warmup": 0}),
        (ModelConfig, {"decoder": None, "fusion_depth": 0, "classes": 2, "class_names": ("a", "b")}),
    ):
        made = kind(**given)
        assert {name: getattr(made, name) for name in given} == given, "and nothing is put in its place"
        assert from_dict(kind, to_dict(made)) == made, "nor when it is stored and read back"


def test_an_unknown_or_mistyped_field_of_a_stored_config_is_named():
    with pytest.raises(ValueError, match="colour"):
        from_dict(ModelConfig, {"colour": 1})
    with pytest.raises(ValueError, match="fusion_depth"):
        from_dict(ModelConfig, {"fusion_depth": "two"})
    with pytest.raises(ValueError, match="1000 is not a multiple"):
        from_dict(ModelConfig, {"audio": {"frames": 1000}})


def test_the_papers_learning_rate_scales_with_its_batch():
    assert paper().train.peak_lr == pytest.approx(4e-4)
    assert dataclasses.replace(paper().train, batch=256).peak_lr == pytest.approx(2e-4)


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        paper().model.fusion_depth = 3


def test_a_model_is_imported_without_what_training_alone_needs():
    heavy = ("lightning_fabric", "torch.distributed.fsdp", "torchvision", "av")
    code = f"import sys, mavil_edu.mavil; sys.exit(any(m in sys.modules for m in {heavy}))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_is_imported_without_what_evaluation_alone_needs():
    """Fabric asks which torchmetrics there is by importing it, with torchvision and transformers: so the package does without it."""
    heavy = ("torchmetrics", "torchvision", "transformers", "sklearn", "scipy")
    code = f"import sys, mavil_edu.run; sys.exit(', '.join(m for m in {heavy} if m in sys.modules) or None)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "torchmetrics" not in (Path(__file__).parents[1] / "pyproject.toml").read_text()


def test_help_and_configs_import_neither_torch_nor_torchvision():
    code = "import sys, mavil_edu, mavil_edu.config, mavil_edu.cli; sys.exit(any(m in sys.modules for m in ('torch', 'av', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
