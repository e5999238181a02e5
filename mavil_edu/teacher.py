"""Stage 2: a frozen teacher sees complete clips, and its contextualised tokens are what a student has to predict of the hidden places."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from einops import reduce
from torch import Tensor
from torch.nn import functional as F

from mavil_edu.checkpoint import CONFIG_FILE, find_model
from mavil_edu.config import Config, ModelConfig, ObjectiveConfig, from_dict, tiny
from mavil_edu.data.batch import Batch
from mavil_edu.evaluate import PositionMeans, input_chunks
from mavil_edu.mavil import MAViL, Targets
from mavil_edu.probes import effective_rank

CACHE_BYTES = 2**30  # of targets kept in memory, at most
TRIAL = 2000  # clips looked up before a cache that finds too few is given up
WORTH = 0.25  # share of these that must be found: looking up costs an eighth of computing, and clips may come again later
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
    return replace(config, model=replace(config.model, decoder=decoder, classes=None, **tokens))


def teachers_config(place: str) -> Config:
    """The config that a student starts from where no other is asked for: the teacher's model, and its run's objective and training.

    Where there is no run, those of `tiny`. Raises ValueError where there is no model.
    """
    model = from_dict(ModelConfig, _read(find_model(place) / CONFIG_FILE))
    stored = _read(_run_of(place) / CONFIG_FILE)
    config = from_dict(Config, stored["config"]) if "config" in stored else tiny()
    return student_config(replace(config, model=model), model)


class Teacher:
    """A frozen model, called with complete clips: what `HeldOut`, `position_means` and `update` take as `make_targets`.

    Its targets are the fused tokens of both modalities [P], or the unimodal ones [O], LayerNorm-ed without learned scale or not [O].
    It keeps no gradients, is in no checkpoint, and never changes.

    Targets of clips that come again are kept, up to 1 GiB: a clip is known by a hash of its two inputs, so what is found is what would
    be computed, whatever the augmentation. Where too few come again (random crops, a stream), nothing is kept any more.
    """

    def __init__(self, model: MAViL, objective: ObjectiveConfig, cache_bytes: int = CACHE_BYTES):
        self.model = model.eval().requires_grad_(False)
        self.objective = objective
        self.kept: dict[bytes, tuple[Tensor, Tensor]] | None = {} if cache_bytes else None
        self.room = cache_bytes
        self.asked = self.found = 0

    def __call__(self, audio: Tensor, video: Tensor) -> Targets:
        """The targets of a batch, (b, n, d) for each modality. audio: (b, 1, frames, mel bins). video: (b, 3, frames, height, width)."""
        if self.kept is None or audio.device.type != "cpu":  # on a GPU computing is cheaper than bringing clips back
            return self._compute(audio, video)
        keys = [self._key(*clip) for clip in zip(audio, video, strict=True)]
        new = [i for i, key in enumerate(keys) if key not in self.kept]
        computed = dict(zip(new, zip(*self._compute(audio[new], video[new])[:2], strict=True), strict=True)) if new else {}
        rows = [computed.get(i) or self.kept[key] for i, key in enumerate(keys)]
        for i, tokens in computed.items():
            self._keep(keys[i], tokens)
        self.asked, self.found = self.asked + len(keys), self.found + len(keys) - len(new)
        if self.room <= 0 and self.asked > TRIAL and self.found < WORTH * self.asked:
            self.kept = None
        return Targets(*(torch.stack(tokens) for tokens in zip(*rows, strict=True)))

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

    def _keep(self, key: bytes, tokens: tuple[Tensor, Tensor]) -> None:
        size = sum(x.numel() * x.element_size() for x in tokens)
        if self.room >= size:
            self.kept[key] = tuple(x.clone() for x in tokens)
            self.room -= size
        else:
            self.room = 0


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
    run = _run_of(place)
    stored = _read(run / "config.json").get("lineage", []) if (run / "summary.json").exists() else []
    return [*stored, {"path": place, "weights": fingerprint(model), "steps": _read(run / "summary.json").get("steps")}]


def load_teacher(place: str, expected: str | None = None) -> MAViL:
    """The model of a run's folder, a model's folder or a name on the Hub, to teach with.

    expected: the hash of its weights when a run began. Raises TeacherError where they have changed, ValueError where it cannot be read.
    """
    model = MAViL.from_pretrained(place)
    if expected and fingerprint(model) != expected:
        raise TeacherError(f"The teacher in {place} is not the one that this run began with; put its weights back, or begin another run.")
    return model


def _run_of(place: str) -> Path:
    return Path(place).parent if Path(place).name == "model" else Path(place)


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
