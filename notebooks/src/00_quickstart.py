# %% [markdown]
# # Quickstart: hide most of a clip, and let a model fill it in
#
# **In ten minutes you will be able to** say what MAViL does to a clip: turn it into tokens, hide most of them, fill in what is
# missing, and tell which sound belongs to which picture. You will see *and hear* each of these.
#
# **Budget:** 1 minute of computing on two CPU cores, 1.2 GB of memory, no network, no GPU. The exercises take twenty minutes more.
# **Opens:** [`media.py`](../mavil_edu/media.py), [`audio.py`](../mavil_edu/audio.py), [`patches.py`](../mavil_edu/patches.py),
# [`masking.py`](../mavil_edu/masking.py), [`reconstruct.py`](../mavil_edu/reconstruct.py), [`evaluate.py`](../mavil_edu/evaluate.py).
# **Paper:** MAViL, [arXiv 2212.08071](https://arxiv.org/abs/2212.08071), section 3.
#
# How to read it: before each cell that computes, guess what it will show. Then run it (Shift + Enter). Words that are new to you stand in
# the [glossary](../docs/glossary.md).

# %%
from pathlib import Path

import torch

from mavil_edu import MAViL, draw_masks
from mavil_edu.config import tiny

SAMPLES = Path("../data_samples")
model = MAViL.from_pretrained("tiny")  # comes with the package
print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters")

# %% [markdown]
# ## 1. A clip
#
# Something falls, or is struck; it looks like what it sounds like. Watch it with the sound on.

# %%
from mavil_edu import media
from mavil_edu.display import player, video_player

config = model.config
clip = media.read_clip(SAMPLES / "003.mp4", config.audio.seconds, config.video.seconds, frames=64)
video_player(clip.frames, 25, clip.waveform, "The clip")

# %% [markdown]
# The model does not get 64 frames but 8, of 32 × 32 pixels; and no waveform but a **log-mel spectrogram**: 256 moments, 128 pitch
# bands each, brighter where it is louder.

# %%
from mavil_edu import figures, video
from mavil_edu.data.batch import Batch, to_inputs

clip = media.read_clip(
    SAMPLES / "003.mp4", config.audio.seconds, config.video.seconds, config.video.frames
)
frames = video.fit(clip.frames, config.video)
figures.frame_panels({"what the model sees": frames}, config.video.seconds)

# %%
batch = Batch(clip.waveform[None], torch.tensor([clip.heard]), frames[None], clip.seen[None])
inputs = to_inputs(batch, config)
print("sound  ", tuple(inputs.audio.shape), " b 1 time pitch")
print("picture", tuple(inputs.video.shape), "b colour time height width")

# %% [markdown]
# ## 2. Tokens
#
# A transformer reads a list of tokens. Cut both into patches; each patch is one token. **Guess first:** patches of 8 moments × 64
# bands: how many audio tokens does a spectrogram of 256 × 128 give?

# EXERCISE token_count
#
# SOLUTION token_count

# %%
from mavil_edu.exercises import check, exercise, quiz


@exercise("token_count")
def token_count(moments: int, bands: int, patch_moments: int, patch_bands: int) -> int:
    raise NotImplementedError


check("token_count")

# %%
from mavil_edu.patches import patchify

print("audio tokens", tuple(patchify(inputs.audio, config.audio).shape), "b (t f) (pt pf)")
print("video tokens", tuple(patchify(inputs.video, config.video).shape), "b (t h w) (pt ph pw c)")

# %% [markdown]
# The whole of it is one line of einops. Here it is by hand; the library must agree.

# %%
from einops import rearrange

by_hand = rearrange(inputs.audio, "b 1 (t pt) (f pf) -> b (t f) (pt pf)", pt=8, pf=64)
assert torch.equal(by_hand, patchify(inputs.audio, config.audio))
by_hand.shape

# %% [markdown]
# ## 3. Hide most of it
#
# 80 % of the tokens are hidden, other ones in each clip. The encoders never see them: they only compute on the rest.

# %%
masks = draw_masks(1, config, tiny().objective, torch.Generator().manual_seed(0))
hidden = figures.hidden_cells(masks.audio[0], config.audio.grid, (8, 64))
from mavil_edu.audio import to_log_mel

log_mel = to_log_mel(inputs.audio, config.audio)[0]
figures.patch_grid(log_mel, (8, 64), config.audio.seconds, hidden)

# %% [markdown]
# **Guess:** how much of the sound could *you* fill in from this? And which hidden patches will nobody be able to guess?

# %%
quiz("why_hide_most")

# %% [markdown]
# ## 4. Fill it in
#
# Encode the visible tokens of both, let them meet, and decode every patch. The model has never seen this clip.

# %%
from mavil_edu.examples import pictures_of, sounds_of
from mavil_edu.reconstruct import reconstruct

[result] = reconstruct(model, inputs, masks)
pictures_of(result, model)["all"]

# %% [markdown]
# Look for edges between patches: each was predicted by itself. Where the picture is blurred, the model does not know, and the
# average of all it thinks possible is its best answer.
#
# ## 5. Hear it
#
# A spectrogram can be turned back into sound. First the recording, then what the model was given, then what it made of it.

# %%
sounds = sounds_of(result, clip.waveform, batch.heard[0])
player(sounds["original"], "The recording")

# %%
player(sounds["masked"], "With 80 % hidden")

# %%
player(sounds["completed"], "Hidden patches filled in by the model")

# %%
quiz("nice_sound")

# %% [markdown]
# ## 6. Is it any good?
#
# A nice picture proves nothing. The test: is the model closer to the hidden patches than someone **without** learning, who answers
# with each position's mean over other clips, with a copy of the nearest visible patch, or with the mean corrected by its neighbours?
# Here for all 24 samples; the means come from 256 clips generated for it.

# %%
from mavil_edu.config import AugmentConfig
from mavil_edu.data.batch import evaluation_batch
from mavil_edu.data.folder import FolderClips
from mavil_edu.data.world import World
from mavil_edu.evaluate import HeldOut, embed, position_means

no_change = AugmentConfig(roll=False, magnitude=False, crop=(1.0, 1.0), flip=False)
samples, _, _ = evaluation_batch(FolderClips(media.find_media([SAMPLES]), config, no_change))
others, _, _ = evaluation_batch(World(256, 1, config, no_change, quiet=True))
held_out = HeldOut(
    samples, position_means(others, config, torch.device("cpu")), config, tiny().objective
)

# %% [markdown]
# EXERCISE below_trivial
#
# SOLUTION below_trivial


# %%
@exercise("below_trivial")
def below_trivial(error: float, trivial: list[float]) -> float:
    raise NotImplementedError


check("below_trivial")

# %%
summary = held_out.summary(model)
for name in ("audio", "video"):
    ours, trivial = summary[name]["masked_mse"], summary[name]["trivial"]
    verdict = "yes" if below_trivial(ours, list(trivial.values())) > 0.15 else "no"
    print(
        f"{name}: error {ours:.2f}, best trivial answer {min(trivial.values()):.2f}; "
        f"better by more than 15 %: {verdict}"
    )

# %% [markdown]
# ## 7. Which sound belongs to which picture?
#
# The model was also trained to tell that: the embedding of a sound should be most like that of its own picture. A bright diagonal
# means that it is. **Guess:** how many of 24 would be right by chance?

# %%
audio, picture = embed(model, samples)
figures.similarity(audio @ picture.T)

# %%
quiz("chance_of_24")

# %% [markdown]
# A picture is not a number. Two functions make one of it: which picture does each sound find, and how often is its own among the first k?

# %% [markdown]
# EXERCISE find_pictures
#
# SOLUTION find_pictures


# %%
@exercise("find_pictures")
def find_pictures(sounds: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError


check("find_pictures")

# %% [markdown]
# EXERCISE recall_at
#
# SOLUTION recall_at


# %%
@exercise("recall_at")
def recall_at(similarity: torch.Tensor, k: int) -> float:
    raise NotImplementedError


check("recall_at")

# %%
found = find_pictures(audio, picture)
print(
    "sounds that find their own picture first:",
    "more than 4 of 24" if (found == torch.arange(24)).sum() > 4 else "4 or fewer",
)
for k in (1, 5):
    better = recall_at(audio @ picture.T, k) > 3 * k / 24
    print(f"R@{k} is more than three times chance ({k}/24): {'yes' if better else 'no'}")

# %% [markdown]
# Where a wrong picture is found, look which. **Guess:** what do a sound and the wrong picture that it finds have in common?

# %%
rows = (SAMPLES / "labels.csv").read_text(encoding="utf-8").splitlines()[1:]
made_of = [row.split(",")[1:4] for row in rows]  # material, size, event of each clip
for own, other in enumerate(found.tolist()):
    if own != other:
        (material, _, event), (wrong, _, its_event) = made_of[own], made_of[other]
        print(f"{own:3} {material:7}{event:9} → {other:3} {wrong:7}{its_event}")

# %% [markdown]
# The kind of event, struck or bouncing, in every pair; the material in some. What sound and picture both tell is what helps to find; the
# rest is left to tell apart by size and rhythm.

# %% [markdown]
# ## 8. Your turn
#
# **Exercise (5 minutes).** Hide *all* of the sound and none of the picture, and let the model imagine the sound from sight alone.
# What of it is right: when it strikes, its pitch, its timbre? Change the two numbers and see.
#
# <details><summary>Hint</summary>A share of 1 hides everything, 0 nothing.</details>
# <details><summary>Answer</summary>
#
# `audio_hidden, video_hidden = 1.0, 0.0`. Hardly anything is right: the model has never practised with nothing to hear, and answers with
# a sound of the usual kind. That it hears and sees together is no proof that one helps the other; the next cell measures it.
# </details>

# %%
audio_hidden, video_hidden = 0.8, 0.8  # ← change these, from 0 to 1
objective = type(tiny().objective)(audio_ratio=audio_hidden, video_ratio=video_hidden)
yours = draw_masks(1, config, objective, torch.Generator().manual_seed(1))
[mine] = reconstruct(model, inputs, yours)
pictures_of(mine, model)["spectrogram"]

# %%
player(sounds_of(mine, clip.waveform, batch.heard[0])["completed"], "What the model imagines")

# %% [markdown]
# Does one help the other? Give the model each clip's sound with *another* clip's picture: if its errors stay the same, it did not use
# the picture. **Guess:** does seeing help hearing, or hearing help seeing?

# %%
from mavil_edu.losses import masked_mse
from mavil_edu.mavil import patch_targets

many, other = to_inputs(samples, config), torch.arange(len(samples.waveform)).roll(1)
targets = patch_targets(many.audio, many.video, config)
masks = draw_masks(len(other), config, tiny().objective, torch.Generator().manual_seed(0))
with torch.no_grad():
    own, strange = model(many.audio, many.video, masks), model(many.audio, many.video[other], masks)
    deaf = model(many.audio[other], many.video, masks)

# %%
for what, ours, theirs, target, mask in (
    (
        "hidden sound, with another clip's picture",
        own.audio,
        strange.audio,
        targets.audio,
        masks.audio,
    ),
    (
        "hidden picture, with another clip's sound",
        own.video,
        deaf.video,
        targets.video,
        masks.video,
    ),
):
    worse = masked_mse(theirs.patches, target, mask) / masked_mse(ours.patches, target, mask) - 1
    print(f"{what}: {100 * worse:.0f} % worse")

# %% [markdown]
# Hardly: the visible fifth of a sound tells more of the rest than any picture, and the visible fifth of a picture more than any sound.
# What sound and picture share is in the *contrast*: that is how one found the other above.

# %% [markdown]
# ## What to remember
#
# - A clip becomes two lists of tokens; 80 % are hidden, and the encoders compute on the rest only.
# - Filling in what is hidden teaches what the world looks and sounds like; contrast teaches what belongs together.
# - A falling loss is not learning: every number stands beside the answer that needs no learning.
#
# **Next:** train one yourself: `mavil-edu demo` in a terminal, then open `runs/demo/report.html`.
