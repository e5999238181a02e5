"""Exercises and questions of lesson 00: the quickstart."""

import torch
from torch import Generator

from mavil_edu.course.entry import Exercise, Quiz, normal


def _pairs(g: Generator) -> list[tuple]:
    return [(normal(g, n, d), normal(g, n, d)) for n, d in ((4, 3), (24, 96), (9, 2))]


def _similarities(g: Generator) -> list[tuple]:
    return [(normal(g, n, n) + torch.eye(n), k) for n, k in ((24, 1), (24, 5), (50, 10), (8, 8))]


def _ranks(similarity):
    return (similarity > similarity.diagonal()[:, None]).sum(dim=1)  # how many are more similar than the partner


EXERCISES = (
    Exercise(
        name="token_count",
        lesson="00",
        minutes=2,
        difficulty=1,
        task="How many tokens does a spectrogram of so many moments and bands give, in patches of patch_moments × patch_bands?",
        draw=lambda g: [(256, 128, 8, 64), (1024, 128, 16, 16), (64, 128, 8, 16), (256, 128, 32, 16)],
        hints=(
            "How many patches stand side by side along the time? And along the pitch?",
            "(moments // patch_moments) of them along the time; the same for bands; and the two make a grid.",
        ),
        wrong={
            "You added the two; the patches form a grid.": lambda t, f, pt, pf: t // pt + f // pf,
            "That is how many values one patch holds.": lambda t, f, pt, pf: pt * pf,
            "Those are the patches along the time alone; each moment has several, one above the other.": lambda t, f, pt, pf: t // pt,
        },
        alternative=lambda t, f, pt, pf: t * f // (pt * pf),
    ),
    Exercise(
        name="below_trivial",
        lesson="00",
        minutes=4,
        difficulty=2,
        task="By what share is an error below the best of several answers without learning? 0.25 is a quarter below; a negative share is "
        "above. trivial is a list of their errors.",
        draw=lambda g: [(0.4, [0.68, 0.9, 1.1]), (0.5, [1.2, 0.5, 0.8]), (0.9, [0.6, 0.7]), (0.31, [0.77])],
        hints=("The best answer is the one with the smallest error.", "What is missing to it, as a share of it: 1 - error / best."),
        wrong={
            "You took the worst of the trivial answers; beating it says little.": lambda e, trivial: 1 - e / max(trivial),
            "You took the trivial answers' mean; the best of them is the one to beat.": lambda e, trivial: (
                1 - e * len(trivial) / sum(trivial)
            ),
            "That is the share that is left; asked is how much lower it is.": lambda e, trivial: e / min(trivial),
            "You divided by the model's own error; the trivial answer's is the whole.": lambda e, trivial: min(trivial) / e - 1,
            "That is the difference; asked is its share of the trivial answer's error.": lambda e, trivial: min(trivial) - e,
        },
        alternative=lambda e, trivial: (sorted(trivial)[0] - e) / sorted(trivial)[0],
    ),
    Exercise(
        name="find_pictures",
        lesson="00",
        minutes=5,
        difficulty=2,
        task="For each sound, the number of the picture that is most like it. sounds and pictures are embeddings, (n, d), not "
        "normalised; like is the cosine of the angle between two. Return (n,).",
        draw=_pairs,
        hints=(
            "The cosine is the dot product of two vectors of length 1: torch.nn.functional.normalize(x, dim=1).",
            "sounds @ pictures.T is (n, n), a row for each sound; argmax(dim=1) finds the best of a row.",
        ),
        wrong={
            "Your vectors keep their lengths: a long one is like everything. Divide each by its length first.": lambda a, v: (
                a @ v.T
            ).argmax(dim=1),
            "You found the best sound for each picture; asked is the picture for each sound.": lambda a, v: (
                torch.nn.functional.normalize(a, dim=1) @ torch.nn.functional.normalize(v, dim=1).T
            ).argmax(dim=0),
            "You found the picture that is least like it.": lambda a, v: (
                torch.nn.functional.normalize(a, dim=1) @ torch.nn.functional.normalize(v, dim=1).T
            ).argmin(dim=1),
            "Those are the sounds' own numbers: that assumes what is to be found.": lambda a, v: torch.arange(len(a)),
        },
        alternative=lambda a, v: torch.nn.functional.cosine_similarity(a[:, None], v[None], dim=2).max(dim=1).indices,
    ),
    Exercise(
        name="recall_at",
        lesson="00",
        minutes=8,
        difficulty=3,
        task="R@k, the recall at k: for what share of the sounds is their own picture among the k most similar ones? similarity is (n, n), "
        "a row for each sound; sound i belongs to picture i. Return a share, 0 to 1.",
        draw=_similarities,
        hints=(
            "similarity.topk(k, dim=1).indices is (n, k): the pictures that each sound finds.",
            "Does row i hold i? Compare with torch.arange(n)[:, None].",
            ".any(dim=1) says whether a row holds it; the mean of that is R@k.",
        ),
        wrong={
            "You counted the sounds; divide by how many there are.": lambda s, k: float((_ranks(s) < k).sum()),
            "You took the k least similar ones.": lambda s, k: float(
                (s.topk(k, dim=1, largest=False).indices == torch.arange(len(s))[:, None]).any(dim=1).float().mean()
            ),
            "You compared with the first only; the partner may be any of the k.": lambda s, k: float((_ranks(s) < 1).float().mean()),
            "You searched the columns: that finds sounds for pictures.": lambda s, k: float((_ranks(s.T) < k).float().mean()),
            "That is how often one would be right by chance.": lambda s, k: k / len(s),
        },
        alternative=lambda s, k: sum(int(i in row.argsort(descending=True)[:k]) for i, row in enumerate(s)) / len(s),
    ),
)

QUIZZES = (
    Quiz(
        name="nice_sound",
        lesson="00",
        question="The filled-in sound is much like the recording. What does that prove?",
        choices=(
            (
                "That the model has learnt to hear.",
                "One example may be luck, or chosen, and the mean of all sounds is like many.",
            ),
            (
                "Little, before it is compared with answers that need no learning, on many clips it never saw.",
                "That is what the next section does, and every lesson after it.",
            ),
            ("That the spectrogram can be turned back into sound.", "It can, but that was so before the model came."),
        ),
        right="b",
    ),
    Quiz(
        name="chance_of_24",
        lesson="00",
        question="A model that knows nothing chooses one of 24 pictures for each of 24 sounds. How many will be right, on average?",
        choices=(
            ("None.", "Each choice is right with probability 1/24; over 24 sounds that adds up."),
            ("One.", "24 · 1/24: whatever the number of clips, one on average."),
            ("Twelve.", "That would be a coin's chance, with two pictures to choose from."),
        ),
        right="b",
    ),
    Quiz(
        name="why_hide_most",
        lesson="00",
        question="Why are as much as 80 % of the tokens hidden?",
        choices=(
            (
                "With few hidden, a hidden patch can be copied from its neighbours, and nothing of the clip need be understood.",
                "Lesson 03 measures it.",
            ),
            ("So that the model fits into memory.", "It computes on fewer tokens, and that is welcome; but it is not why so many."),
            ("Because the decoder cannot predict visible patches.", "It predicts all of them; the loss looks at the hidden ones only."),
        ),
        right="a",
    ),
)
