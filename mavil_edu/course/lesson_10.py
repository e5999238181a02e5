"""Exercises and questions of lesson 10: scaling up."""

import torch
from einops import rearrange
from torch import Generator, Tensor
from torch.nn import functional as F

from mavil_edu.course.entry import Exercise, Quiz, normal, uniform


def _rates(g: Generator) -> list[tuple]:
    bases = (2e-4 * (1 + uniform(g, 3))).tolist()
    return [(2e-4, 8, 64, 1), (bases[0], 32, 1, 16), (bases[1], 16, 4, 2), (bases[2], 3, 5, 1)]


def _runs(g: Generator) -> list[tuple]:
    shares = (0.2 + 0.4 * uniform(g, 3)).tolist()
    return [
        (90_618_805_248, 2_000_000, 20, 989.0, 0.4, 64),
        (90_618_805_248, 183_000, 30, 312.0, shares[0], 1),
        (566_163_968, 20_000, 7, 19.5, shares[1], 2),
        (54_491_008, 700, 50, 0.1, shares[2], 3),
    ]


def _exchanges(g: Generator) -> list[tuple]:
    backward = (0.02 * uniform(g, 2)).tolist()
    return [
        (237_811_968, 64, 25.0, 0.0073),
        (237_811_968, 2, 2.5, backward[0]),
        (12_704_516, 8, 300.0, 0.05),
        (1_208_260, 1, 10.0, 0.0),
        (1_208_260, 3, 0.1, backward[1]),
    ]


def _readers(g: Generator) -> list[tuple]:
    rank, worker = int(torch.randint(3, (), generator=g)), int(torch.randint(4, (), generator=g))
    return [(24, 1, 2, 2, 3), (10, 0, 1, 0, 4), (7, 3, 4, 0, 1), (3, 1, 2, 1, 2), (50, rank, 3, worker, 4)]


def _rows(g: Generator) -> list[tuple]:
    return [(normal(g, *size), normal(g, *size), t) for size, t in (((2, 3, 5), 0.1), ((4, 2, 6), 0.5), ((3, 4, 4), 1.0))]


def _info_nce(
    x: Tensor, y: Tensor, t: float, everyone: bool = True, shifted: bool = True, unit: bool = True, total: bool = False
) -> Tensor:
    ranks, b, _ = x.shape
    if unit:
        x, y = F.normalize(x, dim=-1), F.normalize(y, dim=-1)
    losses = []
    for rank in range(ranks):
        others = rearrange(y, "ranks b d -> (ranks b) d") if everyone else y[rank]
        partner = torch.arange(b) + (rank * b if everyone and shifted else 0)
        losses.append(F.cross_entropy(x[rank] @ others.T / t, partner))
    return sum(losses) if total else sum(losses) / ranks


def _hours(f, c, e, tflops, share, n, backward=3, operations=2, unit=3600):
    return operations * backward * f * c * e / (tflops * 1e12 * share * n) / unit


def _wait(p, n, speed, backward, sent=2.0, each=4, least=0.0):
    return max(least, each * p * sent * (n - 1) / n / (speed * 1e9) - backward)


EXERCISES = (
    Exercise(
        name="block_weights",
        lesson="10",
        minutes=6,
        difficulty=1,
        task="How many weights has a transformer block of this width? Its linear layers: width to 3 · width (queries, keys and values) and "
        "width to width (after attention); width to mlp_ratio · width, and back. Each has a bias for every output. And two LayerNorms, "
        "with a scale and a shift for every number of a token.",
        draw=lambda g: [(768, 4), (96, 4), (512, 3), (10, 2)],
        hints=("A linear layer from a to b has a · b + b weights.", "The matrices alone: width² · (4 + 2 · mlp_ratio)."),
        wrong={
            "The biases are missing: one for every output of a linear layer.": lambda d, r: (4 + 2 * r) * d * d + 4 * d,
            "The two LayerNorms are missing.": lambda d, r: (4 + 2 * r) * d * d + (5 + r) * d,
            "Each LayerNorm has a scale and a shift.": lambda d, r: (4 + 2 * r) * d * d + (7 + r) * d,
            "There are three matrices before attention, and one after it.": lambda d, r: (3 + 2 * r) * d * d + (8 + r) * d,
            "The MLP goes there and back: two matrices.": lambda d, r: (4 + r) * d * d + (9 + r) * d,
        },
        alternative=lambda d, r: sum((a + 1) * b for a, b in ((d, 3 * d), (d, d), (d, r * d), (r * d, d))) + 4 * d,
    ),
    Exercise(
        name="run_hours",
        lesson="10",
        minutes=10,
        difficulty=2,
        task="Predict a run's hours. forward: multiply-adds of one clip's forward pass. A multiply-add is two operations, and the backward "
        "pass takes twice the forward's. Each of the devices could do tflops · 10¹² operations a second, and does this share of that.",
        draw=_runs,
        hints=(
            "Operations of the whole run over operations a second of all devices: seconds.",
            "One clip, once: 2 operations · (1 forward + 2 backward) · forward.",
        ),
        wrong={
            "The backward pass costs twice the forward: three times the forward in all.": lambda *a: _hours(*a, backward=1),
            "Forward and backward together are three times the forward, not two.": lambda *a: _hours(*a, backward=2),
            "A multiply-add is two operations, and tflops counts operations.": lambda *a: _hours(*a, operations=1),
            "No step reaches all of a device's speed: multiply by the share.": lambda f, c, e, t, s, n: _hours(f, c, e, t, 1.0, n),
            "All devices work at the same time.": lambda f, c, e, t, s, n: _hours(f, c, e, t, s, 1),
            "Those are seconds.": lambda *a: _hours(*a, unit=1),
        },
        alternative=lambda f, c, e, tflops, share, n: f * c * e / n / (600 * share * tflops * 1e12),
    ),
    Exercise(
        name="peak_rate",
        lesson="10",
        minutes=4,
        difficulty=1,
        task="The recipe's learning rate is base for a batch of 256, and grows in proportion to the clips of one step of the optimiser. "
        "Each of the devices computes `rows` clips at once, and that in so many rounds before the optimiser steps.",
        draw=_rates,
        hints=("How many clips does one step of the optimiser see, over all devices and rounds?", "base * rows * devices * rounds / 256"),
        wrong={
            "That is one device's part; the step is made of all devices' clips.": lambda b, rows, devices, rounds: b * rows * rounds / 256,
            "Rounds add up, too, before the optimiser steps.": lambda b, rows, devices, rounds: b * rows * devices / 256,
            "In proportion to the batch; the root of it is another rule.": lambda b, rows, devices, rounds: (
                b * (rows * devices * rounds / 256) ** 0.5
            ),
            "That is the rate of a batch of 256.": lambda b, rows, devices, rounds: b,
        },
        alternative=lambda b, rows, devices, rounds: b / 256 * (rounds * devices) * rows,
        tolerance=1e-9,
    ),
    Exercise(
        name="exchange_wait",
        lesson="10",
        minutes=10,
        difficulty=2,
        task="After each backward pass the gradients of all weights, 4 bytes each, are averaged over the devices, which stand in a ring: "
        "of every number each device sends (devices − 1) / devices to add it up, and as much again to hand the sum round. They send "
        "while they still compute, for `backward` seconds. How long is waited for what is left? Never less than 0.",
        draw=_exchanges,
        hints=("Bytes sent: 4 · weights · 2 · (devices − 1) / devices.", "max(0.0, bytes / (gigabytes_a_second * 1e9) - backward)"),
        wrong={
            "Added up, and then handed round: each number goes twice.": lambda *a: _wait(*a, sent=1.0),
            "In a ring nobody sends everything to everybody: (devices − 1) / devices, twice.": lambda p, n, s, b: max(
                0.0, 4 * p * 2 * (n - 1) / (s * 1e9) - b
            ),
            "A gradient is a float32 of 4 bytes.": lambda *a: _wait(*a, each=1),
            "What is sent while the device computes anyway is not waited for.": lambda p, n, s, b: _wait(p, n, s, 0.0),
            "Nobody waits less than 0 seconds.": lambda *a: _wait(*a, least=-1e9),
        },
        alternative=lambda p, n, s, b: max(8e-9 * p / s * (1 - 1 / n), b) - b,
        tolerance=1e-7,
    ),
    Exercise(
        name="own_samples",
        lesson="10",
        minutes=8,
        difficulty=2,
        task="Several processes (ranks) read with several workers each. All readers stand in a row: those of rank 0 first, by worker. "
        "Reader number c of C takes the samples c, c + C, c + 2 C, … below `samples`. Give the list for this worker of this rank.",
        draw=_readers,
        hints=("There are ranks · workers readers; which number has this one?", "range(start, samples, step)"),
        wrong={
            "Every worker of a rank gets the same: each sample comes `workers` times.": lambda n, r, ranks, w, workers: list(
                range(r, n, ranks)
            ),
            "Every rank gets the same: each sample comes `ranks` times.": lambda n, r, ranks, w, workers: list(range(w, n, workers)),
            "rank + worker is the number of several readers, and of some there is none.": lambda n, r, ranks, w, workers: list(
                range(r + w, n, ranks * workers)
            ),
            "The row is by rank, then by worker: rank · workers + worker.": lambda n, r, ranks, w, workers: list(
                range(w * ranks + r, n, ranks * workers)
            ),
            "The last, incomplete round belongs to somebody, too.": lambda n, r, ranks, w, workers: list(
                range(r * workers + w, n - n % (ranks * workers), ranks * workers)
            ),
        },
        alternative=lambda n, r, ranks, w, workers: [i for i in range(n) if i % (ranks * workers) == r * workers + w],
    ),
    Exercise(
        name="gathered_info_nce",
        lesson="10",
        minutes=15,
        difficulty=3,
        task="x, y: (ranks, b, d), what each process has of a batch; row i of a process's x belongs to row i of its y. Each compares "
        "its own b rows of x with the rows of y of *all* processes, put behind one another by rank, by cosine over temperature; cross "
        "entropy tells how well its partners are found. Give the mean over the processes: a scalar.",
        draw=_rows,
        hints=(
            'rearrange(y, "ranks b d -> (ranks b) d") is what every process has after gathering.',
            "Among ranks · b rows, where does the partner of row i of process r stand?",
            "F.cross_entropy(scores, r * b + torch.arange(b)), and the mean over r.",
        ),
        wrong={
            "Those are only a process's own rows: fewer strangers, another loss.": lambda x, y, t: _info_nce(x, y, t, everyone=False),
            "Among the gathered rows the partner of row i of process r is row r · b + i.": lambda x, y, t: _info_nce(
                x, y, t, shifted=False
            ),
            "Cosines: bring the rows to length 1 first.": lambda x, y, t: _info_nce(x, y, t, unit=False),
            "The mean over the processes, not their sum.": lambda x, y, t: _info_nce(x, y, t, total=True),
            "The cosines are divided by the temperature.": lambda x, y, t: _info_nce(x, y, 1.0) if t != 1 else _info_nce(x, y, 2.0),
        },
        alternative=lambda x, y, t: F.cross_entropy(
            F.normalize(x.flatten(0, 1), dim=1) @ F.normalize(y.flatten(0, 1), dim=1).T / t, torch.arange(x.shape[0] * x.shape[1])
        ),
    ),
)

QUIZZES = (
    Quiz(
        name="sixteen_bits",
        lesson="10",
        question="In mixed precision the products are computed in 16 bits. Why are the weights themselves kept in 32?",
        choices=(
            ("Because 16 bits cannot hold such small weights.", "bfloat16 reaches as far down as float32; it has fewer digits."),
            (
                "Because a step changes a weight by less than 16 bits can tell apart.",
                "You saw it: a thousand steps of a thousandth, and in bfloat16 the weight had not moved.",
            ),
            ("Because matrix products in 16 bits are slower.", "They are what is fast; that is why one does it."),
        ),
        right="b",
    ),
    Quiz(
        name="own_negatives",
        lesson="10",
        question="64 processes with 8 clips each. Somebody leaves the gathering out: each process contrasts its own 8 clips, DDP averages "
        "the gradients. The loss that is printed falls faster than before. What has happened?",
        choices=(
            (
                "The task is easier: 7 strangers in place of 511; and it is another objective.",
                "Each loss has its own log B. Compare retrieval on the same clips, not the two losses.",
            ),
            ("Nothing: averaging the gradients makes up for it.", "The pairs that were never compared are in no process's gradient."),
            ("It trains better: the gradients are less noisy.", "A lower loss of an easier task is not better training."),
        ),
        right="a",
    ),
    Quiz(
        name="more_devices",
        lesson="10",
        question="A run of batch 512 goes from 64 to 512 devices, a clip for each. Why is it not eight times as fast?",
        choices=(
            ("Because a GPU cannot compute one clip.", "It can, only not well."),
            (
                "Because every device still sends nearly all of the gradients, and has less to compute meanwhile.",
                "2 (N − 1) / N is nearly 2 for 64 and for 512. And small products use less of a device.",
            ),
            ("Because InfoNCE has fewer strangers then.", "It has as many: they are gathered from all."),
        ),
        right="b",
    ),
    Quiz(
        name="measure_where",
        lesson="10",
        question="You have measured `tiny` on your laptop and want to know how long `paper` takes there. Arithmetic is counted for both. "
        "Which rate do you divide by?",
        choices=(
            (
                "The one of `tiny`: a device is as fast as it is.",
                "Small products reach a smaller share of it: that predicts too long a run.",
            ),
            ("What the maker of the processor states.", "Nobody reaches it in a whole step."),
            ("One that is measured at the widths and batches of `paper`, with few blocks if need be.", "The blocks are all alike."),
        ),
        right="c",
    ),
)
