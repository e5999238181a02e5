"""Stage 2: a frozen teacher sees complete clips, and its contextualised tokens are what a student has to predict of the hidden places."""

import hashlib
from dataclasses import replace
from typing import NamedTuple

import torch
from einops import reduce
from torch import Tensor
from torch.nn import functional as F

from mavil_edu.config import Config, ModelConfig, ObjectiveConfig
from mavil_edu.data.batch import Batch, Clips
from mavil_edu.data.shuffled import ShuffledPairs
from mavil_edu.data.world import World
from mavil_edu.evaluate import PositionMeans, input_chunks
from mavil_edu.mavil import MAViL, Targets
from mavil_edu.probes import effective_rank
from mavil_edu.start import read_json, run_of, trained_config, without_classes

MEMORY = 2**30  # bytes of targets that a run may keep
LEAST_VARIANCE = 0.02  # of targets about their position's mean, as a share of their mean square
LEAST_RANK = 1.5  # effective rank of clips' mean targets


class TeacherError(ValueError):
    """A model cannot teach as asked; the message says why and what to do."""


class Health(NamedTuple):
    """What a teacher's targets say of different clips, one modality."""

    variance: float  # about their position's mean, as a share of their mean square: 0 where all clips get the same answer
    rank: float  # effective rank of the clips' mean targets, 1 where they lie on one line


def student_config(config: Config, teacher: ModelConfig) -> Config:
    """A run's config with what a student of this teacher has to predict.

    The sizes are the config's own; the front ends must be the teacher's, for both look at the same clips place by place.
    Raises TeacherError where they differ.
    """
    for name in ("audio", "video"):
        ours, theirs = getattr(config.model, name), getattr(teacher, name)
        if ours != theirs:
            raise TeacherError(
                f"The teacher's {name} input is not the student's: {theirs} against {ours}. "
                "Use the teacher's preset and settings; a student may differ in its widths and depths only."
            )
    decoder = config.model.decoder or ModelConfig().decoder  # released weights have none
    tokens = {"target": "teacher", "target_width": teacher.encoder.width, "predict_statistics": False}
    return replace(config, model=replace(without_classes(config.model), decoder=decoder, **tokens))


def teachers_config(place: str) -> Config:
    """The config that a student starts from where no other is asked for: the teacher's model, and its run's objective and training.

    Where there is no run, those of `tiny`. Raises ValueError where there is no model.
    """
    config = trained_config(place)
    return student_config(config, config.model)


class Teacher:
    """A frozen model, called with complete clips: what `HeldOut`, `position_means` and `update` take as `make_targets`.

    Its targets are the fused tokens of both modalities [P], or the unimodal ones [O], LayerNorm-ed without learned scale or not [O].
    It keeps no gradients, is in no checkpoint, and never changes.

    With `remember`, targets are kept in memory by a hash of the clip's two inputs, and each new clip is computed alone: in a batch the
    last bits depend on the other clips, and a resumed run, whose memory is empty, would not go on as one that never stopped.
    """

    def __init__(self, model: MAViL, objective: ObjectiveConfig, remember: bool = False):
        self.model = model.eval().requires_grad_(False)
        self.objective = objective
        self.kept: dict[bytes, tuple[Tensor, Tensor]] | None = {} if remember else None

    def __call__(self, audio: Tensor, video: Tensor) -> Targets:
        """The targets of a batch, (b, n, d) for each modality. audio: (b, 1, frames, mel bins). video: (b, 3, frames, height, width)."""
        if self.kept is None:
            return self._compute(audio, video)
        rows = []
        for clip in zip(audio, video, strict=True):
            key = self._key(*clip)
            if key not in self.kept:
                self.kept[key] = self._compute(*(x[None] for x in clip))[:2]
            rows.append(self.kept[key])
        return Targets(*(torch.cat(tokens) for tokens in zip(*rows, strict=True)))

    @torch.no_grad()
    def _compute(self, audio: Tensor, video: Tensor) -> Targets:
        self.model.to(audio.device)
        encoded = self.model.encode(audio, video)
        if self.objective.target_tokens == "fused":
            tokens = encoded.fused_audio_tokens, encoded.fused_video_tokens
        else:
            tokens = encoded.audio_tokens, encoded.video_tokens
        if self.objective.normalise_targets:
            tokens = tuple(F.layer_norm(x, x.shape[-1:]) for x in tokens)
        return Targets(*tokens)

    @staticmethod
    def _key(audio: Tensor, video: Tensor) -> bytes:
        found = hashlib.blake2b(digest_size=16)
        for x in (audio, video):
            found.update(x.contiguous().numpy().data)
        return found.digest()


def remembering(config: Config, clips: Clips, width: int, device: torch.device) -> bool:
    """Whether a run of a student should remember its teacher's targets: where they come back, fit into memory, and cost more than a look.

    They come back where clips are generated and changed by mirroring at most. At `tiny` on one core a step of stage 2 takes 1.05 times
    one of stage 1 if its targets are remembered, 1.33 times if they are computed. Crops, rolls and windows drawn at random never come
    back; on a GPU computing is cheaper; and at the paper's sizes AudioSet's tokens would fill 8 TB.

    width: of the targets.
    """
    augment, model = config.train.augment, config.model
    changed = augment.roll or augment.magnitude or augment.speed != (1, 1) or augment.crop != (1.0, 1.0)
    inputs = len(clips) * (2 if augment.flip else 1)
    size = inputs * (model.audio.tokens + model.video.tokens) * width * 4
    kind = clips.clips if isinstance(clips, ShuffledPairs) else clips
    return isinstance(kind, World) and not changed and size <= MEMORY and device.type == "cpu"


def health(teacher: Teacher, batch: Batch, means: PositionMeans, config: ModelConfig) -> dict[str, Health]:
    """By modality, how much a teacher's targets differ between clips; padding is left out.

    means: the targets' position means over the same clips. config: the model's whose front ends make the input.
    """
    about, whole, pooled = {}, {}, {}
    for _, inputs in input_chunks(batch, config, means.audio.device):
        targets = teacher(inputs.audio, inputs.video)
        for name in PositionMeans._fields:
            tokens, content = getattr(targets, name), getattr(inputs, f"{name}_content")[..., None]
            mean = getattr(means, name)
            about[name] = about.get(name, 0.0) + float(((tokens - mean).square() * content).sum())
            whole[name] = whole.get(name, 0.0) + float((tokens.square() * content).sum())
            pooled.setdefault(name, []).append(reduce(tokens, "b n d -> b d", "mean"))
    return {name: Health(about[name] / whole[name] if whole[name] else 0.0, effective_rank(torch.cat(pooled[name]))) for name in about}


def check_health(found: dict[str, Health]) -> None:
    """Raises TeacherError where a teacher has collapsed: its student would succeed without learning anything."""
    for name, (variance, rank) in found.items():
        if variance < LEAST_VARIANCE or rank < LEAST_RANK:
            raise TeacherError(
                f"This teacher has collapsed: whatever the clip, its {name} tokens are nearly the same (they vary by "
                f"{100 * variance:.2g} % of their size, in {rank:.1f} directions). A student would answer with a constant and have "
                "learnt nothing. Train the teacher longer, or insist with --allow-collapsed."
            )


def fingerprint(model: MAViL) -> str:
    """A hash of a model's weights, whatever file they came from."""
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def lineage(place: str, model: MAViL) -> list[dict]:
    """Where a student comes from, for its run's `config.json`: its teacher's own teachers, the first one first, and its teacher.

    place: the teacher as the user named it, a run's folder or a model's. Each entry has `path`, `weights` (a hash) and `steps`, None
    where that is not known.
    """
    run = run_of(place)
    stored = read_json(run / "config.json").get("lineage", []) if (run / "summary.json").exists() else []
    return [*stored, {"path": place, "weights": fingerprint(model), "steps": read_json(run / "summary.json").get("steps")}]


def load_teacher(place: str, expected: str | None = None) -> MAViL:
    """The model of a run's folder, a model's folder or a name on the Hub, to teach with.

    expected: the hash of its weights when a run began. Raises TeacherError where they have changed, ValueError where it cannot be read.
    """
    model = MAViL.from_pretrained(place)
    if expected and fingerprint(model) != expected:
        raise TeacherError(f"The teacher in {place} is not the one that this run began with; put its weights back, or begin another run.")
    return model
