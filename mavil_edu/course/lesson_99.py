"""Exercises and questions of lesson 99: files of one's own."""

import torch
from torch import Generator

from mavil_edu.course.entry import Exercise, Quiz, normal, uniform


def _channels(g: Generator) -> list[tuple]:
    return [(normal(g, 2, 8),), (normal(g, 6, 5) + 1,), (normal(g, 1, 4),)]


def _places(_: Generator) -> list[tuple]:
    return [(10.0, 4.0, 0.0), (10.0, 4.0, 0.5), (10.0, 4.0, 1.0), (2.0, 2.56, 0.5), (61.3, 2.56, 0.3)]


def _clocks(g: Generator) -> list[tuple]:
    uneven = (uniform(g, 12) + 0.05).cumsum(0)
    return [
        (torch.arange(50) / 25, torch.tensor([0.0, 0.02, 0.5, 1.23, 1.99])),
        (torch.cat([torch.arange(25) / 25, 1 + torch.arange(10) / 10]), (torch.arange(8) + 0.5) / 4),
        (uneven, uneven[[3, 3, 7, 11]] + torch.tensor([0.0, 0.01, 0.0, 5.0])),
        (uneven + 1, torch.tensor([0.5, 0.9])),
    ]


def _recordings(g: Generator) -> list[tuple]:
    return [
        (torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3, 4, 5, 5]), 5),
        (torch.tensor([7, 7, 2, 9, 9, 4]), 2),
        (torch.randint(0, 6, (20,), generator=g), 3),
    ]


def _recording_numbers(recordings, every):
    return recordings % every == 0


EXERCISES = (
    Exercise(
        name="mixed_down",
        lesson="99",
        minutes=3,
        difficulty=1,
        task="Make one channel of several, so that what all of them have stays as loud as it is: (channels, samples) to (samples,).",
        draw=_channels,
        hints=("What is the same in two channels would be twice as loud in their sum.", 'reduce(…, "channels samples -> samples", "mean")'),
        wrong={
            "A sum is louder with each channel, and is clipped; take the mean.": lambda x: x.sum(0),
            "You kept the first channel only; what stands at the other side of the room is lost.": lambda x: x[0],
            "The middle one of the values is no mixture.": lambda x: x.median(0).values,
        },
        alternative=lambda x: torch.ones(len(x)) / len(x) @ x,
    ),
    Exercise(
        name="window_start",
        lesson="99",
        minutes=5,
        difficulty=1,
        task="Where does a window of `window` seconds start in a recording of `length` seconds? position 0: the first possible place, 1: "
        "the last, in between evenly. In a recording shorter than the window it starts at 0. In seconds.",
        draw=_places,
        hints=("At position 1 the window ends with the recording: it starts at length − window.", "max(length - window, 0)"),
        wrong={
            "At position 1 your window starts where the recording ends; nothing is in it.": lambda n, w, p: p * n,
            "That is where its middle lies.": lambda n, w, p: p * max(n - w, 0) + w / 2,
            "In a recording shorter than the window yours starts before it, or after its start.": lambda n, w, p: p * (n - w),
        },
        alternative=lambda n, w, p: 0.0 if n <= w else p * n - p * w,
    ),
    Exercise(
        name="shown_at",
        lesson="99",
        minutes=8,
        difficulty=2,
        task="Which picture does a player show at a moment? times (t,): when each picture begins, rising, at any rate; wanted (n,): "
        "moments. The number of the last picture that has begun, (n,) int64; before the first one begins: 0.",
        draw=_clocks,
        hints=(
            "How many pictures have begun at that moment? One less is the number.",
            "A picture that begins at that very moment is shown: ≤.",
        ),
        wrong={
            "You counted at an even rate; these pictures are not even.": lambda t, w: (
                ((w - t[0]) / (t[-1] - t[0]) * (len(t) - 1)).long().clamp(0, len(t) - 1)
            ),
            "That is the nearest picture; a player shows none before it begins.": lambda t, w: (t[None] - w[:, None]).abs().argmin(1),
            "A picture that begins at that very moment is shown already.": lambda t, w: ((t[None] < w[:, None]).sum(1) - 1).clamp(min=0),
            "That is the one after: the first that has not begun yet.": lambda t, w: (t[None] <= w[:, None]).sum(1).clamp(max=len(t) - 1),
            "Before the first picture begins the answer is 0; you have -1, which is the last one.": lambda t, w: (
                (t[None] <= w[:, None]).sum(1) - 1
            ),
        },
        alternative=lambda t, w: (torch.searchsorted(t.contiguous(), w.contiguous(), right=True) - 1).clamp(min=0),
    ),
    Exercise(
        name="held_out",
        lesson="99",
        minutes=10,
        difficulty=3,
        task="recordings (n,): of which recording each window is. Number the recordings by their first appearance, from 0, and hold out "
        "those whose number is a multiple of `every`, with all of their windows: (n,) bool.",
        draw=_recordings,
        hints=(
            "Windows of one recording all get the same answer.",
            "list(dict.fromkeys(recordings.tolist())) has each recording once, in the order of first appearance.",
        ),
        wrong={
            "You held out each n-th window: others of the same recording are trained on. That is the leak.": lambda r, n: (
                torch.arange(len(r)) % n == 0
            ),
            "You took the recordings' names for their numbers; they are to be counted as they appear.": _recording_numbers,
            "You counted the recordings in the order of their names, not of their appearance.": lambda r, n: (
                torch.unique(r, return_inverse=True)[1] % n == 0
            ),
            "You have it the wrong way round: True is held out.": lambda r, n: torch.tensor(
                [list(dict.fromkeys(r.tolist())).index(one) % n != 0 for one in r.tolist()]
            ),
        },
        alternative=lambda r, n: torch.isin(r, torch.tensor(list(dict.fromkeys(r.tolist()))[::n])),
    ),
)

QUIZZES = (
    Quiz(
        name="silent_film",
        lesson="99",
        question="A folder has 1,000 films; 300 of them have a sound track that is all zeros. Why not train on them?",
        choices=(
            ("The logarithm of zero is not a number.", "A floor is added before the logarithm; nothing breaks, which is the trouble."),
            ("They take as long as the others.", "True, and the smaller harm."),
            (
                "They teach that things make no sound, and they are all the same sound to contrast.",
                "Three hundred clips that no sound can tell apart, each said to be a stranger of the others.",
            ),
        ),
        right="c",
    ),
    Quiz(
        name="leak",
        lesson="99",
        question="One hour of film is cut into windows of 10 s; each tenth is held out. The held-out error is as low as in training. Then?",
        choices=(
            ("The model generalises.", "To windows whose neighbours it has seen: the same room, lamp and microphone."),
            (
                "Nothing is known yet: hold out another film.",
                "The window before and the window after were trained on. Only a recording that is held out as a whole can tell.",
            ),
            ("The model is too small.", "Size has nothing to do with it."),
        ),
        right="b",
    ),
    Quiz(
        name="foreign_microphone",
        lesson="99",
        question="A published model errs more on your sounds than a constant answer. What do you do first?",
        choices=(
            (
                "Compare loudness, noise and sampling rate with those it was trained on, and go on training on yours.",
                "Most often it is the recording and not the content; a few hundred steps may do.",
            ),
            ("Throw it away.", "Its errors are about noise; what it knows of objects may still be there, as section 6 shows."),
            ("Report the error of the other sense.", "And leave out what does not work? No."),
        ),
        right="a",
    ),
)
