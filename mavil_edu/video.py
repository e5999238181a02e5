"""The only place where frames become the normalised clip, and a clip becomes frames again.

Frames are uint8 with the colours last, as files and pictures have them; the model's clip is float32 with the colours first.
torchvision takes seconds to import, so it is imported where a picture is resized, and not before.
"""

import math

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor

from mavil_edu.config import AugmentConfig, VideoConfig

ASPECT_JITTER = (3 / 4, 4 / 3)  # a random crop's width over height, relative to the target's; torchvision's default
TRIES = 10  # crops drawn before the centre is taken; torchvision's default

Box = tuple[int, int, int, int]  # top, left, height, width in pixels


def _check_frames(frames: Tensor, axes: str) -> None:
    if frames.dtype != torch.uint8 or frames.ndim != len(axes.split()) or frames.shape[-1] != 3:
        raise ValueError(f"The frames are {frames.dtype} {tuple(frames.shape)}; give uint8 in the order ({axes}) with 3 colours last.")
    if frames.numel() == 0:
        raise ValueError(f"The frames have shape {tuple(frames.shape)}: there is no picture in them; leave this clip out.")


def _centre_box(height: int, width: int, config: VideoConfig) -> Box:
    """The largest box of the target's shape in the middle of a picture."""
    scale = min(height / config.height, width / config.width)
    box_height = min(height, max(1, round(config.height * scale)))
    box_width = min(width, max(1, round(config.width * scale)))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def _cut(frames: Tensor, box: Box, config: VideoConfig) -> Tensor:
    """The box of every frame, resized to the target with antialiasing."""
    top, left, height, width = box
    size = [config.height, config.width]
    if [height, width] == size:
        return frames[:, top : top + height, left : left + width].contiguous()
    from torchvision.transforms.v2.functional import resized_crop

    pictures = resized_crop(rearrange(frames, "t h w c -> t c h w"), top, left, height, width, size, antialias=True)
    return rearrange(pictures, "t c h w -> t h w c").contiguous()


def fit(frames: Tensor, config: VideoConfig) -> Tensor:
    """Brings frames to the target's size: the shorter side decides the scale, the middle is kept.

    frames: (t, h, w, 3) uint8, any size. Returns (t, config.height, config.width, 3) uint8; frames of that size come back as they are.
    The middle is cut out first and resized then: the same picture as resizing first, but a very wide one costs no memory.
    Raises ValueError for another type or order. Source: usual evaluation crop; order of the steps is our choice.
    """
    _check_frames(frames, "t h w c")
    return _cut(frames, _centre_box(*frames.shape[1:3], config), config)


def _random_box(height: int, width: int, config: VideoConfig, share: tuple[float, float], generator: torch.Generator) -> Box:
    low, high = map(math.log, ASPECT_JITTER)
    for _ in range(TRIES):
        area, jitter, down, across = torch.rand(4, generator=generator, device=generator.device).tolist()
        area = height * width * (share[0] + area * (share[1] - share[0]))
        aspect = config.width / config.height * math.exp(low + jitter * (high - low))
        box_height, box_width = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < box_height <= height and 0 < box_width <= width:
            return int(down * (height - box_height + 1)), int(across * (width - box_width + 1)), box_height, box_width
    return _centre_box(height, width, config)


def augment(frames: Tensor, config: VideoConfig, augment: AugmentConfig, generator: torch.Generator) -> Tensor:
    """A random crop, resized, and mirrored in half of the cases: one draw for the whole clip, so that nothing jumps between frames.

    frames: (t, h, w, 3) uint8, any size. Returns (t, config.height, config.width, 3) uint8. With `augment.crop` (1, 1) nothing is
    cropped at random, and with no flip besides this is `fit`. Raises ValueError for another type or order.
    The rule is that of torchvision's v2.RandomResizedCrop, whose own draws come from torch's global generator and would change with
    whatever else draws there; hence the draws are made here, from the given generator, and torchvision cuts and resizes.
    Source: recalled from the paper; the shares are our choice.
    """
    _check_frames(frames, "t h w c")
    mirror = torch.rand((), generator=generator, device=generator.device).item() < 0.5
    height, width = frames.shape[1:3]
    whole = tuple(augment.crop) == (1, 1)
    box = _centre_box(height, width, config) if whole else _random_box(height, width, config, augment.crop, generator)
    frames = _cut(frames, box, config)
    return frames.flip(2) if augment.flip and mirror else frames


def normalise(frames: Tensor, config: VideoConfig) -> Tensor:
    """The model's input: (b, t, h, w, 3) uint8 -> (b, 3, t, h, w) float32, (x / 255 - mean) / std for each colour.

    Raises ValueError for another type or order.
    """
    _check_frames(frames, "b t h w c")
    mean, std = rearrange(frames.new_tensor([config.mean, config.std], dtype=torch.float32), "two c -> two c 1 1 1")
    colours = rearrange(frames, "b t h w c -> b c t h w").contiguous()  # while a value is one byte
    return (colours / 255).sub_(mean).div_(std)


def denormalise(video: Tensor, config: VideoConfig) -> Tensor:
    """The inverse of `normalise`: (b, 3, t, h, w) -> (b, t, h, w, 3) uint8, rounded; values that no picture can show are clamped."""
    mean, std = video.new_tensor([config.mean, config.std], dtype=torch.float32)
    frames = rearrange(video.float(), "b c t h w -> b t h w c") * std + mean
    return (frames * 255).round().clamp(0, 255).to(torch.uint8).contiguous()


def video_content(seen: Tensor, config: VideoConfig) -> Tensor:
    """Which video tokens hold a picture: (b, tokens) bool in the order (t h w), True where any frame of the tubelet was seen.

    seen: (b, config.frames) bool. Raises ValueError for another number of frames.
    """
    if seen.ndim != 2 or seen.shape[1] != config.frames:
        raise ValueError(f"seen has shape {tuple(seen.shape)}; give (clips, {config.frames}), one True or False for each frame.")
    t, h, w = config.grid
    return repeat(reduce(seen.bool(), "b (t pt) -> b t", "any", t=t), "b t -> b (t h w)", h=h, w=w)
