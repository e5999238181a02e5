"""Sizes and hyper-parameters: frozen dataclasses, checked at birth, and the presets, from `tiny` to `paper` and `large`.

The letters after a number tell how surely it is known: [P] stated in the paper, [C] read in public inference code for the
released checkpoint, [A] read in Audio-MAE's public code, [R] recalled from the paper by readers, [O] our own choice.
"""

import dataclasses
import json
import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mavil_edu.checks import ConfigError, at_most, check_kinds, divides, require

AudioMasking = Literal["random", "time", "frequency", "time+frequency"]
VideoMasking = Literal["random", "tube", "frame", "block"]
FusionKind = Literal["joint", "bottleneck", "none"]
RatioSchedule = Literal["linear", "cosine"]
Target = Literal["normalised", "raw", "teacher"]
ClassesFrom = Literal["both", "audio", "video"]
DecoderAttention = Literal["self", "cross"]

SAMPLE_RATE = 16_000  # samples a second, everywhere in the package [P]
# Sizes that no model has: a config that says more, by mistake or malice, is refused before anything of its size is made [O].
MOST_SECONDS, MOST_TOKENS, MOST_WIDTH, MOST_DEPTH, MOST_VALUES = 3600.0, 2**16, 2**16, 256, 2**26


def _normalising(mean: tuple[float, ...], std: tuple[float, ...], name: str) -> None:
    """Raises ValueError where inputs less their mean, over their deviation, would not be finite in float32."""
    require(all(abs(m) <= 1e6 for m in mean), f"{name}.mean is {mean}; numbers beyond a million are taken for a mistake.")
    require(all(1e-6 <= s <= 1e6 for s in std), f"{name}.std is {std}; every number must lie between 1e-6 and 1e6.")


@dataclass(frozen=True)
class AudioConfig:
    """From a waveform to the tokens of its log-mel spectrogram."""

    seconds: float = 10.0  # length of the window [P]
    frames: int = 1024  # frames of the spectrogram, padded or cut to this [P]
    mel_bins: int = 128  # mel bands [P]
    patch_frames: int = 16  # pt [P]
    patch_bins: int = 16  # pf [P]
    mean: float = -4.2677393  # of AudioSet's log-mel values [C]
    std: float = 4.5689974  # likewise; the spectrogram is (log-mel − mean) / (2 · std) [C]

    def __post_init__(self):
        check_kinds(self, "audio.")
        at_most(self.seconds, MOST_SECONDS, "audio.seconds")
        at_most(self.frames, MOST_TOKENS, "audio.frames")
        at_most(self.mel_bins, MOST_WIDTH, "audio.mel_bins")
        require(self.seconds >= 0.025, f"audio.seconds is {self.seconds}; one frame needs 0.025 s of sound or more.")
        _normalising((self.mean,), (self.std,), "audio")
        divides(self.patch_frames, self.frames, "audio.frames and audio.patch_frames")
        divides(self.patch_bins, self.mel_bins, "audio.mel_bins and audio.patch_bins")
        at_most(self.tokens, MOST_TOKENS, "the number of sound tokens")

    @property
    def samples(self) -> int:
        """Samples of the window."""
        return round(self.seconds * SAMPLE_RATE)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along (time, frequency)."""
        return self.frames // self.patch_frames, self.mel_bins // self.patch_bins

    @property
    def tokens(self) -> int:
        return math.prod(self.grid)

    @property
    def patch_values(self) -> int:
        """Numbers in one patch."""
        return self.patch_frames * self.patch_bins


@dataclass(frozen=True)
class VideoConfig:
    """From frames to the tokens of a clip."""

    seconds: float = 4.0  # length of the window [C]
    frames: int = 8  # frames taken from it, at the middle of equal intervals [C: 8; middle: O]
    height: int = 224  # pixels [C]
    width: int = 224  # pixels [C]
    patch_frames: int = 2  # pt [P]
    patch_height: int = 16  # ph [P]
    patch_width: int = 16  # pw [P]
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # ImageNet's, per colour [C]
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)  # likewise [C]

    def __post_init__(self):
        check_kinds(self, "video.")
        at_most(self.seconds, MOST_SECONDS, "video.seconds")
        for name in ("frames", "height", "width"):
            at_most(getattr(self, name), MOST_WIDTH, f"video.{name}")
        at_most(self.frames * self.height * self.width, MOST_VALUES, "video.frames times height times width")
        require(self.seconds > 0, f"video.seconds is {self.seconds}; it must be above 0.")
        _normalising(self.mean, self.std, "video")
        divides(self.patch_frames, self.frames, "video.frames and video.patch_frames")
        divides(self.patch_height, self.height, "video.height and video.patch_height")
        divides(self.patch_width, self.width, "video.width and video.patch_width")
        at_most(self.tokens, MOST_TOKENS, "the number of picture tokens")

    @property
    def frame_rate(self) -> float:
        """Frames a second that the model sees."""
        return self.frames / self.seconds

    @property
    def grid(self) -> tuple[int, int, int]:
        """Patches along (time, height, width)."""
        return self.frames // self.patch_frames, self.height // self.patch_height, self.width // self.patch_width

    @property
    def tokens(self) -> int:
        return math.prod(self.grid)

    @property
    def patch_values(self) -> int:
        """Numbers in one patch, colours included."""
        return self.patch_frames * self.patch_height * self.patch_width * 3


@dataclass(frozen=True)
class TransformerConfig:
    """A stack of pre-norm blocks."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0  # hidden width of the MLP over the width

    def __post_init__(self):
        check_kinds(self)
        for name, most in (("width", MOST_WIDTH), ("depth", MOST_DEPTH), ("mlp_ratio", MOST_DEPTH)):
            at_most(getattr(self, name), most, name)
        require(self.mlp_ratio * self.width >= 1, f"mlp_ratio is {self.mlp_ratio}; it must be above 0.")
        require(self.depth >= 0, f"depth is {self.depth}; it must be 0 or more.")
        divides(self.heads, self.width, "width and heads")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shape of a model's weights and how its input is made. The defaults are the paper's, where it is known."""

    audio: AudioConfig = field(default_factory=AudioConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    encoder: TransformerConfig = field(default_factory=TransformerConfig)  # one such stack per modality [P]
    fusion_kind: FusionKind = "joint"  # attention over both modalities' tokens, MBT's bottlenecks, or no fusion at all [P; none: O]
    fusion_depth: int = 2  # blocks of the fusion, as wide as the encoder; without fusion there are none [P]
    bottlenecks: int = 4  # tokens that the modalities share in bottleneck fusion [O; MBT's paper, recalled]
    decoder: TransformerConfig | None = field(default_factory=lambda: TransformerConfig(512, 8, 16))  # one per modality [P]; None: none
    decoder_attention: DecoderAttention = "self"  # among all places [P, R]; or hidden places look at visible ones, not at each other [O]
    projection: int | None = None  # width of the MLP heads before InfoNCE; None: no head [O]
    target: Target = "normalised"  # to predict: patches, each with mean 0 and variance 1, or raw [R, A]; or a teacher's tokens [P]
    target_width: int | None = None  # of a teacher's tokens, its encoder's; None for patches
    predict_statistics: bool = False  # also predict each hidden patch's mean and std, so that pictures need not borrow them [O]
    classes: int | None = None  # labels that a head tells apart, as in fine-tuning [C]; None: no head
    classes_from: ClassesFrom = "both"  # what that head reads: both modalities' fused tokens, or one encoder's alone [C]
    class_names: tuple[str, ...] = ()  # of the classes, in the head's order; none where they are not told [O]
    multi_label: bool = False  # a clip may have several of the classes, so that scores go through a sigmoid, not a softmax [O]

    def __post_init__(self):
        check_kinds(self)
        for name in ("fusion_depth", "bottlenecks", "projection", "target_width", "classes"):
            at_most(getattr(self, name) or 0, MOST_DEPTH if name == "fusion_depth" else MOST_WIDTH, name)
        widest = max(self.encoder.width, self.decoder.width if self.decoder else 0)
        at_most(max(self.audio.tokens, self.video.tokens) * widest, MOST_VALUES, "tokens times width")
        require(self.bottlenecks >= 1, f"bottlenecks is {self.bottlenecks}; it must be 1 or more (fusion_kind='none' has no fusion).")
        require(self.fusion_depth >= 0, f"fusion_depth is {self.fusion_depth}; it must be 0 or more.")
        require(self.projection is None or self.projection > 0, f"projection is {self.projection}; give a width above 0, or None.")
        require(
            self.target == "normalised" or not self.predict_statistics,
            "predict_statistics needs target='normalised': raw patches already hold their mean and std, and tokens have none.",
        )
        require(
            (self.target == "teacher") == (self.target_width is not None),
            f"target is {self.target!r} and target_width is {self.target_width}: give a width with target='teacher', and with no other.",
        )
        require(self.classes is None or self.classes > 0, f"classes is {self.classes}; give a number above 0, or None.")
        require(
            not self.class_names or len(self.class_names) == self.classes,
            f"class_names has {len(self.class_names)} names for {self.classes or 0} classes; give one for each.",
        )

    @property
    def fusion(self) -> TransformerConfig:
        """The fusion's blocks: as wide as the encoder."""
        return replace(self.encoder, depth=self.fusion_depth)


@dataclass(frozen=True)
class ObjectiveConfig:
    """What stage 1 hides, and how its losses are weighted: L = reconstruction · L_raw + alpha · L_inter + beta · L_intra."""

    audio_ratio: float = 0.8  # share of the audio tokens that is hidden [R, A]
    video_ratio: float = 0.8  # share of the video tokens that is hidden [R]
    audio_masking: AudioMasking = "random"  # single patches, whole time columns, frequency rows, or both [R, A; others: A]
    video_masking: VideoMasking = "random"  # single patches, tubes through time, whole time patches, or blocks [R; others: O]
    ratio_start: float | None = None  # share that both modalities hide at the first step; None: their final ratios throughout [O]
    ratio_schedule: RatioSchedule = "linear"  # how the ratios go from ratio_start to audio_ratio and video_ratio at the last step [O]
    whole_hidden: float = 0.0  # share of the steps at which one modality, either as often, is wholly hidden in the first view [O]
    reconstruction: float = 1.0  # weight of masked reconstruction; 0 leaves contrast alone, for comparison [O]
    alpha: float = 0.1  # weight of inter-modal InfoNCE [R]
    beta: float = 0.01  # weight of intra-modal InfoNCE; 0 also leaves the second view out [R]
    tau_inter: float = 0.1  # temperature between modalities [R]
    tau_intra: float = 1.0  # temperature within a modality [R]
    decoded_share: float = 1.0  # share of the hidden patches, drawn anew at each step, that is decoded and scored in training [O; 1: R, A]
    scored: Literal["hidden", "all"] = "hidden"  # places that the reconstruction loss counts [R; all: O]
    target_tokens: Literal["fused", "unimodal"] = "fused"  # stage 2: the teacher's tokens after or before its fusion [P; unimodal: O]
    normalise_targets: bool = True  # stage 2: each of the teacher's tokens with mean 0 and variance 1, as data2vec does [O]
    second_ratio: float | None = None  # share that the second view hides in both modalities; None: as the first [O]
    inter_views: Literal[1, 2] = 1  # views that inter-modal InfoNCE compares: the first, or the mean over both [O]
    score_padding: bool = True  # count wholly padded patches in the reconstruction loss; the sources name no exception [O]

    def __post_init__(self):
        check_kinds(self)
        for name in ("audio_ratio", "video_ratio", "whole_hidden"):
            require(0 <= getattr(self, name) <= 1, f"{name} is {getattr(self, name)}; it must lie between 0 and 1.")
        for name in ("ratio_start", "second_ratio"):
            value = getattr(self, name)
            require(value is None or 0 <= value <= 1, f"{name} is {value}; it must lie between 0 and 1, or be None.")
        require(0 < self.decoded_share <= 1, f"decoded_share is {self.decoded_share}; it must be above 0, and 1 at most.")
        require(
            self.decoded_share == 1 or self.scored == "hidden",
            "decoded_share below 1 needs scored='hidden': what is not decoded cannot be scored.",
        )
        require(
            self.inter_views == 1 or self.beta > 0,
            "inter_views=2 needs beta above 0: without intra-modal contrast there is no second view.",
        )
        for name in ("reconstruction", "alpha", "beta"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; a weight must be 0 or more.")
        for name in ("tau_inter", "tau_intra"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; a temperature must be above 0.")


@dataclass(frozen=True)
class AugmentConfig:
    """Changes made to a training clip, never to an evaluation clip."""

    roll: bool = True  # roll the waveform in time by a random amount [A]
    magnitude: bool = True  # scale the waveform by 0.5 to 1.5 [A: that it is done; numbers O]
    speed: tuple[float, float] = (
        1.0,
        1.0,
    )  # least and greatest speed of the sound, pitch and all; the picture keeps its own [O]
    crop: tuple[float, float] = (0.5, 1.0)  # smallest and largest share of the picture that the random crop keeps [R; numbers O]
    flip: bool = True  # mirror left and right in half of the clips [R]

    def __post_init__(self):
        check_kinds(self, "augment.")
        low, high = self.crop
        require(0 < low <= high <= 1, f"augment.crop is {self.crop}; it must be two shares with 0 < smallest <= largest <= 1.")
        low, high = self.speed
        require(0.5 <= low <= high <= 2, f"augment.speed is {self.speed}; it must be two speeds with 0.5 <= least <= greatest <= 2.")


@dataclass(frozen=True)
class TrainConfig:
    """How the optimiser steps."""

    steps: int = 78_125  # 20 epochs of 2 M clips in batches of 512 [R]
    batch: int = 512  # clips a step, over all processes and accumulation rounds [R, A]
    accumulate: int = 1  # rounds of forward and backward in one step; InfoNCE sees batch / accumulate clips
    base_lr: float = 2e-4  # for a batch of 256; the rate used is base_lr · batch / 256 [R, A]
    warmup: float = 0.2  # share of the steps that the rate rises linearly [R: 4 of 20 epochs; A: 3 of 33]
    weight_decay: float = 1e-5  # on matrices only [R]
    betas: tuple[float, float] = (0.9, 0.95)  # AdamW's [R, A]
    clip_norm: float = 3.0  # largest norm of the gradient [O]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"  # as Lightning Fabric names it
    compile: bool = False  # each block by torch.compile: faster steps after some minutes; other last bits [O]
    recompute: bool = False  # each block's activations again in the backward pass: less memory, a third more arithmetic [O]
    shard_weights: bool = False  # each of several processes keeps its part of weights, gradients and moments (FSDP) [O]
    evaluate_every: int = 200  # steps between two looks at held-out clips
    save_every: int = 200  # steps between two checkpoints
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self):
        check_kinds(self, "train.")
        for name in ("steps", "batch", "accumulate", "evaluate_every", "save_every"):
            value = getattr(self, name)
            require(1 <= value < 2**63, f"train.{name} is {str(value)[:40]}; it must be 1 or more, and below 2^63.")
        require(0 <= self.warmup <= 1, f"train.warmup is {self.warmup}; it must lie between 0 and 1.")
        require(0 < self.base_lr <= 1e30, f"train.base_lr is {self.base_lr}; it must be above 0, and 1e30 at most.")
        require(self.weight_decay >= 0, f"train.weight_decay is {self.weight_decay}; it must be 0 or more.")
        require(all(0 <= beta < 1 for beta in self.betas), f"train.betas is {self.betas}; both must be 0 or more, and below 1.")
        require(self.clip_norm > 0, f"train.clip_norm is {self.clip_norm}; it must be above 0.")

    @property
    def peak_lr(self) -> float:
        """The learning rate after warm-up: the base rate scaled linearly with the batch."""
        return self.base_lr * self.batch / 256


@dataclass(frozen=True)
class Config:
    """One run: the model, its objective, its training."""

    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def to_dict(config: Any) -> dict:
    """A config as plain dicts, lists and numbers, ready for JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _with_tuples(value: Any) -> Any:
    """Plain values with JSON's lists as the tuples that they were."""
    if isinstance(value, dict):
        return {name: _with_tuples(part) for name, part in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list | tuple) else value


def from_dict(kind: type, values: dict) -> Any:
    """The inverse of `to_dict`: a `kind` (a config dataclass) with its nested configs as dataclasses, checked again.

    Raises ValueError that names a field that does not exist, or whose value is of the wrong kind or out of range.
    """
    import dacite  # here and not at the top: most users of this file never read a config back

    require(isinstance(values, dict), f"This is no {kind.__name__}: an object with named values is wanted, not {values!r:.40}.")
    try:
        return dacite.from_dict(kind, _with_tuples(values), dacite.Config(strict=True, check_types=True))
    except ConfigError:
        raise
    except (dacite.DaciteError, ValueError, TypeError) as error:  # dacite's own, and what it trips over
        raise ConfigError(f"This is no {kind.__name__}: {str(error)[:300]}. Was it written by another version of mavil_edu?") from error


def tiny() -> Config:
    """1.2 M parameters: learns on generated clips in minutes on two CPU cores [O].

    `python scripts/small_scale.py --only full --out tiny.json` (3,000 steps of 32, 18 minutes on one thread of a busy AVX2 machine; three
    seeds) reached on 500 held-out clips: masked MSE 41 % below the best trivial answer for sound and 74 % for pictures; R@1 19.4 % from
    sound to picture and 16.5 % back (chance 0.2 %), R@5 66.6 and 65.9 % (chance 1 %); material read from sound in 99.9 % of the clips (raw
    features 68 %). What led to these numbers is told in docs/small-scale.md.
    """
    return Config(
        model=ModelConfig(
            audio=AudioConfig(seconds=2.56, frames=256, patch_frames=8, patch_bins=64),  # short in time: see docs/small-scale.md
            video=VideoConfig(seconds=2.56, height=32, width=32, patch_frames=1, patch_height=32, patch_width=4),  # columns: the same
            encoder=TransformerConfig(width=96, depth=3, heads=3),
            decoder=TransformerConfig(width=64, depth=1, heads=2),
            projection=96,
            predict_statistics=True,
        ),
        objective=ObjectiveConfig(alpha=0.05, second_ratio=0.5, inter_views=2, score_padding=False),
        train=TrainConfig(
            steps=3000,
            batch=32,
            base_lr=1.6e-2,
            warmup=0.1,
            weight_decay=0.05,
            augment=AugmentConfig(roll=False, magnitude=False, crop=(1.0, 1.0), flip=True),
        ),
    )


def tiny_squares() -> Config:
    """`tiny` with square tubelets in its pictures, for questions about places [O].

    `tiny` cuts each frame into columns: it learns most from them, but its maps of a picture have one row. Tubelets of 2 × 8 × 8 give 4 × 4
    places. `python scripts/small_scale.py --preset tiny-squares --only full --seeds 0 --runs runs/squares --out squares.json` (3,500
    steps, one seed: the model that ships, whose card has all of it) reached on 500 held-out clips: masked MSE 41.5 % below the best
    trivial answer for sound and 65 % for pictures, R@1 11.2 and 10.8 % (chance 0.2 %).
    """
    base = tiny()
    video = replace(base.model.video, patch_frames=2, patch_height=8, patch_width=8)
    return replace(base, model=replace(base.model, video=video), train=replace(base.train, steps=3500))


def digits() -> Config:
    """1.2 M parameters: `tiny` for AV-MNIST, whose sounds last half a second and whose pictures do not move [O].

    `MAVIL_DATA=… python scripts/av_mnist.py` (2,000 steps of 64, 18 to 22 minutes on one thread; three seeds) reached, by a linear probe on
    other speakers and writers: 83.5 ± 2.6 % from the sound (raw features 60.9), 96.9 from the picture (88.4), 96.1 from both (91.9).
    See docs/small-scale.md: the pairs belong together by their digit only, so contrast needs more weight, larger batches and
    views that show more than in `tiny`.
    """
    base = tiny()
    return replace(
        base,
        model=replace(
            base.model,
            audio=AudioConfig(seconds=0.64, frames=64, patch_frames=8),
            video=VideoConfig(seconds=0.64, frames=2, height=32, width=32, patch_height=4, patch_width=4),
        ),
        objective=replace(base.objective, audio_ratio=0.6, video_ratio=0.6, alpha=1.0, second_ratio=0.25),
        train=replace(
            base.train,
            steps=2000,
            batch=64,
            base_lr=8e-3,
            augment=AugmentConfig(roll=False, magnitude=True, crop=(0.6, 1.0), flip=False),
        ),
    )


def small() -> Config:
    """12.7 M parameters: `tiny`, wider and deeper, on pictures of 64 × 64; an evening of CPU, or minutes of a GPU [O].

    `python scripts/small_scale.py --preset small --only full --seeds 0 --runs runs/small --out small.json` (3,000 steps of 32, 82 minutes
    on one thread of a busy AVX2 machine; one seed) reached on 500 held-out clips: masked MSE 42 % below the best trivial answer for sound
    and 71 % for pictures; R@1 19.8 % from sound to picture and 18.6 % back (chance 0.2 %), R@5 71.8 and 73.0 % (chance 1 %). Against `tiny`
    after as many steps it finds more partners among five, tells more of what only one sense has, and reconstructs hardly better:
    docs/small-scale.md. Longer runs (`--steps`) are untried.
    """
    base = tiny()
    return replace(
        base,
        model=replace(
            base.model,
            video=replace(base.model.video, height=64, width=64, patch_height=64, patch_width=8),
            encoder=TransformerConfig(width=256, depth=6, heads=4),
            decoder=TransformerConfig(width=128, depth=1, heads=4),
            projection=256,
        ),
        train=replace(base.train, base_lr=8e-3),
    )


def paper() -> Config:
    """The paper's ViT-B: two encoders of 86 M parameters, 512 and 784 tokens [P]; its recipe, as recalled [R, A]; for many GPUs."""
    return Config()


def large() -> Config:
    """ViT-L in the paper's recipe: 684 M parameters, two encoders of 24 blocks and width 1024, tokens and decoders as in `paper` [O].

    The paper trains no such model, and nobody has trained this one: its parameters are counted, its learning rate is ViT-B's. Every process
    holds 16 bytes for each parameter, some 11 GB, beside its activations; with `--config.train.shard-weights` they share these out. On
    machines of 8 GPUs (docs/scaling.md):
    `torchrun --nnodes 8 … -m mavil_edu pretrain --data shards --preset large --config.train.precision bf16-mixed --out runs/large`.
    """
    base = paper()
    return replace(base, model=replace(base.model, encoder=TransformerConfig(width=1024, depth=24, heads=16)))


PRESETS = {"tiny": tiny, "tiny-squares": tiny_squares, "digits": digits, "small": small, "paper": paper, "large": large}
