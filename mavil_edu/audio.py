"""The only place where a waveform becomes the normalised log-mel spectrogram, and a spectrogram becomes sound again.

There: subtract the mean, cut into frames, emphasise, window, transform, sum into mel bands, take the logarithm, normalise.
Back again, in the opposite order: `to_log_mel`, `mel_to_power`, `griffin_lim`, de-emphasis (the last three are `to_waveform`).
Throughout, `heard` (b, 2) tells which samples [start, stop) of each clip are real; whatever lies outside is padding.
"""

import math
from functools import cache

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor
from torch.nn.functional import pad

from mavil_edu.config import SAMPLE_RATE, AudioConfig, AugmentConfig

WINDOW = 400  # samples in a frame: 25 ms
HOP = 160  # samples from the start of one frame to the start of the next: 10 ms
FFT = 512  # points of the Fourier transform: the next power of 2 above the window
PREEMPHASIS = 0.97  # each sample minus this share of the sample before it
EPSILON = torch.finfo(torch.float32).eps  # the least power of a band, lest the logarithm become -infinity
FLOOR = math.log(EPSILON)  # hence the least log-mel value: -15.94
CLIPS_AT_ONCE = 4  # their frames fit into a CPU's cache: twice as fast as a whole batch of 64


def frame_count(samples: int) -> int:
    """How many whole frames lie in so many samples: 998 in 10 s, as Kaldi counts ("snip edges")."""
    return max(0, 1 + (samples - WINDOW) // HOP)


def _check_waveform(waveform: Tensor) -> None:
    if waveform.ndim != 2:
        raise ValueError(f"The waveform has shape {tuple(waveform.shape)}; give (clips, samples), with waveform[None] for a single clip.")
    if not waveform.is_floating_point():
        raise ValueError(f"The waveform is {waveform.dtype}; give numbers in [-1, 1]: 16-bit samples by waveform / 32768.")


def _check_heard(heard: Tensor | None, clips: int, samples: int, device: torch.device) -> Tensor:
    if heard is None:
        return repeat(torch.tensor([0, samples], device=device), "two -> b two", b=clips)
    if tuple(heard.shape) != (clips, 2):
        raise ValueError(f"heard has shape {tuple(heard.shape)}; give one [start, stop) in samples for each of the {clips} clips.")
    return heard.to(device)


def _inside(heard: Tensor, samples: int) -> Tensor:
    """(b, samples), True where a sample is real."""
    sample = torch.arange(samples, device=heard.device)
    return (sample >= heard[:, :1]) & (sample < heard[:, 1:])


def _real_frames(heard: Tensor, frames: int) -> Tensor:
    """(b, frames), True where all of a frame's samples are real."""
    first = HOP * torch.arange(frames, device=heard.device)
    return (first >= heard[:, :1]) & (first + WINDOW <= heard[:, 1:])


# From sound to spectrogram


@cache
def mel_bank(mel_bins: int, device: torch.device | str = "cpu") -> Tensor:
    """Kaldi's triangular mel filters from 20 Hz to 8 kHz, (257 frequencies, mel_bins); of 128, filter 3 is empty.

    Raises ValueError for fewer than 4 bands.
    """
    from torchaudio.compliance.kaldi import get_mel_banks

    if mel_bins < 4:
        raise ValueError(f"mel_bins is {mel_bins}; the filter bank needs 4 bands or more.")
    with torch.inference_mode(False):  # what is cached must serve in every mode
        filters, _ = get_mel_banks(mel_bins, FFT, float(SAMPLE_RATE), 20.0, 0.0, 100.0, -500.0, 1.0)
        return pad(rearrange(filters, "mel frequency -> frequency mel"), (0, 0, 0, 1)).to(device)  # 8 kHz itself is in no filter


@cache
def _window(device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.hann_window(WINDOW, periodic=False).to(device)


def _log_mel(waveform: Tensor, mel_bins: int) -> Tensor:
    # Near the floor, one rounding more or less shows in the third decimal: hence float32 and Kaldi's order, even under autocast.
    with torch.autocast(waveform.device.type, enabled=False):
        frames = waveform.unfold(-1, WINDOW, HOP)
        frames = frames - frames.mean(-1, keepdim=True)
        frames = frames[..., 1:] - PREEMPHASIS * frames[..., :-1]  # a frame's first sample is left out: the window is 0 there
        frames = pad(frames * _window(waveform.device)[1:], (1, FFT - WINDOW))
        spectrum = torch.fft.rfft(frames)
        power = spectrum.real.square() + spectrum.imag.square()
        return (power @ mel_bank(mel_bins, waveform.device)).clamp_min(EPSILON).log()


def _log_mel_in_parts(waveform: Tensor, mel_bins: int) -> Tensor:
    if 0 in (len(waveform), frame_count(waveform.shape[1])):
        return waveform.new_zeros(len(waveform), frame_count(waveform.shape[1]), mel_bins)
    return torch.cat([_log_mel(part, mel_bins) for part in waveform.split(CLIPS_AT_ONCE)])


def log_mel(waveform: Tensor, mel_bins: int = 128) -> Tensor:
    """The log-mel spectrogram as Kaldi computes it, of a batch, on any device.

    waveform: (b, samples), float32 in [-1, 1], 16 kHz. Returns (b, frames, mel_bins), natural logarithm of power, -15.94 or more,
    `frame_count(samples)` frames. Raises ValueError for another number of axes, or for whole numbers.
    Source: `torchaudio.compliance.kaldi.fbank` of the waveform minus its mean, with a Hanning window and without dither.
    """
    _check_waveform(waveform)
    waveform = waveform.float()
    return _log_mel_in_parts(waveform - waveform.mean(-1, keepdim=True), mel_bins)


def spectrogram(waveform: Tensor, config: AudioConfig, heard: Tensor | None = None) -> Tensor:
    """The model's input: log-mel, padded with 0 or cut to `config.frames`, then normalised to (x - mean) / (2 std).

    waveform: (b, samples), float32 in [-1, 1], 16 kHz. heard: (b, 2) long, the samples [start, stop) that are real; None: all.
    Returns (b, 1, config.frames, config.mel_bins); a frame that is not wholly heard is padding (0.467 after normalisation), and the
    mean that is subtracted from the waveform is that of its heard part. Raises ValueError where the shapes do not fit.
    Source: the paper's front end as the released checkpoint's inference code has it; `heard` is our choice.
    """
    _check_waveform(waveform)
    waveform = waveform.float()
    clips, samples = waveform.shape
    heard = _check_heard(heard, clips, samples, waveform.device)
    sound = torch.where(_inside(heard, samples), waveform, 0)
    mean = sound.sum(-1, keepdim=True) / (heard[:, 1:] - heard[:, :1]).clamp_min(1)
    values = _log_mel_in_parts(waveform - mean, config.mel_bins)
    values = pad(values, (0, 0, 0, config.frames - values.shape[1]))  # pads, or cuts where the number is below 0
    padding = ~_real_frames(heard, config.frames)
    values = values.masked_fill(rearrange(padding, "b frames -> b frames 1"), 0.0)
    return rearrange((values - config.mean) / (2 * config.std), "b frames mel -> b 1 frames mel")


def audio_content(heard: Tensor, config: AudioConfig) -> Tensor:
    """Which audio tokens hold sound: (b, tokens) bool, True for a patch with at least one wholly heard frame; token = t · f's + f.

    heard: (b, 2) long, samples [start, stop). Raises ValueError for another shape.
    """
    heard = _check_heard(heard, len(heard), config.samples, heard.device)
    t, f = config.grid
    return repeat(reduce(_real_frames(heard, config.frames), "b (t pt) -> b t", "any", t=t), "b t -> b (t f)", f=f)


def augment_waveform(waveform: Tensor, heard: Tensor | None, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Rolls each clip in time by a random amount, plays it faster or slower, and scales it by 0.5 to 1.5; padding stays where it is.

    waveform: (b, samples), float32, 16 kHz. heard: (b, 2) long, samples [start, stop); only these are rolled, in a circle; None: all.
    Returns the same shape; values may now exceed [-1, 1]. The draws come from the generator alone: two a clip, whatever is switched on,
    and a third for the speed where there is one. Raises ValueError where the shapes do not fit. Source: Audio-MAE's code; the range of the
    magnitude is our choice, and so is the speed, after Ko et al. 2015 (speech recognition): other speeds sound like other speakers.
    """
    _check_waveform(waveform)
    clips, samples = waveform.shape
    heard = _check_heard(heard, clips, samples, waveform.device)
    shift, magnitude = torch.rand(2, clips, 1, generator=generator, device=generator.device).to(waveform.device)
    if config.roll:
        start, length = heard[:, :1], (heard[:, 1:] - heard[:, :1]).clamp_min(1)
        here = torch.arange(samples, device=waveform.device)
        there = start + (here - start - (shift * length).long()) % length
        waveform = waveform.gather(1, torch.where(_inside(heard, samples), there, here))
    if config.speed != (1, 1):
        low, high = config.speed
        draw = torch.rand(clips, 1, generator=generator, device=generator.device).to(waveform.device)
        waveform = _played_at(waveform, low * (high / low) ** draw, heard)
    return waveform * (0.5 + magnitude) if config.magnitude else waveform


def _played_at(waveform: Tensor, speed: Tensor, heard: Tensor) -> Tensor:
    """Each clip at its speed (b, 1) about the middle of what is heard; what would come from outside is silent. By linear interpolation."""
    samples = waveform.shape[1]
    start, stop = heard[:, :1], heard[:, 1:]
    middle, here = (start + stop - 1) / 2, torch.arange(samples, device=waveform.device)
    there = middle + (here - middle) * speed  # (b, samples)
    before = there.floor()
    left, right = (waveform.gather(1, place.long().clamp(0, samples - 1)) for place in (before, before + 1))
    silent = (there < start) | (there > stop - 1)
    played = torch.lerp(left, right, there - before).masked_fill(silent, 0)
    return torch.where(_inside(heard, samples), played, waveform)


# From spectrogram to sound


def to_log_mel(spectrogram: Tensor, config: AudioConfig) -> Tensor:
    """The inverse of the normalisation: (b, 1, frames, mel_bins) -> (b, frames, mel_bins), natural logarithm of power."""
    return rearrange(spectrogram, "b 1 frames mel -> b frames mel") * (2 * config.std) + config.mean


def mel_to_power(log_mel: Tensor, rounds: int = 30) -> Tensor:
    """A power spectrum, nowhere negative, that the mel filters would sum to this log-mel: the inverse of the filter bank.

    log_mel: (b, frames, mel_bins). Returns (b, frames, 257). A band at the floor says "at most this": it is taken as silence.
    Every round multiplies each frequency by how much its bands still lack, so that quiet bands count as much as loud ones: after 30
    the log-mel agrees to about 0.001. Plain least squares would fit the loud bands alone.
    Source: non-negative deconvolution by Richardson (1972) and Lucy (1974), which is Lee and Seung's update (2001).
    """
    filters = mel_bank(log_mel.shape[-1], log_mel.device)
    wanted = torch.where(log_mel > FLOOR + 1e-3, log_mel.exp(), 0)
    weight = filters.sum(1).clamp_min(EPSILON)  # 0 Hz and 8 kHz are in no filter, and get no power
    power = wanted @ filters.T / weight
    for _ in range(rounds):
        got = power @ filters
        lack = torch.where(got > 0, wanted / got.clamp_min(1e-30), 0)  # an empty filter asks for nothing
        power = power * (lack @ filters.T / weight)
    return power


def _first_phases(power: Tensor) -> Tensor:
    """Phases that turn from frame to frame as fast as the strongest sound near each frequency, (b, 257, frames), complex."""
    frequency = rearrange(torch.arange(power.shape[1], device=power.device), "frequency -> frequency 1")
    near = pad(power, (0, 0, 2, 2)).unfold(1, 5, 1)
    offset = torch.arange(-2, 3, device=power.device)
    centre = frequency + (near * offset).sum(-1) / near.sum(-1).clamp_min(1e-30)
    turns = (centre.double() * HOP / FFT).cumsum(-1) % 1  # in float64: after 1,000 frames float32 has few digits left
    return torch.polar(torch.ones_like(power), (2 * math.pi * turns).float())


def griffin_lim(power: Tensor, rounds: int = 64, momentum: float = 0.5) -> Tensor:
    """A waveform with this power spectrum: keep the magnitudes, and look for phases that overlapping frames agree on.

    power: (b, frames, 257), with at least one frame, frames as in `log_mel`. Returns (b, 160 · frames + 240) samples. No randomness.
    Source: Griffin and Lim (1984), with the momentum of Perraudin et al. (2013). torchaudio's function cannot be given first phases;
    with those of `_first_phases`, low tones come back with a third to a half less error than from phases of 0, the rest as well.
    """
    window = _window(power.device)
    # torch centres its frame k on sample 160 k, ours starts there: two more frames at each end, and the last line cuts.
    edged = pad(rearrange(power, "b frames frequency -> b frequency frames"), (2, 2), mode="replicate")
    magnitude, phases = edged.sqrt(), _first_phases(edged)
    before = torch.zeros_like(phases)
    for _ in range(rounds):
        waveform = torch.istft(magnitude * phases, FFT, HOP, WINDOW, window)
        now = torch.stft(waveform, FFT, HOP, WINDOW, window, return_complex=True)
        phases = now - momentum * before
        phases, before = phases / phases.abs().clamp_min(1e-16), now
    waveform = torch.istft(magnitude * phases, FFT, HOP, WINDOW, window)
    start = 2 * HOP - WINDOW // 2
    return waveform[:, start : start + (power.shape[1] - 1) * HOP + WINDOW]


@torch.no_grad()
def to_waveform(
    log_mel: Tensor, rounds: int = 64, samples: int | None = None, heard: Tensor | None = None, prevent_clipping: bool = False
) -> Tensor:
    """Makes a spectrogram audible: filter bank undone, phases found, emphasis undone; about 0.4 s for 10 s of sound on two cores.

    log_mel: (b, frames, mel_bins), from `to_log_mel`; rounds: of Griffin-Lim. Returns (b, samples) float32, 16 kHz, as loud as the
    original: by default as many samples as the frames cover. Padding is no sound, but would be heard as loud noise: give `samples`
    (`config.samples`) to drop the frames beyond them, and `heard` (b, 2) to be silent outside [start, stop).
    prevent_clipping: divide a clip that exceeds [-1, 1] by its peak (changes its loudness, hence off).
    The same input gives the same sound. Raises ValueError where the shapes do not fit.
    Quality: on real clips the log-mel of the result differs from the original's by 0.09 on average, by 0.14 at worst (a pure tone).
    """
    if log_mel.ndim != 3:
        raise ValueError(f"The log-mel has shape {tuple(log_mel.shape)}; give (clips, frames, bands), as to_log_mel returns it.")
    from torchaudio.functional import lfilter

    device = log_mel.device
    values = log_mel.float() if device.type == "cuda" else log_mel.float().cpu()  # some steps exist on CPU and CUDA only
    clips, frames, _ = values.shape
    if samples is None:
        samples = (frames - 1) * HOP + WINDOW if frames else 0
    heard = _check_heard(heard, clips, samples, values.device).clamp(max=samples)
    real = _real_frames(heard, frames)
    if not real.any():
        return torch.zeros(clips, samples, device=device)
    # Silence in place of padding would pull the neighbouring frames down: hold the first and the last real frame instead.
    frame = torch.arange(frames, device=values.device)
    first = real.int().argmax(1, keepdim=True)
    held = frame.clamp(first, (first + real.sum(1, keepdim=True) - 1).clamp_min(0))
    values = values.take_along_dim(rearrange(held, "b frames -> b frames 1"), dim=1)
    waveform = griffin_lim(mel_to_power(values), rounds)
    waveform = lfilter(waveform, waveform.new_tensor([1.0, -PREEMPHASIS]), waveform.new_tensor([1.0, 0.0]), clamp=False)
    waveform = pad(waveform, (0, samples - waveform.shape[1]))
    silent = ~_inside(heard, samples) | ~real.any(1, keepdim=True)
    waveform = waveform.masked_fill(silent, 0.0)
    if prevent_clipping:
        waveform = waveform / reduce(waveform.abs(), "b samples -> b 1", "max").clamp_min(1.0)
    return waveform.to(device)
