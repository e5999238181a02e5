"""Exercises and questions of lesson 11: the reproduction lab."""

import statistics

import torch
from torch import Generator

from mavil_edu.course.entry import Exercise, Quiz, normal, uniform


def _scores(g: Generator) -> list[tuple]:
    drawn = [(float(value), float(chance) / 2) for value, chance in uniform(g, 3, 2)]
    return [(0.5, 0.25), (0.97, 1 / 6), (0.1, 0.25), *drawn]


def _costs(g: Generator) -> list[tuple]:
    return [(600, 2.0, 3.0), (600, 3.0, 2.0), (100, 1.5, 1.5), (7, 50.0, 1.0), (int(torch.randint(50, 900, (), generator=g)), 1.7, 1.9)]


def _runs(g: Generator) -> list[tuple]:
    def arm(seeds: list[int]) -> dict[int, float]:
        return dict(zip(seeds, (50 + 10 * normal(g, len(seeds))).round(decimals=1).tolist(), strict=True))

    orders = (([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]), ([3, 1, 0], [0, 1, 3]), ([0, 1, 2, 4], [4, 3, 1, 0]), ([2, 5], [5, 2, 7]))
    return [(arm(one), arm(other)) for one, other in orders]


def _differences(g: Generator) -> list[tuple]:
    return [(3 * normal(g, n) + 1, t) for n, t in ((5, 2.776), (3, 4.303), (9, 2.306))]


def _intervals(g: Generator) -> list[tuple]:
    found = [(0.5, 2.0, 3.5), (0.1, 0.6, 1.1), (-1.0, 0.2, 0.9), (-1.0, 1.5, 4.0), (-4.0, -3.0, -2.0), (-0.5, 3.0, 6.5), (1.2, 1.3, 1.4)]
    return [(*one, 1.0) for one in found] + [(0.5, 1.5, 2.5, 2.0), (-0.5, 0.7, 1.9, 2.0)]


def _null(g: Generator) -> list[tuple]:
    cases = []
    for n, seeds, t in ((10, 5, 2.776), (10, 3, 4.303), (12, 4, 3.182)):
        order = torch.rand(200, n, generator=g).argsort(dim=1)[:, : 2 * seeds]
        cases.append((50 + 5 * normal(g, n), order.reshape(200, 2, seeds), t / 2))  # a narrow interval finds more
    return cases


def _interval(d, t, correction=1, root=True, mean=True):
    half = t * d.std(correction=correction) / (len(d) ** 0.5 if root else 1)
    centre = d.mean() if mean else d.median()
    return torch.stack([centre - half, centre + half])


def _false(values, deals, t, spread=None, sided=False):
    d = values[deals[:, 0]] - values[deals[:, 1]]
    half = t * (d.std(1) if spread is None else spread(values, deals)) / d.shape[1] ** 0.5
    centre = d.mean(1) if sided else d.mean(1).abs()
    return (centre > half).float().mean()


def _false_by_loop(values, deals, t):
    found = 0
    for one, other in deals.tolist():
        d = [float(values[i] - values[j]) for i, j in zip(one, other, strict=True)]
        half = t * statistics.stdev(d) / len(d) ** 0.5
        found += not -half <= statistics.mean(d) <= half
    return torch.tensor(found / len(deals))


EXERCISES = (
    Exercise(
        name="points_above_chance",
        lesson="11",
        minutes=4,
        difficulty=1,
        task="Causes have more or fewer classes, so shares of right answers cannot be averaged as they are. Bring one to points: 0 where "
        "value is chance, 100 where it is 1, on a straight line between, and below 0 for worse than chance.",
        draw=_scores,
        hints=("How far is it from chance to 1? And from chance to the value?", "100 * (value - chance) / (1 - chance)"),
        wrong={
            "Chance is taken off, but a perfect answer must give 100: divide by what there is to gain.": lambda v, c: 100 * (v - c),
            "That is how many times chance it is; chance itself must give 0.": lambda v, c: v / c,
            "Worse than chance is below 0, not 0.": lambda v, c: 100 * max(v - c, 0) / (1 - c),
            "That is a share; give points, 100 for perfect.": lambda v, c: (v - c) / (1 - c),
        },
        alternative=lambda v, c: 100 * (1 - (1 - v) / (1 - c)),
    ),
    Exercise(
        name="steps_of_equal_compute",
        lesson="11",
        minutes=4,
        difficulty=1,
        task="An arm's step costs `cost`. How many steps may it make, to spend what another arm spends in `steps` steps that cost `other` "
        "each? The nearest whole number by round(), and at least 1.",
        draw=_costs,
        hints=("The other arm spends steps * other in all.", "max(1, round(steps * other / cost))"),
        wrong={
            "It is the other way round: whose step is cheaper may make more of them.": lambda n, c, o: max(1, round(n * c / o)),
            "Round to the nearest; int() cuts off.": lambda n, c, o: max(1, int(n * o / c)),
            "Those are equal steps.": lambda n, c, o: n,
            "Nobody can train for 0 steps: at least 1.": lambda n, c, o: round(n * o / c),
        },
        alternative=lambda n, c, o: round(max(1.0, n * o / c)),
    ),
    Exercise(
        name="paired_differences",
        lesson="11",
        minutes=6,
        difficulty=2,
        task="Two arms, each a dict from seed to value. Give the list of differences, `one` less `other`, of the seeds that both have, "
        "from the lowest seed to the highest.",
        draw=_runs,
        hints=("A seed counts if it is in both: `seed in other`.", "sorted(one) gives one's seeds in order."),
        wrong={
            "The pairs are mixed up: take the same seed of both, wherever it stands in the dict.": lambda one, other: [
                a - b for a, b in zip(one.values(), other.values(), strict=False)
            ],
            "It is `one` less `other`.": lambda one, other: [other[s] - one[s] for s in sorted(one) if s in other],
            "Order by seed, not as they happen to stand.": lambda one, other: [one[s] - other[s] for s in one if s in other],
            "A missing run is not a run that gave 0: leave that seed out.": lambda one, other: [
                one.get(s, 0.0) - other.get(s, 0.0) for s in sorted(one | other)
            ],
            "A difference has a sign; the mean of absolute values is above 0 for any two arms.": lambda one, other: [
                abs(one[s] - other[s]) for s in sorted(one) if s in other
            ],
        },
        alternative=lambda one, other: [one[s] - other[s] for s in sorted(one.keys() & other.keys())],
    ),
    Exercise(
        name="interval_over_seeds",
        lesson="11",
        minutes=8,
        difficulty=2,
        task="The interval of a mean over seeds: mean ± t · s / √n, with s the standard deviation of the n differences (n − 1 in its "
        "denominator, as in torch's .std()). differences (n,), t a number from Student's table: a tensor [low, high].",
        draw=_differences,
        hints=("half = t * differences.std() / len(differences) ** 0.5", "torch.stack([mean - half, mean + half])"),
        wrong={
            "That is where single runs lie. The mean of n is surer than one: divide by √n.": lambda d, t: _interval(d, t, root=False),
            "Few values spread less about their own mean than about the true one: n − 1, which is .std() as it stands.": lambda d, t: (
                _interval(d, t, correction=0)
            ),
            "Divide by √n, not by n.": lambda d, t: torch.stack([d.mean() - t * d.std() / len(d), d.mean() + t * d.std() / len(d)]),
            "That is the half width alone; give both ends.": lambda d, t: t * d.std() / len(d) ** 0.5,
            "The ends are swapped: [low, high].": lambda d, t: _interval(d, t).flip(0),
            "Those are the smallest and the largest difference; that range only grows with more seeds.": lambda d, t: torch.stack(
                [d.min(), d.max()]
            ),
        },
        alternative=lambda d, t: d.mean() + t * ((d - d.mean()).square().sum() / (len(d) - 1) / len(d)).sqrt() * torch.tensor([-1.0, 1.0]),
    ),
    Exercise(
        name="verdict_by_rule",
        lesson="11",
        minutes=8,
        difficulty=2,
        task="The lab's rule for «more». 1 (holds): the interval lies above 0 and the mean reaches `least`, the smallest difference that "
        "matters. −1 (does not hold): the whole interval lies below `least`. 0 (undecided): neither.",
        draw=_intervals,
        hints=("The whole interval lies below `least` when its upper end does.", "if high < least: return -1, and then the other two."),
        wrong={
            "An interval below `least` does not hold, also where it reaches over 0: what might be there is too small to matter.": (
                lambda low, mean, high, least: 1 if low > 0 and mean >= least else -1 if high < 0 else 0
            ),
            "What is surely there and too small to matter does not hold; compare with `least`.": lambda low, mean, high, least: (
                1 if low > 0 else -1 if high < least else 0
            ),
            "Undecided is not refuted: 0 is its own answer.": lambda low, mean, high, least: 1 if low > 0 and mean >= least else -1,
            "The mean alone decides nothing.": lambda low, mean, high, least: 1 if mean >= least else -1,
            "The lower end need not reach `least`, only the mean; it has to lie above 0.": lambda low, mean, high, least: (
                -1 if high < least else 1 if low >= least else 0
            ),
        },
        alternative=lambda low, mean, high, least: -(high < least) or int(low > 0 and mean >= least),
    ),
    Exercise(
        name="share_of_false_findings",
        lesson="11",
        minutes=15,
        difficulty=3,
        task="values (n,) are runs of one recipe, which differ in their seeds alone. deals (r, 2, s) holds, r times, the places of two "
        "groups of s of them. Take the differences pair by pair; in which share of the deals does mean ± t · s / √n leave 0 out? "
        "A scalar tensor.",
        draw=_null,
        hints=(
            "values[deals] is (r, 2, s); .unbind(dim=1) gives the two groups.",
            "0 is left out where the mean is farther from 0 than half of the interval: .mean(dim=1).abs() > half.",
            "half = t * differences.std(dim=1) / s ** 0.5, one for each deal.",
        ),
        wrong={
            "A finding below 0 is one, too: take the mean's size.": lambda v, deals, t: _false(v, deals, t, sided=True),
            "The spread is that of this deal's differences, not that of all values.": lambda v, deals, t: _false(
                v, deals, t, spread=lambda v, deals: v.std().expand(len(deals))
            ),
            "That is the share in which nothing is found.": lambda v, deals, t: 1 - _false(v, deals, t),
            "Divide by √s: it is the mean of s differences that is judged.": lambda v, deals, t: _false(
                v, deals, t, spread=lambda v, deals: (v[deals[:, 0]] - v[deals[:, 1]]).std(1) * deals.shape[2] ** 0.5
            ),
            "That counts how often one group's mean is larger, by however little.": lambda v, deals, t: _false(v, deals, 0.0, sided=True),
        },
        alternative=_false_by_loop,
    ),
)

QUIZZES = (
    Quiz(
        name="undecided",
        lesson="11",
        question="A claim is *undecided* after five seeds: its interval goes from −1.9 to +2.3 points. What may one say?",
        choices=(
            ("That the term does nothing.", "An interval that holds 0 holds 2 as well; to say «nothing», it would have to be narrow."),
            ("That the claim nearly holds: the mean is positive.", "A mean without its interval is a coin that fell."),
            (
                "That five seeds at this size do not tell; an effect of two points would be no surprise, and none would not either.",
                "And with it goes what would tell: how many more seeds, or how much more training.",
            ),
        ),
        right="c",
    ),
    Quiz(
        name="until_it_holds",
        lesson="11",
        question="Five seeds leave a claim undecided. Somebody adds one seed after another and stops when the interval leaves 0 out. Why "
        "is that no longer a 95 % interval?",
        choices=(
            (
                "Each look is a new chance to be wrong, and one stops only on those that please.",
                "You measured it above. The number of seeds is fixed before, or the rule must pay for each look.",
            ),
            ("Because six seeds are not independent of five.", "They may all be used; it is the stopping that spoils them."),
            ("Because Student's t is for five seeds only.", "It knows any number; but not that the number was chosen by the result."),
        ),
        right="a",
    ),
    Quiz(
        name="equal_steps",
        lesson="11",
        question="Stage 2 is compared with stage 1 at equal steps. The student has had a teacher, though, who was trained, too. What does "
        "the comparison at equal *compute* add?",
        choices=(
            ("Nothing: both are fair.", "They answer different questions."),
            (
                "It asks whether the same compute, spent on more steps of stage 1, would have given as much.",
                "So the table has «full, twice the steps» beside the student.",
            ),
            ("It makes the student's targets better.", "It changes nothing of the student; it gives its rival more steps."),
        ),
        right="b",
    ),
    Quiz(
        name="quick_run",
        lesson="11",
        question="A quick run of your own claim says «does not hold». What have you learnt of the claim?",
        choices=(
            ("That it is wrong.", "The model was too small to learn anything in three steps."),
            ("That it needs more seeds.", "More seeds of a model that learns nothing tell nothing, more surely."),
            ("That the experiment runs, and nothing of the claim.", "That is what a smoke run is for, and it is labelled so."),
        ),
        right="c",
    ),
)
