"""Each exercise's answer, once: what a stub falls back to, what graders compare with, and what lessons show folded away.

Every function stands alone, as a learner would write it; `tests/test_exercises.py` holds those with a twin in the library equal to it.
"""

import math
from collections.abc import Callable

import torch
from einops import pack, rearrange, reduce, repeat, unpack
from torch import Tensor

# 00: the quickstart


def token_count(moments: int, bands: int, patch_moments: int, patch_bands: int) -> int:
    return (moments // patch_moments) * (bands // patch_bands)


def below_trivial(error: float, trivial: list[float]) -> float:
    return 1 - error / min(trivial)


def find_pictures(sounds: Tensor, pictures: Tensor) -> Tensor:
    sounds, pictures = (torch.nn.functional.normalize(x, dim=1) for x in (sounds, pictures))
    return (sounds @ pictures.T).argmax(dim=1)


def recall_at(similarity: Tensor, k: int) -> float:
    found = similarity.topk(k, dim=1).indices  # (n, k)
    return float((found == torch.arange(len(similarity))[:, None]).any(dim=1).float().mean())


# 01: sound


def frames_in(samples: int) -> int:
    return max(0, 1 + (samples - 400) // 160)


def mel_of_hz(hz: Tensor) -> Tensor:
    return 1127 * torch.log(1 + hz / 700)


def mel_filter(hz: Tensor, left: float, centre: float, right: float) -> Tensor:
    def mel(f):
        return 1127 * torch.log(1 + torch.as_tensor(f) / 700)

    rising = (mel(hz) - mel(left)) / (mel(centre) - mel(left))
    falling = (mel(right) - mel(hz)) / (mel(right) - mel(centre))
    return torch.minimum(rising, falling).clamp(min=0)


def power_of_frame(frame: Tensor) -> Tensor:
    frame = frame - frame.mean()
    before = torch.cat([frame[:1], frame[:-1]])
    windowed = (frame - 0.97 * before) * torch.hann_window(400, periodic=False)
    return torch.fft.rfft(windowed, n=512).abs().square()


def log_floor(power: Tensor) -> Tensor:
    return power.clamp(min=torch.finfo(torch.float32).eps).log()


def normalise(log_mel: Tensor, mean: float, std: float) -> Tensor:
    return (log_mel - mean) / (2 * std)


def patchify_audio(spectrogram: Tensor) -> Tensor:
    return rearrange(spectrogram, "b 1 (t pt) (f pf) -> b (t f) (pt pf)", pt=16, pf=16)


def unpatchify_audio(patches: Tensor, t: int, f: int) -> Tensor:
    return rearrange(patches, "b (t f) (pt pf) -> b 1 (t pt) (f pf)", t=t, f=f, pt=16, pf=16)


# 02: pictures


def frame_times(seconds: float, frames: int) -> Tensor:
    return (torch.arange(frames) + 0.5) * seconds / frames


def tokens_of(frames: int, height: int, width: int) -> int:
    return (frames // 2) * (height // 16) * (width // 16)


def patchify_video(video: Tensor) -> Tensor:
    return rearrange(video, "b c (t pt) (h ph) (w pw) -> b (t h w) (pt ph pw c)", pt=2, ph=16, pw=16)


def sincos_1d(places: Tensor, width: int) -> Tensor:
    omega = 10_000 ** -(torch.arange(width // 2) / (width // 2))
    angle = rearrange(places, "n -> n 1") * omega
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def sincos_3d(t: int, h: int, w: int, width: int) -> Tensor:
    omega = 10_000 ** -(torch.arange(width // 6) / (width // 6))
    axes = torch.meshgrid(torch.arange(t), torch.arange(h), torch.arange(w), indexing="ij")
    angles = [rearrange(axis, "t h w -> (t h w) 1") * omega for axis in axes]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)


def attention_cost(tokens: int, width: int, heads: int) -> int:
    return 2 * tokens * tokens * width


def conv_as_linear(patches: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    matrix = rearrange(kernel, "d c pt ph pw -> d (pt ph pw c)")
    return patches @ matrix.T + bias


# 03: masks


def visible_count(tokens: int, ratio: float) -> int:
    return tokens - round(tokens * ratio)


def mask_by_rank(noise: Tensor, visible: int) -> Tensor:
    rank = noise.argsort(dim=1).argsort(dim=1)
    return rank >= visible


def time_mask(noise: Tensor, visible: int, f: int) -> Tensor:
    rank = noise.argsort(dim=1).argsort(dim=1)
    return repeat(rank >= visible, "b t -> b (t f)", f=f)


def tube_mask(noise: Tensor, visible: int, t: int) -> Tensor:
    rank = noise.argsort(dim=1).argsort(dim=1)
    return repeat(rank >= visible, "b hw -> b (t hw)", t=t)


def keep_visible(tokens: Tensor, mask: Tensor) -> Tensor:
    visible_first = mask.int().argsort(dim=1, stable=True)
    places = visible_first[:, : int((~mask[0]).sum())]
    return tokens.gather(1, repeat(places, "b k -> b k d", d=tokens.shape[2]))


def put_back(visible: Tensor, mask: Tensor, fill: Tensor) -> Tensor:
    b, n = mask.shape
    whole = repeat(fill, "d -> b n d", b=b, n=n).clone()
    places = mask.int().argsort(dim=1, stable=True)[:, : visible.shape[1]]
    return whole.scatter(1, repeat(places, "b k -> b k d", d=len(fill)), visible)


# 04: the masked autoencoder


def complete(prediction: Tensor, patches: Tensor, mask: Tensor) -> Tensor:
    return torch.where(rearrange(mask, "b n -> b n 1"), prediction, patches)


def normalise_patch(patches: Tensor) -> Tensor:
    mean = patches.mean(dim=-1, keepdim=True)
    variance = patches.var(dim=-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def masked_mse(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    error = reduce((prediction - target).square(), "b n values -> b n", "mean")
    return (error * mask).sum() / mask.sum().clamp(min=1)


def mean_patch_mse(training: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    mean_patch = reduce(training, "clips n values -> n values", "mean")
    error = reduce((mean_patch - target).square(), "b n values -> b n", "mean")
    return (error * mask).sum() / mask.sum()


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    done = (step - warmup) / (steps - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def decoder_input(visible: Tensor, mask: Tensor, mask_token: Tensor, positions: Tensor) -> Tensor:
    b, n = mask.shape
    whole = repeat(mask_token, "d -> b n d", b=b, n=n).clone()
    whole[~mask] = rearrange(visible, "b k d -> (b k) d")
    return whole + positions


# 05: sound and picture meet


def fuse(audio_class: Tensor, audio: Tensor, video_class: Tensor, video: Tensor, block: Callable[[Tensor], Tensor]) -> list[Tensor]:
    x, shapes = pack([audio_class, audio, video_class, video], "b * d")
    return unpack(block(x), shapes, "b * d")


def cross_modal_mask(audio: int, video: int) -> Tensor:
    is_audio = torch.arange(audio + video) < audio
    return rearrange(is_audio, "i -> i 1") != rearrange(is_audio, "j -> 1 j")


def attention_map(q: Tensor, k: Tensor) -> Tensor:
    likeness = torch.einsum("bhie,bhje->bhij", q, k)
    return (likeness / q.shape[-1] ** 0.5).softmax(dim=-1)


def attention_to_sound(maps: Tensor, audio: int) -> Tensor:
    on_sound = maps[:, :, audio:, :audio].sum(dim=-1)
    return reduce(on_sound, "b heads video -> b", "mean")


def share_bottlenecks(audio: Tensor, video: Tensor, m: int) -> tuple[Tensor, Tensor]:
    shared = (audio[:, -m:] + video[:, -m:]) / 2
    return torch.cat([audio[:, :-m], shared], dim=1), torch.cat([video[:, :-m], shared], dim=1)


# 06: contrast


def cosine_similarities(x: Tensor, y: Tensor) -> Tensor:
    x, y = (torch.nn.functional.normalize(side, dim=-1) for side in (x, y))
    return torch.einsum("id,jd->ij", x, y)


def info_nce(x: Tensor, y: Tensor, temperature: float) -> Tensor:
    scores = cosine_similarities(x, y) / temperature
    return -scores.log_softmax(dim=1).diagonal().mean()


def loss_of_knowing_nothing(clips: int) -> float:
    return math.log(clips)


def spread(embeddings: Tensor) -> Tensor:
    directions = torch.nn.functional.normalize(embeddings, dim=-1)
    return directions.std(dim=0, correction=0).mean() * embeddings.shape[-1] ** 0.5


def intra_modal(audio: Tensor, audio_again: Tensor, video: Tensor, video_again: Tensor, temperature: float) -> Tensor:
    return (info_nce(audio, audio_again, temperature) + info_nce(video, video_again, temperature)) / 2


def false_negatives(causes: Tensor) -> Tensor:
    alike = rearrange(causes, "i -> i 1") == rearrange(causes, "j -> 1 j")
    return alike.sum(dim=1) - 1


# 07: the whole of stage one


def objective(raw: Tensor, inter: Tensor, intra: Tensor, alpha: float, beta: float) -> Tensor:
    return raw + alpha * inter + beta * intra


def nearest_label(train: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
    return labels[cosine_similarities(asked, train).argmax(dim=1)]


def ridge_probe(x: Tensor, y: Tensor, asked: Tensor, penalty: float) -> Tensor:
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    x = x - mean_x
    w = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]), x.T @ (y - mean_y))
    return (asked - mean_x) @ w + mean_y


def r_squared(said: Tensor, truth: Tensor) -> Tensor:
    return 1 - (truth - said).square().sum() / (truth - truth.mean()).square().sum()


def rank_of_partner(similarity: Tensor) -> Tensor:
    partner = rearrange(similarity.diagonal(), "i -> i 1")
    return (similarity > partner).sum(dim=1) + 1


# 08: self-training


def normalise_tokens(tokens: Tensor) -> Tensor:
    mean, variance = tokens.mean(dim=-1, keepdim=True), tokens.var(dim=-1, keepdim=True, correction=0)
    return (tokens - mean) / (variance + 1e-5).sqrt()


def mean_token_mse(training: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    mean_token = reduce(training, "clips n d -> n d", "mean")
    error = reduce((mean_token - target).square(), "b n d -> b n", "mean")
    return (error * mask).sum() / mask.sum()


def needs_partner(own: Tensor, stranger: Tensor) -> Tensor:
    return (own - stranger).square().mean() / (own - own.mean(dim=0)).square().mean()


def variance_share(tokens: Tensor) -> Tensor:
    return (tokens - tokens.mean(dim=0)).square().sum() / tokens.square().sum()


def effective_rank(x: Tensor) -> Tensor:
    values = torch.linalg.svdvals(x - x.mean(dim=0))
    share = values / values.sum()
    return torch.exp(-(share * share.clamp(min=1e-12).log()).sum())


# 09: transfer


def knn_vote(train: Tensor, labels: Tensor, asked: Tensor, k: int) -> Tensor:
    train, asked = (torch.nn.functional.normalize(x, dim=1) for x in (train, asked))
    nearest = (asked @ train.T).topk(k, dim=1).indices
    votes = torch.nn.functional.one_hot(labels[nearest], int(labels.max()) + 1).sum(dim=1)
    return votes.argmax(dim=1)


def margin(share: float, clips: int) -> float:
    return 1.96 * (share * (1 - share) / clips) ** 0.5


def class_scores(audio: Tensor, video: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    pooled = torch.cat([audio.mean(dim=1), video.mean(dim=1)], dim=1)
    normed = torch.nn.functional.layer_norm(pooled, pooled.shape[1:], scale, shift, eps=1e-6)
    return normed @ weight.T + bias


def layer_rates(rate: float, layers: int, decay: float) -> Tensor:
    below_top = torch.arange(layers - 1, -1, -1)
    return rate * decay**below_top


def mixed_up(x: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    share = share.reshape(-1, *[1] * (x.ndim - 1))
    return share * x + (1 - share) * x[partner]


def balanced_weights(labels: Tensor) -> Tensor:
    weights = 1 / labels.bincount()[labels]
    return weights / weights.sum()


def average_precision(scores: Tensor, truth: Tensor) -> Tensor:
    right = truth[scores.argsort(descending=True)].float()
    precision = right.cumsum(dim=0) / torch.arange(1, len(right) + 1)
    return (precision * right).sum() / right.sum()


def pointing(heat: Tensor, truth: Tensor) -> Tensor:
    hottest = rearrange(heat, "b t h w -> b t (h w)").argmax(dim=2, keepdim=True)
    on_object = rearrange(truth, "b t h w -> b t (h w)").gather(2, hottest)
    return reduce(on_object.float(), "b t 1 -> b", "mean")


# 10: scaling up


def block_weights(width: int, mlp_ratio: int) -> int:
    hidden = mlp_ratio * width
    attention = (width * 3 * width + 3 * width) + (width * width + width)
    mlp = (width * hidden + hidden) + (hidden * width + width)
    norms = 2 * (width + width)
    return attention + mlp + norms


def run_hours(forward: int, clips: int, epochs: int, tflops: float, share: float, devices: int) -> float:
    operations = 2 * 3 * forward * clips * epochs
    return operations / (devices * share * tflops * 1e12) / 3600


def peak_rate(base: float, rows: int, devices: int, rounds: int) -> float:
    batch = rows * devices * rounds
    return base * batch / 256


def exchange_wait(weights: int, devices: int, gigabytes_a_second: float, backward: float) -> float:
    sent = 4 * weights * 2 * (devices - 1) / devices
    return max(0.0, sent / (gigabytes_a_second * 1e9) - backward)


def own_samples(samples: int, rank: int, ranks: int, worker: int, workers: int) -> list[int]:
    return list(range(rank * workers + worker, samples, ranks * workers))


def gathered_info_nce(x: Tensor, y: Tensor, temperature: float) -> Tensor:
    ranks, b, _ = x.shape
    x, y = (torch.nn.functional.normalize(rows, dim=-1) for rows in (x, y))
    everyone = rearrange(y, "ranks b d -> (ranks b) d")
    losses = [torch.nn.functional.cross_entropy(x[rank] @ everyone.T / temperature, rank * b + torch.arange(b)) for rank in range(ranks)]
    return torch.stack(losses).mean()


# 11: the reproduction lab


def points_above_chance(value: float, chance: float) -> float:
    return 100 * (value - chance) / (1 - chance)


def steps_of_equal_compute(steps: int, cost: float, other: float) -> int:
    return max(1, round(steps * other / cost))


def paired_differences(one: dict[int, float], other: dict[int, float]) -> list[float]:
    return [one[seed] - other[seed] for seed in sorted(one) if seed in other]


def interval_over_seeds(differences: Tensor, t: float) -> Tensor:
    half = t * differences.std() / len(differences) ** 0.5
    return torch.stack([differences.mean() - half, differences.mean() + half])


def verdict_by_rule(low: float, mean: float, high: float, least: float) -> int:
    if high < least:
        return -1
    return 1 if low > 0 and mean >= least else 0


def share_of_false_findings(values: Tensor, deals: Tensor, t: float) -> Tensor:
    one, other = values[deals].unbind(dim=1)
    differences = one - other
    half = t * differences.std(dim=1) / differences.shape[1] ** 0.5
    return (differences.mean(dim=1).abs() > half).float().mean()


# 99: your own clips


def mixed_down(channels: Tensor) -> Tensor:
    return reduce(channels, "channels samples -> samples", "mean")


def window_start(length: float, window: float, position: float) -> float:
    return position * max(length - window, 0)


def shown_at(times: Tensor, wanted: Tensor) -> Tensor:
    begun = rearrange(times, "t -> 1 t") <= rearrange(wanted, "n -> n 1")
    return (begun.sum(dim=1) - 1).clamp(min=0)


def held_out(recordings: Tensor, every: int) -> Tensor:
    places = {recording: place for place, recording in enumerate(dict.fromkeys(recordings.tolist()))}
    return torch.tensor([places[recording] % every == 0 for recording in recordings.tolist()])
