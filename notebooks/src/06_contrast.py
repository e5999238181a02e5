# %% [markdown]
# # Which sound belongs to which picture?
#
# **The question:** a hundred sounds and a hundred pictures, shuffled. Nobody says what is in them. How does a model learn which belong
# together, and what does it learn on the way?
#
# **You will be able to** write InfoNCE by hand, say what its number means beside log B, choose a temperature knowingly, train two encoders
# until sounds find their pictures, make them collapse on purpose and see it, and say what negatives, masks and large batches do.
#
# **Budget:** 2 minutes of computing on two CPU cores, 1.2 GB of memory, no network, no GPU. Reading and exercises: 90 minutes.
# **Opens:** [`losses.py`](../mavil_edu/losses.py), [`retrieval.py`](../mavil_edu/retrieval.py),
# [`explorers/contrast.py`](../mavil_edu/explorers/contrast.py).
# **Paper:** MAViL, [arXiv 2212.08071](https://arxiv.org/abs/2212.08071), section 3; InfoNCE: van den Oord et al. 2018.
#
# Before each cell that computes, guess what it will show. Then run it (Shift + Enter).

# %%
import math
from dataclasses import replace

import torch
from torch import Tensor

from mavil_edu import MAViL, diagrams, figures, losses, masking, retrieval
from mavil_edu.config import AugmentConfig, small, tiny
from mavil_edu.data.batch import collate, to_inputs
from mavil_edu.data.world import World
from mavil_edu.display import player
from mavil_edu.exercises import check, exercise, quiz
from mavil_edu.explorers.contrast import contrast_explorer
from mavil_edu.patches import patchify

# %% [markdown]
# ## 1. Two vectors a clip
#
# 128 generated clips that the shipped model never saw. Each encoder turns its half of a clip into tokens; their mean goes through a small
# network, the *projection head*. So a clip becomes two vectors of 96 numbers: one made of the sound alone, one of the pictures alone.

# %%
config = tiny().model
no_change = AugmentConfig(roll=False, magnitude=False, crop=(1.0, 1.0), flip=False)
held_out = World(128, 2, config, no_change, quiet=True)
parts = (
    to_inputs(collate([held_out.sample(clip, None) for clip in few]), config)
    for few in torch.arange(128).view(4, 32).tolist()
)
heard, seen = (
    torch.cat(side) for side in zip(*((part.audio, part.video) for part in parts), strict=True)
)
# (b, n, values)
held = {"audio": patchify(heard, config.audio), "video": patchify(seen, config.video)}
del heard, seen  # memory


def project(model: MAViL, side: str, patches: Tensor, mask: Tensor | None = None) -> Tensor:
    """One modality's patches, some of them hidden, to one vector a clip:
    (b, n, values) -> (b, d).
    """
    tokens = getattr(model, f"{side}_encoder")(patches, mask).patch_tokens
    return getattr(model, f"{side}_head")(tokens.mean(dim=1))


# %%
shipped = MAViL.from_pretrained("tiny")  # comes with the package
with torch.no_grad():
    a, v = (project(shipped, side, held[side]) for side in ("audio", "video"))
print("sounds", tuple(a.shape), "  pictures", tuple(v.shape))

# %% [markdown]
# Listen to one. What is it made of, is it large or small, does it bounce or is it struck, and when?

# %%
sound = held_out.sample(9, None).waveform
loud = 0.5 * sound / sound.abs().max()
player(loud, "The sound of clip 9, made louder")

# %% [markdown]
# If you had to choose its picture among 128, you would look for one that has all of that. The model compares directions: the cosine of
# the angle between two vectors, 1 where they point the same way, 0 where they have nothing to do with each other.

# %% [markdown]
# EXERCISE cosine_similarities
#
# SOLUTION cosine_similarities


# %%
@exercise("cosine_similarities")
def cosine_similarities(x: Tensor, y: Tensor) -> Tensor:
    raise NotImplementedError


check("cosine_similarities")

# %% [markdown]
# All sounds against all pictures. Row: a sound. Column: a picture. On the diagonal: the pairs. **Guess:** what should be seen, and what
# would a model show that knows nothing?

# %%
figures.similarity(cosine_similarities(a[:32], v[:32]))

# %%
torch.manual_seed(0)
fresh = MAViL(config)
with torch.no_grad():
    nothing = cosine_similarities(
        *(project(fresh, side, held[side][:32]) for side in ("audio", "video"))
    )
figures.similarity(nothing)

# %% [markdown]
# ## 2. InfoNCE
#
# How good is such a table, in one number that can be trained on? Read each row as a question with 128 choices: *which picture belongs to
# this sound?* A softmax turns the row into probabilities. The loss is −log of what the right one gets, as in any classification; only
# that the "classes" are the clips of this very batch, and nobody had to label them.
#
# Cosines lie between −1 and 1, much too close together for a softmax. So they are divided by a **temperature** τ first; MAViL takes 0.1.

# %% [markdown]
# EXERCISE info_nce
#
# SOLUTION info_nce


# %%
@exercise("info_nce")
def info_nce(x: Tensor, y: Tensor, temperature: float) -> Tensor:
    raise NotImplementedError


check("info_nce")

# %% [markdown]
# The same as the library's, and its gradient too?

# %%
by_hand, by_library = a.clone().requires_grad_(), a.clone().requires_grad_()
info_nce(by_hand, v, 0.1).backward()
losses.info_nce(by_library, v, 0.1).backward()
assert torch.allclose(info_nce(a, v, 0.1), losses.info_nce(a, v, 0.1), atol=1e-5)
assert torch.allclose(by_hand.grad, by_library.grad, atol=1e-6)
print("equal, and so are the gradients")

# %% [markdown]
# A sound asks for its picture, and a picture for its sound: rows and columns. MAViL's **inter-modal** loss is the mean of both.

# %%
both = (info_nce(a, v, 0.1) + info_nce(v, a, 0.1)) / 2
assert torch.allclose(both, losses.inter_modal(a, v, 0.1), atol=1e-5)
print("L_inter = ½ [L_c(a, v) + L_c(v, a)]")

# %% [markdown]
# Is the number it gives good? A loss says nothing by itself. **Guess:** what is the loss of a model that knows nothing?

# %% [markdown]
# EXERCISE loss_of_knowing_nothing
#
# SOLUTION loss_of_knowing_nothing


# %%
@exercise("loss_of_knowing_nothing")
def loss_of_knowing_nothing(clips: int) -> float:
    raise NotImplementedError


check("loss_of_knowing_nothing")

# %%
floor = loss_of_knowing_nothing(128)
with torch.no_grad():
    untrained = losses.inter_modal(
        *(project(fresh, side, held[side]) for side in ("audio", "video")), 0.1
    )
print(f"knowing nothing, log 128 = {floor:.2f}")
print("fresh weights, within 0.5 of it:", "yes" if abs(untrained - floor) < 0.5 else "no")
print("the shipped model, less than half of it:", "yes" if both < floor / 2 else "no")

# %% [markdown]
# This is the bar beside every contrastive loss in this course: **log B**, with B the number of clips in the batch. A loss above it is
# worse than knowing nothing: sure of itself, and wrong.
#
# ## 3. The temperature
#
# Choose a sound, hear it, and turn the temperature. The table shows the softmax of each row; at the right are the pictures that the chosen
# sound likes best. **Guess first:** which of these change with the temperature: who is liked best, how sure the model is, the loss?

# %%
some = collate([held_out.sample(clip, None) for clip in range(32)])
contrast_explorer(a[:32], v[:32], some.waveform, some.frames[:, 4], clip=9)

# %% [markdown]
# Who is first never changes: dividing by a positive number keeps the order. How *sure* the model is changes, and with it, whom the
# gradient cares about. Cold: only the partner and the nearest stranger. Hot: everybody a little, and the loss hardly differs from log B.

# %%
temperatures = torch.tensor([0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0])
course = torch.stack([losses.info_nce(a, v, float(t)) for t in temperatures])
curves = {
    "InfoNCE of the shipped model": (temperatures, course),
    "log B": (temperatures, torch.full((9,), floor)),
}
best = float(temperatures[course.argmin()])
sentence = (
    "Lowest near the temperature it was trained with, 0.1: "
    f"{'yes' if 0.02 <= best <= 0.2 else 'no'}; at 2, near log B."
)
replace(diagrams.lines(curves, "temperature", "InfoNCE", log="x"), sentence=sentence)

# %%
quiz("cold_softmax")

# %% [markdown]
# ## 4. Train it
#
# From fresh weights: two encoders of one block each, 1,536 clips, no labels. Half of the patches of each clip is hidden at random, as in
# MAViL, where contrast is learnt *under masking*: it saves half of the work, and a pair must be recognised by what happens to be left.
#
# Beside it runs a **control**: the same model, the same clips, but each sound with the picture of *another* clip. There is nothing to
# learn in it. Whatever the control reaches, the method reaches without knowing anything.

# %%
# ↓ the budget
device, steps, clips, preset = (
    ("cuda", 4000, 8192, small) if torch.cuda.is_available() else ("cpu", 800, 1536, tiny)
)
practice = {side: torch.empty(clips, *held[side].shape[1:], dtype=torch.half) for side in held}
for few in torch.arange(clips).split(32):  # little by little, for memory's sake
    world = World(32, 100 + int(few[0]), config, no_change, quiet=True)
    made = to_inputs(collate([world.sample(clip, None) for clip in range(32)]), config)
    practice["audio"][few] = patchify(made.audio, config.audio).half()
    practice["video"][few] = patchify(made.video, config.video).half()
one_block = replace(config, encoder=replace(preset().model.encoder, depth=1))


# %%
from mavil_edu.probes import embedding_std


def look(model: MAViL) -> dict[str, float]:
    """How well complete held-out sounds find their pictures, among 128."""
    with torch.inference_mode():
        a, v = (project(model.cpu().eval(), side, held[side]) for side in ("audio", "video"))
        found = retrieval.retrieval(a, v)["audio_to_video"]
    return {
        "loss": float(losses.inter_modal(a, v, 0.1)),
        "R@1": found["r1"],
        "R@5": found["r5"],
        "spread": embedding_std(a),
    }


def inter(a: Tensor, v: Tensor) -> Tensor:
    return (info_nce(a, v, 0.1) + info_nce(v, a, 0.1)) / 2  # ← the whole of contrast


# %%
def pair_of(model: MAViL, partner: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """32 sounds and their partners' pictures, half of each hidden, as vectors."""
    chosen = torch.randint(clips, (32,), generator=generator)  # ← B = 32
    hidden = [masking.random_mask(32, 64, 0.5, generator).to(device) for _ in range(2)]
    a = project(model, "audio", practice["audio"][chosen].float().to(device), hidden[0])
    return a, project(
        model, "video", practice["video"][partner[chosen]].float().to(device), hidden[1]
    )


def step_on(model, optimiser, loss: Tensor, rate: float) -> None:
    optimiser.param_groups[0]["lr"] = optimiser.param_groups[-1]["lr"] = rate
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0)
    optimiser.step()
    optimiser.zero_grad()


# %%
from mavil_edu.optimiser import learning_rate, make_optimiser


def train(loss_of, partner: Tensor, steps: int) -> tuple[MAViL, dict[int, dict[str, float]]]:
    torch.manual_seed(0)
    model, plan = MAViL(one_block), replace(preset().train, steps=steps)
    optimiser, generator = make_optimiser(model, plan), torch.Generator().manual_seed(0)
    course = {0: look(model)}
    for step in range(steps):
        model.to(device).train()
        loss = loss_of(*pair_of(model, partner, generator))
        step_on(model, optimiser, loss, learning_rate(step, plan))
        if (step + 1) % (steps // 8) == 0:
            course[step + 1] = look(model)
    return model, course


# %%
own = torch.arange(clips)
model, course = train(inter, own, steps)

# %%
_, shuffled = train(inter, own.roll(1), steps)

# %%
places = torch.tensor(list(course))
curves = {
    title: (places, torch.tensor([seen["loss"] for seen in looks.values()]))
    for title, looks in {"true pairs": course, "control: shuffled pairs": shuffled}.items()
}
curves["knowing nothing, log 128"] = (places, torch.full((len(places),), floor))
fell, stayed = course[steps]["loss"] < 0.75 * floor, shuffled[steps]["loss"] > 0.97 * floor
sentence = (
    "The held-out loss falls a quarter below log B: "
    f"{'yes' if fell else 'no'}. The control stays there: {'yes' if stayed else 'no'}."
)
replace(diagrams.lines(curves, "step", "InfoNCE, held-out clips"), sentence=sentence)

# %% [markdown]
# The control does not just stay at log B, it creeps above: with time it learns its 1,536 wrong pairs by heart, and grows sure of what is
# not so. A training loss would have called that progress.
#
# Now what it is good for. Among 128 pictures, how often is the own one the first, or among the first five?

# %%
for title, seen in {
    "true pairs": course[steps],
    "shuffled": shuffled[steps],
    "fresh weights": course[0],
}.items():
    error = math.sqrt(seen["R@5"] * (1 - seen["R@5"]) / 128)  # standard error, 128 questions
    far = (seen["R@5"] - 5 / 128) / max(error, 1e-9)
    print(
        f"{title:13}: R@5 beyond chance ({5 / 128:.1%}) by more than five standard errors: "
        f"{'yes' if far > 5 else 'no'}"
    )
print(
    "true pairs: R@1 above a tenth (chance 0.8 %):", "yes" if course[steps]["R@1"] > 0.1 else "no"
)

# %% [markdown]
# With three seeds this was R@1 27, 28 and 30 %, R@5 77, 78 and 78 %; the controls, R@5 3 to 5 %, stayed at chance. The shipped model, which
# also reconstructs, has three blocks and saw five times as many clips, finds about half of the pictures at once. What reconstruction
# adds is the question of `07_mavil_stage_one`.
#
# ## 5. Without strangers
#
# Why so complicated? We want the two vectors of a clip alike. So let us ask for just that: make 1 − cos as small as possible.
# **Guess:** what will the loss be after a hundred steps, and what will the model know?


# %%
def only_bring_together(a: Tensor, v: Tensor) -> Tensor:
    return 1 - torch.cosine_similarity(a, v, dim=-1).mean()


attracted, fall = train(only_bring_together, own, 96)
with torch.no_grad():
    a, v = (project(attracted, side, held[side]) for side in ("audio", "video"))
print("1 − cos, held out, below 0.01:", "yes" if only_bring_together(a, v) < 0.01 else "no")
print("R@5 beyond 10 % (chance 3.9 %):", "yes" if fall[96]["R@5"] > 0.1 else "no")

# %% [markdown]
# A perfect loss, and nothing learnt. See it: the table of all sounds against all pictures.

# %%
figures.similarity(cosine_similarities(a[:32], v[:32]), limits=(-1, 1))

# %% [markdown]
# Everything is like everything. The model has found the answer that fits all questions: one vector, always. This is **collapse**, and a
# falling loss does not show it. What shows it is to ask whether the embeddings still differ from clip to clip.

# %% [markdown]
# EXERCISE spread
#
# SOLUTION spread


# %%
@exercise("spread")
def spread(embeddings: Tensor) -> Tensor:
    raise NotImplementedError


check("spread")

# %%
for title, one in {
    "shipped": shipped,
    "true pairs": model,
    "only brought together": attracted,
}.items():
    with torch.no_grad():
        value = float(spread(project(one.cpu(), "audio", held["audio"])))
    print(
        f"{title:22}",
        "spread out (above 0.8)"
        if value > 0.8
        else "collapsed (below 0.1)"
        if value < 0.1
        else "between",
    )

# %% [markdown]
# InfoNCE cannot fall for it: with one vector for all, it is log B, exactly. The **negatives** in the sum below the fraction keep the
# embeddings apart. (It can *begin* there, and stay: with two and a half times this learning rate the same training lay at log B for 400
# steps, collapsed. A loss at log B is a call to look at the spread.)

# %%
same = torch.ones(128, 96)
print(
    "one vector for all: InfoNCE − log B =",
    round(float(losses.info_nce(same, same, 0.1)) - floor, 4),
)
quiz("why_negatives")

# %% [markdown]
# ## 6. Within one sense: two masks
#
# A sound's partner need not be its picture. Hide one random part of the *same sound* for one view, and another for the second: the two
# views should find each other. The same for pictures. That is MAViL's **intra-modal** contrast.

# %% [markdown]
# EXERCISE intra_modal
#
# SOLUTION intra_modal


# %%
@exercise("intra_modal")
def intra_modal(
    audio: Tensor, audio_again: Tensor, video: Tensor, video_again: Tensor, temperature: float
) -> Tensor:
    raise NotImplementedError


check("intra_modal")

# %% [markdown]
# Is that hard? Two views that hide 80 % each share, on average, 4 % of the patches (0.2 × 0.2). **Guess:** how often does a view of a
# sound find its other view among 128, when how much is hidden? And a picture?


# %%
def found(side: str, ratio: float) -> float:
    """R@1 of one masked view looking for the other view of the same clip, by the shipped model."""
    model, generator = shipped.eval(), torch.Generator().manual_seed(0)
    with torch.inference_mode():
        masks = [masking.random_mask(128, 64, ratio, generator) for _ in range(2)]
        views = [project(model, side, held[side], mask) for mask in masks]
    return retrieval.recall_at(retrieval.similarities(*views), 1)


ratios = torch.tensor([0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95])
curves = {}
for side in held:
    shares = torch.tensor([found(side, float(ratio)) for ratio in ratios])
    curves[f"{side}: a view finds its other view"] = (ratios, shares)
curves["chance"] = (ratios, torch.full((7,), 1 / 128))
easy = all(values[2] > 0.5 for title, (_, values) in curves.items() if title != "chance")
sentence = (
    "With half of the patches hidden, most views find their other view in both senses: "
    f"{'yes' if easy else 'no'}."
)
replace(diagrams.lines(curves, "share of hidden patches", "R@1 among 128"), sentence=sentence)

# %% [markdown]
# To recognise a sound in another part of itself, anything will do that lasts: the hum of the room as well as the ball of glass. Inter-modal
# contrast can only use what *both* senses tell; intra-modal contrast can also use what one of them knows alone, though at MAViL's small
# weight it does not save it (lesson 07). MAViL adds both to its
# reconstruction, L = L_raw + α L_inter + β L_intra, with α = 0.1 and β = 0.01, and a temperature of 1 within modalities: a soft, small
# term.

# %%
generator = torch.Generator().manual_seed(0)
with torch.no_grad():
    views = [
        project(shipped, side, held[side], masking.random_mask(128, 64, 0.8, generator))
        for side in ("audio", "audio", "video", "video")
    ]
assert torch.allclose(intra_modal(*views, 1.0), losses.intra_modal(*views, 1.0), atol=1e-5)
print("½ [L_c(a, a′) + L_c(v, v′)], as the library has it")

# %% [markdown]
# ## 7. How many strangers?
#
# A question with 128 choices is harder than one with 4. **Guess:** one and the same model, in batches of 4 to 128: what happens to its
# loss, and to the share of sounds that find their picture?

# %%
sizes = torch.tensor([4, 8, 16, 32, 64, 128])
with torch.inference_mode():
    a, v = (project(shipped, side, held[side]) for side in ("audio", "video"))
groups = [[(a[i : i + b], v[i : i + b]) for i in range(0, 128, b)] for b in sizes.tolist()]
loss = torch.tensor(
    [sum(float(losses.info_nce(x, y, 0.1)) for x, y in some) / len(some) for some in groups]
)
tables = [[retrieval.similarities(x, y) for x, y in some] for some in groups]
first = torch.tensor(
    [sum(retrieval.recall_at(table, 1) for table in some) / len(some) for some in tables]
)
curves = {
    "InfoNCE": (sizes, loss),
    "log B": (sizes, sizes.float().log()),
    "share that find their picture": (sizes, first),
}
harder = bool((loss.diff() > 0).all() and (first.diff() < 0).all())
sentence = (
    "From batch size to batch size the loss rises and fewer find their picture: "
    f"{'yes' if harder else 'no'}; it is the same model."
)
replace(diagrams.lines(curves, "clips in a batch, B", "InfoNCE; share"), sentence=sentence)

# %%
quiz("larger_batch")

# %% [markdown]
# More strangers also means more strangers that are none: another ball of glass, as large, that bounces too. InfoNCE calls it a negative and
# pushes it away. How many such **false negatives** has a clip?

# %% [markdown]
# EXERCISE false_negatives
#
# SOLUTION false_negatives


# %%
@exercise("false_negatives")
def false_negatives(causes: Tensor) -> Tensor:
    raise NotImplementedError


check("false_negatives")

# %%
factors = held_out.factors
# what it is of, how it sounds, how large
causes = factors.material * 6 + factors.struck * 3 + (factors.size * 3).long().clamp(max=2)
for clips_in_batch in (32, 128):
    many = float(false_negatives(causes[:clips_in_batch]).float().mean())
    print(
        f"B = {clips_in_batch}: {many:.1f} of the strangers of a clip have its material, "
        "its way of sounding and its size"
    )

# %% [markdown]
# 6 materials × 2 ways × 3 sizes make 36 kinds; so one in 36 of all strangers is of the own kind, and with the 4,096 clips of a large
# training a hundred would be. Does it hurt? Look at whom the shipped model takes for the partner when it errs.

# %%
similar = cosine_similarities(a, v)
wrong = similar.argmax(dim=1) != torch.arange(128)
taken = similar.argmax(dim=1)[wrong]
same_kind = float((causes[wrong] == causes[taken]).float().mean())
kinds = float((causes[:, None] == causes).float().fill_diagonal_(0).sum() / (128 * 127))
print(
    "of its wrong choices, more than five times as many are of the same kind as chance would have:",
    "yes" if same_kind > 5 * kinds else "no",
)
alike = (causes[:, None] == causes) & ~torch.eye(128, dtype=torch.bool)
nearer = similar[alike].mean() - similar[~alike & ~torch.eye(128, dtype=torch.bool)].mean()
print(
    "clips of one kind are more alike than others, though they were pushed apart:",
    "yes" if nearer > 0.2 else "no",
)

# %% [markdown]
# Its mistakes are good mistakes. The push between two clips of a kind is the same whichever they are; what they share stays shared, because
# every pair of that kind asks for it again. What false negatives cost was not measured here. One would expect it to be most where they are
# many: where a batch holds few kinds, the loss asks to tell apart what should be the same.
#
# **Without negatives?** Section 5 left only the choice between them and collapse. There are others: a teacher that is a slow average of
# the student, whose gradient is stopped (BYOL, DINO, data2vec), or a term in the loss that asks the spread itself to stay (VICReg).
# MAViL's second stage is of the first family, with a teacher that stands still: lesson 08.
#
# **And real films?** Here every sound belongs to its picture in kind and in time. In films from the net music is laid over, speakers stand
# beside the picture, and two moments of one film are each other's negatives. Nothing here measures what that costs.
#
# ## What to remember
#
# - InfoNCE is a classification among the clips of the batch: cosines, divided by τ, a softmax over the row, −log of the partner's share.
# - Its trivial answer is **log B**. Compare losses only with their own log B.
# - The temperature changes nobody's rank, but whom the gradient cares about.
# - Without negatives the best answer is one vector for all. The loss does not show it; the spread does.
# - Across senses, contrast can use only what both tell; across masks, also what one of them knows alone, if its weight lets it.
# - A control of shuffled pairs tells what the method reaches without knowing anything.
#
# **Next:** `07_mavil_stage_one`: reconstruction and contrast in one objective.
