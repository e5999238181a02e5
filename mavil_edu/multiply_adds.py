"""How much arithmetic a training step is, counted from the config: multiply-adds of its matrix products, attention's two among them."""

import torch

from mavil_edu.config import AudioConfig, Config, VideoConfig
from mavil_edu.fusion import make_fusion
from mavil_edu.masking import visible_count
from mavil_edu.mavil import decodes_every_place
from mavil_edu.transformer import cross_multiply_adds, multiply_adds

BACKWARD = 2  # times the forward pass: one product for the input's gradient, one for the weight's
BACKWARD_OF_EMBEDDING = 1  # patches need no gradient


def visible_tokens(config: Config) -> list[tuple[int, int]]:
    """The visible tokens of sound and picture in each masked view."""
    audio, video, objective = config.model.audio.grid, config.model.video.grid, config.objective
    ratios = [(objective.audio_ratio, objective.video_ratio)]
    if objective.beta:
        second = objective.second_ratio
        ratios.append(ratios[0] if second is None else (second, second))
    return [(visible_count(audio, a, objective.audio_masking), visible_count(video, v, objective.video_masking)) for a, v in ratios]


def asked_places(config: Config, inputs: AudioConfig | VideoConfig, visible: int) -> int:
    """How many places of one modality the decoder predicts in training, given how many are visible: all, or a share of the hidden ones."""
    hidden = inputs.tokens - visible
    if decodes_every_place(config.model, config.objective):
        return inputs.tokens
    return min(hidden, max(1, round(hidden * config.objective.decoded_share)))


def forward_by_part(config: Config, batch: int) -> dict[str, int]:
    """Multiply-adds of one clip's forward pass, by part; additions alone, norms, GELU, softmax and the front ends are not counted.

    batch: clips that InfoNCE compares. Stage 2 (a config whose target is a teacher) has the part `teacher`, which sees complete clips.
    """
    model, objective, views = config.model, config.objective, visible_tokens(config)
    width, inputs = model.encoder.width, (model.audio, model.video)
    with torch.device("meta"):  # sizes without weights
        fusion = make_fusion(model)

    def embed(view: tuple[int, int]) -> int:
        return sum(k * one.patch_values * width for k, one in zip(view, inputs, strict=True))

    def encode(view: tuple[int, int]) -> int:
        return sum(multiply_adds(model.encoder, k + 1) for k in view)  # + 1: the class token

    def decode(one: AudioConfig | VideoConfig, visible: int) -> int:
        values = model.target_width or one.patch_values + 2 * model.predict_statistics
        narrow, asked, given = model.decoder.width, asked_places(config, one, visible), visible + 1
        if model.decoder_attention == "cross":
            blocks = cross_multiply_adds(model.decoder, asked, given)
        else:
            blocks = multiply_adds(model.decoder, 1 + min(one.tokens, visible + asked))
        return given * width * narrow + blocks + asked * narrow * values

    heads = 2 * 3 * width * (model.projection or 0)  # of both modalities, three layers each
    compared = model.projection or width
    info_nces = 2 * objective.inter_views + 2 * (len(views) - 1)
    found = {
        "embed": sum(map(embed, views)),
        "encoders": sum(map(encode, views)),
        "fusion": fusion.multiply_adds(*(k + 1 for k in views[0])),
        "decoders": sum(decode(one, k) for one, k in zip(inputs, views[0], strict=True)),
        "heads": len(views) * heads,
        "losses": info_nces * batch * compared,
    }
    if model.target == "teacher":  # of the student's own sizes; other teachers differ
        whole = (model.audio.tokens, model.video.tokens)
        found["teacher"] = embed(whole) + encode(whole) + fusion.multiply_adds(*(n + 1 for n in whole)) + heads
    return found


def step_by_part(config: Config, batch: int) -> dict[str, int]:
    """Multiply-adds of one step's forward and backward pass over a batch, by part; a teacher goes forward only."""
    times = {"embed": 1 + BACKWARD_OF_EMBEDDING, "teacher": 1}
    return {part: batch * times.get(part, 1 + BACKWARD) * count for part, count in forward_by_part(config, batch).items()}
