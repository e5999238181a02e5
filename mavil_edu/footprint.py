"""How much memory a training step needs on one device, counted from the config: weights, gradients, moments, activations."""

from functools import cache
from typing import NamedTuple

import torch

from mavil_edu.checkpoint import Undrawn
from mavil_edu.config import Config, ModelConfig, TransformerConfig
from mavil_edu.mavil import MAViL
from mavil_edu.multiply_adds import asked_places, visible_tokens
from mavil_edu.transformer import Block, CrossBlock

FLOAT = 4  # bytes of a number; weights, gradients and moments are float32 in every precision
MOMENTS = 2  # AdamW's, for each weight
ORDER = ("decoders", "encoders, second view", "fusion", "encoders, first view", "the rest")  # in which the backward pass goes


class Footprint(NamedTuple):
    """Bytes on one device; `peak` is less than the sum of the others, for gradients come as activations go."""

    weights: int
    gradients: int
    moments: int
    activations: int  # kept for the backward pass, with the clips themselves
    working: int  # of the block that is computed
    exchange: int  # what several devices send each other their gradients from, or bring weights together in
    teacher: int  # stage 2
    peak: int


@cache
def _counted(model: ModelConfig) -> tuple[tuple[str, int], ...]:
    """Weights by part; remembered, for a table of many batches asks for one model again and again."""
    with torch.device("meta"), Undrawn():
        built = MAViL(model)
    total, modules = 0, {}
    encoders = [built.audio_encoder.transformer, built.video_encoder.transformer]
    for name, some in (("encoders", encoders), ("fusion", [built.fusion]), ("decoders", [built.audio_decoder, built.video_decoder])):
        modules[name] = sum(p.numel() for module in some for p in module.parameters())
        total += modules[name]
    return tuple(modules.items()) + (("the rest", sum(p.numel() for p in built.parameters()) - total),)


def parameters_by_part(model: ModelConfig) -> dict[str, int]:
    """Weights of each part of a model; no memory is taken for them."""
    return dict(_counted(model))


@cache
def block_weights(model: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Weights of each block, by what it belongs to: "encoders", "fusion", "decoders"."""
    with torch.device("meta"), Undrawn():
        built = MAViL(model)
    found: dict[str, list[int]] = {"encoders": [], "fusion": [], "decoders": []}
    for name, part in built.named_modules():
        if isinstance(part, Block | CrossBlock):
            kind = "encoders" if "_encoder" in name else "decoders" if "_decoder" in name else "fusion"
            found[kind].append(sum(p.numel() for p in part.parameters()))
    return {kind: tuple(some) for kind, some in found.items() if some}


def gathered_weights(model: ModelConfig) -> int:
    """Weights that a process has whole at once where they are sharded: all outside the blocks, one block, and the next, on its way."""
    blocks = block_weights(model)
    return sum(parameters_by_part(model).values()) - sum(sum(some) for some in blocks.values()) + 2 * max(map(max, blocks.values()))


def _block(config: TransformerConfig, mixed: bool, recompute: bool = False) -> float:
    """Bytes that one block keeps of one token; what enters it alone, where the rest is computed again.

    Of d numbers each: what enters the two norms (2), what leaves them (2), q, k and v (3), what attention gives (1); of mlp_ratio · d
    each: what enters GELU and what leaves it (2). With autocast all but the first two are kept in 16 bits.
    """
    if recompute:
        return config.width * FLOAT
    in_16_bits = 6 + 2 * config.mlp_ratio
    return config.width * (2 * FLOAT + in_16_bits * (2 if mixed else FLOAT))


def activations_by_part(config: Config) -> dict[str, int]:
    """Bytes that one clip's forward pass keeps for the backward pass, by part; a teacher keeps none."""
    model, mixed, again = config.model, config.train.precision != "32-true", config.train.recompute
    inputs, views = (model.audio, model.video), visible_tokens(config)
    encoder, decoder = (_block(one, mixed, again) * one.depth for one in (model.encoder, model.decoder))
    fused = sum(k + 1 for k in views[0]) + (2 * model.bottlenecks if model.fusion_kind == "bottleneck" else 0)
    depth = 0 if model.fusion_kind == "none" else model.fusion_depth

    def decoded() -> float:
        found = 0.0
        for one, k in zip(inputs, views[0], strict=True):
            values = model.target_width or one.patch_values + 2 * model.predict_statistics
            asked = asked_places(config, one, k)
            if model.decoder_attention == "cross":
                found += asked * decoder + model.decoder.depth * (k + 1) * model.decoder.width * 4 * (
                    2 if mixed else FLOAT
                )  # norm, k and v
            else:
                found += (1 + min(one.tokens, k + asked)) * decoder
            found += 2 * FLOAT * asked * model.decoder.width  # the last norm's
            found += FLOAT * ((k + 1) * model.encoder.width + asked * values)  # what is embedded, and what is predicted
            found += FLOAT * asked * values if asked < one.tokens else 0  # … and the targets of these places
        return found

    def clips() -> int:
        """The clip, its patches, those that are visible, and the targets."""
        kept = 0
        for i, one in enumerate(inputs):
            targets = one.tokens * (model.target_width or one.patch_values)
            kept += (2 * one.tokens + sum(view[i] for view in views)) * one.patch_values + targets
        return FLOAT * kept

    return {
        **{
            f"encoders, {name} view": round(sum(k + 1 for k in view) * encoder)
            for name, view in zip(("first", "second"), views, strict=False)
        },
        "fusion": round(fused * depth * _block(model.encoder, mixed, again)),
        "decoders": round(decoded()),
        "the rest": clips(),
    }


def footprint(config: Config, rows: int, devices: int = 1) -> Footprint:
    """The memory of a step in which a device computes `rows` clips at once.

    P weights need 4 P bytes, their gradients 4 P, AdamW's moments 8 P; DDP's buckets 4 P more, and autocast's 16-bit copies 2 P. The
    backward pass begins with all activations and no gradients and ends the other way round, a part after another (the encoders' gradients
    come with the second view, while the first one's activations are still there), so

        peak = weights + moments + max over moments of (activations left + gradients made) + working,

    where with `accumulate` above 1 the gradients are there throughout. `working` is the gradient of the widest layer, on its way in and
    out. It tells the live tensors: what torch gives out, within 5 %. Not counted: what a process holds anyway, clips that a loader has
    ready, and the allocator's gaps, which on a CPU make the resident set grow by a fifth to three tenths more. Of sharded weights each
    of N devices has one N-th, likewise of gradients and moments, and whole ones, with their gradients, of what is computed; what was
    measured on a CPU was a fifth more (docs/scaling.md). The whole copy that process 0 looks at comes when a step is over, and is not
    counted. Our choice [O].
    """
    weights, kept = parameters_by_part(config.model), {name: rows * size for name, size in activations_by_part(config).items()}
    all_weights, mixed = sum(weights.values()), config.train.precision != "32-true"
    model = config.model
    views, inputs = visible_tokens(config), (model.audio, model.video)
    longest = {  # tokens in a block, by the stack's sizes
        model.decoder: max(1 + min(one.tokens, k + asked_places(config, one, k)) for one, k in zip(inputs, views[0], strict=True)),
        model.encoder: max(k + 1 for view in views for k in view),
    }
    widest = max(tokens * size.width * size.mlp_ratio for size, tokens in longest.items())
    working = round(2 * rows * widest * (2 if mixed else FLOAT))
    if config.train.recompute:
        working += round(rows * max(tokens * _block(size, mixed) for size, tokens in longest.items()))
    copies = 2 * all_weights if mixed else 0  # autocast's
    shared = config.train.shard_weights and devices > 1
    parts = devices if shared else 1
    there = all_weights if config.train.accumulate > 1 else 0
    made, left = 0, sum(kept.values())
    most = FLOAT * there + left
    for name in (name for name in ORDER if name in kept):
        made += weights.pop(name.split(",")[0], 0)  # the encoders': by the view that comes first
        left -= kept[name]
        most = max(most, FLOAT * max(there, made // parts) + left)
    held = {
        "weights": FLOAT * all_weights // parts + copies,
        "moments": MOMENTS * FLOAT * all_weights // parts,
        "exchange": 2 * FLOAT * gathered_weights(model) if shared else FLOAT * all_weights if devices > 1 else 0,
        "teacher": FLOAT * all_weights if model.target == "teacher" else 0,
    }
    return Footprint(
        gradients=FLOAT * all_weights // (1 if there else parts),
        activations=sum(kept.values()),
        working=working,
        peak=sum(held.values()) + most + working,
        **held,
    )
