"""Where does the sound come from? Each video token's similarity to the sound as a heat map over frames, and how well that points.

The model never learnt places: InfoNCE compares a whole sound with a whole picture. What it says of one place has to be asked for, and
there are several ways to ask (`METHODS`) [O]. Scores are those of the field: pointing accuracy (Zhang et al. 2016, recalled), cIoU and
the area under its success curve (Senocak et al. 2018, recalled).
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from einops import einsum, rearrange, reduce, repeat
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from mavil_edu.config import VideoConfig
from mavil_edu.data.batch import Inputs
from mavil_edu.masking import random_mask
from mavil_edu.mavil import MAViL
from mavil_edu.patches import patchify

Method = Literal["views", "alone", "tokens"]
METHODS: dict[Method, str] = {
    "views": "the mean similarity of random views that show the token and few others",
    "alone": "the similarity of a view that shows the token alone",
    "tokens": "the token of the complete clip through the contrastive head",
}
VIEWS, SHOWN = 256, 4  # random views of a clip, and the tokens that each shows [O: chosen on another seed than docs/transfer.md reports]
ROWS = 256  # views that are encoded at once: what they take stays below 100 MB
SUCCESS = 0.5  # a clip's cIoU from which it counts as found, as is usual
THRESHOLDS = torch.linspace(0, 1, 21, dtype=torch.float64)  # of the success curve


def draw_views(config: VideoConfig, views: int = VIEWS, shown: int = SHOWN, generator: torch.Generator | None = None) -> Tensor:
    """Random views of a clip: (views, tokens) bool, True where a token is shown, `shown` True in each row.

    Raises ValueError where a view would show no token, or more than there are.
    """
    if views < 1 or not 1 <= shown <= config.tokens:
        raise ValueError(f"{views} views of {shown} tokens: ask for 1 view or more, of 1 to {config.tokens} tokens each.")
    return ~random_mask(views, config.tokens, 1 - shown / config.tokens, generator)


@torch.no_grad()
def view_similarity(model: MAViL, video: Tensor, audio_projection: Tensor, shown: Tensor) -> Tensor:
    """How close each view of each clip is to a sound.

    video: (b, 3, frames, height, width), normalised. audio_projection: (b, e), of length 1. shown: (views, n) bool, True where a
    view shows a token, the same count in each row. Returns (b, views) cosine similarities. Hidden tokens never enter the encoder, so a
    view's similarity is what its own tokens say, as in training.
    """
    patches, parts = patchify(video, model.config.video), []
    for views in shown.to(video.device).split(max(1, ROWS // len(patches))):
        repeated = repeat(patches, "b n values -> (b views) n values", views=len(views))
        tokens = model.video_encoder(repeated, repeat(~views, "views n -> (b views) n", b=len(patches)))
        projected = normalize(model.video_head(tokens.pool()), dim=-1)
        parts.append(einsum(rearrange(projected, "(b views) e -> b views e", b=len(patches)), audio_projection, "b v e, b e -> b v"))
    return torch.cat(parts, dim=1)


def token_means(similarity: Tensor, shown: Tensor) -> Tensor:
    """For each token the mean similarity of the views that show it: (b, views) and (views, n) bool -> (b, n).

    As in RISE (Petsiuk et al. 2018, recalled), with views for its masked pictures. A token that no view shows gets the mean of all.
    """
    weight = shown.to(similarity)
    count = weight.sum(dim=0)
    means = einsum(similarity, weight, "b v, v n -> b n") / count.clamp(min=1)
    return torch.where(count > 0, means, similarity.mean(dim=1, keepdim=True))


def smooth_in_time(heat: Tensor) -> Tensor:
    """Each time patch with half the weight of its neighbours beside it: (b, t, h, w) -> the same. Things move little between two [O]."""
    before, after = heat[:, :1].clone(), heat[:, -1:].clone()
    wide = torch.cat([before, heat, after], dim=1)
    return (wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]) / 4


@torch.no_grad()
def heat_maps(
    model: MAViL,
    audio: Tensor,
    video: Tensor,
    method: Method = "views",
    views: int = VIEWS,
    shown: int = SHOWN,
    seed: int = 0,
    smooth: bool = True,
) -> Tensor:
    """How much each place of each picture goes with the sound: (b, t, h, w), the video's grid of tokens; cosines in [-1, 1].

    audio: (b, 1, frames, mel bins). video: (b, 3, frames, height, width), of the same or of other clips. method: one of METHODS.
    views, shown: of method "views". seed: of these views, the same for all clips. smooth: `smooth_in_time`.
    Raises ValueError for another method, or numbers of views that cannot be.
    """
    if method not in get_args(Method):
        raise ValueError(f"There is no method {method!r}; choose one of {', '.join(METHODS)}.")
    config = model.config.video
    sound = model.encode(audio=audio).audio_projection
    if method == "tokens":
        tokens = normalize(model.video_head(model.encode(video=video).video_tokens), dim=-1)
        flat = einsum(tokens, sound, "b n e, b e -> b n")
    else:
        alone = torch.eye(config.tokens, dtype=torch.bool)
        drawn = alone if method == "alone" else draw_views(config, views, shown, torch.Generator().manual_seed(seed))
        flat = token_means(view_similarity(model, video, sound, drawn), drawn.to(video.device))
    t, h, w = config.grid
    heat = rearrange(flat, "b (t h w) -> b t h w", t=t, h=h, w=w).cpu()
    return smooth_in_time(heat) if smooth else heat


def over_frames(heat: Tensor, frames: int, height: int, width: int) -> Tensor:
    """A heat map (b, t, h, w) for each pixel of each frame: (b, frames, height, width).

    Bicubic in space, so that a peak may lie between the tokens' middles; a time patch's frames are alike [O].
    """
    wide = interpolate(heat.float(), (height, width), mode="bicubic", align_corners=False)
    times = (torch.arange(frames) * heat.shape[1] // frames).clamp(max=heat.shape[1] - 1)
    return wide[:, times]


# Baselines: what needs no model


def centre(heat: Tensor) -> Tensor:
    """The picture's middle, whatever it shows: maps (b, t, h, w) of any content -> (b, t, h, w), falling from the middle outwards."""
    h, w = heat.shape[2:]
    y, x = (torch.arange(size) + 0.5 - size / 2 for size in (h, w))
    return (-((y[:, None] / h) ** 2 + (x[None] / w) ** 2)).expand(heat.shape)


def _token_means_of(pixels: Tensor, config: VideoConfig) -> Tensor:
    sizes = {"pt": config.patch_frames, "ph": config.patch_height, "pw": config.patch_width}
    return reduce(pixels, "b (t pt) (h ph) (w pw) -> b t h w", "mean", **sizes)


def frame_difference(video: Tensor, config: VideoConfig) -> Tensor:
    """Saliency: how much each token's pixels change from frame to frame: (b, 3, frames, height, width) -> (b, t, h, w)."""
    change = video.diff(dim=2).abs().mean(dim=1)
    return _token_means_of(torch.cat([change[:, :1], change], dim=1), config)


def contrast(video: Tensor, config: VideoConfig) -> Tensor:
    """Saliency: how far each token's pixels are from the frame's mean colour: (b, 3, frames, height, width) -> (b, t, h, w)."""
    far = (video - video.mean(dim=(3, 4), keepdim=True)).abs().mean(dim=1)
    return _token_means_of(far, config)


# Scores


class Localised(NamedTuple):
    """How well maps point, clip by clip, averaged over a clip's frames."""

    pointing: Tensor  # (b,) in [0, 1]: the maximum lies on the object; equal maxima share
    ciou: Tensor  # (b,) in [0, 1]: the overlap of the hottest pixels with the object


def localised(maps: Tensor, truth: Tensor, share: float) -> Localised:
    """Scores maps against where the object is.

    maps: (b, frames, height, width). truth: the same, bool. share: in (0, 1], of the pixels of a frame that count as pointed at: the
    hottest ones, so that no map gains by its scale. Of equally hot pixels, as many as still fit count by their share. Frames without
    an object in them are left out. With one known object, cIoU is the intersection over the union. Raises ValueError for other shapes.
    """
    if maps.shape != truth.shape or maps.ndim != 4 or not 0 < share <= 1:
        shapes = f"maps {tuple(maps.shape)} and truth {tuple(truth.shape)}"
        raise ValueError(f"Give {shapes} in one shape (b, frames, height, width), and a share ({share}) in (0, 1].")
    heat, on = (rearrange(x, "b t h w -> b t (h w)") for x in (maps.double(), truth))
    hottest = heat == heat.amax(dim=-1, keepdim=True)
    pointing = (hottest & on).sum(dim=-1).double() / hottest.sum(dim=-1)
    count = max(1, round(share * heat.shape[-1]))
    limit = heat.topk(count, dim=-1).values[..., -1:]
    above, level = heat > limit, heat == limit
    room = (count - above.sum(dim=-1)).double() / level.sum(dim=-1)  # the share of the equals that fit
    inside = (above & on).sum(dim=-1) + room * (level & on).sum(dim=-1)
    ciou = inside / (count + on.sum(dim=-1) - inside)
    there = on.any(dim=-1)
    frames = there.sum(dim=-1).clamp(min=1)
    return Localised((pointing * there).sum(dim=-1) / frames, (ciou * there).sum(dim=-1) / frames)


def mean_and_interval(values: Tensor) -> dict[str, float]:
    """The mean over clips and half the width of its 95 % interval by Student's t: (b,) -> {"mean", "interval95"}.

    The interval of a single clip is endless. Raises ValueError without clips.
    """
    from mavil_edu.lab.verdicts import interval  # here and not at the top: the lab stands below, and measures with this package

    mean, half = interval(values.double().tolist())
    return {"mean": mean, "interval95": math.inf if math.isnan(half) else half}


def summary_of(scores: Localised) -> dict:
    """Over clips: "pointing" and "ciou" (mean and interval), "success" (the share of clips with cIoU ≥ 0.5), "auc" in [0, 1]."""
    success = (scores.ciou[:, None] >= THRESHOLDS).double().mean(dim=0)
    return {
        "pointing": mean_and_interval(scores.pointing),
        "ciou": mean_and_interval(scores.ciou),
        "success": mean_and_interval((scores.ciou >= SUCCESS).double()),
        "auc": float(torch.trapezoid(success, THRESHOLDS)),
    }


def over(scores: Localised, baseline: Localised) -> dict:
    """By how much scores are above a baseline's on the same clips, paired: "pointing" and "ciou", each mean and interval."""
    return {name: mean_and_interval(getattr(scores, name) - getattr(baseline, name)) for name in Localised._fields}


def baselines(inputs: Inputs, config: VideoConfig, mean_place: Tensor, seed: int = 0) -> dict[str, Callable[[], Tensor]]:
    """Maps of the answers that need no model, by name, made when called: each (b, t, h, w) or, the mean place, of single pixels.

    mean_place: (height, width), the share of other clips' frames in which the object covers a pixel.
    """
    grid = (len(inputs.video), *config.grid)
    pixels = (len(inputs.video), config.grid[0], config.height, config.width)
    return {
        "centre": lambda: centre(torch.zeros(pixels)),
        "random": lambda: torch.rand(grid, generator=torch.Generator().manual_seed(seed)),
        "frame difference": lambda: frame_difference(inputs.video, config).cpu(),
        "contrast": lambda: contrast(inputs.video, config).cpu(),
        "mean place": lambda: mean_place.expand(pixels),
    }
