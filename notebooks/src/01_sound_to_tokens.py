# %% [markdown]
# # From sound to tokens
#
# **The question:** a transformer reads a list of tokens. A sound is a line that goes up and down. How does one become the other, and
# what is lost on the way?
#
# **You will be able to** compute the log-mel spectrogram of a sound by hand, say why its windows are 25 ms long, cut it into the
# tokens that MAViL reads, and turn it back into sound.
#
# **Budget:** 1 minute of computing on two CPU cores, 1.2 GB of memory, no network, no GPU. Reading and exercises: 75 minutes.
# **Opens:** [`audio.py`](../mavil_edu/audio.py), [`patches.py`](../mavil_edu/patches.py),
# [`explorers/widgets.py`](../mavil_edu/explorers/widgets.py).
# **Paper:** MAViL, [arXiv 2212.08071](https://arxiv.org/abs/2212.08071), section 3 and its implementation details.
#
# Before each cell that computes, guess what it will show. Then run it (Shift + Enter).

# %%
import math
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from mavil_edu import audio, diagrams, figures, media
from mavil_edu.config import SAMPLE_RATE, AudioConfig, paper, tiny
from mavil_edu.display import player
from mavil_edu.exercises import check, exercise, quiz

# %% [markdown]
# ## 1. The wave
#
# A microphone measures the pressure of the air 16,000 times a second. These measurements are the sound. Something of metal is struck.

# %%
sound = media.read_clip(Path("../data_samples/003.mp4"), 2.56, 2.56, 8).waveform
print(sound.shape, sound.dtype)
figures.waveform(sound)

# %%
player(sound, "Metal, struck")

# %% [markdown]
# **Guess:** if every sample were a token, how many tokens would 10 seconds have? Attention compares every token with every other.

# %%
tokens = 10 * SAMPLE_RATE
print(
    f"{tokens:,} tokens, {tokens**2 / 1e9:.0f} thousand million comparisons; "
    f"MAViL's 512 tokens need {512**2 / 1e3:.0f} thousand"
)

# %% [markdown]
# Too many, and one sample says nothing: a pitch is a pattern of hundreds of them. We need fewer tokens that each mean more.
#
# ## 2. Which frequencies, and when?
#
# The Fourier transform tells how much of each frequency a sound holds. **Guess:** play the sound backwards. Does its spectrum change?

# %%
backwards = sound.flip(0)
player(backwards, "The same, backwards")

# %%
spectrum = torch.fft.rfft(sound).abs()
print(
    "the same spectrum:",
    torch.allclose(spectrum, torch.fft.rfft(backwards).abs(), rtol=1e-3, atol=1e-2),
)

# %% [markdown]
# The two sound nothing alike, and have the same spectrum. The spectrum of a whole sound says *which* frequencies there are, and not
# *when*. So we cut the sound into short windows and transform each by itself.

# %% [markdown]
# EXERCISE frames_in
#
# SOLUTION frames_in


# %%
@exercise("frames_in")
def frames_in(samples: int) -> int:
    raise NotImplementedError


check("frames_in")

# %% [markdown]
# ## 3. How long is a window?
#
# A test: two clicks, 15 ms apart; then two tones, 120 Hz apart. Can you hear that each is two?

# %%
clicks, seconds = torch.zeros(4000), torch.arange(4000) / SAMPLE_RATE
clicks[[2000, 2240]] = 0.8
tones = 0.4 * (torch.sin(2 * math.pi * 1000 * seconds) + torch.sin(2 * math.pi * 1120 * seconds))
player(torch.cat([clicks, tones]), "Two clicks, then two tones")

# %% [markdown]
# A window should show both as two. **Guess:** which of 5, 25 and 100 ms can do it? `unfold` cuts, the Hann window fades each piece in
# and out, `rfft` transforms.

# %%


def power_of(wave: Tensor, milliseconds: int, points: int = 4000) -> Tensor:
    window = milliseconds * SAMPLE_RATE // 1000
    pieces = wave.unfold(-1, window, 16) * torch.hann_window(window, periodic=False)
    # (pieces 1 ms apart, frequencies 4 Hz apart)
    return torch.fft.rfft(pieces, n=points).abs().square()


# %%
shown = {}
for ms in (5, 25, 100):
    two = [power_of(wave, ms)[:, 200:330] for wave in (clicks, tones)]  # 800 to 1320 Hz
    middle = len(two[0]) // 2
    shown[f"window of {ms} ms"] = torch.cat(
        [power[middle - 50 : middle + 50] / power.max() for power in two]
    ).T
diagrams.maps(shown, ("clicks | tones (ms)", 0, 200), ("frequency (Hz)", 800, 1320))

# %% [markdown]
# Left in each picture are the clicks, right the tones. At 5 ms the two tones are one blur. At 100 ms the two clicks are. Now measured:
# how long does a click look, and how wide a tone, at half of the highest power?

# %%
one_click, one_tone = torch.zeros(4000), torch.sin(2 * math.pi * 1000 * seconds)
one_click[2000] = 1
for ms in (5, 25, 100):
    over_time = power_of(one_click, ms).sum(1)
    over_frequency = power_of(one_tone, ms, points=16_000)[50]
    long = int((over_time > over_time.max() / 2).sum())
    wide = int((over_frequency > over_frequency.max() / 2).sum())  # 1 Hz apart with 16,000 points
    told = [
        f"{what} {'yes' if size < gap else 'no'}"
        for what, size, gap in (("clicks", long, 15), ("tones", wide, 120))
    ]
    print(
        f"{ms:3} ms: a click is {long} ms long, a tone {wide} Hz wide, "
        f"product {long * wide / 1000:.1f}; told apart: {', '.join(told)}"
    )

# %% [markdown]
# What is won in time is lost in frequency: the product of the two stays about the same. No window escapes this; it is a law of the
# Fourier transform. 25 ms is the compromise that speech research settled on: short enough for a syllable's changes, and long enough
# to hold two periods of a deep voice (80 Hz: one period is 12.5 ms).
#
# **Why a step of 10 ms?** The window fades to 0 at its ends. **Guess:** what happens to a click at the border of two windows, if they
# do not overlap?

# %%
for hop in (160, 400):
    weight = torch.zeros(4000)
    for start in range(0, 3600, hop):
        weight[start : start + 400] += torch.hann_window(400, periodic=False)
    print(
        f"a step of {hop / 16:.0f} ms: each sample counts between {weight[800:2400].min():.1f} and "
        f"{weight[800:2400].max():.1f}"
    )

# %% [markdown]
# Without overlap some samples count for nothing. With a step of 10 ms all count alike, nearly.
#
# ## 4. One window by hand
#
# A few lines are the whole front end up to the power spectrum. They come below, for all windows at once. If you like a harder task,
# write them first for one window; else run the cell and read on.
#
# EXERCISE power_of_frame
#
# SOLUTION power_of_frame


# %%
@exercise("power_of_frame")
def power_of_frame(frame: Tensor) -> Tensor:
    raise NotImplementedError


check("power_of_frame")

# %% [markdown]
# Pre-emphasis lifts the high frequencies, which are weak in most
# sounds. 512 points instead of 400: a power of 2 is quick to transform.

# %%
frames = (sound - sound.mean()).unfold(-1, 400, 160)  # (frames, 400): 25 ms each, every 10 ms
frames = frames - frames.mean(-1, keepdim=True)
before = torch.cat([frames[:, :1], frames[:, :-1]], dim=-1)
emphasised = frames - 0.97 * before
windowed = emphasised * torch.hann_window(400, periodic=False)
power = torch.fft.rfft(windowed, n=512).abs().square()  # (frames, 257)
print(tuple(frames.shape), "->", tuple(power.shape))

# %%
struck = 40  # the frame that begins at 0.40 s, where the metal is hit
milliseconds = torch.arange(400) / 16
diagrams.lines(
    {
        "emphasised": (milliseconds, emphasised[struck]),
        "… and windowed": (milliseconds, windowed[struck]),
    },
    "ms",
    "amplitude",
)

# %%
hertz = torch.arange(257) * SAMPLE_RATE / 512
diagrams.lines(
    {"one window": (hertz, 10 * torch.log10(power[struck] + 1e-12))}, "frequency (Hz)", "power (dB)"
)

# %% [markdown]
# 257 frequencies, 31 Hz apart, and the peaks are what the metal rings with.
#
# ## 5. The ear's scale
#
# From 200 to 400 Hz is an octave; from 7,000 to 7,200 Hz we hardly hear a step. The **mel** scale follows the ear. **Guess:** half of
# all mels lie below which frequency?

# %%


def mel_of(frequency: Tensor) -> Tensor:
    return 1127 * torch.log(1 + frequency / 700)


half = mel_of(torch.tensor(8000.0)) / 2
print(f"8000 Hz is {2 * half:.0f} mel; half of that is {700 * (math.exp(half / 1127) - 1):.0f} Hz")

# %% [markdown]
# EXERCISE mel_of_hz
#
# SOLUTION mel_of_hz


# %%
@exercise("mel_of_hz")
def mel_of_hz(hz: Tensor) -> Tensor:
    raise NotImplementedError


check("mel_of_hz")

# %% [markdown]
# 128 triangles stand side by side on this scale, from 20 Hz to 8 kHz. Each begins at its left neighbour's peak and ends at its right
# neighbour's. A triangle is the lower of two ramps, one that rises and one that falls. First one of them, by you:

# %% [markdown]
# EXERCISE mel_filter
#
# SOLUTION mel_filter


# %%
@exercise("mel_filter")
def mel_filter(hz: Tensor, left: float, centre: float, right: float) -> Tensor:
    raise NotImplementedError


check("mel_filter")

# %%
low, high = mel_of(torch.tensor([20.0, 8000.0])).tolist()
edges = torch.linspace(low, high, 130)
place = rearrange(mel_of(hertz), "frequency -> frequency 1")
rising = (place - edges[:-2]) / (edges[1:-1] - edges[:-2])
falling = (edges[2:] - place) / (edges[2:] - edges[1:-1])
filters = torch.minimum(rising, falling).clamp(min=0)  # (257 frequencies, 128 bands)

assert torch.allclose(filters, audio.mel_bank(128), atol=1e-4)
diagrams.lines(
    {f"band {band}": (hertz, filters[:, band]) for band in (20, 60, 90, 110, 127)},
    "frequency (Hz)",
    "weight",
)

# %% [markdown]
# Low bands are narrow, high ones are wide. How many of the 257 frequencies does each band hear? **Guess** for the lowest ones.

# %%
heard = (filters > 0).sum(0)
print(
    "frequencies in bands 0 to 9:",
    heard[:10].tolist(),
    "… in the last three:",
    heard[-3:].tolist(),
)
print("empty bands:", (heard == 0).nonzero().flatten().tolist())

# %% [markdown]
# Band 3 hears **nothing**: its triangle is narrower than the step of 31 Hz and falls between two frequencies. It stays at the lowest
# value for every sound in the world. Kaldi, the library that the paper used, does the same, and so must we: weights that were
# learnt with that column expect it.

# %%
centre = 700 * (math.exp(float(edges[4]) / 1127) - 1)
left, right = (700 * (math.exp(float(edges[n]) / 1127) - 1) for n in (3, 5))
print(
    f"band 3 reaches from {left:.0f} to {right:.0f} Hz, its peak is at {centre:.0f} Hz; "
    "the frequencies nearest are",
    end=" ",
)
print(*[f"{f:.1f} Hz" for f in hertz.tolist() if left - 20 < f < right + 20], sep=" and ")

# %% [markdown]
# ## 6. The logarithm
#
# Loudness is heard in ratios: ten times the power sounds like one step up, wherever you start. **Guess:** what would a picture of the
# bare mel power look like?

# %%
mel_power = power @ filters
strongest = mel_power.flatten().topk(mel_power.numel() // 100).values.sum()
print(f"the strongest 1 % of all cells hold {100 * strongest / mel_power.sum():.0f} % of the power")

# %%
log_mel = mel_power.clamp_min(torch.finfo(torch.float32).eps).log()
panels = {
    "power": mel_power.T / mel_power.max(),
    "log power": (log_mel.T - log_mel.min()) / (log_mel.max() - log_mel.min()),
}
diagrams.maps(panels, ("seconds", 0, 2.54), ("mel band", 0, 128))

# %% [markdown]
# Without the logarithm a few cells hold nearly all, and the rest is black. With it the whole sound is there. Read it: level lines are
# the tones of the metal, the falling lines are the background, and a bright edge is each strike.
#
# The logarithm of 0 would be −∞, so the least power is fixed: the floor.

# %% [markdown]
# EXERCISE log_floor
#
# SOLUTION log_floor


# %%
@exercise("log_floor")
def log_floor(power: Tensor) -> Tensor:
    raise NotImplementedError


check("log_floor")

# %%
print(
    f"the floor is {math.log(torch.finfo(torch.float32).eps):.2f}; band 3 never leaves it: "
    f"{bool((log_mel[:, 3] == log_mel.min()).all())}"
)

# %% [markdown]
# **Is ours right?** The library's `log_mel` was tested against Kaldi's on real recordings. Ours must agree within 0.001.

# %%
difference = (log_mel - audio.log_mel(sound[None])[0]).abs().max()
assert difference < 1e-3
print("equal to the library's within 0.001: yes")

# %% [markdown]
# ## 7. Normalise, and pad
#
# A network likes numbers around 0. MAViL subtracts the mean of AudioSet's log-mels and divides by **twice** their standard deviation.
# So the numbers have a standard deviation near ½, not 1. A shorter clip is padded with frames of 0.

# %% [markdown]
# EXERCISE normalise
#
# SOLUTION normalise


# %%
@exercise("normalise")
def normalise(log_mel: Tensor, mean: float, std: float) -> Tensor:
    raise NotImplementedError


check("normalise")

# %%
# the paper's patches, 16 × 16, for a quarter of its time
config = AudioConfig(seconds=2.56, frames=256)
normalised = (log_mel - config.mean) / (2 * config.std)
print(
    f"log-mel: mean {log_mel.mean():.1f}, std {log_mel.std():.1f}; normalised: "
    f"mean {normalised.mean():.1f}, std {normalised.std():.1f}"
)
print(
    f"padding: (0 − {config.mean:.2f}) / (2 · {config.std:.2f}) = "
    f"{-config.mean / (2 * config.std):.3f}"
)
print(f"silence: {(audio.FLOOR - config.mean) / (2 * config.std):.3f}")

# %% [markdown]
# Look at the last two lines. **Padding is not silence**: it is 0 in the log-mel, and louder than most sounds. The paper's code pads
# like this, and weights that were learnt with it expect it. Watch for it at the right end of this picture: our 2.56 s in a window of 10 s.

# %%
ten_seconds = paper().model.audio
short = torch.nn.functional.pad(sound, (0, ten_seconds.samples - len(sound)))
padded = audio.spectrogram(short[None], ten_seconds, heard=torch.tensor([[0, len(sound)]]))
share = (padded[0, 0, :, 0] == padded[0, 0, -1, 0]).float().mean()
print(f"{100 * share:.0f} % of the frames are padding")
figures.spectrogram_panels({"2.56 s, padded": audio.to_log_mel(padded, ten_seconds)[0]}, 10.24)

# %% [markdown]
# ## 8. Tokens
#
# A full window: four clips, one after another, 10 s. It has 998 frames, padded to 1024. **Guess:** with patches of 16 × 16, how many
# tokens?

# %%
four = [
    media.read_clip(Path(f"../data_samples/{name}.mp4"), 2.56, 2.56, 8).waveform
    for name in ("003", "013", "001", "017")
]
long_sound = torch.cat(four)[: ten_seconds.samples]
spectrogram = audio.spectrogram(long_sound[None], ten_seconds)
print(tuple(spectrogram.shape), "b 1 time pitch")
figures.patch_grid(audio.to_log_mel(spectrogram, ten_seconds)[0], (16, 16), 10.24)

# %% [markdown]
# 64 columns of 8: 512 tokens of 256 numbers. Cutting is one line of einops. `t f` is time-major: first all pitches of the first
# moment, then those of the second.

# %%
from mavil_edu.patches import patchify, unpatchify

patches = rearrange(spectrogram, "b 1 (t pt) (f pf) -> b (t f) (pt pf)", pt=16, pf=16)
assert torch.equal(patches, patchify(spectrogram, ten_seconds))
print(tuple(patches.shape), "b (t f) (pt pf)")

# %% [markdown]
# **Guess:** which token holds 1 kHz at 5 s? Work it out, then look whether its cells are the ones.

# %%
t = int(5 / 0.16)  # a patch is 16 frames of 10 ms
f = int((mel_of(torch.tensor(1000.0)) - low) / (high - low) * 128) // 16
assert torch.equal(
    patches[0, t * 8 + f], spectrogram[0, 0, 16 * t : 16 * t + 16, 16 * f : 16 * f + 16].flatten()
)
print(f"time patch {t}, frequency patch {f}: token {t * 8 + f}")

# %% [markdown]
# Our own clip lasts 2.56 s. First it is cut into patches of 16 × 16, like the paper's. `tiny`, which has to learn on a laptop,
# takes other patches. The pattern is the same, only the sizes change.

# %%
brief = audio.spectrogram(sound[None], config)
by_hand = rearrange(brief, "b 1 (t pt) (f pf) -> b (t f) (pt pf)", pt=16, pf=16)
assert torch.equal(by_hand, patchify(brief, config))
laptop = tiny().model.audio
by_hand_too = rearrange(
    brief, "b 1 (t pt) (f pf) -> b (t f) (pt pf)", pt=laptop.patch_frames, pf=laptop.patch_bins
)
assert torch.equal(by_hand_too, patchify(brief, laptop))
print("16 × 16", tuple(by_hand.shape), "  tiny", tuple(by_hand_too.shape), "b (t f) (pt pf)")

# %% [markdown]
# EXERCISE patchify_audio
#
# SOLUTION patchify_audio


# %%
@exercise("patchify_audio")
def patchify_audio(spectrogram: Tensor) -> Tensor:
    raise NotImplementedError


check("patchify_audio")

# %% [markdown]
# **And the order matters.** If the two letters are swapped, the numbers are the same and each token means another place. Put back with
# the right pattern, it looks like this; listen to it in the cell after.

# %%
swapped = rearrange(brief, "b 1 (t pt) (f pf) -> b (f t) (pt pf)", pt=16, pf=16)
wrong = audio.to_log_mel(unpatchify(swapped, config), config)
figures.spectrogram_panels({"swapped: (f t) read as (t f)": wrong[0]}, 2.56)

# %%
player(
    audio.to_waveform(wrong, samples=len(sound), prevent_clipping=True)[0], "Time and pitch swapped"
)

# %% [markdown]
# ## 9. Back to sound
#
# Each step can be undone, some of them only nearly. Patches go back exactly: the same pattern, read from right to left.

# %%
whole = rearrange(by_hand, "b (t f) (pt pf) -> b 1 (t pt) (f pf)", t=16, f=8, pt=16, pf=16)
assert torch.equal(whole, brief) and torch.equal(whole, unpatchify(by_hand, config))
restored = whole[0, 0, : len(log_mel)] * (2 * config.std) + config.mean
print("log-mel restored:", torch.allclose(restored, log_mel, atol=1e-3))

# %% [markdown]
# EXERCISE unpatchify_audio
#
# SOLUTION unpatchify_audio


# %%
@exercise("unpatchify_audio")
def unpatchify_audio(patches: Tensor, t: int, f: int) -> Tensor:
    raise NotImplementedError


check("unpatchify_audio")

# %% [markdown]
# From 128 bands to 257 frequencies: many spectra would give the same bands, and one of them is found. Then the **phases**, which the
# spectrogram never kept: Griffin-Lim looks for phases on which overlapping windows agree. Then the emphasis is undone. **Guess:** how
# much of the metal will you recognise?

# %%
from torchaudio.functional import lfilter

found = audio.mel_to_power(restored[None])  # 128 bands -> 257 frequencies
off = ((found[0] @ filters).clamp_min(torch.finfo(torch.float32).eps).log() - log_mel).abs().mean()
print("summed into bands again, off by less than 0.01 on average:", bool(off < 0.01))
emphasised_again = audio.griffin_lim(found)
undo = torch.tensor([1.0, -0.97]), torch.tensor([1.0, 0.0])
back = lfilter(emphasised_again, *undo, clamp=False)[0]
assert torch.allclose(back, audio.to_waveform(restored[None])[0], atol=1e-3)

# %%
player(sound, "The recording")

# %%
player(back, "From its spectrogram")

# %% [markdown]
# Nearly the same to the ear. **Guess:** is the wave nearly the same, too?

# %%
again = audio.log_mel(back[None])[0]
likeness = torch.corrcoef(torch.stack([sound[: len(back)], back]))[0, 1]
print(
    f"log-mel: off by {(again - log_mel).abs().mean():.1f} on average, "
    f"where its standard deviation is {log_mel.std():.1f}"
)
print(f"wave: correlation with the recording above 0.9: {'yes' if likeness > 0.9 else 'no'}")

# %%
part = slice(6400, 6800)  # 25 ms around the first strike
times = torch.arange(6400, 6800) / 16
diagrams.lines(
    {"recording": (times, sound[part]), "from its spectrogram": (times, back[part])},
    "ms",
    "amplitude",
)

# %% [markdown]
# The wave is another one, and the spectrogram hardly differs. The phases are lost, and we hardly hear phases. That is why a model may
# work on the spectrogram: what it throws away is what ears throw away, too.
#
# ## 10. What does one token sound like?
#
# Set every cell but those of one patch to the floor, and go back to sound. **Guess:** will you recognise metal?

# %%
log_mels = audio.to_log_mel(brief, config)[0]
alone = torch.full_like(log_mels, audio.FLOOR)
alone[32:48, 80:96] = log_mels[32:48, 80:96]  # time patch 2, frequency patch 5
one = audio.to_waveform(alone[None], samples=len(sound))[0]
player(one * 0.4 / one.abs().max(), "Token 21 alone, louder")

# %% [markdown]
# A hiss or a ping. A token by itself means little; that is why tokens must be compared with each other. Explore: choose a patch by
# time and frequency (the arrow keys change a number), hear it alone, then with its neighbours. **Find** a token with a strike in it, one
# with only the background, and one that a model could guess from its neighbours.

# %%
from mavil_edu.explorers.widgets import tokens_explorer

tokens_explorer(log_mels, config, t=2, f=5)

# %% [markdown]
# ## Questions
#
# Answer with a letter, for example `quiz("why_window", "a")`.

# %%
quiz("why_window")

# %%
quiz("why_log")

# %%
quiz("which_token")

# %% [markdown]
# ## What to remember
#
# - A spectrogram is many short Fourier transforms. Time and frequency cannot both be sharp; 25 ms every 10 ms is a compromise.
# - Mel bands and the logarithm follow the ear. The phases are dropped; ears hardly miss them.
# - 10 s → 1024 × 128 → 64 × 8 patches of 16 × 16 = 512 tokens, time-major. Cutting is one line of einops, and loses nothing.
# - Know the quirks: band 3 hears nothing, and padding is louder than silence.
#
# **Next:** `02_video_to_tokens`, the same for pictures.
