# %% [markdown]
# # Masking: hide most of it
#
# **The question:** MAViL hides 80 % of each clip from itself, and learns by filling it in. Why so much? A teacher who wants to be
# understood shows as much as possible.
#
# **You will be able to** draw a mask by hand in three lines, drop the hidden tokens and put them back, hide whole moments, pitches, places
# or frames, say what each way leaves to see and hear, measure what a lazy learner can copy, and count what hiding saves.
#
# **Budget:** 2 minutes of computing on two CPU cores, 1.2 GB of memory, no network, no GPU. Reading and exercises: 75 minutes.
# **Opens:** [`masking.py`](../mavil_edu/masking.py), [`losses.py`](../mavil_edu/losses.py), [`encoder.py`](../mavil_edu/encoder.py),
# [`transformer.py`](../mavil_edu/transformer.py), [`explorers/masking.py`](../mavil_edu/explorers/masking.py).
# **Paper:** MAViL, [arXiv 2212.08071](https://arxiv.org/abs/2212.08071), section 3 and its ablations.
#
# Before each cell that computes, guess what it will show. Then run it (Shift + Enter). After a restart of the kernel, begin with the first
# cell again (Run → Run All Above Selected Cell).

# %%
from pathlib import Path

import torch
from einops import rearrange, repeat
from torch import Tensor

from mavil_edu import MAViL, audio, diagrams, figures, masking, media, video
from mavil_edu.config import AudioConfig, VideoConfig, paper
from mavil_edu.display import player, video_player
from mavil_edu.exercises import check, exercise, quiz

# %% [markdown]
# ## 1. A clip
#
# Something of glass bounces. Watch it with the sound on; count how often it lands.

# %%
clip = media.read_clip(Path("../data_samples/014.mp4"), 2.56, 2.56, frames=64)
# our clips are quiet; every sound of this clip is raised by as much
louder = 0.72 / clip.waveform.abs().max()
video_player(clip.frames[::4], 6.25, louder * clip.waveform, "The clip, nothing hidden")

# %% [markdown]
# The paper's patches: 16 × 16 of the spectrogram, 2 × 16 × 16 of the frames. Our clip is shorter and smaller than the paper's, so there
# are fewer of them: 16 × 8 = 128 and 4 × 6 × 6 = 144 tokens. Of its 256 frames of sound the last two are padding, louder than most of any
# sound (lesson 01). Here they repeat the frame before, so that no padding is copied or heard below.

# %%
sound_config = AudioConfig(seconds=2.56, frames=256)
picture_config = VideoConfig(seconds=2.56, height=96, width=96)
log_mel = audio.to_log_mel(audio.spectrogram(clip.waveform[None], sound_config), sound_config)[0]
log_mel[254:] = log_mel[253]
pictures = video.fit(clip.frames[4::8], picture_config)
print(
    "sound",
    sound_config.grid,
    "time × pitch;  picture",
    picture_config.grid,
    "time × down × across",
)
figures.patch_grid(log_mel, (16, 16), 2.56)

# %% [markdown]
# ## 2. How many stay?
#
# 80 % hidden, 20 % visible: of 10 tokens, 2 are visible. **Guess:** what does this line print?

# %%
print("int(10 * (1 - 0.8)) =", int(10 * (1 - 0.8)))

# %% [markdown]
# The computer's 1 − 0.8 is a little less than 0.2, and `int` cuts off. Published code has this very line, and loses a token whenever
# the number of tokens is a multiple of 5. Count the hidden ones and round.

# %% [markdown]
# EXERCISE visible_count
#
# SOLUTION visible_count


# %%
@exercise("visible_count")
def visible_count(tokens: int, ratio: float) -> int:
    raise NotImplementedError


check("visible_count")

# %% [markdown]
# ## 3. Which ones? At random
#
# Every token gets a random number. The tokens with the smallest numbers stay. One `argsort` says which token stands at each rank; a
# second says which rank each token has. **Guess** the second line, for the numbers below. If two tokens stay visible, which are hidden?

# %%
noise = torch.tensor([[0.9, 0.1, 0.5, 0.7, 0.3]])
print("which token stands at each rank:", noise.argsort(dim=1).tolist()[0])
print("which rank each token has:      ", noise.argsort(dim=1).argsort(dim=1).tolist()[0])

# %% [markdown]
# EXERCISE mask_by_rank
#
# SOLUTION mask_by_rank


# %%
@exercise("mask_by_rank")
def mask_by_rank(noise: Tensor, visible: int) -> Tensor:
    raise NotImplementedError


check("mask_by_rank")

# %% [markdown]
# That is all of MAViL's masking. Here for three clips; the library, given the same randomness, must draw the same mask as your function.

# %%
visible = 128 - round(128 * 0.8)
noise = torch.rand(3, 128, generator=torch.Generator().manual_seed(0))
masks = mask_by_rank(noise, visible)  # (b, n), True = hidden

theirs = masking.random_mask(3, (16, 8), 0.8, torch.Generator().manual_seed(0))
assert torch.equal(masks, theirs), "The masks differ. Is check('mask_by_rank') right?"
print(
    "hidden in each clip:",
    masks.sum(dim=1).tolist(),
    "of 128;",
    "the same tokens:",
    torch.equal(masks[0], masks[1]),
)
figures.mask_grid(masks[0], (16, 8))

# %% [markdown]
# **What is left of the sound?** Hidden cells become silent, then back to sound as in lesson 01. **Guess:** with 80 % hidden, will you
# still hear how often the glass lands?

# %%


def left_of(mask: Tensor) -> Tensor:
    hidden = figures.hidden_cells(mask, (16, 8), (16, 16))  # (tokens,) -> (frames, mel bins)
    silenced = log_mel.masked_fill(hidden, audio.FLOOR)
    return louder * audio.to_waveform(silenced[None], samples=len(clip.waveform))[0]


# %%
draws = {
    ratio: masking.random_mask(1, (16, 8), ratio, torch.Generator().manual_seed(2))[0]
    for ratio in (0.3, 0.8, 0.95)
}
hidden = {
    f"{100 * ratio:.0f} %": figures.hidden_cells(mask, (16, 8), (16, 16))
    for ratio, mask in draws.items()
}
figures.spectrogram_panels(dict.fromkeys(hidden, log_mel), 2.56, hidden)

# %%
player(left_of(draws[0.3]), "What is left when 30 % are hidden")

# %%
player(left_of(draws[0.8]), "What is left when 80 % are hidden")

# %%
player(left_of(draws[0.95]), "What is left when 95 % are hidden")

# %% [markdown]
# At 30 % you hear the clip through holes. At 80 % most landings leave a scrap (section 5 counts them), and what rang between them must be
# guessed. At 95 % six scraps are all there is. Now **the picture**, hidden by the same three lines, all 8 frames of it.

# %%


def greyed(mask: Tensor) -> Tensor:
    hidden = repeat(mask, "(t h w) -> (t pt) (h ph) (w pw) 1", t=4, h=6, w=6, pt=2, ph=16, pw=16)
    return torch.where(hidden, torch.tensor([154, 160, 171], dtype=torch.uint8), pictures)


picture_draws = {
    ratio: masking.random_mask(1, (4, 6, 6), ratio, torch.Generator().manual_seed(3))[0]
    for ratio in (0.3, 0.8, 0.95)
}
figures.frame_panels(
    {f"{100 * ratio:.0f} % hidden": greyed(mask) for ratio, mask in picture_draws.items()}, 2.56
)

# %% [markdown]
# This is what MAViL is given: both at once, 80 % of each hidden.

# %%
video_player(
    greyed(picture_draws[0.8]),
    8 / 2.56,
    left_of(draws[0.8]),
    "What MAViL is given: 80 % of both hidden",
)

# %% [markdown]
# ## 4. Equally many in each clip
#
# Why so careful about the number? It would be simpler to hide each token with a chance of 80 %. **Guess:** how many tokens would be
# visible in each of these clips?

# %%
coins = torch.rand(3, 128, generator=torch.Generator().manual_seed(6)) >= 0.2
print("visible in each clip:", (~coins).sum(dim=1).tolist())
try:
    masking.check_mask(coins, rows=3, tokens=128)
except ValueError as error:
    print(error)

# %% [markdown]
# Rows of different lengths make no tensor `(b, k, d)`. One would have to fill up the short ones, and keep the filling out of every
# attention. With one k for all, the hidden tokens can simply be **dropped**. Their order follows from the mask by a *stable* argsort:
# False comes before True, and what is equal keeps its order. Then `gather(1, places)` takes from each row what stands at these places,
# and `scatter(1, places, values)` writes values there. **Guess** the three lines for a row of four, the second and the last visible.

# %%
row, hidden_here = torch.tensor([[10, 20, 30, 40]]), torch.tensor([[True, False, True, False]])
places = hidden_here.int().argsort(dim=1, stable=True)[:, :2]
print("where the visible ones stand:", places.tolist()[0])
print("gathered:                    ", row.gather(1, places).tolist()[0])
print(
    "scattered into zeros:        ",
    torch.zeros_like(row).scatter(1, places, row.gather(1, places)).tolist()[0],
)

# %% [markdown]
# A token is a vector, so the places are needed once for each of its numbers: `repeat(places, "b k -> b k d", d=d)`.
#
# EXERCISE keep_visible
#
# SOLUTION keep_visible


# %%
@exercise("keep_visible")
def keep_visible(tokens: Tensor, mask: Tensor) -> Tensor:
    raise NotImplementedError


check("keep_visible")

# %%
patches = rearrange(log_mel, "(t pt) (f pf) -> 1 (t f) (pt pf)", pt=16, pf=16)
tokens, mask = repeat(patches, "1 n values -> b n values", b=3), masks
kept = keep_visible(tokens, mask)

assert torch.equal(kept, masking.keep_visible(tokens, mask)), (
    "The library keeps other tokens. Is check('keep_visible') right?"
)
print(tuple(tokens.shape), "->", tuple(kept.shape), "b k values")

# %% [markdown]
# The decoder will need the way back: visible tokens at their places, and one and the same learnt vector, the **mask token**, at all others.
#
# EXERCISE put_back
#
# SOLUTION put_back


# %%
@exercise("put_back")
def put_back(visible: Tensor, mask: Tensor, fill: Tensor) -> Tensor:
    raise NotImplementedError


check("put_back")

# %%
fill = torch.full((256,), float(log_mel.mean()))  # in place of a learnt mask token
whole = put_back(kept, mask, fill)
assert torch.equal(whole, masking.put_back(kept, mask, fill)), (
    "The library puts them elsewhere. Is check('put_back') right?"
)
print("visible tokens are at their places:", torch.equal(whole[~mask], tokens[~mask]))

# %% [markdown]
# **Can anything hidden leak into the encoder?** Replace the hidden patches by noise. What was dropped cannot be seen. But if the hidden
# ones were set to 0 in place of being dropped, they would take part in attention. **Guess** both answers.

# %%
from mavil_edu.patches import patchify

model = MAViL.from_pretrained("tiny").eval()  # its patches are 8 × 64: a grid of 32 × 2
config, encoder = model.config, model.audio_encoder
small = patchify(audio.spectrogram(clip.waveform[None], config.audio), config.audio)
mask = masking.random_mask(1, config.audio.grid, 0.8, torch.Generator().manual_seed(0))
hide = rearrange(mask, "b n -> b n 1")

# %%
noisy = torch.where(
    hide, torch.randn(small.shape, generator=torch.Generator().manual_seed(0)), small
)
with torch.inference_mode():
    dropped, dropped_noisy = (encoder(patches, mask).patch_tokens for patches in (small, noisy))
    zeroed = encoder(small.masked_fill(hide, 0)).patch_tokens[~mask]
print("dropped: noise in the hidden patches changes nothing:", torch.equal(dropped, dropped_noisy))
print(
    "set to 0: visible tokens come out as if the hidden ones were dropped:",
    torch.allclose(zeroed, dropped[0], atol=1e-2),
)

# %% [markdown]
# Zeros are not nothing. Each is a token that says "as loud as the average here", takes part in attention, and costs as much as any other.
#
# ## 5. Other ways of hiding
#
# **Sound.** Single patches (*random*, heard above), whole moments (*time*), whole pitches (*frequency*), or both. A mask of moments is a
# mask of 16 columns, each repeated for its 8 tokens. **Guess:** which is the hardest to fill in? First draw the mask of moments, then
# listen, then decide; section 7 measures it.
#
# EXERCISE time_mask
#
# SOLUTION time_mask


# %%
@exercise("time_mask")
def time_mask(noise: Tensor, visible: int, f: int) -> Tensor:
    raise NotImplementedError


check("time_mask")

# %%
# one number for each of 16 moments
noise = torch.rand(1, 16, generator=torch.Generator().manual_seed(0))
by_hand = time_mask(noise, 16 - round(16 * 0.8), 8)
theirs = masking.time_mask(1, (16, 8), 0.8, torch.Generator().manual_seed(0))
assert torch.equal(by_hand, theirs), (
    "The library hides other moments. Is check('time_mask') right, and mask_by_rank, "
    "where you use it?"
)
print(f"{int(by_hand.sum()) // 8} of 16 moments hidden: {int(by_hand.sum())} of 128 tokens")

# %%
ways = {
    name: way(1, (16, 8), 0.8, torch.Generator().manual_seed(6))[0]
    for name, way in masking.AUDIO_STRATEGIES.items()
}
hidden = {name: figures.hidden_cells(mask, (16, 8), (16, 16)) for name, mask in ways.items()}
figures.spectrogram_panels(dict.fromkeys(ways, log_mel), 2.56, hidden)

# %%
player(left_of(ways["time"]), "Moments hidden")

# %%
player(left_of(ways["frequency"]), "Pitches hidden")

# %%
player(left_of(ways["time+frequency"]), "Moments and pitches hidden")

# %% [markdown]
# Now counted. `data_samples/labels.csv` tells each clip's causes, so we know when the glass lands. **Guess:** of its five landings, and of
# the eight rows of pitches, how many have at least one visible patch?

# %%
landings = (torch.tensor([0.092, 0.618, 1.129, 1.626, 2.141]) / 0.16).long()  # in which time patch
print("80 % hidden      landings heard   pitches heard")
for name, way in masking.AUDIO_STRATEGIES.items():
    drawn = rearrange(
        ~way(2000, (16, 8), 0.8, torch.Generator().manual_seed(0)), "b (t f) -> b t f", t=16
    )
    moments, pitches = drawn.any(dim=2)[:, landings], drawn.any(dim=1)
    print(f"{name:15}{100 * moments.float().mean():12.0f} %{100 * pitches.float().mean():14.0f} %")

# %% [markdown]
# Single patches leave a trace of nearly everything. Hidden moments leave all the pitches, through a keyhole, and most landings are gone.
# Hidden pitches leave every landing, and a quarter of the pitches: little to tell glass from wood by.
#
# **Picture.** Single patches, the same places all the time (*tube*), whole time patches (*frame*), rectangles (*block*).

# %% [markdown]
# EXERCISE tube_mask
#
# SOLUTION tube_mask


# %%
@exercise("tube_mask")
def tube_mask(noise: Tensor, visible: int, t: int) -> Tensor:
    raise NotImplementedError


check("tube_mask")

# %%
picture_ways = {
    name: way(1, (4, 6, 6), 0.8, torch.Generator().manual_seed(1))[0]
    for name, way in masking.VIDEO_STRATEGIES.items()
}
figures.frame_panels({name: greyed(mask) for name, mask in picture_ways.items()}, 2.56)

# %% [markdown]
# **How many stay, exactly?** Whole groups cannot give every share: 80 % of 64 moments are 51.2. **Guess:** how many of the paper's 4
# time patches does *frame* hide at 80 %, and at 90 %?

# %%
print("hidden tokens at        50 %   80 %   90 %")
for grid, names in (((64, 8), masking.AUDIO_STRATEGIES), ((4, 14, 14), masking.VIDEO_STRATEGIES)):
    for name in names:
        tokens = torch.tensor(grid).prod()
        counts = [
            int(tokens - masking.visible_count(grid, ratio, name)) for ratio in (0.5, 0.8, 0.9)
        ]
        print(f"{name:15}of {tokens:4} {counts[0]:6} {counts[1]:6} {counts[2]:6}")

# %% [markdown]
# The same in every row of a batch, always, but not always the share that was asked for. With few groups it is far off: *frame* has 4 to
# choose from, and one must stay. The little model of this course has 2 rows of pitches: there *frequency* can hide one of them and no more.
#
# ## 6. Explore
#
# Choose how sound and picture are hidden, how much, and draw again. All of it works by keyboard. **Find:**
#
# 1. the share at which half of the five landings (at 0.09, 0.62, 1.13, 1.63 and 2.14 s) are gone, for *random* and for *time*. A landing
#    is gone where no patch of its moment is visible. Draw five times: one draw proves nothing;
# 2. the way that shows the whole ball, but seldom, and a draw of *block* that hides it nearly all the time;
# 3. whether 30 % of a clip are enough to tell it: hide 70 % at random, and look at what is left. Hiding 30 % takes away no more than that.
#
# The line below the picture counts hidden patches that share a side with a visible one. Watch it while you hide more. To have a neighbour
# is not yet to be like it: whether a copy would do, section 7 measures.

# %%
from mavil_edu.explorers.masking import masking_explorer

masking_explorer(log_mel, pictures, sound_config, picture_config)

# %% [markdown]
# <details><summary>What there is to find</summary>
#
# 1. *random*: at about 92 %. A landing is lost when all 8 patches of its moment are hidden, so that four of five are left at 80 %, three
#    at 90 % and fewer than two at 95 %: 1 − 0.8⁸, 1 − 0.9⁸ and 1 − 0.95⁸ of them. *time*: at 50 to 60 %, for a moment goes as a whole.
# 2. *frame* shows the whole ball, in two frames of eight at 80 %. *block* hides it nearly always in draws 4 and 8.
# 3. They are: you see what moves and hear what strikes. So whoever hides 30 % takes away nothing that the other 70 % do not tell as well.
#
# </details>

# %% [markdown]
# ## 7. What leaks?
#
# A lazy learner does not understand anything. It answers each hidden patch with a copy of the **nearest visible** one. Here is what it
# makes of our clip. **Guess:** at which share will you notice?

# %%
from mavil_edu.losses import masked_mse, nearest_visible, normalise_patches, trivial_answers


def copied(mask: Tensor) -> Tensor:
    answer = nearest_visible(patches, mask[None], (16, 8))
    return rearrange(answer, "1 (t f) (pt pf) -> (t pt) (f pf)", t=16, pt=16)


copies = {
    "30 % hidden, and copied": copied(draws[0.3]),
    "80 % hidden, and copied": copied(draws[0.8]),
    "80 % of the moments hidden, and copied": copied(ways["time"]),
}
figures.spectrogram_panels(copies, 2.56)

# %%
sounds = {
    name: louder * audio.to_waveform(copy[None], samples=len(clip.waveform))[0]
    for name, copy in copies.items()
}
player(sounds["30 % hidden, and copied"], "30 % hidden, and copied")

# %%
player(sounds["80 % hidden, and copied"], "80 % hidden, and copied")

# %%
player(sounds["80 % of the moments hidden, and copied"], "80 % of the moments hidden, and copied")

# %% [markdown]
# At 30 % the copy passes for the clip. At 80 % tones stand where none were. The last one has lost its landings; but its pitches are right,
# though as much was hidden.
#
# Now in numbers, for the model of this course and its patches: all 24 samples, and 256 generated clips that tell the **position mean**,
# what each place usually holds. A third answer, **mean plus residual**, adds to that mean what the visible neighbours differ from theirs.
# These three are the *trivial answers*: none of them learns.

# %%
from mavil_edu.config import AugmentConfig
from mavil_edu.data.batch import evaluation_batch, to_inputs
from mavil_edu.data.folder import FolderClips
from mavil_edu.data.world import World
from mavil_edu.mavil import Masks

plain = AugmentConfig(roll=False, magnitude=False, crop=(1.0, 1.0), flip=False)
samples, _, _ = evaluation_batch(
    FolderClips(media.find_media([Path("../data_samples")]), config, plain)
)
others, _, _ = evaluation_batch(World(256, 1, config, plain, quiet=True))
inputs, usual = to_inputs(samples, config), to_inputs(others, config)

# %%
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
target, mean = {}, {}
for name, size in (("audio", config.audio), ("video", config.video)):
    target[name] = normalise_patches(patchify(getattr(inputs, name), size))
    mean[name] = normalise_patches(patchify(getattr(usual, name), size)).mean(dim=0)


def errors_of(name: str, ratio: float, way=masking.random_mask) -> dict[str, float]:
    grid = getattr(config, name).grid
    mask = way(24, grid, ratio, torch.Generator().manual_seed(0))
    return trivial_answers(target[name], mask, mask, grid, mean[name])


# %% [markdown]
# **Guess** the curves: which of the three answers gets worse as more is hidden, and which does not care?

# %%


def curves_of(name: str) -> dict[str, tuple[Tensor, Tensor]]:
    rows = [errors_of(name, ratio) for ratio in RATIOS]
    return {
        answer.replace("_", " "): (
            torch.tensor(RATIOS),
            torch.tensor([row[answer] for row in rows]),
        )
        for answer in rows[0]
    }


sound_curves = curves_of("audio")
diagrams.lines(sound_curves, "share of the sound hidden", "error on the hidden patches")

# %%
picture_curves = curves_of("video")
diagrams.lines(picture_curves, "share of the picture hidden", "error on the hidden patches")

# %%
for name, curves in (("sound", sound_curves), ("picture", picture_curves)):
    better = curves["nearest visible"][1] < curves["position mean"][1]
    print(
        f"{name}: nearest visible beats position mean up to "
        f"{100 * RATIOS[int(better.sum()) - 1]:.0f} % hidden"
    )

# %% [markdown]
# The position mean does not look at the clip, so it does not care. The nearest visible patch is good while it is near, and worse than
# useless when it is far. **Below that share a model can make its loss small by copying**, and has no need to know what a sound is.
#
# And the other ways of hiding? Say that a patch *can be copied* where the copy's error is a fifth below the position mean's, or lower.
# **Guess**, before you look: which of them can be copied at 80 %?

# %%
print("80 % hidden           nearest visible   position mean   mean plus residual   can be copied")
for name, known in (("audio", masking.AUDIO_STRATEGIES), ("video", masking.VIDEO_STRATEGIES)):
    for way, draw in known.items():
        usual_one, copy, corrected = (
            errors_of(name, 0.8, draw)[key]
            for key in ("position_mean", "nearest_visible", "mean_plus_residual")
        )
        verdict = "yes" if copy < 0.8 * usual_one else "no"
        row = f"{'sound' if name == 'audio' else 'picture'}, {way}"
        print(f"{row:22}{copy:15.2f}{usual_one:16.2f}{corrected:21.2f}{verdict:>16}")

# %% [markdown]
# Harder to look at is not harder to copy. Hidden *moments* have neighbours at the same pitch, and what rings now rang a moment ago; hidden
# *frames* are nearly the frame before. Both leak at 80 %, and the loss would be small for no good reason. *Tube* and *block* close that
# way: the same place is hidden at all times. This is our generated world, where the camera hardly moves and metal rings long; in fast
# films frames would leak less. (*frequency* is crippled here, as said: one of two rows.)
#
# ## 8. What it saves
#
# The encoder computes on the visible tokens alone. First count, for the paper's encoders, ViT-B. **Guess:** with 80 % hidden, is it five
# times less, more, or less than that?

# %%
from mavil_edu.transformer import multiply_adds

large = paper().model
for name, size in (("sound", large.audio), ("picture", large.video)):
    # and the class token
    every, some = size.tokens + 1, masking.visible_count(size.tokens, 0.8) + 1
    saved = multiply_adds(large.encoder, every) / multiply_adds(large.encoder, some)
    print(f"{name}: {every} tokens -> {some}; the encoder computes {saved:.1f} times less")

# %% [markdown]
# A little more than five times: the part that attention takes falls with the square. But the fusion sees the visible tokens of both,
# and the decoders must see **all** places. Count the whole model:

# %%


def whole_model(ratio: float) -> int:
    a, v = (masking.visible_count(size.tokens, ratio) + 1 for size in (large.audio, large.video))
    encoders = multiply_adds(large.encoder, a) + multiply_adds(large.encoder, v)
    fusion = multiply_adds(large.fusion, a + v)
    places = large.audio.tokens + 1, large.video.tokens + 1
    decoders = sum(multiply_adds(large.decoder, tokens) for tokens in places)
    return encoders + fusion + decoders


for ratio in (0.0, 0.5, 0.8, 0.9):
    less = whole_model(0) / whole_model(ratio)
    print(
        f"{100 * ratio:3.0f} % hidden: {whole_model(ratio) / 1e9:4.0f} thousand million "
        f"multiply-adds, {less:.1f} times less"
    )

# %% [markdown]
# Of one view, at 80 %, the decoders cost more than all the rest; to hide still more saves little. (MAViL encodes a second view for its
# contrast; with it encoders and decoders cost about as much: lesson 10.) Now **measure**, with our small encoder, forward
# and backward, on one thread, the best of several tries: a busy machine does not change that much.

# %%
import time
from collections.abc import Callable


def quickest(work: Callable[[], Tensor]) -> float:
    took = []
    for _ in range(6):
        begin = time.thread_time()
        work().backward()
        took.append(time.thread_time() - begin)
    return min(took)


# %%
def encoding(ratio: float) -> Callable[[], Tensor]:
    mask = masking.random_mask(64, 64, ratio, torch.Generator().manual_seed(0))
    x = torch.randn(64, 64, config.audio.patch_values, generator=torch.Generator().manual_seed(0))
    return lambda: encoder(x, mask).patch_tokens.mean()


def everything(ratio: float) -> Callable[[], Tensor]:
    drawn = Masks(
        *(
            masking.random_mask(32, 64, ratio, torch.Generator().manual_seed(seed))
            for seed in (0, 1)
        )
    )
    return lambda: sum(
        part.patches.mean() for part in model(usual.audio[:32], usual.video[:32], drawn)[:2]
    )


# %%
threads = torch.get_num_threads()
torch.set_num_threads(1)
alone, whole = (quickest(step(0.0)) / quickest(step(0.8)) for step in (encoding, everything))
torch.set_num_threads(threads)
visible = masking.visible_count(64, 0.8)
counted = multiply_adds(config.encoder, 65) / multiply_adds(config.encoder, visible + 1)
print(f"counted: the small encoder computes {counted:.1f} times less with 80 % hidden")
print("measured: the encoder is more than 2.5 times as fast:", "yes" if alone > 2.5 else "no")
print("measured: the whole model is more than twice as fast:", "yes" if whole > 2 else "no")

# %% [markdown]
# By how much exactly depends on the machine: `print(alone, whole)` shows yours. It is less than the count says: what is not a matrix
# product (norms, copies, the start of each operation) does not shrink as much. The saved time goes into larger batches and more clips,
# and memory shrinks likewise.
#
# ## 9. Why 80 %?
#
# Two forces. Hide little, and copying is enough, and it is dear. Hide nearly all, and nobody can know what was there. Between them lies
# what can be **known but not copied**. Where? Ask a model that has learnt: the shipped one, on clips it has never seen. **Guess:** at
# which share is it furthest ahead of the best trivial answer?

# %%


def learnt(ratio: float) -> dict[str, float]:
    drawn = [
        masking.random_mask(24, getattr(config, name).grid, ratio, torch.Generator().manual_seed(0))
        for name in target
    ]
    with torch.inference_mode():
        output = model(inputs.audio, inputs.video, Masks(*drawn))
    pairs = zip(target, drawn, strict=True)
    return {
        name: float(masked_mse(getattr(output, name).patches, target[name], mask))
        for name, mask in pairs
    }


ours = [learnt(ratio) for ratio in RATIOS]

# %%
compared = {}
for name, curves in (("audio", sound_curves), ("video", picture_curves)):
    best = torch.stack([values for _, values in curves.values()]).amin(dim=0)
    error = torch.tensor([row[name] for row in ours])
    compared[name] = {
        "best trivial answer": (torch.tensor(RATIOS), best),
        "learnt": (torch.tensor(RATIOS), error),
    }
diagrams.lines(compared["audio"], "share of the sound hidden", "error on the hidden patches")

# %%
diagrams.lines(compared["video"], "share of the picture hidden", "error on the hidden patches")

# %%
for what, curves in zip(("sound", "picture"), compared.values(), strict=True):
    ahead = dict(
        zip(RATIOS, (curves["best trivial answer"][1] - curves["learnt"][1]).tolist(), strict=True)
    )
    print(
        f"{what}: ahead by",
        ", ".join(f"{ahead[ratio]:.2f} at {100 * ratio:.0f} %" for ratio in (0.1, 0.5, 0.8, 0.95)),
    )

# %% [markdown]
# With a tenth of the sound hidden the copy rivals the model: there is nothing to gain by understanding. In the picture it is ahead even
# there, but a third as far as at 80 %. It is furthest ahead at about half hidden in the sound and at 80 % in the picture; at 95 % it
# begins to fail. 80 % is where the distance is large in both, and computing is cheap.
#
# **What this does not show.** The model was trained at 80 %, so other shares are new to it. And a loss says nothing of what the
# *embedding* is worth: for that, one trains a model at each share and probes it (lesson 04 trains, `mavil-edu probe` judges). The paper
# did. (Lesson 11 does it for small models, and not all of it comes out as the losses here suggest: those that practise on whole hidden
# moments, which a copy would answer, are read *better*.) As the paper's readers recall, about 80 % did best for sound and picture alike,
# and random hiding better than other ways, though structured ways look harder. Masked models of single pictures hide 75 %, those of
# video up to 90 %. To try a share yourself, half an hour:
#
# `mavil-edu pretrain --data my_clips --minutes 30 --config.objective.audio-ratio 0.3 --config.objective.video-ratio 0.3 --out runs/few`

# %% [markdown]
# ## Questions
#
# Answer with a letter, for example `quiz("why_ratio", "a")`.

# %%
quiz("why_ratio")

# %%
quiz("why_equal_rows")

# %%
quiz("why_drop")

# %% [markdown]
# ## What to remember
#
# - A random mask: noise, its rank by two argsorts, hidden where the rank is k or more; k = n − round(n · ratio).
# - Every clip hides equally many tokens, so that the visible ones make one tensor. They are dropped, not set to 0.
# - With little hidden, a copy of the neighbour answers well, and has learnt nothing. Judge every error beside the trivial answers.
# - A way of hiding is hard where copying fails: tubes and blocks in pictures. Whole moments and whole frames can be copied in our clips.
# - At 80 % the encoders compute five times less; then the decoders are the larger part of one view.
#
# **Next:** [04_masked_autoencoder](04_masked_autoencoder.ipynb): fill in what is hidden.
