"""The model: masked audio and video are encoded, fused and decoded; a second masked view is encoded alone; stage 1's losses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from einops import pack
from torch import Tensor, nn

from mavil_edu.checkpoint import load_model, push_model, save_model
from mavil_edu.config import Config, ModelConfig, ObjectiveConfig
from mavil_edu.decoder import Decoder
from mavil_edu.encoder import Encoder, Tokens
from mavil_edu.fusion import make_fusion
from mavil_edu.losses import inter_modal, intra_modal, normalise_patches, patch_errors, patch_statistics, scored_mean
from mavil_edu.masking import AUDIO_STRATEGIES, VIDEO_STRATEGIES, at_places, check_mask, draw_hidden_places, visible_count
from mavil_edu.patches import patchify
from mavil_edu.transformer import MLP, initialise


class Masks(NamedTuple):
    """Which tokens of a batch are hidden: True = hidden, the same count in each row."""

    audio: Tensor  # (b, audio tokens) bool
    video: Tensor  # (b, video tokens) bool


class Asked(NamedTuple):
    """The hidden places of a batch that the decoders are asked for, in place of all; the same count in each row."""

    audio: Tensor  # (b, m) long
    video: Tensor  # (b, m) long


class Prediction(NamedTuple):
    """A decoder's word on every patch of one modality, or on the m places it was asked for, in the space of the model's target."""

    patches: Tensor  # (b, n, values), or (b, m, values)
    statistics: Tensor | None  # (b, n or m, 2): each patch's mean and std, where the model predicts them
    places: Tensor | None = None  # (b, m) long, what was asked for; None: every patch


class Targets(NamedTuple):
    """What the decoders are to predict at every place of a batch: patches (stage 1), or a teacher's tokens (stage 2)."""

    audio: Tensor  # (b, n, values)
    video: Tensor  # (b, n, values)
    audio_statistics: Tensor | None = None  # (b, n, 2): each patch's mean and std, where the model predicts them too
    video_statistics: Tensor | None = None


class StageOne(NamedTuple):
    """What a model computes from two masked views of a batch, in either stage."""

    audio: Prediction
    video: Prediction
    audio_projection: Tensor | None  # (b, e): what InfoNCE compares; None where no audio token is visible
    video_projection: Tensor | None
    second_audio_projection: Tensor | None  # of the second view; None also where there is none
    second_video_projection: Tensor | None


class Losses(NamedTuple):
    """A stage's terms, unweighted, and their weighted sum; a term that does not apply is None."""

    audio: Tensor  # masked MSE
    video: Tensor  # masked MSE
    statistics: Tensor | None  # MSE of the predicted means and standard deviations
    inter: Tensor | None  # InfoNCE between modalities
    intra: Tensor | None  # InfoNCE within a modality
    total: Tensor


class Encoded(NamedTuple):
    """A batch of complete clips as the encoders and the fusion see it; a missing modality's fields are None."""

    audio_tokens: Tensor | None  # (b, n, d) unimodal patch tokens
    video_tokens: Tensor | None
    fused_audio_tokens: Tensor | None  # (b, n, d) after fusion
    fused_video_tokens: Tensor | None
    audio_embedding: Tensor | None  # (b, d) mean of the unimodal patch tokens: for probes
    video_embedding: Tensor | None
    audio_projection: Tensor | None  # (b, e) normalised to length 1, what InfoNCE compares: for retrieval
    video_projection: Tensor | None


def draw_masks(rows: int, model: ModelConfig, objective: ObjectiveConfig, generator: torch.Generator | None = None) -> Masks:
    """Masks of the first view of a batch of `rows` clips, by the objective's strategies and ratios."""
    return Masks(
        AUDIO_STRATEGIES[objective.audio_masking](rows, model.audio.grid, objective.audio_ratio, generator),
        VIDEO_STRATEGIES[objective.video_masking](rows, model.video.grid, objective.video_ratio, generator),
    )


def _second(objective: ObjectiveConfig) -> ObjectiveConfig:
    """The objective with the second view's ratios in place of the first's."""
    ratio = objective.second_ratio
    return objective if ratio is None else replace(objective, audio_ratio=ratio, video_ratio=ratio)


def draw_second_masks(rows: int, model: ModelConfig, objective: ObjectiveConfig, generator: torch.Generator | None = None) -> Masks | None:
    """Masks of the second view, which intra-modal contrast needs, by the same strategies; None where its weight, beta, is 0."""
    return draw_masks(rows, model, _second(objective), generator) if objective.beta else None


def decodes_every_place(model: ModelConfig, objective: ObjectiveConfig) -> bool:
    """Whether the decoders are asked for all places in training [R, A], and not for hidden ones alone."""
    return objective.scored == "all" or (objective.decoded_share == 1 and model.decoder_attention == "self")


def draw_asked(masks: Masks, model: ModelConfig, objective: ObjectiveConfig, generator: torch.Generator | None = None) -> Asked | None:
    """What the decoders are asked for in a training step: a share `decoded_share` of the hidden places of each clip.

    None, for every place [R, A], where that share is 1; but decoders of cross-attention are asked for all hidden places then,
    for what is said of others costs as much and serves nobody. At share 1 nothing is drawn.
    """
    if decodes_every_place(model, objective):
        return None
    return Asked(*(draw_hidden_places(mask, objective.decoded_share, generator) for mask in masks))


def terms_left_out(model: ModelConfig, objective: ObjectiveConfig) -> list[str]:
    """The terms of stage 1 that its masks leave no tokens for, a sentence each; a term of weight 0 is not named."""

    def visible(view: ObjectiveConfig) -> tuple[bool, bool]:
        return (
            visible_count(model.audio.grid, view.audio_ratio, view.audio_masking) > 0,
            visible_count(model.video.grid, view.video_ratio, view.video_masking) > 0,
        )

    views = [visible(objective), *([visible(_second(objective))] if objective.beta else [])]
    found = []
    both = [all(view) for view in views]
    both[0] = both[0] and objective.whole_hidden < 1
    if objective.alpha and not any(both[: objective.inter_views]):
        found.append("InfoNCE between modalities is left out: no masked view shows both sound and picture.")
    for name, shown in zip(("sound", "picture"), zip(*views, strict=True), strict=True):
        if objective.beta and not all(shown):
            found.append(f"InfoNCE within the {name} is left out: a masked view shows nothing of it.")
    return found


class MAViL(nn.Module):
    """Masked Audio-Video Learners, stage 1, at the sizes of its config."""

    def __init__(self, config: ModelConfig):
        """Builds a freshly initialised model; a whole `Config` (such as `tiny()`) may be given for its `model`."""
        super().__init__()
        self.config = config = config.model if isinstance(config, Config) else config
        width = config.encoder.width
        statistics = 2 if config.predict_statistics else 0
        self.audio_encoder = Encoder(config.audio, config.encoder)
        self.video_encoder = Encoder(config.video, config.encoder)
        self.fusion = make_fusion(config)
        for name, inputs in (("audio_decoder", config.audio), ("video_decoder", config.video)):
            values = config.target_width or inputs.patch_values + statistics
            setattr(self, name, config.decoder and Decoder(inputs, width, config.decoder, values, config.decoder_attention))
        self.audio_head = self._head(width)
        self.video_head = self._head(width)
        read = 2 * width if config.classes_from == "both" else width
        self.classifier = config.classes and nn.Sequential(nn.LayerNorm(read, eps=1e-6), nn.Linear(read, config.classes))
        self.apply(initialise)

    def _head(self, width: int) -> nn.Module:
        projection = self.config.projection
        return nn.Identity() if projection is None else nn.Sequential(MLP(width, projection), nn.Linear(width, projection))

    def forward(self, audio: Tensor, video: Tensor, masks: Masks, second: Masks | None = None, asked: Asked | None = None) -> StageOne:
        """Reads two masked views of a batch: the first is encoded, fused and decoded, the second is encoded alone.

        audio: (b, 1, frames, mel bins), normalised log-mel. video: (b, 3, frames, height, width), normalised.
        masks: what the first view hides. second: what the second view hides, for intra-modal contrast. asked: the hidden places to predict,
        as `draw_asked` gives them; by default every place.
        Raises ValueError where sizes or masks do not fit the config, or the model has no decoders.
        """
        if self.config.decoder is None:
            raise ValueError(
                "This model has no decoders, so it cannot reconstruct; it can encode. Take a model trained by mavil-edu pretrain for that."
            )
        masks, second = self._checked(masks, len(audio), audio.device), self._checked(second, len(audio), audio.device)
        audio_patches, video_patches = patchify(audio, self.config.audio), patchify(video, self.config.video)
        a, v = self.audio_encoder(audio_patches, masks.audio), self.video_encoder(video_patches, masks.video)
        fused_a, fused_v = self.fusion(a, v)
        again_a = self.audio_encoder(audio_patches, second.audio) if second else None
        again_v = self.video_encoder(video_patches, second.video) if second else None
        asked = Asked(None, None) if asked is None else Asked(*(places.to(audio.device) for places in asked))
        return StageOne(
            audio=self._split(self.audio_decoder(fused_a, masks.audio, asked.audio), asked.audio),
            video=self._split(self.video_decoder(fused_v, masks.video, asked.video), asked.video),
            audio_projection=self._project(a, self.audio_head),
            video_projection=self._project(v, self.video_head),
            second_audio_projection=self._project(again_a, self.audio_head),
            second_video_projection=self._project(again_v, self.video_head),
        )

    def encode(
        self,
        audio: Tensor | None = None,
        video: Tensor | None = None,
        maps: dict[str, Tensor] | None = None,
        layers: dict[str, Tensor] | None = None,
    ) -> Encoded:
        """Encodes complete clips, nothing hidden; either modality may be left out.

        audio: (b, 1, frames, mel bins). video: (b, 3, frames, height, width). maps: a dict that is filled with the attention
        maps, "audio_encoder.0" to "fusion.1" (with bottlenecks "fusion.audio.0" to "fusion.video.1"). layers: a dict that is filled
        with the tokens after each block, by the same names: (b, 1 + n, d) with the class token first; in joint fusion [audio class,
        audio tokens, video class, video tokens].
        Raises ValueError where both are left out.
        """
        if audio is None and video is None:
            raise ValueError("There is nothing to encode: give audio, video, or both.")
        a = None if audio is None else self.audio_encoder(patchify(audio, self.config.audio), None, maps, "audio_encoder", layers)
        v = None if video is None else self.video_encoder(patchify(video, self.config.video), None, maps, "video_encoder", layers)
        fused_a, fused_v = self.fusion(a, v, maps, layers)
        unit = nn.functional.normalize
        return Encoded(
            audio_tokens=a and a.patch_tokens,
            video_tokens=v and v.patch_tokens,
            fused_audio_tokens=fused_a and fused_a.patch_tokens,
            fused_video_tokens=fused_v and fused_v.patch_tokens,
            audio_embedding=a and a.pool(),
            video_embedding=v and v.pool(),
            audio_projection=a and unit(self._project(a, self.audio_head), dim=-1),
            video_projection=v and unit(self._project(v, self.video_head), dim=-1),
        )

    def classify(self, audio: Tensor | None = None, video: Tensor | None = None, masks: Masks | None = None) -> Tensor:
        """Scores the classes of clips, from what `config.classes_from` names [C].

        "both": the mean fused audio token beside the mean fused video token; "audio", "video": the mean of that encoder's tokens alone,
        without fusion, and the other input is not read. audio, video: as `encode` takes them. masks: tokens that are hidden, as an
        augmentation in training; the mask of a modality that is not read may be None.
        Returns (b, classes), before softmax or sigmoid.
        Raises ValueError where the model has no classifier, or a modality that it reads is left out.
        """
        if self.config.classes is None:
            raise ValueError("This model has no classifier; it can encode. A fine-tuned one has.")
        return self.classifier(self._pooled(audio, video, masks))

    def _pooled(self, audio: Tensor | None, video: Tensor | None, masks: Masks | None) -> Tensor:
        """What the classifier reads: (b, 2 d), or (b, d) of one modality."""
        source, inputs = self.config.classes_from, {"audio": audio, "video": video}
        needed = ("audio", "video") if source == "both" else (source,)
        if any(inputs[name] is None for name in needed):
            what = "sound and picture together" if source == "both" else "sound alone" if source == "audio" else "pictures alone"
            raise ValueError(f"The classifier was made for {what}: give {'both audio and video' if source == 'both' else source}.")
        read = {}
        for name in needed:
            mask = None if masks is None else getattr(masks, name)
            read[name] = getattr(self, f"{name}_encoder")(patchify(inputs[name], getattr(self.config, name)), mask)
        tokens = self.fusion(**read) if source == "both" else read.values()
        pooled, _ = pack([one.pool() for one in tokens], "b *")
        return pooled

    def _checked(self, masks: Masks | None, rows: int, device: torch.device) -> Masks | None:
        if masks is None:
            return None
        check_mask(masks.audio, rows, self.config.audio.tokens)
        check_mask(masks.video, rows, self.config.video.tokens)
        return Masks(masks.audio.to(device), masks.video.to(device))

    @staticmethod
    def _project(tokens: Tokens | None, head: nn.Module) -> Tensor | None:
        visible = tokens is not None and tokens.patch_tokens.shape[1] > 0
        return head(tokens.pool()) if visible else None

    def _split(self, prediction: Tensor, places: Tensor | None) -> Prediction:
        if not self.config.predict_statistics:
            return Prediction(prediction, None, places)
        return Prediction(*prediction.split([prediction.shape[-1] - 2, 2], dim=-1), places)

    def save_pretrained(
        self, folder: str | Path, dtype: torch.dtype | None = None, run: str | Path | None = None, decoders: bool = True
    ) -> Path:
        """Writes `model.safetensors`, `config.json` and a model card into a folder, all else in it stays; torch.float16 halves the file.

        run: a run's folder whose data and numbers the card tells; by default the one that the model was loaded from. decoders: False
        leaves them out; such a model encodes, and cannot reconstruct.
        """
        return save_model(self, folder, dtype, run, decoders=decoders)

    def push_to_hub(self, name: str, run: str | Path | None = None, private: bool | None = None, token: str | None = None) -> str:
        """Shares the model on the Hugging Face Hub as "owner/model", with the card that `save_pretrained` writes; returns its address.

        private: whether others may see it; None: as the owner's settings say. token: by default that of `hf auth login`.
        Raises ValueError, saying what to do, where the Hub cannot be reached or refuses.
        """
        return push_model(self, name, run, private, token)

    @classmethod
    def from_pretrained(cls, folder_or_name: str | Path, revision: str | None = None) -> "MAViL":
        """Loads a run's folder, a model's folder, or a name on the Hugging Face Hub, ready for evaluation.

        Raises ValueError, saying what to do, where there is no model or it cannot be read.
        """
        return load_model(cls, folder_or_name, revision)


def patch_targets(audio: Tensor, video: Tensor, config: ModelConfig) -> Targets:
    """Stage 1's targets: the input's patches, normalised one by one or raw.

    audio: (b, 1, frames, mel bins). video: (b, 3, frames, height, width). Raises ValueError for a model whose target is a teacher.
    """
    if config.target == "teacher":
        raise ValueError("This model predicts a teacher's tokens and not patches; targets are made by its teacher: mavil_edu.teacher.")
    patches = patchify(audio, config.audio), patchify(video, config.video)
    if config.target == "raw":
        return Targets(*patches)
    statistics = [patch_statistics(p) for p in patches]
    normalised = [normalise_patches(p, s) for p, s in zip(patches, statistics, strict=True)]
    return Targets(*normalised, *(torch.cat(s, dim=-1) for s in statistics)) if config.predict_statistics else Targets(*normalised)


def own_rows(x: Tensor) -> Tensor:
    """The batch of a single process is the whole one."""
    return x


def losses_of(
    output: StageOne,
    targets: Targets,
    audio_scored: Tensor,
    video_scored: Tensor,
    objective: ObjectiveConfig,
    gather: Callable[[Tensor], Tensor] = own_rows,
) -> Losses:
    """The terms of either stage and their weighted sum, L = L_raw + α · L_inter + β · L_intra; in stage 2 L_raw is called L_reg.

    L_raw is the sum of both modalities' masked MSE [R: of both modalities; that they are added, and not averaged,
    is recalled]. Where the model predicts patch statistics, their MSE is added with weight 1 [our choice].

    audio_scored, video_scored: (b, n) bool, the places that count, of those that were predicted. gather: makes of this process's rows,
    (b, …), those of all processes in order, with gradients (`mavil_edu.processes.gather_rows`): every loss is then the whole batch's.
    """

    def mse(prediction: Tensor, target: Tensor, scored: Tensor, places: Tensor | None) -> Tensor:
        if places is not None:
            target, scored = at_places(target, places), scored.gather(1, places)
        return scored_mean(gather(patch_errors(prediction, target)), gather(scored))

    audio_mse = mse(output.audio.patches, targets.audio, audio_scored, output.audio.places)
    video_mse = mse(output.video.patches, targets.video, video_scored, output.video.places)
    statistics = None
    if targets.audio_statistics is not None:
        audio_statistics = mse(output.audio.statistics, targets.audio_statistics, audio_scored, output.audio.places)
        statistics = audio_statistics + mse(output.video.statistics, targets.video_statistics, video_scored, output.video.places)
    projections = output.audio_projection, output.video_projection, output.second_audio_projection, output.second_video_projection
    a, v, again_a, again_v = (None if x is None else gather(x) for x in projections)
    zero = audio_mse.new_zeros(())
    views = [(a, v), (again_a, again_v)][: objective.inter_views]
    inters = [inter_modal(x, y, objective.tau_inter) for x, y in views if x is not None and y is not None]
    inter = sum(inters) / len(inters) if inters else None
    intra = intra_modal(a, again_a, v, again_v, objective.tau_intra)
    raw = audio_mse + video_mse + (zero if statistics is None else statistics)
    contrast = objective.alpha * (zero if inter is None else inter) + objective.beta * (zero if intra is None else intra)
    return Losses(audio_mse, video_mse, statistics, inter, intra, objective.reconstruction * raw + contrast)


def stage_one_losses(
    output: StageOne,
    audio: Tensor,
    video: Tensor,
    audio_scored: Tensor,
    video_scored: Tensor,
    model: ModelConfig,
    objective: ObjectiveConfig,
) -> Losses:
    """Stage 1's terms and their weighted sum: `losses_of` with the input's own patches as targets.

    audio, video: the model's input. audio_scored, video_scored: (b, n) bool, the patches that count: hidden, less padding.
    """
    return losses_of(output, patch_targets(audio, video, model), audio_scored, video_scored, objective)
