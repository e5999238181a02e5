# %% [markdown]
# # What does each term add?
#
# **The question:** reconstruction on one side, contrast on the other. MAViL adds them up. What does a model know that learns by both, and
# what would it lack with one of them alone?
#
# **You will be able to** write the whole of stage 1 in one line and train on it, read its curves beside what needs no learning, build
# probes that ask an embedding for a cause, and say which term keeps what: the causes that both senses share, and those that only one has.
#
# **Budget:** 2 minutes of computing on two CPU cores, 1.2 GB of memory, no network, no GPU. Reading and exercises: 90 minutes.
# **Opens:** [`mavil.py`](../mavil_edu/mavil.py), [`probes.py`](../mavil_edu/probes.py), [`evaluate.py`](../mavil_edu/evaluate.py),
# [`explorers/probe.py`](../mavil_edu/explorers/probe.py), [`explorers/retrieval.py`](../mavil_edu/explorers/retrieval.py).
# **Paper:** MAViL, [arXiv 2212.08071](https://arxiv.org/abs/2212.08071), section 3.
#
# Before each cell that computes, guess what it will show. Then run it (Shift + Enter).

# %%
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mavil_edu import MAViL, diagrams, evaluate, figures, losses, masking, retrieval
from mavil_edu.config import AugmentConfig, small, tiny
from mavil_edu.data.batch import collate, to_inputs
from mavil_edu.data.world import World
from mavil_edu.display import player

# %%
from mavil_edu.exercises import check, exercise, quiz
from mavil_edu.explorers.probe import probe_explorer
from mavil_edu.explorers.retrieval import retrieval_explorer
from mavil_edu.mavil import Masks, Targets, losses_of
from mavil_edu.optimiser import learning_rate, make_optimiser
from mavil_edu.patches import patchify, unpatchify
from mavil_edu.probes import raw_features

# %% [markdown]
# ## 1. One batch, two views, three terms
#
# The world again: each clip has causes that we know. Some are *shared*, seen and heard alike: the material, the size, when it strikes.
# Some are *seen only*: the background, the place. Some are *heard only*: the background's noise, the room. The model is told none of
# them.

# %%
shape = tiny().model
no_change = AugmentConfig(roll=False, magnitude=False, crop=(1.0, 1.0), flip=False)
# ↓ the size of this lesson's model: on a CPU one block
preset, depth = (small, 6) if torch.cuda.is_available() else (tiny, 1)
learner = replace(
    shape, encoder=replace(preset().model.encoder, depth=depth), predict_statistics=False
)
one = World(1, 9, shape, no_change, quiet=True)
example = one.sample(0, None)
print(
    {
        name: values[0]
        for name, values in one.labels.items()
        if name in ("material", "size", "event", "background", "ambience", "room")
    }
)

# %%
player(example.waveform * (0.5 / example.waveform.abs().max()), "A clip's sound, made louder")

# %%
figures.frame_panels({"its pictures": example.frames}, 2.56)


# %%
def make(clips: int, seed: int) -> tuple[dict[str, Tensor], dict[str, list], dict[str, Tensor]]:
    """Generated clips as patches, (clips, tokens, values) for each modality; their causes;
    and features that need no model.
    """
    patches = {
        side: torch.empty(clips, 64, getattr(shape, side).patch_values, dtype=torch.half)
        for side in ("audio", "video")
    }
    causes, plain = {}, {"audio": [], "video": []}
    for few in torch.arange(clips).split(16):  # little by little, for memory's sake
        world = World(len(few), 10_000 * seed + int(few[0]), shape, no_change, quiet=True)
        batch = collate([world.sample(clip, None) for clip in range(len(few))])
        inputs, raw = to_inputs(batch, shape), raw_features(batch, shape)
        for side, values in patches.items():
            values[few] = patchify(getattr(inputs, side), getattr(shape, side)).half()
            plain[side].append(raw[side])
        causes = {name: causes.get(name, []) + world.labels[name] for name in world.labels}
    return patches, causes, {side: torch.cat(parts) for side, parts in plain.items()}


# %%
# ↓ the budget of this lesson
device, steps, clips = ("cuda", 3000, 8192) if torch.cuda.is_available() else ("cpu", 320, 768)
practice, practice_causes, practice_plain = make(clips, seed=1)
held, held_causes, held_plain = make(256, seed=2)
print(
    {side: tuple(values.shape) for side, values in held.items()},
    "patches of clips that no training sees",
)

# %% [markdown]
# Each clip is seen twice, under two random masks. The **first view** hides 80 %: it is encoded, fused, and decoded. The **second view**
# is only encoded; contrast needs it. (It hides half; in the paper both views hide as much. Why we differ is in docs/small-scale.md.)


# %%
def masks(rows: int, ratio: float, generator: torch.Generator) -> dict[str, Tensor]:
    return {side: masking.random_mask(rows, 64, ratio, generator) for side in ("audio", "video")}


# %%
views = [masks(1, ratio, torch.Generator().manual_seed(3)) for ratio in (0.8, 0.5)]
audio_views, video_views = (
    {ratio: view[side][0] for ratio, view in zip((0.8, 0.5), views, strict=True)}
    for side in ("audio", "video")
)
spectrogram = to_inputs(collate([example]), shape).audio[0, 0]
grids = shape.audio.grid, shape.video.grid
figures.masking(
    spectrogram, example.frames, {"random": audio_views}, {"random": video_views}, *grids, 2.56
)


# %%
def encode(model: MAViL, patches: dict[str, Tensor], hidden: dict[str, Tensor]) -> dict:
    """The visible patches of each modality as tokens, each modality by itself."""
    return {
        side: getattr(model, f"{side}_encoder")(patches[side], hidden[side]) for side in patches
    }


def reconstruction(
    model: MAViL, view: dict, patches: dict[str, Tensor], hidden: dict[str, Tensor]
) -> dict[str, Tensor]:
    """L_raw by modality: fused, filled up with mask tokens, decoded;
    the error on what was hidden, in normalised patches.
    """
    fused = dict(zip(view, model.fusion(view["audio"], view["video"]), strict=True))
    found = {}
    for side in view:
        predicted = getattr(model, f"{side}_decoder")(fused[side], hidden[side])
        found[side] = losses.masked_mse(
            predicted, losses.normalise_patches(patches[side]), hidden[side]
        )
    return found


# %%
def contrast(model: MAViL, first: dict, second: dict) -> tuple[Tensor, Tensor]:
    """L_inter and L_intra, from the mean of the *unimodal* tokens:
    fused ones would have seen their partner already.
    """
    a, v, a_again, v_again = (
        getattr(model, f"{side}_head")(view[side].pool())
        for view in (first, second)
        for side in view
    )
    inter = (losses.inter_modal(a, v, 0.1) + losses.inter_modal(a_again, v_again, 0.1)) / 2
    return inter, losses.intra_modal(a, a_again, v, v_again, 1.0)


# %% [markdown]
# EXERCISE objective
#
# SOLUTION objective


# %%
@exercise("objective")
def objective(raw: Tensor, inter: Tensor, intra: Tensor, alpha: float, beta: float) -> Tensor:
    raise NotImplementedError


check("objective")

# %% [markdown]
# And here it is, **the whole of stage 1**. α = 0.05 and β = 0.01 are those of the `tiny` preset; the paper has α = 0.1.


# %%
def stage_one(model: MAViL, patches: dict, hidden: dict, hidden_again: dict) -> Tensor:
    first, second = encode(model, patches, hidden), encode(model, patches, hidden_again)
    raw = sum(reconstruction(model, first, patches, hidden).values())
    inter, intra = contrast(model, first, second)
    return objective(raw, inter, intra, 0.05, 0.01)  # ← MAViL


# %% [markdown]
# Does the library compute the same, and the same gradient?


# %%
torch.manual_seed(0)
model, generator = MAViL(learner), torch.Generator().manual_seed(0)
some = {side: values[:16].float() for side, values in held.items()}
hidden, hidden_again = masks(16, 0.8, generator), masks(16, 0.5, generator)
by_hand = stage_one(model, some, hidden, hidden_again)

# %%
whole_clips = [unpatchify(some[side], getattr(shape, side)) for side in ("audio", "video")]
output = model(*whole_clips, Masks(**hidden), Masks(**hidden_again))
targets = Targets(*(losses.normalise_patches(some[side]) for side in ("audio", "video")))
by_library = losses_of(output, targets, hidden["audio"], hidden["video"], tiny().objective).total
gradients = [
    torch.autograd.grad(loss, model.audio_encoder.parameters()) for loss in (by_hand, by_library)
]
assert torch.allclose(by_hand, by_library, atol=1e-5)
assert all(torch.allclose(x, y, atol=1e-5) for x, y in zip(*gradients, strict=True))
print("equal, and so are the gradients")

# %% [markdown]
# ## 2. Train it, and two that lack something
#
# Three models of the same size begin with the same weights, and see the same clips under the same masks, for the same number of steps:
#
# - **all of it**: the line above;
# - **no contrast**: L_raw alone, a masked autoencoder of both senses;
# - **no reconstruction**: α L_inter + β L_intra alone.
#
# **Guess:** which of them finds the picture of a sound? Which knows the background of the pictures?


# %%
def no_contrast(model: MAViL, patches: dict, hidden: dict, hidden_again: dict) -> Tensor:
    return sum(reconstruction(model, encode(model, patches, hidden), patches, hidden).values())


def no_reconstruction(model: MAViL, patches: dict, hidden: dict, hidden_again: dict) -> Tensor:
    first, second = encode(model, patches, hidden), encode(model, patches, hidden_again)
    return objective(torch.tensor(0.0), *contrast(model, first, second), 0.05, 0.01)


# %% [markdown]
# Beside each curve its trivial answer: for the pictures and the sounds the best of three that need no learning (the mean patch of each
# place, a copy of the nearest visible patch, both together), for InfoNCE log B.

# %%
asked, trivial = masks(256, 0.8, torch.Generator().manual_seed(7)), {}
for side in held:
    grid, some = getattr(shape, side).grid, practice[side][:256].split(32)
    mean = sum(losses.normalise_patches(few.float()).mean(dim=0) for few in some) / len(some)
    answers = []
    for few in torch.arange(256).split(32):
        target = losses.normalise_patches(held[side][few].float())
        answers.append(
            losses.trivial_answers(target, asked[side][few], asked[side][few], grid, mean)
        )
    trivial[side] = min(sum(one[name] for one in answers) / 8 for name in answers[0])


# %%
nothing = {"audio": None, "video": None}  # is hidden


# %%
@torch.no_grad()
def look(model: MAViL) -> dict[str, float]:
    """On held-out clips: the error of each reconstruction as a share of the best trivial answer's,
    InfoNCE among 64, R@5 among 256.
    """
    model.cpu().eval()
    errors, pairs = {side: 0.0 for side in held}, []
    for few in torch.arange(256).split(64):
        patches, hidden = (
            {side: values[few] for side, values in of.items()} for of in (held, asked)
        )
        patches = {side: values.float() for side, values in patches.items()}
        view = encode(model, patches, hidden)
        for side, error in reconstruction(model, view, patches, hidden).items():
            errors[side] += float(error) / trivial[side] / 4
        complete = encode(model, patches, nothing).items()
        pairs.append([getattr(model, f"{side}_head")(tokens.pool()) for side, tokens in complete])
    inter = sum(float(losses.inter_modal(a, v, 0.1)) for a, v in pairs) / 4
    found = retrieval.retrieval(*map(torch.cat, zip(*pairs, strict=True)))
    return errors | {"inter": inter, "R@5": found["audio_to_video"]["r5"]}


# %%
def step_on(model, optimiser, loss: Tensor, rate: float) -> None:
    optimiser.param_groups[0]["lr"] = optimiser.param_groups[-1]["lr"] = rate
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0)
    optimiser.step()
    optimiser.zero_grad()


# %%
def train(loss_of) -> tuple[MAViL, dict[int, dict[str, float]]]:
    torch.manual_seed(0)
    model, plan = MAViL(learner), replace(preset().train, steps=steps)
    optimiser, generator = make_optimiser(model, plan), torch.Generator().manual_seed(0)
    course = {0: look(model)}
    for step in range(steps):
        chosen = torch.randint(clips, (32,), generator=generator)  # ← B = 32
        patches = {side: values[chosen].float().to(device) for side, values in practice.items()}
        views = [
            {side: mask.to(device) for side, mask in masks(32, ratio, generator).items()}
            for ratio in (0.8, 0.5)
        ]
        model.to(device).train()
        step_on(model, optimiser, loss_of(model, patches, *views), learning_rate(step, plan))
        if (step + 1) % (steps // 4) == 0:
            course[step + 1] = look(model)
    return model.cpu().eval(), course


# %%
everything, course = train(stage_one)

# %%
without_contrast, mae_course = train(no_contrast)

# %%
without_reconstruction, contrast_course = train(no_reconstruction)

# %%
places = torch.tensor(list(course))
curves = {
    f"{side}, {title}": (places, torch.tensor([seen[side] for seen in looks.values()]))
    for title, looks in {"all of it": course, "no contrast": mae_course}.items()
    for side in held
} | {"best trivial answer": (places, torch.ones(len(places)))}
beaten = all(looks[steps][side] < 0.97 for looks in (course, mae_course) for side in held)
sentence = (
    "At the end both models beat the best trivial answer in both senses: "
    f"{'yes' if beaten else 'no'}."
)
replace(diagrams.lines(curves, "step", "error / trivial error"), sentence=sentence)

# %%
log_b = losses.log_b(64)
titles = {"all of it": course, "no reconstruction": contrast_course}
curves = {
    title: (places, torch.tensor([seen["inter"] for seen in looks.values()]))
    for title, looks in titles.items()
}
curves["knowing nothing, log 64"] = (places, torch.full((len(places),), log_b))
learnt = all(looks[steps]["inter"] < 0.9 * log_b for looks in titles.values())
sentence = (
    f"InfoNCE on held-out clips ends a tenth below log B in both: {'yes' if learnt else 'no'}."
)
replace(diagrams.lines(curves, "step", "InfoNCE among 64"), sentence=sentence)

# %% [markdown]
# And the tables of the first 32 held-out sounds against their pictures, the brighter the more alike. On the diagonal: the pairs.


# %%
@torch.no_grad()
def table_of(model: MAViL) -> Tensor:
    """Cosines of 32 held-out sounds, complete, with 32 films."""
    tokens = encode(model, {side: values[:32].float() for side, values in held.items()}, nothing)
    return retrieval.similarities(
        *(getattr(model, f"{side}_head")(tokens[side].pool()) for side in tokens)
    )


tables = {
    title: table_of(one)
    for title, one in (("all of it", everything), ("no contrast", without_contrast))
}
five = {title: retrieval.recall_at(table, 5) for title, table in tables.items()}
clear = (
    "more than 40 % have their own film among the five they like best (chance: 16 %): "
    f"{'yes' if five['all of it'] > 0.4 else 'no'}."
)
replace(figures.similarity(tables["all of it"]), sentence=f"Trained by all of it: {clear}")

# %%
clear = (
    "more than 40 % have their own film among the five they like best: "
    f"{'yes' if five['no contrast'] > 0.4 else 'no'}."
)
replace(figures.similarity(tables["no contrast"]), sentence=f"Trained without contrast: {clear}")

# %% [markdown]
# Both halves are learnt at once; contrast a little more slowly than alone. Three hundred steps are few: what long training gives stands
# in section 5.
#
# ## 3. Ask for a cause
#
# A falling loss does not say *what* is known. We ask: can the material be read from the embedding of the sound? The background from the
# embedding of the pictures? The asker must be simple, or it would learn by itself what the embedding does not hold. Two simple ones:
#
# **The nearest neighbour:** say of a clip what is so of the most similar one.

# %% [markdown]
# EXERCISE nearest_label
#
# SOLUTION nearest_label


# %%
@exercise("nearest_label")
def nearest_label(train: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
    raise NotImplementedError


check("nearest_label")

# %% [markdown]
# **The linear probe:** a weighted sum of the embedding's numbers, its weights fitted on some clips and tried on others. With a penalty on
# large weights there is a closed answer, *ridge regression*.

# %% [markdown]
# EXERCISE ridge_probe
#
# SOLUTION ridge_probe


# %%
@exercise("ridge_probe")
def ridge_probe(x: Tensor, y: Tensor, asked: Tensor, penalty: float) -> Tensor:
    raise NotImplementedError


check("ridge_probe")

# %% [markdown]
# For a class, y is 1 where a clip is of the class and 0 where not, and the largest answer wins; its measure is the share of right
# answers, its trivial answer the commonest class. For a quantity the measure is R²:

# %% [markdown]
# EXERCISE r_squared
#
# SOLUTION r_squared


# %%
@exercise("r_squared")
def r_squared(said: Tensor, truth: Tensor) -> Tensor:
    raise NotImplementedError


check("r_squared")

# %% [markdown]
# Now the causes. The probes are fitted on 512 clips, with labels that the training never saw, and asked about the 256 held-out ones.
# Beside the three models stand an **untrained** one, and **raw features** that need no model: the mean spectrum, and a thumbnail of 8 ×
# 8.

# %%
fitted = 512


@torch.no_grad()
def embed(model: MAViL) -> dict[str, Tensor]:
    """The mean token of complete clips, (512 + 256, d) for each sense:
    those that fit the probe, then those that are asked about.
    """
    found = {}
    for side in held:
        some = [*practice[side][:fitted].split(32), *held[side].split(32)]
        found[side] = torch.cat(
            [getattr(model, f"{side}_encoder")(few.float(), None).pool() for few in some]
        )
    return found


# %%
torch.manual_seed(0)
models = {
    "all of it": everything,
    "no contrast": without_contrast,
    "no reconstruction": without_reconstruction,
}
models["untrained"] = MAViL(learner)
embeddings = {title: embed(one) for title, one in models.items()}
embeddings["raw features"] = {
    side: torch.cat([practice_plain[side][:fitted], held_plain[side]]) for side in held
}
causes = {name: practice_causes[name][:fitted] + held_causes[name] for name in held_causes}
practice.clear()  # memory


# %%
def score(x: Tensor, values: list) -> float:
    """Accuracy of a class, or R² of a quantity, read by the linear probe."""
    x = (x - x[:fitted].mean(dim=0)) / x[:fitted].std(dim=0).clamp(min=1e-6)
    if isinstance(values[0], str):
        names = sorted(set(values))
        labels = torch.tensor([names.index(value) for value in values])
        said = ridge_probe(
            x[:fitted], torch.nn.functional.one_hot(labels[:fitted]).float(), x[fitted:], 100.0
        ).argmax(dim=1)
        return float((said == labels[fitted:]).float().mean())
    truth = torch.tensor(values)
    return float(
        r_squared(
            ridge_probe(x[:fitted], truth[:fitted, None], x[fitted:], 100.0)[:, 0], truth[fitted:]
        )
    )


# %%
questions = {
    "shared: size, from the sound": ("size", "audio"),
    "shared: size, from the pictures": ("size", "video"),
    "seen only: background": ("background", "video"),
    "heard only: ambience": ("ambience", "audio"),
}
table = {}
for title, (cause, side) in questions.items():
    table[title] = {name: score(parts[side], causes[cause]) for name, parts in embeddings.items()}

with_contrast, alone = table["shared: size, from the pictures"], table["seen only: background"]
print(
    "size: contrast adds 0.1 of R² or more:",
    "yes" if with_contrast["all of it"] > with_contrast["no contrast"] + 0.1 else "no",
)
print(
    "background: without reconstruction less than untrained:",
    "yes" if alone["no reconstruction"] < alone["untrained"] else "no",
)
print(
    "background: reconstruction alone keeps most of it:",
    "yes" if alone["no contrast"] == max(alone.values()) else "no",
)

# %% [markdown]
# **What both tell, contrast writes into each.** A sound tells how large the object is, by its pitch. To find its sound among strangers,
# the picture must tell it, too; reconstruction alone hardly asks for it.
#
# **What one of them tells alone, contrast wipes out.** No sound goes with stripes rather than dots; so to contrast, the background is
# noise, and it learns to overlook it until less is left than in a network that was never trained. Reconstruction must draw the stripes,
# and keeps them. That is why MAViL adds both.

# %%
quiz("seen_only")

# %% [markdown]
# The same with all causes, as an explorer: choose a cause and a sense. The bars are the five representations, each with its standard
# error; at the right, what the first one's probe says of each of the 256 clips. **Try:** `material`, `size`, `place`, `background`,
# `ambience`, `room`. Which can be read from both senses? Which from one alone? Which from none?

# %% tags=["nbval-ignore-output"]
# not compared: the last digit of what models trained here reach differs from machine to machine
shown = ("material", "size", "beat", "background", "place", "ambience", "room")
probe_explorer(embeddings, {name: causes[name] for name in shown}, fitted, "size")

# %% [markdown]
# *Material* is a warning: raw features read it nearly as well, for a bell's mean spectrum is no stone's. A high number alone says
# nothing. And the nearest neighbour, does it say the same as the linear probe?

# %%
names = sorted(set(causes["material"]))
labels, said = torch.tensor([names.index(value) for value in causes["material"]]), {}
for title in ("all of it", "raw features"):
    x = embeddings[title]["audio"] - embeddings[title]["audio"][:fitted].mean(dim=0)
    said[title] = float(
        (nearest_label(x[:fitted], labels[:fitted], x[fitted:]) == labels[fitted:]).float().mean()
    )
print("material by the nearest sound, in two thirds of the clips or more (chance: a sixth):")
print(", ".join(f"{title}: {'yes' if share > 2 / 3 else 'no'}" for title, share in said.items()))

# %% [markdown]
# ## 4. Pick a sound
#
# Now the model that comes with the package: three blocks deep, 3,000 steps of the same objective. Pick a sound, and see which of 128
# films it finds; or pick a film, and hear the sounds. Play the answers, also the wrong ones. **Guess first:** when it errs, what will
# the wrong film have in common with the right one?

# %%
shipped = MAViL.from_pretrained("tiny")
gallery = World(128, 5, shape, no_change, quiet=True)
parts = [
    collate([gallery.sample(clip, None) for clip in few.tolist()])
    for few in torch.arange(128).split(16)
]
with torch.inference_mode():
    # each from one sense alone
    a, v = (
        torch.cat(few)
        for few in zip(*(evaluate.embed(shipped, part) for part in parts), strict=True)
    )
sounds, films = (
    torch.cat([getattr(part, name) for part in parts]) for name in ("waveform", "frames")
)
retrieval_explorer(a, v, sounds, films, shape.video.frame_rate, clip=4)

# %% [markdown]
# One clip is an anecdote. How is it over all of them? For each sound: at which place stands its own film?

# %% [markdown]
# EXERCISE rank_of_partner
#
# SOLUTION rank_of_partner


# %%
@exercise("rank_of_partner")
def rank_of_partner(similarity: Tensor) -> Tensor:
    raise NotImplementedError


check("rank_of_partner")

# %%
ranks = rank_of_partner(retrieval.similarities(a, v)).float()
stranger = rank_of_partner(retrieval.similarities(a.roll(1, 0), v)).float()
print(
    "median place of the own film among 128, five or better:",
    "yes" if ranks.median() <= 5 else "no",
)
print(
    "control, each sound asking for the film of the clip before, in the middle (40 to 90):",
    "yes" if 40 <= stranger.median() <= 90 else "no",
)

# %%
found = retrieval.similarities(a, v).argmax(dim=1)
wrong = found != torch.arange(128)
others = [(i, j) for i in range(128) for j in range(128) if i != j]
for cause in ("material", "event", "background", "ambience"):
    of = gallery.labels[cause]
    share = sum(of[i] == of[int(j)] for i, j in enumerate(found) if wrong[i]) / int(wrong.sum())
    chance = sum(of[i] == of[j] for i, j in others) / len(others)
    print(
        f"{cause:10} of a wrong film is that of the right one, half as often again as by chance: "
        f"{'yes' if share > 1.5 * chance else 'no'}"
    )

# %% [markdown]
# Its errors keep what both senses share and mix up all the rest: what one sense knows alone cannot help to find.
#
# ## 5. For longer, and with three seeds
#
# Three hundred steps with one seed prove little. The table below was measured once, with three seeds, 3,000 steps each, and 500 held-out
# clips; the command that makes it again takes some hours: `python scripts/small_scale.py`. Each number is the mean over seeds ± their
# standard deviation.

# %%
results = json.loads(Path("../docs/small-scale.json").read_text(encoding="utf-8"))["results"]
rows = {
    "R@5, sound to picture (chance 0.01)": lambda run: run["retrieval"]["audio_to_video"]["r5"],
    "shared: size from the pictures, R²": lambda run: run["probes"]["size from video"]["value"],
    "seen only: background, accuracy": lambda run: run["probes"]["background from video"]["value"],
    "seen only: place, R²": lambda run: run["probes"]["place from video"]["value"],
    "heard only: ambience, accuracy": lambda run: run["probes"]["ambience from audio"]["value"],
}

# %%
print(
    f"{'':36}"
    + "".join(f"{name:>16}" for name in ("full", "contrast alone", "shuffled pairs", "untrained"))
)
for title, value in rows.items():
    cells = []
    for name in ("full", "contrast alone", "shuffled pairs", "untrained"):
        seeds = (
            torch.tensor([value(run) for run in results[name]])
            if name != "untrained" or "R@5" not in title
            else torch.zeros(0)
        )
        cells.append(f"{seeds.mean():.2f} ± {seeds.std():.2f}" if len(seeds) > 1 else "")
    print(f"{title:36}" + "".join(f"{cell:>16}" for cell in cells))

# %% [markdown]
# Read it slowly; it holds more than the headline.
#
# - **Full** against **contrast alone**: both find partners equally often. Reconstruction brings back the background, which
#   contrast wipes out, and adds the place, which neither contrast nor random weights hold.
# - **Shuffled pairs**: sounds with the pictures of *other* clips. They find nothing, as they must. Yet they keep the background as well
#   as the full model, and *ambience* even better: there is no partner for whose sake to forget it.
# - **Untrained**: nine of ten backgrounds are read from random weights. A high number proves little, a low one much.
# - In the paper, contrast *helps* classification. Here it helps with what both senses tell (the size from the pictures, beside shuffled
#   pairs; lesson 11: 2.7 points over all causes, five seeds) and costs some of what one tells alone: *ambience* is read worse than from
#   random weights. Three seeds, one data set: so far and no farther.

# %%
quiz("reads_well")

# %%
quiz("more_contrast")

# %% [markdown]
# ## Neighbours
#
# MAViL stands among methods that do one or two of its three things (as we recall them; each has its paper):
#
# | method | sees or hears | hides | learns to | sound and picture meet |
# |---|---|---|---|---|
# | MAE | single pictures | 75 % | fill in | – |
# | VideoMAE, MAE for video | films | 90 % | fill in | – |
# | Audio-MAE | spectrograms | 80 % | fill in | – |
# | CLIP | pictures and texts | nothing | match the pairs | in the contrast alone |
# | data2vec | sound, pictures or text, one at a time | about half | predict a teacher's tokens | – |
# | CAV-MAE | spectrograms and single frames | 75 % | fill in and match | one joint layer |
# | **MAViL** | spectrograms and films | 80 % | fill in and match, also two views of one sense; then predict a teacher's tokens | two joint layers |
#
# One thing is left out of all lessons so far: **augmentation**. `no_change` turns it off, so that what is seen is the clip that was made. The
# paper's recipe rolls the sound in time, changes how loud it is, crops the picture and mirrors it, anew at each meeting. Rolled alone, a
# sound no longer strikes when its picture does: a pair by kind, and not by time. For short clips that are told apart by their rhythm
# `tiny` therefore leaves the roll out.
#
# ## What to remember
#
# - Stage 1 is one line: L = L_raw + α L_inter + β L_intra. Two views, one of them decoded.
# - InfoNCE reads *unimodal* tokens; the decoders read *fused* ones.
# - Contrast between the senses keeps what both tell, and may wipe out what one tells alone. Reconstruction kept the background and the
#   place here, and not the ambience.
# - A probe's number means something only beside raw features, an untrained network, and a control.
# - Errors of retrieval tell what is shared: look at them.
#
# **Next:** `08_self_training`: the model becomes the teacher of the next one.
