"""The generated world as sound: modal synthesis of each impact, in a room, over a background sound that is never quite silent.

All is computed in float64 and rounded to 16 bits at the end, so that the same seed gives the same samples whatever the number of
threads or of clips rendered at once.
"""

import math

import torch
from einops import rearrange
from torch import Tensor

from mavil_edu.config import SAMPLE_RATE
from mavil_edu.data.factors import GRAVITY, LONGEST_FLIGHT, Factors, impact_speeds, impact_times

RING_SECONDS = 1.0  # how long an impact is followed
HIGHEST, OCTAVES = 1100.0, 2.5  # Hz of the smallest object, and how far the largest lies below
# Partials as multiples of the lowest: a free bar's (metal), a tuned bar's (wood), a membrane's (skin), a wine glass's, a stone's
# (our choice), a string's. Decay is the lowest partial's time constant in seconds, roll-off each partial's level over the last's.
PARTIALS = torch.tensor(
    [
        [1, 2.76, 5.40, 8.93, 13.34, 18.64],
        [1, 4.00, 9.20, 16.0, 20.00, 25.00],
        [1, 1.59, 2.14, 2.30, 2.65, 2.92],
        [1, 2.32, 4.25, 6.63, 9.38, 12.20],
        [1, 1.90, 2.40, 2.90, 3.40, 3.90],
        [1, 2.00, 3.00, 4.00, 5.00, 6.00],
    ],
    dtype=torch.float64,
)
DECAY = torch.tensor([0.60, 0.12, 0.09, 0.30, 0.04, 0.40], dtype=torch.float64)
ROLL_OFF = torch.tensor([0.75, 0.60, 0.80, 0.85, 1.00, 0.55], dtype=torch.float64)
# What an object strikes against is heard too: the floor it falls on, or the mallet's hard head. Hz, time constant in seconds, level.
THUD, CLICK = (95.0, 0.05, 0.7), (3600.0, 0.006, 0.7)
LOUDEST = 0.4  # amplitude of the fastest impact, of full scale
COMPANION_GAIN = 10 ** (-8 / 20)  # of a second object, which stands further away
ROOM_SECONDS = 0.30  # how long echoes are followed
DRIEST, MOST_REVERBERANT = 0.05, 0.60  # seconds in which echoes fade by 60 dB
FIRST_ECHO = 0.004  # seconds after the direct sound
ECHOES = 0.5  # energy of a hall's echoes over the direct sound's
PULSE_RATE, SWEEP_RATE = 3.5, 1.6  # cycles a second of a pulsing noise, of a rising or falling tone
ROWS = 8  # clips rendered at once: what a processor's cache holds
SWEEP_LOW, SWEEP_OCTAVES = 300.0, 3.5  # Hz where a sweep is lowest, and how far it goes


def pitch(factors: Factors) -> Tensor:
    """The lowest partial in Hz, (n,): 1100 for the smallest object, 2.5 octaves less for the largest."""
    return HIGHEST * 2 ** (-OCTAVES * factors.size.double())


def _column(values: Tensor) -> Tensor:
    return rearrange(values, "n -> n 1")


def _damped(frequency: Tensor, decay: Tensor, samples: int) -> Tensor:
    """exp(−t / decay) · sin(2π · frequency · t) of each clip: two times (n,) -> (n, samples).

    The complex exponential of sample 128 i + j is that of 128 i times that of j: far fewer sines than samples.
    """
    exponent = torch.complex(-1 / decay, 2 * math.pi * frequency) / SAMPLE_RATE
    coarse = torch.exp(_column(exponent) * 128 * torch.arange(math.ceil(samples / 128), dtype=torch.float64))
    fine = torch.exp(_column(exponent) * torch.arange(128, dtype=torch.float64))
    a, b = rearrange(coarse, "n i -> n i 1"), rearrange(fine, "n j -> n 1 j")
    return rearrange(a.real * b.imag + a.imag * b.real, "n i j -> n (i j)")[:, :samples]


def _ring(factors: Factors) -> Tensor:
    """What one impact of unit strength sounds like: (n, samples of RING_SECONDS), peak 1."""
    samples = round(RING_SECONDS * SAMPLE_RATE)
    lowest = pitch(factors)
    decay = DECAY[factors.material] * (lowest / 400) ** -0.2
    ring = torch.zeros(len(factors), samples, dtype=torch.float64)
    for number in range(PARTIALS.shape[1]):
        frequency = lowest * PARTIALS[factors.material, number]
        level = ROLL_OFF[factors.material] ** number * (frequency < 0.48 * SAMPLE_RATE)
        ring += _column(level) * _damped(frequency, decay / (1 + 0.15 * number), samples)
    ring = ring / ring.abs().amax(dim=1, keepdim=True)
    frequency, decay, level = torch.where(factors.struck, *(torch.tensor(x, dtype=torch.float64)[:, None] for x in (CLICK, THUD)))
    ring += _column(level) * _damped(frequency, decay, samples)
    ring *= (torch.arange(samples) / (0.002 * SAMPLE_RATE)).clamp(max=1)  # an attack of 2 ms
    return ring / ring.abs().amax(dim=1, keepdim=True)


def _strikes(factors: Factors, samples: int, lead: int) -> Tensor:
    """A spike at each impact, as high as it is strong: (n, lead + samples), `lead` samples before the clip's start included."""
    at = (impact_times(factors) * SAMPLE_RATE).round().long()
    heard = (at > -lead) & (at < samples)
    strength = (impact_speeds(factors) / (GRAVITY / 2 * LONGEST_FLIGHT)) ** 1.5
    spikes = torch.zeros(len(factors), lead + samples, dtype=torch.float64)
    return spikes.scatter_add_(1, (at + lead).clamp(0, lead + samples - 1), strength * heard)


def _room(factors: Factors, noise: Tensor) -> Tensor:
    """The direct sound and its echoes, fading noise: (n, samples of ROOM_SECONDS), made of as many samples of noise a clip."""
    time = torch.arange(noise.shape[1]) / SAMPLE_RATE
    fading = DRIEST + (MOST_REVERBERANT - DRIEST) * factors.room.double()
    echoes = noise * torch.exp(-math.log(1000) * time / _column(fading)) * (time >= FIRST_ECHO)
    energy = _column(ECHOES * factors.room.double())
    impulse = echoes * (energy / echoes.square().sum(dim=1, keepdim=True)).sqrt()
    impulse[:, 0] += 1
    return impulse


def _ambience(factors: Factors, noise: Tensor) -> Tensor:
    """Each clip's background sound, of RMS 1, made of white noise (n, samples) -> the same shape.

    Always a noise that is louder below, with a floor at every frequency: without one the log-mel has two humps. A pulsing one swells
    and fades; a tone that rises, or falls, again and again, is as loud as the noise: both have the same spectrum over time.
    """
    samples = noise.shape[1]
    frequency = torch.fft.rfftfreq(samples, 1 / SAMPLE_RATE, dtype=torch.float64)
    noise = torch.fft.irfft(torch.fft.rfft(noise) * (0.1 + 1 / (1 + frequency / 800)), samples)
    noise = noise / noise.square().mean(dim=1, keepdim=True).sqrt()
    time = torch.arange(samples, dtype=torch.float64) / SAMPLE_RATE
    pulsing, sweeping = factors.ambience == 1, factors.ambience >= 2
    start = _column(factors.ambience_start.double())
    noise[pulsing] *= 0.15 + 0.85 * (0.5 + 0.5 * torch.sin(2 * math.pi * (PULSE_RATE * time + start[pulsing])))
    cycle = (SWEEP_RATE * time + start[sweeping]) % 1
    octaves = SWEEP_OCTAVES * torch.where(_column(factors.ambience[sweeping] == 2), cycle, 1 - cycle)
    turns = SWEEP_LOW / (SWEEP_RATE * SWEEP_OCTAVES * math.log(2)) * torch.exp2(octaves)  # the integral of the frequency over a sweep
    noise[sweeping] += (2 * torch.sin(math.pi * cycle)).sqrt() * torch.sin(2 * math.pi * turns)
    return noise / noise.square().mean(dim=1, keepdim=True).sqrt()


def _render(factors: Factors, seconds: float) -> Tensor:
    samples, lead, echo = (round(s * SAMPLE_RATE) for s in (seconds, RING_SECONDS, ROOM_SECONDS))
    seeds = factors.noise_seed.tolist()
    noise = torch.stack([torch.randn(samples + echo, generator=torch.Generator().manual_seed(seed)) for seed in seeds]).double()
    # Impacts before the clip's start still ring in it, hence the lead. What a circular convolution of this size folds back falls into it.
    size = 1 << (lead + samples + echo - 1).bit_length()
    heard = torch.fft.rfft(_strikes(factors, samples, lead), size) * torch.fft.rfft(_ring(factors), size)
    if factors.companion is not None:
        other = factors.companion
        heard = heard + COMPANION_GAIN * torch.fft.rfft(_strikes(other, samples, lead), size) * torch.fft.rfft(_ring(other), size)
    heard = heard * torch.fft.rfft(_room(factors, noise[:, samples:]), size)
    sound = torch.fft.irfft(heard, size)[:, lead : lead + samples]
    level, gain = (_column(10 ** (db.double() / 20)) for db in (factors.ambience_level, factors.gain))
    mixed = (LOUDEST * sound + level * _ambience(factors, noise[:, :samples])) * gain
    return ((mixed.clamp(-1, 1) * 32767).round() / 32767).float()


def render_audio(factors: Factors, seconds: float = 2.56) -> Tensor:
    """Renders n clips: (n, samples) float32 in [−1, 1], 16 kHz, of 16 bits. Louder impacts are faster ones; sound starts at the impact."""
    return torch.cat([_render(factors[start : start + ROWS], seconds) for start in range(0, len(factors), ROWS)])
