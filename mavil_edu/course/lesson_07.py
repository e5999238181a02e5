"""Exercises and questions of lesson 07: the whole of stage one, and what its terms are worth."""

import torch
from torch import Generator
from torch.nn.functional import normalize

from mavil_edu.course.entry import Exercise, Quiz, normal, uniform


def _terms(g: Generator) -> list[tuple]:
    return [(*(uniform(g, 1)[0] for _ in range(3)), alpha, beta) for alpha, beta in ((0.1, 0.01), (0.05, 0.5), (0.0, 0.2), (2.0, 0.0))]


def _truths(g: Generator) -> list[tuple]:
    said = [(normal(g, n), spread * normal(g, n) + shift) for n, spread, shift in ((6, 1.0, 0.0), (9, 0.1, 2.0), (12, 3.0, -1.0))]
    return [(truth + error, truth) for error, truth in said]


def _questions(g: Generator) -> list[tuple]:
    return [(normal(g, n, n),) for n in (4, 7, 12)] + [(torch.eye(5) + 0.1 * uniform(g, 5, 5),)]


def _neighbours(g: Generator) -> list[tuple]:
    return [(normal(g, n, d), torch.randint(4, (n,), generator=g), 3 * normal(g, m, d)) for n, m, d in ((8, 5, 3), (20, 9, 2), (15, 6, 8))]


def _regressions(g: Generator) -> list[tuple]:
    sizes = ((12, 5, 3, 1, 1.0), (20, 8, 6, 2, 0.1), (9, 4, 12, 3, 10.0))
    return [(normal(g, n, d) + 1, normal(g, n, k) + 2, normal(g, m, d) + 1, penalty) for n, m, d, k, penalty in sizes]


def _ridge(x, y, asked, penalty, centre_x=True, centre_y=True, scale=1.0):
    mean_x, mean_y = x.mean(0) * centre_x, y.mean(0) * centre_y
    x = x - mean_x
    weights = torch.linalg.solve(x.T @ x + scale * penalty * torch.eye(x.shape[1]), x.T @ (y - mean_y))
    return (asked - mean_x) @ weights + mean_y


def _ridge_by_augmented_least_squares(x, y, asked, penalty):
    """The penalty written as further observations: rows √penalty · I whose answer is 0."""
    d = x.shape[1]
    rows = torch.cat([x - x.mean(0), penalty**0.5 * torch.eye(d)])
    answers = torch.cat([y - y.mean(0), torch.zeros(d, y.shape[1])])
    return (asked - x.mean(0)) @ (torch.linalg.pinv(rows) @ answers) + y.mean(0)


def _nearest(train, labels, asked):
    return labels[(normalize(asked, dim=1) @ normalize(train, dim=1).T).argmax(1)]


EXERCISES = (
    Exercise(
        name="objective",
        lesson="07",
        minutes=4,
        difficulty=1,
        task="The whole of stage 1 in one line: L = L_raw + α L_inter + β L_intra.",
        draw=_terms,
        hints=("Reconstruction has the weight 1.", "raw + alpha * inter + beta * intra"),
        wrong={
            "Both contrasts have α; the one within modalities has β.": lambda r, e, a, alpha, beta: r + alpha * (e + a),
            "α and β are swapped: α weighs the contrast between sound and picture.": lambda r, e, a, alpha, beta: r + beta * e + alpha * a,
            "The weights are missing.": lambda r, e, a, alpha, beta: r + e + a,
            "Reconstruction is not averaged with the others: its weight is 1.": lambda r, e, a, alpha, beta: (
                (1 - alpha - beta) * r + alpha * e + beta * a
            ),
        },
        alternative=lambda r, e, a, alpha, beta: torch.stack([r, e, a]) @ torch.tensor([1.0, alpha, beta]),
    ),
    Exercise(
        name="nearest_label",
        lesson="07",
        minutes=8,
        difficulty=2,
        task="Give each of the clips that are asked about the label of the most similar training clip, by cosine. train (n, d), labels "
        "(n,) of whole numbers, asked (m, d): (m,).",
        draw=_neighbours,
        hints=(
            "Your cosine_similarities of lesson 06: a row for each clip that is asked about, a column for each training clip.",
            ".argmax(dim=1) is the place of the largest of each row; labels[places] are their labels.",
        ),
        wrong={
            "These are the places of the neighbours, not their labels.": lambda t, y, a: (
                normalize(a, dim=1) @ normalize(t, dim=1).T
            ).argmax(1),
            "By product a long embedding is near to everybody; take the cosine.": lambda t, y, a: y[(a @ t.T).argmax(1)],
            "That is the label of the least similar clip.": lambda t, y, a: y[(normalize(a, dim=1) @ normalize(t, dim=1).T).argmin(1)],
            "Each training clip found its nearest question; it is the other way round.": lambda t, y, a: y[
                (normalize(a, dim=1) @ normalize(t, dim=1).T).argmax(0)
            ],
            "That is the commonest label, whatever the clip.": lambda t, y, a: y.mode().values.expand(len(a)),
        },
        alternative=lambda t, y, a: y[torch.cdist(normalize(a, dim=1), normalize(t, dim=1)).min(1).indices],
    ),
    Exercise(
        name="ridge_probe",
        lesson="07",
        minutes=15,
        difficulty=3,
        task="The linear probe, by ridge regression. Take the training mean off x (n, d) and off y (n, k); solve (xᵀx + penalty · I) w = "
        "xᵀy for w (d, k); answer for asked (m, d) with the same means: (m, k).",
        draw=_regressions,
        hints=(
            "x.mean(dim=0) once, from the training clips alone; it is taken off `asked` as well.",
            "torch.linalg.solve(a, b) gives the w for which a @ w = b.",
            "At the end y's mean comes back: (asked − mean of x) @ w + mean of y.",
        ),
        wrong={
            "y's mean must come back at the end.": lambda x, y, a, p: _ridge(x, y, a, p) - y.mean(0),
            "You took the mean of what is asked off it; a single clip could not be asked about. Use the training clips' mean.": (
                lambda x, y, a, p: _ridge(x, y, a - a.mean(0) + x.mean(0), p)
            ),
            "The penalty is missing.": lambda x, y, a, p: _ridge(x, y, a, 1e-6),
            "The means are still in: take them off x and y first.": lambda x, y, a, p: _ridge(x, y, a, p, centre_x=False, centre_y=False),
            "The penalty stands once, not once a clip.": lambda x, y, a, p: _ridge(x, y, a, p, scale=len(x)),
            "These are the answers for the training clips; answer for `asked`.": lambda x, y, a, p: _ridge(x, y, x, p),
        },
        alternative=_ridge_by_augmented_least_squares,
        tolerance=1e-3,
    ),
    Exercise(
        name="r_squared",
        lesson="07",
        minutes=6,
        difficulty=2,
        task="How well does a probe tell a quantity? 1 − (sum of squared errors) / (sum of squared differences of the truth from its "
        "mean). said, truth (n,): a scalar, 1 at best, 0 for whoever always says the mean, below 0 for worse.",
        draw=_truths,
        hints=("(truth - said).square().sum() is the one sum.", "(truth - truth.mean()).square().sum() is the other."),
        wrong={
            "That is the share that is not explained; take it from 1.": lambda s, t: (t - s).square().sum() / (t - t.mean()).square().sum(),
            "Below the fraction stands the truth's spread about its mean, not about 0.": lambda s, t: (
                1 - (t - s).square().sum() / t.square().sum()
            ),
            "Below the fraction stands the spread of the truth, not of the answers.": lambda s, t: (
                1 - (t - s).square().sum() / (s - s.mean()).square().sum()
            ),
            "That is the squared correlation: an answer ten times too large would still be perfect.": lambda s, t: torch.corrcoef(
                torch.stack([s, t])
            )[0, 1].square(),
        },
        alternative=lambda s, t: 1 - (t - s).square().mean() / t.var(correction=0),
    ),
    Exercise(
        name="rank_of_partner",
        lesson="07",
        minutes=6,
        difficulty=2,
        task="similarity (n, n): row i asks, column i is its partner. At which place of its row does the partner stand, 1 being the most "
        "similar? (n,) of whole numbers.",
        draw=_questions,
        hints=(
            "The partners stand on the diagonal.",
            "A partner's place is one more than the number of columns that are more similar.",
        ),
        wrong={
            "You count from 0; the first place is 1.": lambda s: (s > s.diagonal()[:, None]).sum(1),
            "Rows ask here; you went down the columns.": lambda s: (s > s.diagonal()[None]).sum(0) + 1,
            "You counted those that are less similar.": lambda s: (s < s.diagonal()[:, None]).sum(1) + 1,
            "That is who stands first, not where the partner stands.": lambda s: s.argmax(1),
        },
        alternative=lambda s: (s.argsort(dim=1, descending=True) == torch.arange(len(s))[:, None]).int().argmax(1) + 1,
    ),
)

QUIZZES = (
    Quiz(
        name="seen_only",
        lesson="07",
        question="Trained by contrast alone, the model forgets the background of the pictures. Why?",
        choices=(
            ("Backgrounds are too hard for so small a model.", "The untrained encoder already reads nine of ten."),
            (
                "No sound tells the background: it cannot help to find a partner, and only takes room.",
                "Contrast between the senses keeps what both tell. What one of them knows alone is noise to it.",
            ),
            ("The mask hides it.", "Both models saw the same masks; a stripe is in every patch."),
        ),
        right="b",
    ),
    Quiz(
        name="reads_well",
        lesson="07",
        question="A probe reads the material from the sound in 98 % of the clips, in a model that never met a true pair. What follows?",
        choices=(
            ("That number says nothing of whether sound and picture were aligned.", "Sound alone tells material; ask what true pairs add."),
            ("The control is broken.", "It finds no partners at all: it does what it should."),
            ("Contrast learns from wrong pairs, too.", "Reconstruction does: it never needed a partner."),
        ),
        right="a",
    ),
    Quiz(
        name="more_contrast",
        lesson="07",
        question="α is raised from 0.1 to 1, at equal steps. What becomes of retrieval, and of what probes read?",
        choices=(
            (
                "Both better: more weight on what they need.",
                "Probes also ask for what one sense tells alone, which contrast does not need: 4.1 points worse (1.7 to 6.6).",
            ),
            ("Nothing: the optimiser undoes a factor.", "It undoes a factor of the whole loss, not of one of its terms."),
            (
                "Probes read less; of retrieval five seeds cannot tell.",
                "So it was in the lab (lesson 11), after 600 steps: probes −4.1 points (1.7 to 6.6), R@5 +3.0 (−2.3 to +8.4).",
            ),
        ),
        right="c",
    ),
)
