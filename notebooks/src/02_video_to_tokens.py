# %% [markdown]
# # From video to tokens
#
# **The question:** four seconds of video are 15 million numbers, most of which repeat each other. Which of them does MAViL look at, and
# how does a transformer, which reads a list, know where and when each token was?
#
# **You will be able to** choose frames by time, cut them into tubelets, give each its position in three dimensions, show that a linear
# layer on patches is a convolution, and say what one token more costs.
#
# **Budget:** 1 minute of computing on two CPU cores, 1.2 GB of memory, no network, no GPU. Reading and exercises: 90 minutes.
# **Opens:** [`video.py`](../mavil_edu/video.py), [`patches.py`](../mavil_edu/patches.py), [`positions.py`](../mavil_edu/positions.py),
# [`transformer.py`](../mavil_edu/transformer.py).
# **Paper:** MAViL, [arXiv 2212.08071](https://arxiv.org/abs/2212.08071), section 3 and its implementation details.
#
# Before each cell that computes, guess what it will show. Then run it (Shift + Enter).

# %%
from pathlib import Path

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn import functional as F

from mavil_edu import diagrams, figures, media, video
from mavil_edu.config import paper, tiny
from mavil_edu.display import player, video_player
from mavil_edu.exercises import check, exercise, quiz

# %% [markdown]
# ## 1. A clip
#
# Something of metal bounces. Watch it with the sound on.

# %%
clip = media.read_clip(Path("../data_samples/002.mp4"), 2.56, 2.56, frames=64)
frames, sound = clip.frames, clip.waveform
print(tuple(frames.shape), "time height width colour")
video_player(frames, 25, sound, "All 64 frames")

# %% [markdown]
# **Guess:** how many numbers has a clip of 4 seconds at 25 frames a second and 224 × 224 pixels? How many has a page of text?

# %%
everything, seen = 4 * 25 * 224 * 224 * 3, 8 * 224 * 224 * 3
print(
    f"all of it: {everything / 1e6:.0f} million numbers; the 8 frames that MAViL takes: "
    f"{seen / 1e6:.1f} million"
)

# %% [markdown]
# ## 2. Frames by time
#
# MAViL takes 8 frames. Which ones? Divide the window into 8 equal intervals and look at the middle of each.

# %%
seconds = 2.56
times = (torch.arange(8) + 0.5) * seconds / 8
print([f"{t:.2f} s" for t in times.tolist()])

# %% [markdown]
# Each frame of a file carries a timestamp: when it begins to be shown. At time *t* a player shows the last frame that has begun.

# %%
timestamps = torch.arange(64) * 0.04  # of this file: 25 frames a second


def shown_at(times: Tensor, timestamps: Tensor) -> Tensor:
    begun = timestamps <= rearrange(times, "wanted -> wanted 1") + 1e-4
    return begun.sum(dim=1) - 1


eight = frames[shown_at(times, timestamps)]
assert torch.equal(
    eight, media.read_clip(Path("../data_samples/002.mp4"), 2.56, 2.56, frames=8).frames
)
figures.frame_panels({"8 frames, at the middle of 8 intervals": eight}, seconds)

# %% [markdown]
# EXERCISE frame_times
#
# SOLUTION frame_times


# %%
@exercise("frame_times")
def frame_times(seconds: float, frames: int) -> Tensor:
    raise NotImplementedError


check("frame_times")

# %% [markdown]
# Why not simply take every 8th frame? A phone in the dark, or a call on a bad line, drops frames. Here is such a file: after 0.64 s it
# keeps one frame in four. **Guess:** what goes wrong if frames are counted?

# %%
kept = torch.cat([torch.arange(16), torch.arange(16, 64, 4)])
few, few_stamps = frames[kept], timestamps[kept]
by_counting = ((torch.arange(8) + 0.5) * len(few) / 8).long()
by_time = shown_at(times, few_stamps)
print("wanted     ", *[f"{t:.2f}" for t in times.tolist()])
print("by counting", *[f"{t:.2f}" for t in few_stamps[by_counting].tolist()])
print("by time    ", *[f"{t:.2f}" for t in few_stamps[by_time].tolist()])

# %%
figures.frame_panels({"by counting": few[by_counting], "by time": few[by_time]}, seconds)

# %% [markdown]
# Counted frames come too early, and do not fit the sound. For a model that must learn which sound belongs to which picture, that is
# poison. Watch and listen: first counted, then by time.

# %%
video_player(few[by_counting], 8 / seconds, sound, "Counted: out of step with the sound")

# %%
video_player(few[by_time], 8 / seconds, sound, "By time: in step")

# %% [markdown]
# ## 3. Numbers for a network
#
# Colours become numbers around 0: divided by 255, less ImageNet's mean, over its standard deviation, for red, green and blue apart. The
# paper's pictures are 224 × 224. Ours are 96 × 96, and are enlarged here.

# %%
large = paper().model.video
pictures = video.fit(eight, large)
mean, std = torch.tensor(large.mean), torch.tensor(large.std)
x = rearrange((pictures / 255 - mean) / std, "t h w c -> 1 c t h w")
assert torch.equal(x, video.normalise(pictures[None], large))
print(tuple(x.shape), "b colour time height width; from", f"{x.min():.1f} to {x.max():.1f}")

# %% [markdown]
# ## 4. Tubelets
#
# A patch of a video has a length in time as well: 2 frames × 16 × 16 pixels, a **tubelet**. **Guess:** how many tubelets are there in 8
# frames of 224 × 224, and how many numbers are in one?

# %%
from mavil_edu.patches import kernel_to_linear, patchify, unpatchify

patches = rearrange(x, "b c (t pt) (h ph) (w pw) -> b (t h w) (pt ph pw c)", pt=2, ph=16, pw=16)
assert torch.equal(patches, patchify(x, large))
print(tuple(patches.shape), "b (t h w) (pt ph pw c)")

# %% [markdown]
# 4 × 14 × 14 = 784 tokens of 1,536 numbers. The order is time, then rows, then columns. The model of this course, `tiny`, sees 32 × 32
# pixels and cuts each frame by itself into columns of 32 × 4: short in time, to tell *when* a thing strikes, and tall, for what falls
# stays in one. Tried and measured: docs/small-scale.md.

# %%
config = tiny().model.video
small_pictures = video.fit(eight, config)
small = video.normalise(small_pictures[None], config)
small_patches = rearrange(
    small, "b c (t pt) (h ph) (w pw) -> b (t h w) (pt ph pw c)", pt=1, ph=32, pw=4
)
assert torch.equal(small_patches, patchify(small, config))
print(tuple(small.shape), "->", tuple(small_patches.shape))

# %% [markdown]
# EXERCISE tokens_of
#
# SOLUTION tokens_of


# %%
@exercise("tokens_of")
def tokens_of(frames: int, height: int, width: int) -> int:
    raise NotImplementedError


check("tokens_of")

# %% [markdown]
# EXERCISE patchify_video
#
# SOLUTION patchify_video


# %%
@exercise("patchify_video")
def patchify_video(video: Tensor) -> Tensor:
    raise NotImplementedError


check("patchify_video")

# %% [markdown]
# **What does one hold?** Two looks at the same place, 0.32 s apart. Between them something moves, or nothing does.

# %%
looks = rearrange(
    pictures / 255, "(t pt) (h ph) (w pw) c -> (t h w) pt (ph pw c)", pt=2, ph=16, pw=16
)
change = (looks[:, 1] - looks[:, 0]).abs().mean(dim=1)  # (784,)
most, t = int(change.argmax()), int(change.argmax()) // 196
still = t * 196 + 3 * 14 + 2  # at the same time, beside it
diagrams.tubelets(pictures, (2, 16, 16), {"most movement": most, "nothing moves": still})

# %% [markdown]
# Sound and picture share their time. What was to be heard in those 0.64 s?

# %%
part = sound[round(t * 0.64 * 16_000) : round((t + 1) * 0.64 * 16_000)]
player(part, f"During time patch {t}")

# %% [markdown]
# **Guess:** how many of the 784 tubelets change by more than 2 % of the brightness between their two frames?

# %%
print(
    f"{100 * (change > 0.02).float().mean():.0f} % of the tubelets change; "
    "the others show the same twice"
)

# %% [markdown]
# Most of a video repeats itself. That is why so much of it can be hidden, and still be guessed: see `03_masking`.
#
# ## 5. Where was that token?
#
# Attention sees a set: without more help it does not know the order of its tokens. **Guess:** if the tokens are shuffled, what happens to
# its output?

# %%
from mavil_edu.transformer import Attention, Block, multiply_adds

generator = torch.Generator().manual_seed(0)
shuffled = torch.randperm(64, generator=generator)
torch.manual_seed(0)
attention, tokens = Attention(width=96, heads=3), torch.randn(1, 64, 96, generator=generator)
same = torch.allclose(attention(tokens[:, shuffled]), attention(tokens)[:, shuffled], atol=1e-5)
print("the same outputs, only shuffled likewise:", same)

# %% [markdown]
# To attention these two clips are the same:

# %%
mixed = video.denormalise(unpatchify(small_patches[:, shuffled], config), config)[0]
figures.frame_panels({"the clip": small_pictures, "its tokens, shuffled": mixed}, seconds)

# %% [markdown]
# So each token is told its place, by numbers that are added to it. For one axis: sines and cosines of the place at many
# wavelengths, from 2π to nearly 10,000 · 2π. Like the hands of a clock: quick ones tell neighbours apart, slow ones tell far from near.

# %%
from mavil_edu.positions import sincos_positions


def one_axis(places: Tensor, width: int) -> Tensor:
    frequencies = 10_000.0 ** -(torch.arange(width // 2) / (width // 2))
    angles = rearrange(places, "n -> n 1") * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


table = one_axis(torch.arange(14.0), 256)
assert torch.allclose(table, sincos_positions((14,), 256)[1:], atol=1e-5)
diagrams.maps(
    {"14 places, 256 numbers each": table},
    ("number in the vector (sines | cosines)", 0, 256),
    ("place", 0, 14),
)

# %% [markdown]
# EXERCISE sincos_1d
#
# SOLUTION sincos_1d


# %%
@exercise("sincos_1d")
def sincos_1d(places: Tensor, width: int) -> Tensor:
    raise NotImplementedError


check("sincos_1d")

# %% [markdown]
# For three axes the width is shared out: a third for time, a third for the row, a third for the column.

# %% [markdown]
# EXERCISE sincos_3d
#
# SOLUTION sincos_3d


# %%
@exercise("sincos_3d")
def sincos_3d(t: int, h: int, w: int, width: int) -> Tensor:
    raise NotImplementedError


check("sincos_3d")

# %% [markdown]
# In front of each list stands one more token, the **class token**: it belongs to no patch, goes through all blocks, and is left out when a
# clip's tokens are averaged (a habit of ViT that MAViL keeps). Its position is a row of zeros.

# %%
t_part, h_part, w_part = (one_axis(torch.arange(float(size)), 256) for size in large.grid)
by_hand = torch.cat(
    [
        repeat(t_part, "t d -> (t h w) d", h=14, w=14),
        repeat(h_part, "h d -> (t h w) d", t=4, w=14),
        repeat(w_part, "w d -> (t h w) d", t=4, h=14),
    ],
    dim=1,
)
assert torch.allclose(by_hand, sincos_positions(large.grid, 768)[1:], atol=1e-5)
print(tuple(by_hand.shape), "(t h w) d")

# %% [markdown]
# How similar is each place to one place, time patch 1, row 6, column 4? **Guess** the picture before you draw it. `i d, j d -> i j`
# compares all with all; we need one row of it.

# %%
unit = by_hand / by_hand.norm(dim=1, keepdim=True)
chosen = 1 * 196 + 6 * 14 + 4
similarity = rearrange(unit @ unit[chosen], "(t h w) -> t h w", t=4, h=14, w=14)
diagrams.similar_places(similarity, (1, 6, 4))

# %% [markdown]
# A cross, at every time: places that share a row, a column or a moment share a third of their vector, and near ones nearly do.
# Nothing of this was learnt. What the network does with it is.
#
# ## 6. A linear layer on patches is a convolution
#
# Each patch becomes a token by one linear layer. Published code writes a convolution whose step is as long as its kernel. **Guess:**
# are they the same, and if so, what has to be rearranged?

# %%
kernel = 0.05 * torch.randn(96, 3, 2, 8, 8, generator=generator)  # d c pt ph pw
tubelets = rearrange(small, "b c (t pt) (h ph) (w pw) -> b (t h w) (pt ph pw c)", pt=2, ph=8, pw=8)
convolved = rearrange(F.conv3d(small, kernel, stride=(2, 8, 8)), "b d t h w -> b (t h w) d")
weight = rearrange(kernel, "d c pt ph pw -> d (pt ph pw c)")
assert torch.equal(weight, kernel_to_linear(kernel))
print("the same tokens:", torch.allclose(convolved, tubelets @ weight.T, atol=1e-4))

# %% [markdown]
# Kernels do not overlap, so each looks at one patch only: a dot product of the same numbers in another order. We write it as a linear
# layer because hidden patches can then be dropped **before** it, and cost nothing.

# %% [markdown]
# EXERCISE conv_as_linear
#
# SOLUTION conv_as_linear


# %%
@exercise("conv_as_linear")
def conv_as_linear(patches: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    raise NotImplementedError


check("conv_as_linear")

# %% [markdown]
# One thing the convolution teaches: a kernel for pictures can start a video model. Repeat it over the 2 frames and halve it. On a
# video that stands still, it must give what the picture's kernel gives.

# %%
for_pictures = 0.05 * torch.randn(96, 3, 8, 8, generator=generator)
for_video = repeat(for_pictures, "d c ph pw -> d c pt ph pw", pt=2) / 2
standing = repeat(small[:, :, 0], "b c h w -> b c two h w", two=2)
one = F.conv2d(small[:, :, 0], for_pictures, stride=8)
two = F.conv3d(standing, for_video, stride=(2, 8, 8))[:, :, 0]
print("the same on a video that stands still:", torch.allclose(one, two, atol=1e-4))

# %% [markdown]
# ## 7. What does a token cost?
#
# In each block, every token goes through matrices by itself: qkv, projection, and the two of the MLP: 12 d² multiply-adds a token.
# Attention compares each with each: 2 n² d. **Guess:** with d = 768, from how many tokens on does attention cost more?

# %%
d = 768
n = torch.logspace(1.5, 5.3, 200).double()
alone, together = 12 * n * d**2, 2 * n**2 * d
print(f"equal at n = 6 d = {6 * d} tokens")
diagrams.lines(
    {"each token alone": (n, alone), "attention": (n, together)},
    "tokens",
    "multiply-adds a block",
    log=True,
)

# %% [markdown]
# EXERCISE attention_cost
#
# SOLUTION attention_cost


# %%
@exercise("attention_cost")
def attention_cost(tokens: int, width: int, heads: int) -> int:
    raise NotImplementedError


check("attention_cost")

# %% [markdown]
# Count it for real: PyTorch can count while a block of the library runs. It counts multiplications and additions apart, hence the 2.

# %%
from torch.utils.flop_counter import FlopCounterMode

from mavil_edu.config import TransformerConfig

block = Block(d, heads=12, mlp_ratio=4)
for name, count in {"20 % of a video": 157, "a sound": 512, "a video": 784, "both": 1296}.items():
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        block(torch.zeros(1, count, d), maps={})
    assert counter.get_total_flops() == 2 * multiply_adds(TransformerConfig(d, 1, 12), count)
    share = 2 * count**2 * d / multiply_adds(TransformerConfig(d, 1, 12), count)
    print(
        f"{name:16} {count:5} tokens {counter.get_total_flops() / 2e9:5.1f} thousand million "
        f"multiply-adds, attention {100 * share:2.0f} %"
    )

# %% [markdown]
# At MAViL's lengths, attention is the smaller part: five times fewer tokens cost a little more than five times less. A token for every
# sample of 10 s of sound would be another matter: look at 160,000 in the curve.
#
# And measured? Processor time on one thread, the best of several tries: a busy machine does not change that much.

# %%
import time


def quickest(count: int) -> float:
    x, tries = torch.randn(1, count, d, generator=generator), []
    for _ in range(5):
        begin = time.thread_time()
        with torch.inference_mode():
            block(x)
        tries.append(time.thread_time() - begin)
    return min(tries)


# %%
threads = torch.get_num_threads()
torch.set_num_threads(1)
ratio = quickest(784) / quickest(157)
torch.set_num_threads(threads)
print("784 tokens take more than three times as long as 157:", "yes" if ratio > 3 else "no")

# %% [markdown]
# This is what masking buys: with 80 % of the tokens hidden, the encoder computes on the rest alone.

# %% [markdown]
# ## Questions
#
# Answer with a letter, for example `quiz("why_two_frames", "a")`.

# %%
quiz("why_two_frames")

# %%
quiz("twice_the_tokens")

# %%
quiz("without_positions")

# %% [markdown]
# ## What to remember
#
# - Frames are chosen by their time, never by counting; else sound and picture drift apart.
# - 8 frames of 224 × 224 → 4 × 14 × 14 tubelets of 2 × 16 × 16 = 784 tokens, in the order time, row, column.
# - Attention sees a set; sine-cosine positions tell each token when and where it was.
# - A linear layer on patches is a convolution whose step is its kernel's size.
# - A token costs 12 d² by itself, and 2 n d in attention; below 6 d tokens its own part is the larger.
#
# **Next:** `03_masking`: hide most of it.
