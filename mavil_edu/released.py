"""Published weights are mapped onto our names here, and ours onto the published layout; image models start an encoder.

The layout is that of the checkpoints which MAViL's authors released, as public inference code reads it [C]: one flat dict of
tensors, `blocks.` for sound, `blocks_v.` for pictures, `blocks_av.` for the fusion, and `head_av.` where it was fine-tuned. It has no
decoders, and does not tell the number of heads, the grids of patches or the lengths of the windows.
"""

import argparse
import math
import pickle
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from einops import rearrange, reduce, repeat
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mavil_edu import audio as audio_end
from mavil_edu import media
from mavil_edu import video as video_end
from mavil_edu.checkpoint import Undrawn, replacing
from mavil_edu.config import AudioConfig, ModelConfig, TransformerConfig, VideoConfig
from mavil_edu.mavil import MAViL
from mavil_edu.patches import kernel_to_linear, linear_to_kernel

HEAD_WIDTH = 64  # of one attention head, where nobody tells: 12 heads at width 768
INPUTS = {"audio": (1024, 128), "video": (8, 224, 224)}  # the released models' inputs, where no grid is told
# Ours: the layout's. A name that ends with a dot stands for all that begin with it; what follows the dot is called alike.
PLACES = {
    "audio_encoder.class_token": "cls_token",
    "audio_encoder.positions": "pos_embed",
    "audio_encoder.patch_embed.": "patch_embed.proj.",
    "audio_encoder.transformer.blocks.": "blocks.",
    "video_encoder.class_token": "cls_token_v",
    "video_encoder.positions": "pos_embed_v",
    "video_encoder.patch_embed.": "patch_embed_v.proj.",
    "video_encoder.transformer.blocks.": "blocks_v.",
    "fusion.transformer.blocks.": "blocks_av.",
    "classifier.0.": "fc_norm_av.",
    "classifier.1.": "head_av.",
}
IN_A_BLOCK = re.compile(r"(blocks|blocks_v|blocks_av)\.\d+\.")


class ReleasedError(ValueError):
    """A file of published weights cannot be used, or not as asked; the message says why and what to do."""


class Report(NamedTuple):
    """What of a file went into a model, by the file's names."""

    path: str
    used: tuple[str, ...]  # keys that were loaded
    ignored: tuple[str, ...]  # keys that the file has and the model has no place for
    missing: tuple[str, ...]  # parts that a model may have and the file has not, by our names


class Exported(NamedTuple):
    """What of a model went into a file of the released layout."""

    path: Path
    keys: tuple[str, ...]  # the layout's
    left_out: tuple[str, ...]  # what the layout cannot hold: parts by our names, and settings that a reader must be told


class Preprocessed(NamedTuple):
    """A clip as a model takes it, of one row; a modality that the clip has not is None."""

    audio: Tensor | None  # (1, 1, frames, mel bins)
    video: Tensor | None  # (1, 3, frames, height, width)


# ------------------------------------------------------------------------------------------------------------ reading a file


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _unpickled(path: Path) -> Any:
    """What torch.save wrote, numbers alone: whatever would run code is refused. Tensors stay in the file until they are used."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # plain settings, which training scripts save beside the weights
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # what a damaged or crafted pickle raises has no limits
        found = re.search(r"GLOBAL (\S+)|class (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and found:
            raise ReleasedError(
                f"{path} holds more than numbers ({found[1] or found[2]}): reading that can run anyone's code, so it is refused, "
                "and nothing was run. Get a file that holds tensors alone."
            ) from error
        raise ReleasedError(
            f"{path} cannot be read as a torch file ({type(error).__name__}). Was it cut short, or is it another format?"
        ) from error


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a torch or safetensors file, of `{"model": …}` or of the dict itself, mapped into memory and not copied.

    Never runs code of the file. While the tensors live the file must stay as it is (writing a new one by rename does no harm).
    Raises ReleasedError where there is no such file, it is damaged, or holds anything that could run.
    """
    path = Path(path)
    if not path.is_file():
        raise ReleasedError(f"There is no file {path}. Name the file of weights that you have downloaded.")
    if _is_safetensors(path):
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ReleasedError(f"{path} is a damaged safetensors file ({error}). Was it cut short?") from error
    found = _unpickled(path)
    for name in ("model", "state_dict"):
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not any(isinstance(value, Tensor) for value in found.values()):
        raise ReleasedError(f'{path} holds no dict of named tensors, neither under "model" nor by itself: it is no file of weights.')
    state = {str(name): value.detach() for name, value in found.items() if isinstance(value, Tensor)}
    told, there = sum(value.numel() * value.element_size() for value in state.values()), path.stat().st_size
    if told > there:
        raise ReleasedError(f"{path} has {there} bytes, but its tensors claim {told}: it is damaged, or made to harm.")
    return state


def _check_numbers(name: str, value: Tensor, path: str) -> None:
    if value.layout is not torch.strided or not value.is_floating_point():
        raise ReleasedError(f"{name} in {path} is {value.dtype}, {value.layout}; weights are plain floating-point numbers.")
    if not bool(value.isfinite().all()):
        raise ReleasedError(f"{name} in {path} holds NaN or infinity: the file is damaged, or its training failed.")


def _check_shape(name: str, value: Tensor, wanted: tuple[int, ...], path: str) -> None:
    if tuple(value.shape) != wanted:
        raise ReleasedError(f"{name} in {path} has shape {tuple(value.shape)}, but the sizes around it want {wanted}.")


def _few(names: Iterable[str]) -> str:
    """Names for a sentence: each part once, with the number of its keys."""
    counts = Counter(name.split(".")[0] for name in names)
    parts = [part if n == 1 else f"{part} ({n} keys)" for part, n in counts.items()]
    return ", ".join(parts[:8]) + (f" and {len(parts) - 8} more" if len(parts) > 8 else "")


# ------------------------------------------------------------------------------------------------------------ names and shapes


def _renamed(name: str, places: Mapping[str, str]) -> str | None:
    """A name in the other language, or None where it has none."""
    for here, there in places.items():
        if name == here or (here.endswith(".") and name.startswith(here)):
            return there + name[len(here) :]
    return None


def _to_layout(name: str, value: Tensor, config: ModelConfig) -> Tensor:
    """One of our tensors in the layout's shape. name: ours."""
    if name.endswith("_encoder.class_token"):
        return rearrange(value, "d -> 1 1 d")
    if name.endswith("_encoder.positions"):
        return rearrange(value, "n d -> 1 n d")
    if name.endswith("_encoder.patch_embed.weight"):
        return linear_to_kernel(value, config.audio if name.startswith("audio") else config.video)
    return value


def _from_layout(name: str, value: Tensor) -> Tensor:
    """The inverse of `_to_layout`; a view where that is possible, so that nothing is copied out of the file."""
    if name.endswith("_encoder.class_token"):
        return rearrange(value, "1 1 d -> d")
    if name.endswith("_encoder.positions"):
        return rearrange(value, "1 n d -> n d")
    if name.endswith("_encoder.patch_embed.weight"):
        return kernel_to_linear(value).contiguous()
    return value


def _sizes(state: Mapping[str, Tensor], name: str, axes: int, path: str) -> tuple[int, ...]:
    if name not in state:
        ours = "audio_encoder.class_token" in state
        remedy = "It was saved by mavil_edu: MAViL.from_pretrained reads its folder." if ours else "Is it another model's?"
        raise ReleasedError(f"{path} has no {name}, so it is not in the layout that is wanted here. {remedy}")
    shape = tuple(state[name].shape)
    if len(shape) != axes or 0 in shape:
        raise ReleasedError(f"{name} in {path} has shape {shape}; {axes} axes are wanted, none of them empty.")
    return shape


def _depth(state: Mapping[str, Tensor], prefix: str, path: str) -> int:
    """How many blocks there are of a name; each must be there."""
    numbers = {int(part[1]) for name in state if (part := re.match(rf"{prefix}\.(\d{{1,6}})\.", name))}
    if numbers != set(range(len(numbers))):
        absent = min(set(range(len(numbers))) - numbers)
        raise ReleasedError(f"{path} has {len(numbers)} {prefix}, but {prefix}.{absent} is missing: the file is incomplete.")
    return len(numbers)


def _grid(side: str, told: tuple[int, ...] | None, patch: tuple[int, ...], places: int, path: str) -> tuple[int, ...]:
    """The grid that the caller tells, or that of the released models' input; its places must be those of the file's positions."""
    name = {"audio": "pos_embed", "video": "pos_embed_v"}[side]
    axes = {"audio": "(time, frequency)", "video": "(time, height, width)"}[side]
    grid = tuple(told) if told else tuple(size // part for size, part in zip(INPUTS[side], patch, strict=True))
    if len(grid) != len(patch) or min(grid) < 1:
        raise ReleasedError(f"{side}_grid is {grid}; give the number of patches along {axes}.")
    if math.prod(grid) != places - 1:
        raise ReleasedError(
            f"{name} in {path} has {places} rows, a class token's and {places - 1}, but a grid of {grid} has {math.prod(grid)} patches; "
            f"tell the file's own by {side}_grid={axes}."
        )
    return grid


def _config(
    state: Mapping[str, Tensor], heads: int | None, audio_grid: tuple[int, int] | None, video_grid: tuple[int, int, int] | None, path: str
) -> ModelConfig:
    """The sizes of a file, read from its shapes; decoders there are none."""
    width = _sizes(state, "cls_token", 3, path)[2]
    audio_patch = _sizes(state, "patch_embed.proj.weight", 4, path)[2:]
    video_patch = _sizes(state, "patch_embed_v.proj.weight", 5, path)[2:]
    t, f = _grid("audio", audio_grid, audio_patch, _sizes(state, "pos_embed", 3, path)[1], path)
    steps, h, w = _grid("video", video_grid, video_patch, _sizes(state, "pos_embed_v", 3, path)[1], path)
    depths = [_depth(state, prefix, path) for prefix in ("blocks", "blocks_v")]
    if depths[0] != depths[1]:
        raise ReleasedError(f"{path} has {depths[0]} blocks for sound and {depths[1]} for pictures; this package wants as many of each.")
    hidden = _sizes(state, "blocks.0.mlp.fc1.weight", 2, path)[0]
    ratio = hidden / width if int(hidden / width * width) == hidden else math.nextafter(hidden / width, math.inf)
    if heads is None and width % HEAD_WIDTH:
        raise ReleasedError(f"{path} has width {width}, no multiple of {HEAD_WIDTH}: tell the number of attention heads by heads=…")
    frames, pictures = t * audio_patch[0], steps * video_patch[0]
    fusion_depth = _depth(state, "blocks_av", path)
    classes = _sizes(state, "head_av.weight", 2, path)[0] if "head_av.weight" in state else None
    try:
        return ModelConfig(
            audio=AudioConfig(10.0 if frames == 1024 else frames / 100, frames, f * audio_patch[1], *audio_patch),
            video=VideoConfig(pictures / 2, pictures, h * video_patch[1], w * video_patch[2], *video_patch),
            encoder=TransformerConfig(width, depths[0], heads or width // HEAD_WIDTH, ratio),
            fusion_depth=fusion_depth,
            decoder=None,
            classes=classes,
        )
    except ValueError as error:
        raise ReleasedError(f"The sizes of {path} do not fit together: {error}") from error


# ------------------------------------------------------------------------------------------------------------ the released layout


def load_released(
    path: str | Path,
    heads: int | None = None,
    audio_grid: tuple[int, int] | None = None,
    video_grid: tuple[int, int, int] | None = None,
) -> MAViL:
    """Loads a file in the released layout: a model that encodes, and classifies where the file has a head; without decoders.

    path: what torch.save wrote, or the same tensors as safetensors. heads: of attention, which the file does not tell; by default
    width / 64. audio_grid, video_grid: patches along (time, frequency) and (time, height, width), where the input is not the released
    models' 1024 × 128 or 8 × 224 × 224. Widths, depths, patch sizes and the number of classes follow from the shapes [C]; of another
    length than the default the audio window is frames / 100 seconds, and the video window frames / 2 [O].
    Returns a MAViL in evaluation mode, float32, whose `report` tells what was loaded, ignored and missing; a warning too tells of ignored
    keys. Its weights stay mapped to the file until they are used: leave the file as it is.
    Raises ReleasedError where the file is damaged, could run code, or does not fit the layout.
    """
    state, path = read_weights(path), str(path)
    with torch.device("meta"), Undrawn():  # shapes only: nothing takes memory
        model = MAViL(_config(state, heads, audio_grid, video_grid, path))
    empty = model.state_dict()
    theirs = {name: _renamed(name, PLACES) for name in empty}
    if absent := [name for name in theirs.values() if name not in state]:
        raise ReleasedError(f"{path} lacks {len(absent)} keys of the layout, the first {absent[0]}: the file is incomplete.")
    ignored = [name for name in state if name not in set(theirs.values())]
    if strange := [name for name in ignored if IN_A_BLOCK.match(name)]:
        raise ReleasedError(f"{path} has {strange[0]}, which the layout's blocks do not know: they would compute something else.")
    for name, key in theirs.items():
        _check_shape(key, state[key], tuple(_to_layout(name, empty[name], model.config).shape), path)
        _check_numbers(key, state[key], path)
    ours = {name: _from_layout(name, state[key]).float() for name, key in theirs.items()}
    model.load_state_dict(ours, assign=True)
    parts = {"audio_decoder": None, "video_decoder": None, "fusion": model.config.fusion_depth or None, "classifier": model.classifier}
    missing = tuple(name for name, part in parts.items() if part is None)
    model.report = Report(path, tuple(theirs.values()), tuple(ignored), missing)
    if ignored:
        warnings.warn(f"{path} holds keys that were ignored: {_few(ignored)}.", stacklevel=2)
    if "fusion" in missing:
        warnings.warn(f"{path} has no fusion (blocks_av): fused tokens are those of the encoders.", stacklevel=2)
    return model.eval()


def export_released(model: MAViL, path: str | Path) -> Exported:
    """Writes a model's encoders, fusion and classifier as a torch file in the released layout, whole or not at all.

    The tensors that the layout names are written exactly. Returns what it cannot hold: decoders and projection heads by their names, and
    those settings that `load_released` would not find out by itself.
    Raises ReleasedError for a fusion that is not joint attention: the layout has no place for bottlenecks.
    """
    config, path = model.config, Path(path)
    kind = getattr(config, "fusion_kind", "joint")
    if kind != "joint":
        raise ReleasedError(f"This model's fusion is {kind!r}, and the released layout holds joint attention alone; use save_pretrained.")
    held, left_out = {}, []
    for name, value in model.state_dict().items():
        key = _renamed(name, PLACES)
        if key is None or (name.startswith("classifier.") and config.classes_from != "both"):  # its head reads both
            left_out.append(name.split(".")[0])
        else:
            held[key] = _to_layout(name, value.detach().cpu(), config).clone(memory_format=torch.contiguous_format)
    with replacing(path) as temporary:
        torch.save({"model": held}, temporary)
    return Exported(path, tuple(held), (*dict.fromkeys(left_out), *_untold(config)))


def _untold(config: ModelConfig) -> list[str]:
    """The settings of a model that its tensors do not tell and that are not the released models'."""
    plain, untold = ModelConfig(), []
    if config.encoder.heads * HEAD_WIDTH != config.encoder.width:
        untold.append(f"heads={config.encoder.heads}")
    for side in ("audio", "video"):
        ours, theirs = getattr(config, side), getattr(plain, side)
        if ours.grid != tuple(size // part for size, part in zip(INPUTS[side], _patch(ours), strict=True)):
            untold.append(f"{side}_grid={ours.grid}")
        settings = [name for name in ("seconds", "mean", "std") if getattr(ours, name) != getattr(theirs, name)]
        untold += [f"{side}.{name}={getattr(ours, name)}" for name in settings]
    return untold


def _patch(config: AudioConfig | VideoConfig) -> tuple[int, ...]:
    if isinstance(config, AudioConfig):
        return config.patch_frames, config.patch_bins
    return config.patch_frames, config.patch_height, config.patch_width


def preprocess(clip: str | Path | tuple[Tensor | None, Tensor | None], config: ModelConfig | None = None) -> Preprocessed:
    """A clip as the released models take it: its middle, 10 s of sound and 8 pictures from 4 s [C].

    clip: a media file, or (waveform, frames): (samples,) float32 in [-1, 1], 16 kHz, and (8, height, width, 3) uint8, either may be None;
    of a waveform the first 10.26 s count. config: of a model of other sizes, `model.config`.
    Sound is mean-free, log-mel as Kaldi's, padded with 0 or cut to 1024 frames, then (x − mean) / (2 · std); pictures are scaled and cut
    in the middle to 224 × 224, then normalised by ImageNet's mean and std [C; how they are cut: O].
    Returns audio (1, 1, 1024, 128) and video (1, 3, 8, 224, 224), None where the clip has none or is silent.
    Raises MediaError where the file cannot be read, ValueError where shapes do not fit, or there is neither sound nor picture.
    """
    config = config or ModelConfig()
    if isinstance(clip, str | Path):
        read = media.read_clip(clip, config.audio.seconds, config.video.seconds, config.video.frames)
        heard = read.waveform[read.heard[0] : read.heard[1]]
        waveform = None if media.is_silent(heard) else read.waveform[None]
        span, frames = torch.tensor([read.heard]), read.frames if bool(read.seen.any()) else None
    else:
        waveform, frames = clip
        waveform, span = None if waveform is None else waveform[None], None
        if frames is not None and len(frames) != config.video.frames:
            raise ValueError(f"There are {len(frames)} frames; this model takes {config.video.frames}, from {config.video.seconds:g} s.")
    if waveform is None and frames is None:
        raise ValueError(f"{clip if isinstance(clip, str | Path) else 'The clip'} has neither sound nor picture in its middle.")
    return Preprocessed(
        audio=None if waveform is None else audio_end.spectrogram(waveform, config.audio, span),
        video=None if frames is None else video_end.normalise(video_end.fit(frames, config.video)[None], config.video),
    )


# ------------------------------------------------------------------------------------------------------------ image models


def _init_from_image(model: MAViL, side: str, weights: str | Path | Mapping[str, Tensor], as_patch) -> Report:
    """Puts a ViT's class token, patch kernel and blocks into one encoder; all is checked before anything is changed."""
    state = dict(weights) if isinstance(weights, Mapping) else read_weights(weights)
    path = "the weights given" if isinstance(weights, Mapping) else str(weights)
    encoder, config = getattr(model, f"{side}_encoder"), getattr(model.config, side)
    width, depth = model.config.encoder.width, model.config.encoder.depth
    kernel_shape = _sizes(state, "patch_embed.proj.weight", 4, path)
    if kernel_shape != (width, 3, *_patch(config)[-2:]):
        raise ReleasedError(
            f"The patch kernel in {path} has shape {kernel_shape}; this encoder needs {(width, 3, *_patch(config)[-2:])}: "
            "take a model of the same width and patch size."
        )
    if (found := _depth(state, "blocks", path)) != depth:
        raise ReleasedError(f"{path} has {found} blocks, and this encoder {depth}; take a model of the same depth.")
    places = {"class_token": "cls_token", "patch_embed.": "patch_embed.proj.", "transformer.blocks.": "blocks."}
    used, missing, values = [], [], {}
    for name, own in encoder.state_dict().items():
        key = _renamed(name, places)
        if key is None or (key == "cls_token" and key not in state):  # positions stay ours; some image models have no class token
            missing.append(f"{side}_encoder.{name}")
            continue
        if key not in state:
            raise ReleasedError(f"{path} has no {key}: its blocks are not those of a ViT as MAE and timm name them.")
        _check_numbers(key, state[key], path)
        value = state[key].float()
        if name == "class_token":
            value = value.reshape(-1)
        elif name == "patch_embed.weight":
            value = kernel_to_linear(as_patch(value))
        _check_shape(key, value, tuple(own.shape), path)
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
