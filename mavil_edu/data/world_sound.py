"""The generated world as sound: modal synthesis of each impact, over a noise that is never quite silent."""

import math

import torch
from einops import rearrange
from torch import Tensor

from mavil_edu.config import SAMPLE_RATE
from mavil_edu.data.factors import LONGEST_FLIGHT, Factors, impact_speeds, impact_times

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
    ]
)
DECAY = torch.tensor([0.60, 0.12, 0.09, 0.30, 0.04, 0.40])
ROLL_OFF = torch.tensor([0.75, 0.60, 0.80, 0.85, 1.00, 0.55])
LOUDEST = 0.4  # amplitude of the fastest impact, of full scale


def pitch(factors: Factors) -> Tensor:
    """The lowest partial in Hz, (n,): 1100 for the smallest object, 2.5 octaves less for the largest."""
    return HIGHEST * 2 ** (-OCTAVES * factors.size)


def _ring(factors: Factors) -> Tensor:
    """What one impact of unit strength sounds like: (n, samples of RING_SECONDS), peak 1."""
    time = torch.arange(round(RING_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    lowest = pitch(factors)
    decay = DECAY[factors.material] * (lowest / 400) ** -0.2
    ring = torch.zeros(len(factors), len(time))
    for number in range(PARTIALS.shape[1]):
        frequency = lowest * PARTIALS[factors.material, number]
        level = ROLL_OFF[factors.material] ** number * (frequency < 0.48 * SAMPLE_RATE)
        fading = torch.exp(-time / rearrange(decay / (1 + 0.15 * number), "n -> n 1"))
        ring += rearrange(level, "n -> n 1") * fading * torch.sin(2 * math.pi * rearrange(frequency, "n -> n 1") * time)
    ring *= (time / 0.002).clamp(max=1)  # an attack of 2 ms
    return ring / ring.abs().amax(dim=1, keepdim=True)


def _noise(factors: Factors, samples: int) -> Tensor:
    """Each clip's own noise, of RMS 1: (n, samples)."""
    rows = [torch.randn(samples, generator=torch.Generator().manual_seed(seed)) for seed in factors.noise_seed.tolist()]
    frequency = torch.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    colours = torch.stack(  # each with a floor at every frequency: without one the log-mel has two humps
        [torch.ones_like(frequency), 0.1 + 1 / (1 + frequency / 300), 0.25 + torch.exp(-(((frequency - 4500) / 1500) ** 2))]
    )
    noise = torch.fft.irfft(torch.fft.rfft(torch.stack(rows)) * colours[factors.noise], samples)
    return noise / noise.square().mean(dim=1, keepdim=True).sqrt()


def render_audio(factors: Factors, seconds: float = 2.56) -> Tensor:
    """Renders n clips: (n, samples) float32 in [−1, 1], 16 kHz. Louder impacts are faster ones; sound starts at the impact."""
    samples = round(seconds * SAMPLE_RATE)
    at = (impact_times(factors) * SAMPLE_RATE).round().long()
    heard = (at > -round(RING_SECONDS * SAMPLE_RATE)) & (at < samples)
    lead = round(RING_SECONDS * SAMPLE_RATE)  # impacts before the clip's start still ring in it
    strength = (impact_speeds(factors) / impact_speeds(factors).new_tensor(3.3 * LONGEST_FLIGHT)).float() ** 1.5
    struck = torch.zeros(len(factors), lead + samples).scatter_add_(1, (at + lead).clamp(0, lead + samples - 1), strength * heard)
    size = 1 << (lead + samples + lead - 1).bit_length()
    sound = torch.fft.irfft(torch.fft.rfft(struck, size) * torch.fft.rfft(_ring(factors), size), size)[:, lead : lead + samples]
    level, gain = (rearrange(10 ** (db / 20), "n -> n 1") for db in (factors.noise_level, factors.gain))
    return ((LOUDEST * sound + level * _noise(factors, samples)) * gain).clamp(-1, 1)
