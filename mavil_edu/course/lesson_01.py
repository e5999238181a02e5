"""Exercises and questions of lesson 01: from sound to tokens."""

import math

import torch
from einops import rearrange
from torch import Generator, Tensor

from mavil_edu.course.entry import Exercise, Quiz, normal, uniform

EPSILON = torch.finfo(torch.float32).eps


def _mel(hz: Tensor | float) -> Tensor:
    return 1127 * torch.log(1 + torch.as_tensor(hz) / 700)


def _ramps(place: Tensor, left: Tensor, centre: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    return (place - left) / (centre - left), (right - place) / (right - centre)


def _filter_by_where(hz, left, centre, right):
    rising, falling = _ramps(*map(_mel, (hz, left, centre, right)))
    return torch.where(_mel(hz) <= _mel(centre), rising, falling).clamp(min=0)


def _filter_of_maximum(hz, left, centre, right):
    return torch.maximum(*_ramps(*map(_mel, (hz, left, centre, right)))).clamp(min=0)


def _filter_unclamped(hz, left, centre, right):
    return torch.minimum(*_ramps(*map(_mel, (hz, left, centre, right))))


def _filter_in_hertz(hz, left, centre, right):
    return torch.minimum(*_ramps(hz, left, centre, right)).clamp(min=0)


def _filters(g: Generator) -> list[tuple]:
    hz = torch.arange(257) * 31.25
    return [(hz, *(torch.rand(3, generator=g) * 1000 + torch.tensor([20.0, 1500.0, 3000.0])).tolist()) for _ in range(3)]


def _power(frame, emphasis=0.97, mean=True, first_window=False, periodic=False, points=512, square=True):
    """The power of a frame with one thing or another changed."""
    window = torch.hann_window(400, periodic=periodic)
    frame = frame - frame.mean() if mean else frame
    frame = frame * window if first_window else frame
    frame = frame - emphasis * torch.cat([frame[:1], frame[:-1]])
    spectrum = torch.fft.rfft(frame if first_window else frame * window, n=points).abs()
    return spectrum.square() if square else spectrum


def _power_in_parts(frame):
    frame = frame - frame.sum() / 400
    later = (frame[1:] - 0.97 * frame[:-1]) * torch.hann_window(400, periodic=False)[1:]
    spectrum = torch.fft.fft(torch.nn.functional.pad(later, (1, 112)))[:257]
    return spectrum.real**2 + spectrum.imag**2


def _spectrograms(g: Generator) -> list[tuple]:
    return [(normal(g, *shape),) for shape in ((1, 1, 32, 48), (2, 1, 48, 32), (1, 1, 64, 128))]


def _cut_patchwise(spectrogram):
    return spectrogram[:, 0].unfold(1, 16, 16).unfold(2, 16, 16).flatten(3).flatten(1, 2)


def _unpatchify(patches, pattern, t, f):
    return rearrange(patches, f"{pattern} -> b 1 (t pt) (f pf)", t=t, f=f, pt=16, pf=16)


def _put_patchwise(patches, t, f):
    return patches.reshape(-1, t, f, 16, 16).transpose(2, 3).reshape(-1, 1, t * 16, f * 16)


EXERCISES = (
    Exercise(
        name="frames_in",
        lesson="01",
        minutes=5,
        difficulty=1,
        task="How many whole windows of 400 samples, one every 160 samples, lie in so many samples? Windows that reach beyond the end "
        "do not count.",
        draw=lambda g: [(samples,) for samples in (160_000, 400, 399, 0, 559, 560, int(torch.randint(1000, 99_999, (), generator=g)))],
        hints=(
            "In 400 samples lies exactly one window; in 560 lie two.",
            "After the first window, every 160 further samples make room for one more.",
            "1 + (samples - 400) // 160, and never below 0.",
        ),
        wrong={
            "You counted where windows may begin, every 160 samples; the last ones reach beyond the end.": lambda s: s // 160,
            "You forgot the first window: it needs 400 samples, and only each further one 160.": lambda s: max(0, (s - 400) // 160),
            "A sound shorter than a window has 0 windows; yours counts below 0.": lambda s: 1 + (s - 400) // 160,
            "You rounded up: the last window would need samples that are not there.": lambda s: max(0, 1 + math.ceil((s - 400) / 160)),
            "You laid the windows side by side; they overlap, one begins every 160 samples.": lambda s: s // 400,
        },
        alternative=lambda samples: len(range(0, samples - 399, 160)),
    ),
    Exercise(
        name="mel_of_hz",
        lesson="01",
        minutes=3,
        difficulty=1,
        task="Turn frequencies in hertz into mels: 1127 times the natural logarithm of 1 + frequency / 700.",
        draw=lambda g: [(torch.tensor([0.0, 20.0, 440.0, 700.0, 8000.0]),), (8000 * uniform(g, 6),)],
        hints=(
            "0 Hz is 0 mel, and 1000 Hz is very nearly 1000 mel.",
            "torch.log is the natural logarithm.",
            "1127 * torch.log(1 + hz / 700)",
        ),
        wrong={
            "You took the logarithm to base 10; it goes with 2595. 1127 goes with the natural one.": lambda hz: (
                1127 * torch.log10(1 + hz / 700)
            ),
            "The 1 inside the logarithm is missing: without it, 0 Hz falls to minus infinity.": lambda hz: 1127 * torch.log(hz / 700),
            "You added 1 to the frequency before dividing; the 1 is added to the quotient.": lambda hz: 1127 * torch.log((1 + hz) / 700),
            "You went the other way, from mels to hertz.": lambda hz: 700 * (torch.exp(hz / 1127) - 1),
        },
        alternative=lambda hz: 2595 * torch.log10(1 + hz / 700),
        tolerance=1e-4,
    ),
    Exercise(
        name="mel_filter",
        lesson="01",
        minutes=10,
        difficulty=2,
        task="Give the weight of each frequency in one triangle that begins at `left`, has its peak of 1 at `centre` and ends at `right` "
        "(all in hertz). Its sides are straight on the mel scale; outside it is 0.",
        draw=_filters,
        hints=(
            "A triangle is the lower of two ramps: one rises from left to centre, one falls from centre to right.",
            "Turn all four into mels first, then rising = (mel - left) / (centre - left).",
            "torch.minimum(rising, falling).clamp(min=0)",
        ),
        wrong={
            "You took the higher of the two ramps; the triangle is the lower one.": _filter_of_maximum,
            "Outside the triangle your weights fall below 0; there they are 0.": _filter_unclamped,
            "Your sides are straight in hertz; they are straight in mels.": _filter_in_hertz,
        },
        alternative=_filter_by_where,
        tolerance=1e-4,
    ),
    Exercise(
        name="power_of_frame",
        lesson="01",
        minutes=15,
        difficulty=3,
        task="From a frame of 400 samples to its power at 257 frequencies: subtract the mean; subtract 0.97 times the sample before (the "
        "first sample has itself before it); multiply with a Hann window that is not periodic; transform with 512 points; square the size.",
        draw=lambda g: [(0.1 * normal(g, 400) + 0.2,), (0.3 * torch.sin(torch.arange(400) * 0.2) + 0.05,), (uniform(g, 400),)],
        hints=(
            "Keep to the order of the sentence: mean, emphasis, window, transform, square.",
            "torch.cat([frame[:1], frame[:-1]]) holds each sample's neighbour to the left.",
            "torch.fft.rfft(windowed, n=512).abs().square(), with torch.hann_window(400, periodic=False)",
        ),
        wrong={
            "Without the emphasis the high frequencies stay weak: subtract 0.97 of the sample before.": lambda x: _power(x, emphasis=0),
            "The mean is still in it: a constant pressure is no sound.": lambda x: _power(x, mean=False),
            "You applied the window before the emphasis; the emphasis comes first.": lambda x: _power(x, first_window=True),
            "Your window is periodic; give periodic=False.": lambda x: _power(x, periodic=True),
            "That is the size of the spectrum; the power is its square.": lambda x: _power(x, square=False),
            "You transformed 400 points; with n=512 there are 257 frequencies.": lambda x: _power(x, points=400),
        },
        alternative=_power_in_parts,
        tolerance=1e-4,
    ),
    Exercise(
        name="log_floor",
        lesson="01",
        minutes=3,
        difficulty=1,
        task="Take the natural logarithm of a power, which is first raised to at least `torch.finfo(torch.float32).eps`.",
        draw=lambda g: [(torch.tensor([0.0, 1e-9, 1e-7, 2e-7, 1.0]),), (uniform(g, 3, 4) * 1e-6,), (torch.zeros(2, 2),)],
        hints=(
            "The least result is log(eps), about -15.94.",
            "First raise what is too small, then take the logarithm.",
            "power.clamp(min=…).log()",
        ),
        wrong={
            "You added the floor to every power; only those below it are to be raised.": lambda power: (power + EPSILON).log(),
            "You raised the logarithm; the power is raised, before its logarithm is taken.": lambda power: power.log().clamp(min=EPSILON),
            "You took the logarithm to base 10; take the natural one, log.": lambda power: power.clamp(min=EPSILON).log10(),
            "The logarithm of 0 is minus infinity: the floor is missing.": torch.log,
        },
        alternative=lambda power: torch.log(torch.maximum(power, torch.tensor(EPSILON))),
    ),
    Exercise(
        name="normalise",
        lesson="01",
        minutes=3,
        difficulty=1,
        task="Normalise a log-mel spectrogram as MAViL does: subtract the mean, divide by twice the standard deviation (both are given).",
        draw=lambda g: [(normal(g, 4, 6) * 4.5 - 4.3, -4.2677393, 4.5689974), (normal(g, 2, 3), 0.5, 2.0)],
        hints=(
            "A value one standard deviation above the mean becomes 0.5.",
            "Brackets first: the mean is subtracted before anything is divided.",
        ),
        wrong={
            "You divided by the standard deviation once; MAViL divides by twice of it.": lambda x, mean, std: (x - mean) / std,
            "The brackets are missing: you divided the mean alone.": lambda x, mean, std: x - mean / (2 * std),
            "You divided by 2 and then multiplied by the standard deviation; put brackets around 2 * std.": lambda x, mean, std: (
                (x - mean) / 2 * std
            ),
            "You took this spectrogram's own mean and deviation; take the given ones, so that loud stays loud.": lambda x, mean, std: (
                (x - x.mean()) / (2 * x.std())
            ),
        },
        alternative=lambda x, mean, std: x / (2 * std) - mean / (2 * std),
    ),
    Exercise(
        name="patchify_audio",
        lesson="01",
        minutes=8,
        difficulty=2,
        task="Cut spectrograms (b, 1, time, pitch) into patches of 16 × 16, each flattened: (b, patches, 256). First all pitches of the "
        "first moment, then those of the second.",
        draw=_spectrograms,
        hints=(
            "rearrange can cut an axis in two: (t pt) is t pieces of pt.",
            "On the right, (t f) puts the patches one after another, time first; (pt pf) flattens each.",
            '"b 1 (t pt) (f pf) -> b (t f) (pt pf)", with pt=16, pf=16',
        ),
        wrong={
            "Your patches stand pitch first, (f t); the order is (t f), time first.": lambda x: rearrange(
                x, "b 1 (t pt) (f pf) -> b (f t) (pt pf)", pt=16, pf=16
            ),
            "Each of your patches lies on its side: inside a patch it is (pt pf), time first.": lambda x: rearrange(
                x, "b 1 (t pt) (f pf) -> b (t f) (pf pt)", pt=16, pf=16
            ),
            "reshape alone cuts whole lines of the spectrogram, not squares: first split both axes, then reorder.": lambda x: x.reshape(
                len(x), -1, 256
            ),
            "You swapped the pieces with their places: (pt t) takes every t-th line; write (t pt).": lambda x: rearrange(
                x, "b 1 (pt t) (pf f) -> b (t f) (pt pf)", pt=16, pf=16
            ),
        },
        alternative=_cut_patchwise,
    ),
    Exercise(
        name="unpatchify_audio",
        lesson="01",
        minutes=8,
        difficulty=2,
        task="Put patches (b, t · f, 256) back together to spectrograms (b, 1, time, pitch): the inverse of `patchify_audio`. `t` and `f` "
        "say how many patches there are along time and pitch.",
        draw=lambda g: [(normal(g, b, t * f, 256), t, f) for b, t, f in ((1, 2, 3), (2, 3, 2), (1, 4, 8))],
        hints=("Read the pattern of patchify_audio from right to left.", "rearrange must be told t or f: from t · f alone it cannot know."),
        wrong={
            "You took the patches in the order (f t); they stand (t f).": lambda p, t, f: _unpatchify(p, "b (f t) (pt pf)", t, f),
            "You laid each patch on its side: it is (pt pf).": lambda p, t, f: _unpatchify(p, "b (t f) (pf pt)", t, f),
            "reshape alone puts each patch on lines of its own; the pieces of a line come from f patches.": lambda p, t, f: p.reshape(
                len(p), 1, t * 16, f * 16
            ),
            "The axis of size 1, where pictures have their colours, is missing: (b, 1, time, pitch).": lambda p, t, f: _unpatchify(
                p, "b (t f) (pt pf)", t, f
            )[:, 0],
        },
        alternative=_put_patchwise,
    ),
)

QUIZZES = (
    Quiz(
        name="why_window",
        lesson="01",
        question="A window of 100 ms tells tones apart better than one of 25 ms. Why does MAViL take 25 ms?",
        choices=(
            ("100 ms would need too much memory.", "The number of frames follows from the step of 10 ms, not from the window's length."),
            (
                "What happens within a window is no longer told apart in time.",
                "Sharp in frequency is blurred in time; 25 ms is a compromise.",
            ),
            ("The Fourier transform works on 400 samples only.", "It works on any number; 400 is simply 25 ms at 16 kHz."),
        ),
        right="b",
    ),
    Quiz(
        name="why_log",
        lesson="01",
        question="What would a model see if the logarithm were left out?",
        choices=(
            (
                "A few loud cells, and everything else near 0.",
                "Power spans many factors of ten, and a squared error would count the loudest alone.",
            ),
            (
                "The same picture, only brighter.",
                "A factor would be that; the logarithm turns factors into steps, which changes the proportions.",
            ),
            ("Negative numbers.", "Power is never negative; it is the logarithm that is, below 1."),
        ),
        right="a",
    ),
    Quiz(
        name="which_token",
        lesson="01",
        question="A spectrogram of 1024 × 128 is cut into 16 × 16. Which token lies at the same pitch as token 5, one patch later in time?",
        choices=(
            ("Token 6.", "Token 6 is of the same moment, one patch higher: pitch runs first."),
            (
                "Token 69.",
                "That would be 64 further on; 64 is how many patches lie along time, and a step in time is as long as one column.",
            ),
            ("Token 13.", "A moment holds 128 / 16 = 8 patches, so a step in time is 8 tokens."),
        ),
        right="c",
    ),
)
