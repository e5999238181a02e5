# %% [markdown]
# # Does it hold?
#
# **The question:** the paper says that fusion helps, that contrast helps, that a second stage helps. You have trained models that did what
# they should. Would they do so again, with other random numbers? And would you notice if they did not?
#
# **You will be able to** read the ledger of claims that comes with this package, bring different scores to one scale, compare two
# recipes seed by seed, say how sure a difference is and when to say nothing, catch a lab that finds what is not there, and test a claim of
# your own.
#
# **Budget:** 1 minute of computing on two CPU cores, 1 GB of memory, no network, no GPU. Reading and exercises: 75 minutes.
# **Opens:** [`claims.py`](../mavil_edu/lab/claims.py), [`arms.py`](../mavil_edu/lab/arms.py),
# [`verdicts.py`](../mavil_edu/lab/verdicts.py), [`ledger.py`](../mavil_edu/lab/ledger.py),
# [`explorers/verdict.py`](../mavil_edu/explorers/verdict.py), and the page [`reproduction.md`](../docs/reproduction.md).
# **Paper:** MAViL, [arXiv 2212.08071](https://arxiv.org/abs/2212.08071), section 4 and its ablations.
#
# Before each cell that computes, guess what it will show. Then run it (Shift + Enter).

# %%
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mavil_edu import diagrams, figures
from mavil_edu.config import AugmentConfig, tiny
from mavil_edu.data.world import World
from mavil_edu.display import player
from mavil_edu.exercises import check, exercise, quiz
from mavil_edu.explorers.verdict import verdict_explorer

# %%
from mavil_edu.lab.arms import BUDGETS, QUICK_LABEL, SPLITS, Arm
from mavil_edu.lab.claims import ARMS, LEDGER, Claim, minus
from mavil_edu.lab.ledger import claims_named, read_rows
from mavil_edu.lab.measure import COLUMNS, Place
from mavil_edu.lab.pictures import forest, loss_curves, seed_by_seed
from mavil_edu.lab.reproduce import try_claim
from mavil_edu.lab.verdicts import difference

# %% [markdown]
# ## 1. Guess first
#
# These are the claims. The letter says where a claim comes from: P, the paper states it; R, readers recall it; O, our own. **Guess** for
# each: does it hold for a model of a million parameters, trained three minutes on generated clips? Write your guesses down. There are
# three answers: *holds*, *does not hold*, *undecided*.

# %%
for claim in LEDGER.values():
    print(f"{claim.name:18}[{claim.source}] {claim.says}")

# %% [markdown]
# The last two are not about MAViL. They test the lab: does it stay silent where nothing is, and does it find what was planted?
#
# ## 2. One run
#
# An **arm** is a recipe: the preset `tiny` with some of its numbers changed. Each arm is run with five **seeds**. What a run gave is one
# file in `results/reproduction`; here are all of them.

# %%
RESULTS = Path("../results/reproduction/standard")
runs: dict[str, dict[int, dict]] = {}
for row in read_rows(RESULTS / "rows"):
    runs.setdefault(row["arm"], {})[row["seed"]] = row

one = runs["full"][0]
print(
    f"{sum(map(len, runs.values()))} runs of {len(runs)} arms;",
    f"the first of «full»: {one['steps']} steps of 32 clips",
)
print({name: round(value) for name, value in one["metrics"].items()})

# %% [markdown]
# Every run is asked the same questions about the same 500 clips, which no training saw. Here is one of them.

# %%
shape = tiny().model
no_change = AugmentConfig(roll=False, magnitude=False, crop=(1.0, 1.0), flip=False)
asked = World(1, SPLITS["test"][0], shape, no_change, quiet=True)
clip = asked.sample(0, None)
player(
    clip.waveform * (0.5 / clip.waveform.abs().max()),
    "The sound of a clip that is asked about, made louder",
)

# %%
figures.frame_panels({"its pictures": clip.frames}, 2.56)

# %%
print({name: asked.labels[name][0] for name in COLUMNS["fused"]})

# %% [markdown]
# A linear probe is fitted on 2,000 other clips and asked for each cause (lesson 07). It reads the material, of six kinds, in so many of
# the clips, the size with such an R². **Guess:** six kinds and four kinds: may 50 % of the one be averaged with 50 % of the other?

# %%
for name, score in list(one["probes"].items())[:4]:
    print(f"{name:22}{score['value']:.2f}, and {score['chance']:.2f} by chance")

# %% [markdown]
# EXERCISE points_above_chance
#
# SOLUTION points_above_chance


# %%
@exercise("points_above_chance")
def points_above_chance(value: float, chance: float) -> float:
    raise NotImplementedError


check("points_above_chance")

# %% [markdown]
# So the lab's **skill** is: the points of each cause, their mean for sound, for pictures and for both, and the mean of these three. By
# hand, and as the file says:


# %%
def skill(row: dict) -> float:
    means = []
    for side, causes in COLUMNS.items():
        scores = [row["probes"][f"{cause} from {side}"] for cause in causes]
        means.append(
            sum(points_above_chance(score["value"], score["chance"]) for score in scores)
            / len(scores)
        )
    return sum(means) / len(means)


assert abs(skill(one) - one["metrics"]["skill"]) < 1e-6
print(f"skill: {skill(one):.1f} points")

# %% [markdown]
# Is that much? A number alone says nothing. **Guess** what an untrained model has, and what the raw features have, which need no model.

# %%
for arm in ("full", "shuffled pairs", "untrained", "raw features"):
    values = torch.tensor([row["metrics"]["skill"] for row in runs[arm].values()])
    print(
        f"{arm:15}{values.mean():5.1f} points, "
        f"from {values.min():.1f} to {values.max():.1f} over {len(values)} seeds"
    )

# %% [markdown]
# The controls stand beside every claim. The gap between an untrained model and a trained one is what all claims together argue about; and
# most of it comes without a single true pair.
#
# ## 3. Two recipes, five seeds
#
# The claim *inter* says: added to reconstruction, contrast between sound and picture raises what probes read. Two arms, *with inter* and
# *joint reconstruction*. What has to be equal? Both begin with the same weights wherever their modules agree, meet the same clips in the
# same order under the same masks, and make equally many **steps**. Is that fair, where one arm's step costs more? It is one of two fair
# questions; the other is equal **compute**.

# %% [markdown]
# EXERCISE steps_of_equal_compute
#
# SOLUTION steps_of_equal_compute


# %%
@exercise("steps_of_equal_compute")
def steps_of_equal_compute(steps: int, cost: float, other: float) -> int:
    raise NotImplementedError


check("steps_of_equal_compute")

# %%
for arm in (
    "joint reconstruction",
    "separate autoencoders",
    "separate autoencoders, joint's compute",
):
    print(f"{arm:40}{runs[arm][0]['steps']} steps")

# %% [markdown]
# Now the two arms of *inter*. **Guess:** do the five seeds of one arm lie above those of the other?


# %%
def metric_of(arm: str, metric: str) -> dict[int, float]:
    return {seed: row["metrics"][metric] for seed, row in runs[arm].items()}


curves = {
    arm: (
        torch.arange(len(runs[arm])),
        torch.tensor([metric_of(arm, "skill")[seed] for seed in sorted(runs[arm])]),
    )
    for arm in ("with inter", "joint reconstruction")
}
diagrams.lines(curves, "seed", "skill, points")

# %% [markdown]
# As two heaps they overlap: the worst of the one is below the best of the other. But a seed that is kind to one arm is often kind to the
# other, too. Compare each seed with itself.

# %% [markdown]
# EXERCISE paired_differences
#
# SOLUTION paired_differences


# %%
@exercise("paired_differences")
def paired_differences(one: dict[int, float], other: dict[int, float]) -> list[float]:
    raise NotImplementedError


check("paired_differences")

# %%
gains = paired_differences(
    metric_of("with inter", "skill"), metric_of("joint reconstruction", "skill")
)
print("by seed:", "  ".join(f"{gain:+.1f}" for gain in gains))

# %% [markdown]
# ## 4. How sure?
#
# The mean of five numbers is not the truth; another five would give another mean. If differences scatter like a bell around the true one,
# then **Student's t** tells how far the mean of n of them may be from it: in 95 of 100 such experiments, mean ± t · s / √n holds the
# truth. With five seeds t is 2.776; with two it is 12.7, which is a way of saying that two seeds say nothing.

# %% [markdown]
# EXERCISE interval_over_seeds
#
# SOLUTION interval_over_seeds


# %%
@exercise("interval_over_seeds")
def interval_over_seeds(differences: Tensor, t: float) -> Tensor:
    raise NotImplementedError


check("interval_over_seeds")

# %%
T_OF_FIVE = 2.7764451051977934  # Student's t for 95 %, n − 1 = 4
low, high = interval_over_seeds(torch.tensor(gains, dtype=torch.float64), T_OF_FIVE).tolist()
theirs = difference(gains)
assert abs(low - theirs.low) < 1e-6 and abs(high - theirs.high) < 1e-6
print(f"mean {theirs.mean:+.1f}, interval from {low:+.1f} to {high:+.1f}")
sides = [
    [metric_of(arm, "skill")[seed] for seed in range(5)]
    for arm in ("with inter", "joint reconstruction")
]
seed_by_seed(*sides, theirs, "holds", 1.0, paired=True)

# %% [markdown]
# Now a rule that turns an interval into a word, and it must be **fixed before the runs**. Ours has three words. And it knows a *smallest
# difference that matters*, one point of skill: what is surely there and surely tiny is not what the paper meant.

# %% [markdown]
# EXERCISE verdict_by_rule
#
# SOLUTION verdict_by_rule


# %%
@exercise("verdict_by_rule")
def verdict_by_rule(low: float, mean: float, high: float, least: float) -> int:
    raise NotImplementedError


check("verdict_by_rule")

# %% [markdown]
# Your rule, on every difference of the ledger that was expected to be *more*: does it give what the ledger says?

# %%
ledger = json.loads((RESULTS / "ledger.json").read_text())
WORDS = {1: "holds", 0: "undecided", -1: "does not hold"}
agree = []
for claim in ledger["claims"].values():
    for found in claim["differences"]:
        if found["expect"] == "more":
            least = ledger["smallest differences"][found["metric"]]
            agree.append(
                WORDS[verdict_by_rule(found["low"], found["mean"], found["high"], least)]
                == found["verdict"]
            )
print(f"{sum(agree)} of {len(agree)} agree")

# %% [markdown]
# Where several differences decide one claim, each gets a wider interval, of 1 − 0.05 / m in place of 95 % (Bonferroni): three chances to
# be wrong must not be three times as many mistakes.
#
# ## 5. A lab that finds what is not there
#
# Can this lab say «nothing»? Take ten runs of **one and the same recipe**, which differ in their seeds alone. Deal two groups of five and
# compare them. Whatever is found is false. **Guess:** of 2,000 deals, in how many does one group have the higher mean? In how many
# does the interval leave 0 out?

# %% [markdown]
# EXERCISE share_of_false_findings
#
# SOLUTION share_of_false_findings


# %%
@exercise("share_of_false_findings")
def share_of_false_findings(values: Tensor, deals: Tensor, t: float) -> Tensor:
    raise NotImplementedError


check("share_of_false_findings")

# %%
ten = torch.tensor(
    [value for arm in ("full", "full, other seeds") for value in metric_of(arm, "skill").values()]
)
generator = torch.Generator().manual_seed(0)
deals = torch.rand(2000, len(ten), generator=generator).argsort(dim=1)[:, :10].reshape(2000, 2, 5)
groups = ten[deals]  # (deals, 2, 5)
apart = (groups[:, 0].mean(1) - groups[:, 1].mean(1)).abs()

print(
    "one group's mean is higher:          ",
    f"{100 * share_of_false_findings(ten, deals, 0.0):.0f} % false",
)
print(
    "the means differ by more than one s: ",
    f"{100 * (apart > groups.std(2).mean(1)).float().mean():.0f} % false",
)
print(
    "the paired interval leaves 0 out:    ",
    f"{100 * share_of_false_findings(ten, deals, T_OF_FIVE):.0f} % false",
)

# %% [markdown]
# «Ours is better», in so many tables, is the first line. The interval is wrong about as often as it says, and the bar of this lab is 8 %.
#
# There is another way to find what is not there, and it feels innocent: **look after each seed, and stop when it holds.** Below, runs of
# one recipe are drawn from a bell as wide as the real ones, so that there are enough; both groups are equal. **Guess:** how often will
# somebody who looks after 3, 4, … 20 seeds sooner or later find a difference?

# %%
from scipy.stats import t as student

drawn = ten.std() * torch.randn(4000, 2, 20, generator=generator)
gap = drawn[:, 0] - drawn[:, 1]  # (experiments, seeds)
found, share = torch.zeros(4000, dtype=torch.bool), []
looks = range(3, 21)
for n in looks:
    some = gap[:, :n]
    found |= some.mean(1).abs() > float(student.ppf(0.975, n - 1)) * some.std(1) / n**0.5
    share.append(float(found.float().mean()))

# %%
curves = {
    "looked after each seed": (torch.tensor(looks), torch.tensor(share)),
    "5 %": (torch.tensor(looks), torch.full((len(looks),), 0.05)),
}
diagrams.lines(curves, "seeds so far", "false findings, share")

# %% [markdown]
# Nobody lied, and every single interval was computed rightly. That is why the lab counts five seeds and no more, and why everything was
# chosen on other clips (`--split validation`) than those that the ledger asks.
#
# And the other way round: does it find what *is* there? In the arm *leak* the model is shown the patches that it has to predict.

# %%
leak = paired_differences(metric_of("leak", "reconstruction"), metric_of("full", "reconstruction"))
print(
    "found:",
    "yes" if difference(leak).found else "no",
    f"(the smallest of {len(leak)} differences: {min(leak):+.0f} points)",
)

# %% [markdown]
# ## 6. The ledger
#
# Now compare with your guesses.

# %%
for name, claim in ledger["claims"].items():
    print(f"{name:18}{claim['verdict']}")

# %% [markdown]
# All differences with their intervals. Filled marks decide a claim, hollow ones stand beside it.

# %%
forest(ledger["claims"])

# %% [markdown]
# **Explore:** choose a difference, take seeds away, forget the pairs. **Find:**
#
# 1. a claim that holds with five seeds and would have been undecided with three;
# 2. a difference that only the pairs show: *holds* seed by seed, *undecided* as two heaps;
# 3. one that a single lucky seed would have decided the other way.

# %%
by_name = {name: {seed: row for seed, row in rows.items()} for name, rows in runs.items()}
verdict_explorer(claims_named([]), by_name, which=1)

# %% [markdown]
# <details><summary>What there is to find</summary>
#
# 1. Difference 1, *inter*, skill: with three or four seeds it is undecided, with five it holds, by a hair. So do both of *alone*.
# 2. The same one: its two heaps overlap, the pairs do not. What the two arms share (weights, clips, masks) is most of their spread.
# 3. Difference 0, *fusion*: its first seed alone says +1.2, and with five the mean is negative. Whoever ran it once would tell you that
#    fusion helps.
#
# </details>

# %% [markdown]
# ## 7. What to make of it
#
# **Seen here:** contrast makes retrieval possible, and raises what probes read; the whole method beats separate autoencoders in each sense;
# hiding nine tenths is too much.
#
# **Not seen here:** that fusion helps (a hidden patch is told by its own sense's neighbours in this world); that random masking does best
# (hiding whole moments is read better); that a second student is read better than the first. Each generation finds partners more surely,
# and forgets more of what only one sense tells.
#
# **Not decided:** the contrast within a modality, stage 2 as probes read it, bottlenecks, few labels, more clips. For *stage 2* look at
# two more numbers in [`docs/reproduction.md`](../docs/reproduction.md): its student finds partners far better than its teacher (R@5 32
# against 13 %), and the teacher trained for twice the steps, which costs as much as both, better still (47 %). Equal steps and equal
# compute are two questions.
#
# And keep the controls in mind: after 600 steps the raw features are still read as well as the model.
#
# The losses of three arms on held-out clips, to compare your own runs with:

# %%
loss_curves(runs, ("full", "joint reconstruction", "shuffled pairs"))

# %% [markdown]
# **What this cannot say.** The model has a million parameters and made 600 steps; the paper's has 200 million and saw two million clips for
# twenty epochs, and reports 53.3 mAP on AudioSet-2M and 67.1 % on VGGSound from sound and pictures together. A claim that does not hold
# here may hold there. What *is* shown is how a claim is tested, and which of them are large
# enough to be seen by anybody in an afternoon.
#
# ## 8. Your own claim
#
# A claim is a sentence that can fail. Say what it says, and *what would decide it*, before you run it. Here: a sound is short of tokens, so
# hide less of it. Change the two lines to whatever you like to know; every number of the config can be changed by its name.

# %%
mine = Arm("less sound hidden", (("objective.audio_ratio", 0.6),))  # relative to `tiny()`
claim = Claim(
    "less-sound",
    "Sound wants a lower masking ratio than pictures.",
    "O",
    "Hiding 60 % of the sound and 80 % of the pictures is read better from the sound than hiding "
    "80 % of both.",
    (minus("less sound hidden", "full", "skill_audio"),),
)
budget = replace(BUDGETS["quick"], seeds=2)  # ← "standard" and 5 seeds: half an hour on two cores

# %%
with tempfile.TemporaryDirectory() as folder:
    place = Place(Path(folder) / "rows", Path(folder) / "work", None)
    result = try_claim(claim, ARMS | {mine.name: mine}, budget, place, workers=2)
print(QUICK_LABEL)
print(
    "runs for each arm:",
    result.differences[0].found.seeds,
    " controls:",
    ", ".join(result.controls),
)
print("the rule gave a word:", "yes" if result.verdict != "not run" else "no")

# %% [markdown]
# Which word? `print(result.verdict)` tells. When this lesson was written it was *holds*: two seeds of a model too small to learn, after
# three steps, and chance. Do not tell anybody. What the quick run shows is that the experiment runs. To run it in earnest, set the
# budget, and a folder that stays in place of the temporary one: every finished run is a file, and a call after a break goes on.
# `split="test"` asks the ledger's clips; keep it for the end, after all choices.
#
# A claim for good, beside the others, goes into `mavil_edu/lab/claims.py`, with its arms. Then
#
# `mavil-edu reproduce less-sound --workers 2`
#
# says how long it will take, runs it, and writes ledger and page.

# %% [markdown]
# ## Questions
#
# Answer with a letter, for example `quiz("undecided", "a")`.

# %%
quiz("undecided")

# %%
quiz("until_it_holds")

# %%
quiz("equal_steps")

# %%
quiz("quick_run")

# %% [markdown]
# ## What to remember
#
# - One run is an anecdote. Compare seed by seed, with an interval, and let a rule say the word that was fixed before.
# - *Undecided* is an answer. «Does not hold» needs an interval, too.
# - Say what is held equal: steps, or compute. And show the controls: untrained, raw features, shuffled pairs.
# - A lab must be tested itself: it stays silent on equal recipes, and finds what was planted.
# - The number of seeds is part of the rule. Whoever looks until it holds will find something.
#
# **Next:** `99_your_own_clips`: files of your own.
