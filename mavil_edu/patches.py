"""The two patch patterns stand here, and nowhere else: patchify, its inverse derived from it, and the linear embedding's kernel."""

from einops import rearrange
from torch import Tensor

from mavil_edu.config import AudioConfig, VideoConfig

AUDIO_PATCHES = "b 1 (t pt) (f pf) -> b (t f) (pt pf)"  # time-major: token = t · (number of f) + f
VIDEO_PATCHES = "b c (t pt) (h ph) (w pw) -> b (t h w) (pt ph pw c)"
VIDEO_KERNEL = "d c pt ph pw -> d (pt ph pw c)"  # a convolution's kernel as a matrix on patches
AUDIO_KERNEL = "d 1 pt pf -> d (pt pf)"


def _sizes(config: AudioConfig | VideoConfig) -> tuple[str, dict[str, int]]:
    if isinstance(config, AudioConfig):
        t, f = config.grid
        return AUDIO_PATCHES, {"t": t, "f": f, "pt": config.patch_frames, "pf": config.patch_bins}
    t, h, w = config.grid
    sizes = {"t": t, "h": h, "w": w, "pt": config.patch_frames, "ph": config.patch_height, "pw": config.patch_width}
    return VIDEO_PATCHES, sizes | {"c": 3}


def input_shape(config: AudioConfig | VideoConfig) -> tuple[int, ...]:
    """The shape of one clip's input: (1, frames, mel bins) for sound, (3, frames, height, width) for pictures."""
    if isinstance(config, AudioConfig):
        return 1, config.frames, config.mel_bins
    return 3, config.frames, config.height, config.width


def patch_shape(config: AudioConfig | VideoConfig) -> tuple[int, ...]:
    """The shape of one patch: (frames, mel bins) of sound, (frames, height, width) of pictures."""
    if isinstance(config, AudioConfig):
        return config.patch_frames, config.patch_bins
    return config.patch_frames, config.patch_height, config.patch_width


def patchify(x: Tensor, config: AudioConfig | VideoConfig) -> Tensor:
    """Cuts a spectrogram or a clip into its patches.

    x: (b, 1, frames, mel) or (b, 3, frames, height, width), of the config's sizes.
    Returns (b, n, values): n tokens in the order (t f) or (t h w), each patch flattened as (pt pf) or (pt ph pw c).
    Raises ValueError where the input's sizes are not the config's.
    """
    wanted = input_shape(config)
    if tuple(x.shape[1:]) != wanted:
        what = "spectrogram" if isinstance(config, AudioConfig) else "clip"
        raise ValueError(f"The {what} has shape {tuple(x.shape)}, but this model takes (batch, {', '.join(map(str, wanted))}).")
    pattern, sizes = _sizes(config)
    return rearrange(x, pattern, **sizes)


def unpatchify(patches: Tensor, config: AudioConfig | VideoConfig) -> Tensor:
    """Puts patches back together: the inverse of `patchify`, from (b, n, values)."""
    pattern, sizes = _sizes(config)
    whole, cut = pattern.split(" -> ")
    return rearrange(patches, f"{cut} -> {whole}", **sizes)


def kernel_to_linear(kernel: Tensor) -> Tensor:
    """A strided convolution's kernel as the weight of a linear layer on patches.

    kernel: (d, 1, pt, pf) or (d, c, pt, ph, pw). Returns (d, values) in the order of `patchify`.
    """
    return rearrange(kernel, AUDIO_KERNEL if kernel.ndim == 4 else VIDEO_KERNEL)


def linear_to_kernel(weight: Tensor, config: AudioConfig | VideoConfig) -> Tensor:
    """The inverse of `kernel_to_linear`: (d, values) -> (d, 1, pt, pf) or (d, 3, pt, ph, pw)."""
    pattern = AUDIO_KERNEL if isinstance(config, AudioConfig) else VIDEO_KERNEL
    kernel, flat = pattern.split(" -> ")
    return rearrange(weight, f"{flat} -> {kernel}", **{axis: size for axis, size in _sizes(config)[1].items() if axis in kernel.split()})
