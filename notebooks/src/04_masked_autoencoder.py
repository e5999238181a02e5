# %% [markdown]
# # A masked autoencoder
#
# **The question:** four fifths of a sound are hidden. A network is trained to fill them in, and its loss falls. Has it learnt anything?
#
# **You will be able to** build a masked autoencoder from its parts, train one for sound and one for pictures, tell a loss that has fallen
# from a model that has learnt, find the two traps that nearly everybody falls into, and hear what training does.
#
# **Budget:** 4 minutes of computing on two CPU cores, 1.2 GB of memory, no network, no GPU. Reading and exercises: 90 minutes.
# **Opens:** [`encoder.py`](../mavil_edu/encoder.py), [`decoder.py`](../mavil_edu/decoder.py), [`losses.py`](../mavil_edu/losses.py),
# [`optimiser.py`](../mavil_edu/optimiser.py).
# **Paper:** MAViL, [arXiv 2212.08071](https://arxiv.org/abs/2212.08071), section 3; masked autoencoders: He et al. 2022 (MAE), Huang et
# al. 2022 (Audio-MAE).
#
# Before each cell that computes, guess what it will show. Then run it (Shift + Enter).

# %%
from dataclasses import replace

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from mavil_edu import audio, diagrams, figures, masking, video
from mavil_edu.config import AugmentConfig, ModelConfig, small, tiny

# %% [markdown]
# ## 1. The skeleton
#
# Clips first: generated ones, some to learn from, others (*held out*) to be judged on. The one line marked with an arrow decides how much
# is computed here. A GPU, where there is one, gets more of everything.
# %%
from mavil_edu.data.batch import Batch, collate, to_inputs
from mavil_edu.data.world import World
from mavil_edu.display import player
from mavil_edu.exercises import check, exercise, quiz
from mavil_edu.patches import patchify, unpatchify

# ↓ the budget
device, steps, clips, preset = (
    ("cuda", 5000, 8192, small) if torch.cuda.is_available() else ("cpu", 1000, 1024, tiny)
)
config = tiny().model
no_change = AugmentConfig(roll=False, magnitude=False, crop=(1.0, 1.0), flip=False)
sides = {"sound": (config.audio, "audio"), "pictures": (config.video, "video")}


# %%
def generate(
    count: int, seed: int, kind: torch.dtype = torch.float
) -> tuple[Batch, dict[str, Tensor]]:
    """The patches of generated clips, by side; and the first 16 of the clips."""
    found = {
        side: torch.empty(count, part.tokens, part.patch_values, dtype=kind)
        for side, (part, _) in sides.items()
    }
    for few in torch.arange(count).split(16):  # little by little, for memory's sake
        if few[0] % 128 == 0:
            world = World(128, seed + 1000 * (int(few[0]) // 128), config, no_change, quiet=True)
        batch = collate([world.sample(i % 128, None) for i in few.tolist()])
        if few[0] == 0:
            first = batch
        for side, (size, field) in sides.items():
            found[side][few] = patchify(getattr(to_inputs(batch, config), field), size).to(kind)
    return first, found


# %%
(_, training), (batch, held_out) = generate(clips, seed=1, kind=torch.half), generate(128, seed=2)
for side in sides:
    print(
        f"{side}: {tuple(training[side].shape)} to learn from, "
        f"{tuple(held_out[side].shape)} held out: b n values"
    )

# %% [markdown]
# A masked autoencoder (MAE) is two transformers and nothing else. The **encoder** sees the visible patches only. The **decoder** sees all
# places, and says for each what is there. Both are the library's; the whole of it is this:


# %%
from mavil_edu.decoder import Decoder
from mavil_edu.encoder import Encoder
from mavil_edu.transformer import initialise


class MaskedAutoencoder(nn.Module):
    def __init__(self, part, extra: int = 0, shape: ModelConfig = config):
        super().__init__()
        self.encoder = Encoder(part, shape.encoder)  # of `tiny`: 3 blocks, 96 wide
        # 1 block, 64 wide
        self.decoder = Decoder(part, shape.encoder.width, shape.decoder, part.patch_values + extra)
        self.apply(initialise)

    def forward(self, patches: Tensor, mask: Tensor) -> Tensor:
        return self.decoder(self.encoder(patches, mask), mask)  # (b, n, values)


# %% [markdown]
# The decoder is narrower and shallower than the encoder: it will be thrown away after training. **Guess:** how many numbers does it get
# for a hidden patch?

# %%
torch.manual_seed(0)
model = MaskedAutoencoder(config.audio)
some = held_out["sound"][:4]
mask = masking.random_mask(4, config.audio.tokens, 0.8, torch.Generator().manual_seed(0))
tokens = model.encoder(some, mask)
print(
    f"of {some.shape[1]} patches, {tokens.patch_tokens.shape[1]} visible tokens of "
    f"{tokens.patch_tokens.shape[2]} numbers are encoded;"
)
print(f"{tuple(model(some, mask).shape)} is predicted: b n values")

# %% [markdown]
# None. What stands at a hidden place is the **mask token**: one vector, learnt, the same at all hidden places of all clips. Only the
# position that is added to it says which patch is asked for. What the visible patches know must come by attention.

# %% [markdown]
# EXERCISE decoder_input
#
# SOLUTION decoder_input


# %%
@exercise("decoder_input")
def decoder_input(visible: Tensor, mask: Tensor, mask_token: Tensor, positions: Tensor) -> Tensor:
    raise NotImplementedError


check("decoder_input")

# %% [markdown]
# Is that what the library's decoder does? Give it yours, and see whether its answer stays.

# %%
with torch.inference_mode():
    decoder, visible = model.decoder, model.decoder.embed(tokens.patch_tokens)
    first = decoder.embed(tokens.class_token) + decoder.positions[0]
    x = torch.cat(
        [first, decoder_input(visible, mask, decoder.mask_token, decoder.positions[1:])], dim=1
    )
    by_hand = decoder.predict(decoder.norm(decoder.transformer(x)[:, 1:]))
    print("the same prediction:", torch.allclose(by_hand, model(some, mask), atol=1e-5))

# %% [markdown]
# ## 2. The loss
#
# How far off is the prediction? The mean squared error, over the **hidden** patches only.

# %% [markdown]
# EXERCISE masked_mse
#
# SOLUTION masked_mse


# %%
@exercise("masked_mse")
def masked_mse(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    raise NotImplementedError


check("masked_mse")

# %%
quiz("why_hidden_only")

# %% [markdown]
# **Guess:** what does the loss want of the prediction at a visible place?

# %%
prediction = torch.randn(4, 64, 512, generator=torch.Generator().manual_seed(0)).requires_grad_()
masked_mse(prediction, some, mask).backward()
pull = prediction.grad.abs().sum(dim=-1)  # (b, n)
print(
    f"gradient at hidden places: {'some' if (pull[mask] > 0).all() else 'none'}; at visible ones: "
    f"{'some' if pull[~mask].any() else 'none'}"
)

# %% [markdown]
# Nothing. What the model says of visible patches is noise, and we never look at it. A picture of its answer therefore takes the
# predictions where patches were hidden, and the given patches elsewhere.

# %% [markdown]
# EXERCISE complete
#
# SOLUTION complete


# %%
@exercise("complete")
def complete(prediction: Tensor, patches: Tensor, mask: Tensor) -> Tensor:
    raise NotImplementedError


check("complete")

# %% [markdown]
# ## 3. The first trap: a loss that falls
#
# Train for twenty steps, with the patches as they are for a target. These lines are the whole of it. **Guess:** by how much does the loss
# fall? Has the model learnt to fill in sounds then?


# %%
from mavil_edu.optimiser import make_optimiser

plan = replace(tiny().train, batch=32, steps=steps, base_lr=2.4e-2)


def training_step(
    model: nn.Module, optimiser, patches: Tensor, loss_of, generator: torch.Generator
) -> float:
    few = torch.randint(len(patches), (plan.batch,), generator=generator)
    chosen = patches[few].float().to(device)
    mask = masking.random_mask(*chosen.shape[:2], 0.8, generator).to(device)  # ← 80 % hidden
    loss = loss_of(model(chosen, mask), chosen, mask)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 3.0)
    optimiser.step()
    optimiser.zero_grad()
    return loss.item()


# %%
torch.manual_seed(0)
naive, fell = {}, {}
for side, (part, _) in sides.items():
    naive[side] = MaskedAutoencoder(part).to(device)
    optimiser, generator = make_optimiser(naive[side], plan), torch.Generator().manual_seed(0)
    losses = [
        training_step(naive[side], optimiser, training[side], masked_mse, generator)
        for _ in range(20)
    ]
    fell[side] = losses[-1] / losses[0]
    print(f"{side}: the loss fell by a third or more: {'yes' if fell[side] < 2 / 3 else 'no'}")

# %% [markdown]
# It has fallen by much. But what does somebody get who has learnt *nothing* about the clip, and says at each place the mean of what was
# there in training?

# %% [markdown]
# EXERCISE mean_patch_mse
#
# SOLUTION mean_patch_mse


# %%
@exercise("mean_patch_mse")
def mean_patch_mse(training: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    raise NotImplementedError


check("mean_patch_mse")


# %%
judged = {
    side: masking.random_mask(128, part.tokens, 0.8, torch.Generator().manual_seed(1))
    for side, (part, _) in sides.items()
}  # the masks that everything is judged under


def answer_of(model: nn.Module, side: str) -> Tensor:
    with torch.inference_mode():
        return model.cpu().eval()(held_out[side], judged[side])


for side in sides:
    target, mask = held_out[side], judged[side]
    error = masked_mse(answer_of(naive[side], side), target, mask)
    mean = mean_patch_mse(training[side][:256].float(), target, mask)
    print(f"{side}: a tenth or more below the mean patch: {'yes' if error < 0.9 * mean else 'no'}")

# %% [markdown]
# That is the **mean-patch trap**. Most of what a loss falls at first is the way from nonsense to the mean. See it: the original, the
# model's answer, and the mean patch, which knows nothing of this clip.

# %%
one = 15
original, hidden = held_out["sound"][one : one + 1], judged["sound"][one : one + 1]
guessed = complete(answer_of(naive["sound"], "sound")[one : one + 1], original, hidden)
mean_patch = complete(training["sound"][:256].float().mean(dim=0, keepdim=True), original, hidden)


def log_mel(patches: Tensor, part=config.audio) -> Tensor:
    return audio.to_log_mel(unpatchify(patches, part), part)[0]


panels = {
    "original": log_mel(original),
    "after 20 steps, hidden filled in": log_mel(guessed),
    "the mean patch": log_mel(mean_patch),
}
sentence = (
    "Three spectrograms of one clip: the original, the hidden patches filled in after 20 steps, "
    "and filled in with mean patches."
)
replace(figures.spectrogram_panels(panels, 2.56), sentence=sentence)

# %%
quiz("falling_loss")

# %% [markdown]
# So beside every loss belongs its **trivial answer**. The mean patch is one. Lesson 03 had another: copy the nearest visible patch. A third
# corrects the mean by what the visible neighbours differ from theirs. Only below the best of them does learning begin.
#
# ## 4. Each patch by itself
#
# Why was the mean patch so good? Because clips are alike at each place: their average spectrum, their floor and their grey tell much of any
# of them. And a part of every patch's error is its level alone, how loud or bright it is as a whole, which says little of what happens in
# it. So MAE takes each patch's own mean and standard deviation out of the target.

# %% [markdown]
# EXERCISE normalise_patch
#
# SOLUTION normalise_patch


# %%
@exercise("normalise_patch")
def normalise_patch(patches: Tensor) -> Tensor:
    raise NotImplementedError


check("normalise_patch")

# %% [markdown]
# **Guess:** which of the trivial answers is the best now? (An answer of 0 everywhere has error 1 or a little less: the variance.)

# %%
from mavil_edu.losses import patch_statistics, trivial_answers

bars = {}
for side, (part, _) in sides.items():
    means = normalise_patch(training[side][:256].float()).mean(dim=0)
    parts = [  # of 32 clips each, for memory's sake
        trivial_answers(normalise_patch(x), mask, mask, part.grid, means)
        for x, mask in zip(held_out[side].split(32), judged[side].split(32), strict=True)
    ]
    bars[side] = {name: sum(answers[name] for answers in parts) / 4 for name in parts[0]}
    print(
        f"{side:9}",
        "; ".join(f"{name.replace('_', ' ')} {error:.2f}" for name, error in bars[side].items()),
    )

# %% [markdown]
# ## 5. The second trap: what the drawing borrows
#
# A model of normalised patches says nothing of brightness. To draw its answer one needs each hidden patch's mean and standard deviation,
# and they are at hand: take them from the original! Many published pictures are drawn so. Here is a "model" that answers **0, always**,
# drawn that way, with patches as fine as the paper's: 16 × 16 values of a sound, and some 16 × 16 patches in a picture. **Guess:** how
# good does it look, and how does it sound?


# %%
fine = {
    "sound": replace(config.audio, patch_frames=16, patch_bins=16),
    "pictures": replace(config.video, patch_frames=2, patch_height=2, patch_width=2),
}
finer, covered = {}, {}
for side, (part, _) in sides.items():
    finer[side] = patchify(unpatchify(held_out[side], part), fine[side])
    covered[side] = masking.random_mask(
        *finer[side].shape[:2], 0.8, torch.Generator().manual_seed(1)
    )


def borrowing(patches: Tensor) -> Tensor:
    mean, std = patch_statistics(patches)  # ← of the hidden patches: nobody may know these
    return torch.zeros_like(patches) * std + mean


# %%
def pictures(patches: Tensor, part=config.video) -> Tensor:
    return video.denormalise(unpatchify(patches, part), part)[0]


tiles, gone = finer["pictures"][one : one + 1], covered["pictures"][one : one + 1]
# of the held-out clips: so many that one hardly counts
mean_tiles = finer["pictures"].mean(dim=0, keepdim=True)
strips = {
    "original": tiles,
    "what was visible": tiles.masked_fill(rearrange(gone, "b n -> b n 1"), 0.0),
    "0, always, drawn with borrowed numbers": complete(borrowing(tiles), tiles, gone),
    "the mean patch, nothing borrowed": complete(mean_tiles, tiles, gone),
}
figures.frame_panels(
    {title: pictures(each, fine["pictures"]) for title, each in strips.items()}, 2.56
)

# %%
notes, gone = finer["sound"][one : one + 1], covered["sound"][one : one + 1]
borrowed = complete(borrowing(notes), notes, gone)
panels = {
    "original": log_mel(original),
    "0, always, drawn with borrowed numbers": log_mel(borrowed, fine["sound"]),
}
figures.spectrogram_panels(panels, 2.56)


# %%
heard = batch.heard[one : one + 1]
louder = 0.5 / batch.waveform[one].abs().max()


def sound_of(spectrogram: Tensor) -> Tensor:
    sound = louder * audio.to_waveform(spectrogram[None], samples=40_960, heard=heard)[0]
    return sound.clamp(-1, 1)


player(sound_of(panels["original"]), "The original, from its spectrogram")

# %%
player(sound_of(panels["0, always, drawn with borrowed numbers"]), "A model that answers 0, always")

# %%
for side in sides:
    target, mask = finer[side], covered[side]
    leak = masked_mse(borrowing(target), target, mask)
    mean = masked_mse(target.mean(dim=0, keepdim=True).expand_as(target), target, mask)
    print(
        f"{side}: the answer 0, always, with borrowed numbers errs {100 * (1 - leak / mean):.0f} % "
        "less than the mean patch"
    )

# %% [markdown]
# The ball, its path, light and dark, every strike: from a model that does not look. (No colours, since a patch has one mean for all three.)
# This is the **normalisation leak**. Whoever shows you a reconstruction, ask what it borrowed.

# %%
quiz("normalised_leak")

# %% [markdown]
# The way out: let the model say those two numbers as well. `tiny()` does (`predict_statistics`): two values more for each patch, and one
# more error. The paper's model does not; there, look at numbers in normalised space, not at pictures.


# %%
def loss_of(prediction: Tensor, patches: Tensor, mask: Tensor) -> Tensor:
    values, statistics = prediction[..., :-2], prediction[..., -2:]
    own = torch.cat(patch_statistics(patches), dim=-1)  # (b, n, 2): mean, std
    return masked_mse(values, normalise_patch(patches), mask) + masked_mse(statistics, own, mask)


def drawn(prediction: Tensor) -> Tensor:
    """A prediction as patches again, nothing borrowed."""
    values = prediction[..., :-2]
    mean = prediction[..., -2:-1]
    std = prediction[..., -1:].clamp(min=0)
    return values * std + mean


# %% [markdown]
# ## 6. How fast to learn
#
# Large steps with fresh weights may ruin them, and small ones at the end let them settle. So the rate grows at first (*warm-up*), then
# falls along half a cosine.

# %% [markdown]
# EXERCISE learning_rate
#
# SOLUTION learning_rate


# %%
@exercise("learning_rate")
def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    raise NotImplementedError


check("learning_rate")

# %% [markdown]
# The peak is scaled by the batch: twice the clips a step, twice the rate. **Guess:** what is it here, for a base of 0.024 at 256 clips, and
# batches of 32?

# %%
warmup = round(plan.warmup * steps)
peak = 2.4e-2 * 32 / 256 * (preset().train.base_lr / tiny().train.base_lr)
places = torch.arange(steps)
rates = torch.tensor([learning_rate(step, steps, warmup, peak) for step in range(steps)])
diagrams.lines({"learning rate": (places, rates)}, "step", "rate")

# %% [markdown]
# ## 7. Train both
#
# One model for sound, one for pictures, each alone: they meet in the next lesson. Nine times on the way we look at the held-out clips.
# **Guess:** after how many steps is the best trivial answer beaten, by which first?


# %%
def train(side: str) -> tuple[nn.Module, dict[int, tuple[float, Tensor]]]:
    torch.manual_seed(0)
    model = MaskedAutoencoder(sides[side][0], extra=2, shape=preset().model).to(device)
    optimiser, generator, looks = make_optimiser(model, plan), torch.Generator().manual_seed(0), {}
    for step in range(steps + 1):
        if step % (steps // 8) == 0:
            said = answer_of(model, side)
            looks[step] = (
                masked_mse(said[..., :-2], normalise_patch(held_out[side]), judged[side]).item(),
                said[one : one + 1].clone(),
            )
            model.to(device).train()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(min(step, steps - 1), steps, warmup, peak)
        training_step(model, optimiser, training[side], loss_of, generator)
    return model, looks


# %%
models, looks = {}, {}
for side in sides:
    models[side], looks[side] = train(side)

# %%
rows = []
for step in looks["sound"]:
    errors = {side: looks[side][step][0] for side in sides} | {
        f"{side}_trivial": min(bars[side].values()) for side in sides
    }
    rows.append({"step": step, "held_out": True} | errors)
picture = figures.curves(rows, {"sound": "sound: masked MSE", "pictures": "pictures: masked MSE"})
better = {side: 1 - rows[-1][side] / rows[-1][f"{side}_trivial"] for side in sides}
replace(
    picture,
    sentence=f"Errors on held-out clips over {steps} steps, with the best trivial answer dashed; "
    "both end below it.",
)

# %%
assert all(share > 0 for share in better.values())
for side, share in better.items():
    verdicts = ["yes" if share > part else "no" for part in (0.2, 0.8)]
    print(
        f"{side}: below the best trivial answer by a fifth or more: {verdicts[0]}; by four fifths: "
        f"{verdicts[1]}"
    )

# %% [markdown]
# Now it has learnt: nobody who ignores the visible patches gets there. And it stays far from knowing all. Nobody can know all: noise, and
# what happens behind the mask alone, leave no trace in what is seen.
#
# ## 8. See it, hear it
#
# The same clip as before, nothing borrowed. **Guess** first: which comes back, the tones that ring or the moments when they are struck?


# %%
def completed(step: int, side: str) -> Tensor:
    """The clip with its hidden patches filled in as the model did after so many steps."""
    clip = slice(one, one + 1)
    return complete(drawn(looks[side][step][1]), held_out[side][clip], judged[side][clip])


filled = {side: completed(steps, side) for side in sides}
spectrograms = {
    "original": log_mel(original),
    "what was visible": log_mel(original),
    "filled in": log_mel(filled["sound"]),
}
cells = figures.hidden_cells(hidden[0], config.audio.grid, (8, 64))
shown = figures.spectrogram_panels(spectrograms, 2.56, {"what was visible": cells})
replace(
    shown,
    sentence="Three spectrograms of one held-out clip: "
    "the original, what was visible of it, and the hidden patches filled in.",
)

# %%
seen = held_out["pictures"][one : one + 1]
gone = rearrange(judged["pictures"][one : one + 1], "b n -> b n 1")
strips = {
    "original": seen,
    "what was visible": seen.masked_fill(gone, 0.0),
    "filled in": filled["pictures"],
}
sentence = (
    "Three filmstrips of one held-out clip: "
    "the original, what was visible, and the hidden patches filled in."
)
replace(
    figures.frame_panels({title: pictures(each) for title, each in strips.items()}, 2.56),
    sentence=sentence,
)

# %%
silent = log_mel(original).masked_fill(cells, audio.FLOOR)
player(sound_of(silent), "What was visible")

# %% tags=["nbval-ignore-output"]
# not compared: the loudest frequency of what a trained model makes differs from machine to machine
player(sound_of(log_mel(filled["sound"])), "The hidden patches filled in")

# %% [markdown]
# One clip proves nothing. Over all held-out clips, and hidden patches alone: take the mean patch away, and ask how what is left agrees with
# the truth. Once over frequency (which tones, whenever), once over time (how loud when, whatever it is). The control is another clip's
# truth.


# %%
def agreement(true: Tensor, said: Tensor, count: Tensor | float, dim: int) -> float:
    """Correlation over all clips, each clip's mean along one axis taken out."""
    count = torch.ones_like(true) * count
    true, said = (
        x - (x * count).sum(dim, keepdim=True) / count.sum(dim, keepdim=True) for x in (true, said)
    )
    return float(
        (count * true * said).sum() / ((count * true**2).sum() * (count * said**2).sum()).sqrt()
    )


def tones_and_loudness(patches: Tensor) -> tuple[Tensor, Tensor]:
    x = rearrange(
        patches - training["sound"][:256].float().mean(dim=0),
        "b (t f) (pt pf) -> b t f pt pf",
        f=2,
        pf=64,
    )
    spectrum = (x * was_hidden).sum(dim=(1, 3)) / was_hidden.sum(dim=(1, 3))
    return rearrange(spectrum, "b f pf -> b (f pf)"), reduce(x, "b t f pt pf -> b t f", "mean")


# %%
was_hidden = rearrange(judged["sound"], "b (t f) -> b t f 1 1", f=2).float()
tones, loudness = tones_and_loudness(held_out["sound"])
said_tones, said_loudness = tones_and_loudness(drawn(answer_of(models["sound"], "sound")))
for title, roll in (("its own clip", 0), ("another clip", 1)):
    which = agreement(tones.roll(roll, 0), said_tones, 1.0, 1)
    when = agreement(loudness.roll(roll, 0), said_loudness, was_hidden[..., 0, 0], 1)
    print(
        f"{title}: which tones, agreement above 0.6: {'yes' if which > 0.6 else 'no'}; when: "
        f"{'yes' if when > 0.6 else 'no'}"
    )

# %% [markdown]
# It has learnt which tones this thing rings with, and puts them everywhere: on average that is the best one can say of a hidden patch
# without knowing *when* it was struck. The moments it has not learnt. Longer training brings some of them; so may the picture, which shows
# the strike. That is the next lesson's question.

# %% [markdown]
# ## Explore
#
# From the first step to the last, seen and heard. Choose a number of steps, or press the buttons. When does the mean appear? When do the
# tones?

# %% tags=["nbval-ignore-output"]
# not compared, for the same reason
from mavil_edu.explorers.steps import Look, steps_explorer


def look_at(row: dict) -> Look:
    made = log_mel(completed(row["step"], "sound")), pictures(completed(row["step"], "pictures"))
    return Look(row["step"], *made, row["sound"], row["pictures"])


truth = Look(0, log_mel(original), pictures(seen), 0.0, 0.0)
trivial = (rows[0]["sound_trivial"], rows[0]["pictures_trivial"])
steps_explorer(truth, [look_at(row) for row in rows], trivial, 2.56, first=8)

# %% [markdown]
# ## What to remember
#
# - Encoder on the visible patches, mask tokens with positions, decoder on all places, error on the hidden ones: that is all of it.
# - A loss that falls says nothing. Name the trivial answers, and stand below the best of them, on clips that were held out.
# - Per-patch normalisation takes brightness out of the target. A drawing that puts it back from the original has borrowed the answer.
# - What the model says of visible patches means nothing: nobody ever asked.
# - "Below the trivial answer" is where questions begin: *what* has it learnt, and what not? Here: the tones, not the moments.
#
# **Next:** `05_fusion`: sound and picture meet.
