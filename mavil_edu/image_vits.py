"""An encoder started from an image ViT, as MAE and timm save it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from einops import reduce, repeat
from torch import Tensor

from mavil_edu.mavil import MAViL
from mavil_edu.patches import kernel_to_linear, patch_shape
from mavil_edu.weights_file import IN_A_BLOCK, ReleasedError, Report, check_numbers, check_shape, depth_of, read_weights, renamed, sizes


def _init_from_image(model: MAViL, side: str, weights: str | Path | Mapping[str, Tensor], as_patch) -> Report:
    """Puts a ViT's class token, patch kernel and blocks into one encoder; all is checked before anything is changed."""
    state = dict(weights) if isinstance(weights, Mapping) else read_weights(weights)
    path = "the weights given" if isinstance(weights, Mapping) else str(weights)
    encoder, config = getattr(model, f"{side}_encoder"), getattr(model.config, side)
    width, depth = model.config.encoder.width, model.config.encoder.depth
    kernel_shape = sizes(state, "patch_embed.proj.weight", 4, path)
    if kernel_shape != (width, 3, *patch_shape(config)[-2:]):
        raise ReleasedError(
            f"The patch kernel in {path} has shape {kernel_shape}; this encoder needs {(width, 3, *patch_shape(config)[-2:])}: "
            "take a model of the same width and patch size."
        )
    if (found := depth_of(state, "blocks", path)) != depth:
        raise ReleasedError(f"{path} has {found} blocks, and this encoder {depth}; take a model of the same depth.")
    places = {"class_token": "cls_token", "patch_embed.": "patch_embed.proj.", "transformer.blocks.": "blocks."}
    used, missing, values = [], [], {}
    for name, own in encoder.state_dict().items():
        key = renamed(name, places)
        if key is None or (key == "cls_token" and key not in state):  # positions stay ours; some image models have no class token
            missing.append(f"{side}_encoder.{name}")
            continue
        if key not in state:
            raise ReleasedError(f"{path} has no {key}: its blocks are not those of a ViT as MAE and timm name them.")
        check_numbers(key, state[key], path)
        value = state[key].float()
        if name == "class_token":
            value = value.reshape(-1)
        elif name == "patch_embed.weight":
            value = kernel_to_linear(as_patch(value))
        check_shape(key, value, tuple(own.shape), path)
        used, values[name] = [*used, key], value
    ignored = tuple(name for name in state if name not in used)
    if strange := [name for name in ignored if IN_A_BLOCK.match(name)]:
        raise ReleasedError(f"{path} has {strange[0]}, which our blocks do not know: they would compute something else.")
    with torch.no_grad():
        for name, value in values.items():
            encoder.get_parameter(name).copy_(value)
    return Report(path, tuple(used), ignored, tuple(missing))


def init_video_from_image_mae(model: MAViL, weights: str | Path | Mapping[str, Tensor]) -> Report:
    """Starts the video encoder from an image ViT, as MAE and timm save it: on a clip that stands still it embeds what the ViT does.

    The 16 × 16 kernel is repeated over a patch's frames and divided by their number [C]; class token and blocks are copied. Positions stay
    ours, and what follows the ViT's blocks (norm, head, decoder) is ignored. weights: a file, or its tensors by name.
    Returns what was used, ignored, and left as it was. Raises ReleasedError, the model unchanged, where sizes do not fit.
    """
    frames = model.config.video.patch_frames
    return _init_from_image(model, "video", weights, lambda kernel: repeat(kernel, "d c ph pw -> d c pt ph pw", pt=frames) / frames)


def init_audio_from_image_mae(model: MAViL, weights: str | Path | Mapping[str, Tensor]) -> Report:
    """Starts the audio encoder from an image ViT, as MAE and timm save it; its kernel is the mean of the kernels of the three colours.

    All else as `init_video_from_image_mae`: positions stay ours, what follows the blocks is ignored.
    """
    return _init_from_image(model, "audio", weights, lambda kernel: reduce(kernel, "d c pt pf -> d 1 pt pf", "mean"))
