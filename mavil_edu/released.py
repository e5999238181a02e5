"""Published weights are mapped onto our names here, and ours onto the published layout.

The layout is that of the checkpoints which MAViL's authors released, as public inference code reads it [C]: one flat dict of
tensors, `blocks.` for sound, `blocks_v.` for pictures, `blocks_av.` for the fusion, and `head_av.` where it was fine-tuned. It has no
decoders, and does not tell the number of heads, the grids of patches or the lengths of the windows.
"""

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from mavil_edu import audio as audio_end
from mavil_edu import media
from mavil_edu import video as video_end
from mavil_edu.checkpoint import Undrawn
from mavil_edu.config import AudioConfig, ModelConfig, TransformerConfig, VideoConfig
from mavil_edu.files import replacing
from mavil_edu.mavil import MAViL
from mavil_edu.patches import kernel_to_linear, linear_to_kernel, patch_shape
from mavil_edu.weights_file import (
    IN_A_BLOCK,
    ReleasedError,
    Report,
    check_numbers,
    check_shape,
    depth_of,
    read_weights,
    renamed,
    sizes,
)

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


class Exported(NamedTuple):
    """What of a model went into a file of the released layout."""

    path: Path
    keys: tuple[str, ...]  # the layout's
    left_out: tuple[str, ...]  # what the layout cannot hold: parts by our names, and settings that a reader must be told


class Preprocessed(NamedTuple):
    """A clip as a model takes it, of one row; a modality that the clip has not is None."""

    audio: Tensor | None  # (1, 1, frames, mel bins)
    video: Tensor | None  # (1, 3, frames, height, width)


def _few(names: Iterable[str]) -> str:
    """Names for a sentence: each part once, with the number of its keys."""
    counts = Counter(name.split(".")[0] for name in names)
    parts = [part if n == 1 else f"{part} ({n} keys)" for part, n in counts.items()]
    return ", ".join(parts[:8]) + (f" and {len(parts) - 8} more" if len(parts) > 8 else "")


# ------------------------------------------------------------------------------------------------------------ names and shapes


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
    width = sizes(state, "cls_token", 3, path)[2]
    audio_patch = sizes(state, "patch_embed.proj.weight", 4, path)[2:]
    video_patch = sizes(state, "patch_embed_v.proj.weight", 5, path)[2:]
    t, f = _grid("audio", audio_grid, audio_patch, sizes(state, "pos_embed", 3, path)[1], path)
    steps, h, w = _grid("video", video_grid, video_patch, sizes(state, "pos_embed_v", 3, path)[1], path)
    depths = [depth_of(state, prefix, path) for prefix in ("blocks", "blocks_v")]
    if depths[0] != depths[1]:
        raise ReleasedError(f"{path} has {depths[0]} blocks for sound and {depths[1]} for pictures; this package wants as many of each.")
    hidden = sizes(state, "blocks.0.mlp.fc1.weight", 2, path)[0]
    ratio = hidden / width if int(hidden / width * width) == hidden else math.nextafter(hidden / width, math.inf)
    if heads is None and width % HEAD_WIDTH:
        raise ReleasedError(f"{path} has width {width}, no multiple of {HEAD_WIDTH}: tell the number of attention heads by heads=…")
    frames, pictures = t * audio_patch[0], steps * video_patch[0]
    fusion_depth = depth_of(state, "blocks_av", path)
    classes = sizes(state, "head_av.weight", 2, path)[0] if "head_av.weight" in state else None
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
    theirs = {name: renamed(name, PLACES) for name in empty}
    if absent := [name for name in theirs.values() if name not in state]:
        raise ReleasedError(f"{path} lacks {len(absent)} keys of the layout, the first {absent[0]}: the file is incomplete.")
    ignored = [name for name in state if name not in set(theirs.values())]
    if strange := [name for name in ignored if IN_A_BLOCK.match(name)]:
        raise ReleasedError(f"{path} has {strange[0]}, which the layout's blocks do not know: they would compute something else.")
    for name, key in theirs.items():
        check_shape(key, state[key], tuple(_to_layout(name, empty[name], model.config).shape), path)
        check_numbers(key, state[key], path)
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
        key = renamed(name, PLACES)
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
        if ours.grid != tuple(size // part for size, part in zip(INPUTS[side], patch_shape(ours), strict=True)):
            untold.append(f"{side}_grid={ours.grid}")
        settings = [name for name in ("seconds", "mean", "std") if getattr(ours, name) != getattr(theirs, name)]
        untold += [f"{side}.{name}={getattr(ours, name)}" for name in settings]
    return untold + [f"{name}={getattr(config, name)}" for name in ("class_names", "multi_label") if getattr(config, name)]


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
