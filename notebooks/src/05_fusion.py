# %% [markdown]
# # Where sound and picture meet
#
# **The question:** a ball bounces; you see it and you hear it. Until now the model kept the two apart. Where do they meet, what may pass
# between them, and does hearing help seeing?
#
# **You will be able to** write joint attention and bottleneck fusion by hand, prove what can pass through them and what cannot, count what
# they cost, measure whether a model uses one sense for the other, and read an attention map without being fooled by it.
#
# **Budget:** 2 minutes of computing on two CPU cores, 1.2 GB of memory, no network, no GPU. Reading and exercises: 90 minutes.
# **Opens:** [`fusion.py`](../mavil_edu/fusion.py), [`transformer.py`](../mavil_edu/transformer.py), [`mavil.py`](../mavil_edu/mavil.py),
# [`data/factors.py`](../mavil_edu/data/factors.py).
# **Paper:** MAViL, [arXiv 2212.08071](https://arxiv.org/abs/2212.08071), section 3; bottlenecks: Nagrani et al. 2021 (MBT).
#
# Before each cell that computes, guess what it will show. Then run it (Shift + Enter).

# %%
import copy
from dataclasses import replace

import torch
from einops import pack, rearrange, reduce, repeat, unpack
from torch import Tensor

from mavil_edu import MAViL, audio, diagrams, draw_masks, figures, fusion_pictures
from mavil_edu.config import AugmentConfig, paper, small, tiny_squares

# %% [markdown]
# ## 1. Two lists of tokens
#
# 128 generated clips that the model never saw. They are generated, so each cause is known: what was seen and heard alike (material, size,
# the moments of impact), what was only seen (background, lamp, place), what was only heard (room, background sound). Here is one.
#
# The model is `tiny-squares`: lesson 02's `tiny`, but with square patches in its pictures. It learns a little less, and it can be asked
# *where* in the picture something is.
# %%
from mavil_edu.data.batch import collate, to_inputs
from mavil_edu.data.world import World
from mavil_edu.data.world_picture import render_video
from mavil_edu.display import player, video_player
from mavil_edu.exercises import check, exercise, quiz

model = MAViL.from_pretrained("tiny-squares")  # comes with the package
config = model.config
no_change = AugmentConfig(roll=False, magnitude=False, crop=(1.0, 1.0), flip=False)
held_out = World(128, 2, config, no_change, quiet=True)
parts = (
    to_inputs(collate([held_out.sample(clip, None) for clip in few]), config)
    for few in torch.arange(128).view(8, 16).tolist()
)
some = next(parts)  # sixteen clips are enough to take a fusion apart
inputs = type(some)(*map(torch.cat, zip(some, *parts, strict=True)))

# %%
one = 4
example = held_out.sample(one, None)
smooth = render_video(held_out.factors[one : one + 1], torch.arange(32) * 0.08, 80, 80)[0]
loud = 0.3 * example.waveform / example.waveform.abs().max()
video_player(smooth, 12.5, loud, f"Clip {one}, made louder")

# %% [markdown]
# Two encoders make two lists of tokens. **Guess:** another picture with the same sound: which of the sound's tokens change?

# %%
from mavil_edu.encoder import Tokens
from mavil_edu.patches import patchify

with torch.no_grad():
    a = model.audio_encoder(patchify(some.audio, config.audio))
    v = model.video_encoder(patchify(some.video, config.video))
print("sound  ", tuple(a.class_token.shape), tuple(a.patch_tokens.shape), "b n d")
print("picture", tuple(v.class_token.shape), tuple(v.patch_tokens.shape), "b n d")

# %% [markdown]
# None: the encoders never meet. Whatever passes from one list to the other, passes in the **fusion**. To test a fusion, ask for a
# derivative: does any number of the fused sound change when a picture token moves a little?


# %%
def depends(fusion) -> bool:
    """Does the fused sound depend on the picture?"""
    picture = v.patch_tokens[:1].clone().requires_grad_()
    sound, _ = fusion(
        Tokens(a.class_token[:1], a.patch_tokens[:1]), Tokens(v.class_token[:1], picture)
    )
    total = sound.patch_tokens.square().sum() + 0 * picture.sum()
    return bool(torch.autograd.grad(total, picture)[0].any())


# %%
from mavil_edu.fusion import make_fusion

no_fusion = make_fusion(replace(config, fusion_kind="none"))
print("no fusion:   ", "depends" if depends(no_fusion) else "cannot depend")
print("joint fusion:", "depends" if depends(model.fusion) else "cannot depend")

# %% [markdown]
# Without fusion, MAViL is two masked autoencoders side by side. No amount of training changes that: the derivative is exactly 0.
#
# ## 2. Joint attention
#
# The simplest meeting: put both lists into one, and let a transformer attend to all of it. Two blocks, in MAViL. `pack` joins along the
# axis with the star and remembers what stood where; `unpack` takes it apart.

# %%
with torch.no_grad():
    x, shapes = pack([a.class_token, a.patch_tokens, v.class_token, v.patch_tokens], "b * d")
    for block in model.fusion.transformer.blocks:
        x = block(x)
    _, heard, _, seen = unpack(x, shapes, "b * d")
    library_a, library_v = model.fusion(a, v)
assert torch.equal(heard, library_a.patch_tokens) and torch.equal(seen, library_v.patch_tokens)
print("1 + 64 + 1 + 64 =", x.shape[1], "tokens, as the library has them")

# %% [markdown]
# EXERCISE fuse
#
# SOLUTION fuse


# %%
@exercise("fuse")
def fuse(
    audio_class: Tensor, audio: Tensor, video_class: Tensor, video: Tensor, block
) -> list[Tensor]:
    raise NotImplementedError


check("fuse")

# %% [markdown]
# Where in a block do they meet? LayerNorm and MLP work on each token alone. Only attention looks at others: each token asks (query), all
# answer (key), and it takes the mean of what they hold (value), weighted by how well the answers fit.

# %%
block = model.fusion.transformer.blocks[0]
with torch.no_grad():
    x, _ = pack([*a, *v], "b * d")
    q, k, _ = rearrange(
        block.attn.qkv(block.norm1(x)), "b n (qkv heads e) -> qkv b heads n e", qkv=3, heads=3
    )
    by_hand = torch.einsum("bhie,bhje->bhij", q, k).div(q.shape[-1] ** 0.5).softmax(dim=-1)
    maps = {}
    model.encode(some.audio, some.video, maps=maps)
assert torch.allclose(by_hand, maps["fusion.0"], atol=1e-5)
print(
    tuple(by_hand.shape), "b heads i j; each row sums to", round(float(by_hand.sum(-1).mean()), 3)
)

# %% [markdown]
# EXERCISE attention_map
#
# SOLUTION attention_map


# %%
@exercise("attention_map")
def attention_map(q: Tensor, k: Tensor) -> Tensor:
    raise NotImplementedError


check("attention_map")

# %% [markdown]
# The map has four quarters. On the diagonal, sound asks sound and picture asks picture. The other two are where they meet. **Guess:** if
# attention were spread evenly, how much of it would each token give to the other sense?

# %%
# the mean over clips and heads
fusion_pictures.attention_table(maps["fusion.0"].mean(dim=(0, 1)), 65)

# %% [markdown]
# Even would be 50 %. Look for slanted lines, tokens that ask their own place at other times, and for stripes from left to right, picture
# tokens that listen more than others do. What this is worth comes later; first, what it makes possible. Which pairs are the two quarters
# where the senses meet?

# %% [markdown]
# EXERCISE cross_modal_mask
#
# SOLUTION cross_modal_mask


# %%
@exercise("cross_modal_mask")
def cross_modal_mask(audio: int, video: int) -> Tensor:
    raise NotImplementedError


check("cross_modal_mask")

# %% [markdown]
# A pair is cut by setting its score to −∞ before the softmax: its weight is then exactly 0. **Guess:** a joint block without these pairs
# computes for the sound the same as …?


# %%
def block_without(block, x: Tensor, forbidden: Tensor) -> Tensor:
    q, k, v = rearrange(
        block.attn.qkv(block.norm1(x)),
        "b n (qkv heads e) -> qkv b heads n e",
        qkv=3,
        heads=block.attn.heads,
    )
    scores = torch.einsum("bhie,bhje->bhij", q, k) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(forbidden, -torch.inf).softmax(dim=-1)
    x = x + block.attn.proj(rearrange(weights @ v, "b heads n e -> b n (heads e)"))
    return x + block.mlp(block.norm2(x))


# %%
with torch.no_grad():
    whole, cut = x, x
    for block in model.fusion.transformer.blocks:
        whole = block_without(block, whole, torch.zeros(130, 130, dtype=torch.bool))
        cut = block_without(block, cut, cross_modal_mask(65, 65))
    alone, _ = model.fusion(a, None)
print(
    "nothing cut: the same as the library:          ",
    torch.allclose(whole[:, 1:65], library_a.patch_tokens, atol=1e-4),
)
print(
    "cut: the same as the sound through it all alone:",
    torch.allclose(cut[:, 1:65], alone.patch_tokens, atol=1e-4),
)

# %% [markdown]
# So these two quarters are all that joins the senses. Everything between sound and picture in MAViL is in them.
#
# ## 3. Bottlenecks
#
# Must every sound token see every picture token? MBT (attention bottlenecks) says no: each modality attends to itself and to a few shared
# tokens. After each layer both have their own copy of these; the mean of the copies goes on. Each modality has blocks of its own. The
# shipped model has joint attention; this one has fresh weights, which is enough to see what *can* pass.

# %%
torch.manual_seed(0)
mbt = make_fusion(replace(config, fusion_kind="bottleneck", bottlenecks=4))
with torch.no_grad():
    sound, picture = torch.cat(a, dim=1), torch.cat(v, dim=1)
    shared = repeat(mbt.bottlenecks, "m d -> b m d", b=len(sound))
    for own_a, own_v in zip(mbt.audio.blocks, mbt.video.blocks, strict=True):
        x, y = own_a(torch.cat([sound, shared], dim=1)), own_v(torch.cat([picture, shared], dim=1))
        sound, picture = x[:, :65], y[:, :65]
        shared = (x[:, 65:] + y[:, 65:]) / 2
    library_a, library_v = mbt(a, v)
assert torch.allclose(sound[:, 1:], library_a.patch_tokens, atol=1e-5)
assert torch.allclose(picture[:, 1:], library_v.patch_tokens, atol=1e-5)

# %% [markdown]
# EXERCISE share_bottlenecks
#
# SOLUTION share_bottlenecks


# %%
@exercise("share_bottlenecks")
def share_bottlenecks(audio: Tensor, video: Tensor, m: int) -> tuple[Tensor, Tensor]:
    raise NotImplementedError


check("share_bottlenecks")

# %% [markdown]
# **Guess:** with one layer, two, three: does the sound depend on the picture? And if after each layer the shared tokens are replaced by
# zeros?

# %%
for layers in (1, 2, 3):
    fusion = make_fusion(replace(config, fusion_kind="bottleneck", fusion_depth=layers))
    print(
        f"{layers} layer{'s' * (layers > 1)}:",
        "depends" if depends(fusion) else "cannot depend",
        end="; ",
    )
    fusion.exchange = lambda written: torch.zeros_like(written[0])
    print("shared tokens zeroed:", "depends" if depends(fusion) else "cannot depend")

# %%
quiz("two_layers")

# %% [markdown]
# In the first layer the picture writes into its copy, then the copies are averaged, in the second layer the sound reads. One layer is not
# enough, and with zeros in the way nothing passes at all: the bottlenecks are the only way.
#
# ## 4. What each costs
#
# Attention compares each token with each: joint, (n + k)² comparisons; with m bottlenecks, (n + m)² + (k + m)². **Guess:** how much does
# that save of the *whole* fusion, at the paper's size, 513 + 785 tokens?

# %%
# of all its products; a test compares it with PyTorch's own counter
from mavil_edu.transformer import multiply_adds

for title, sizes, n, k in (
    ("tiny-squares, complete", config, 65, 65),
    ("paper, complete", paper().model, 513, 785),
    ("paper, 80 % hidden", paper().model, 103, 158),
):
    joint = multiply_adds(sizes.fusion, n + k) / 1e6
    bottleneck = (multiply_adds(sizes.fusion, n + 4) + multiply_adds(sizes.fusion, k + 4)) / 1e6
    pairs, fewer = (n + k) ** 2, (n + 4) ** 2 + (k + 4) ** 2
    print(
        f"{title}: comparisons {pairs:,} → {fewer:,} ({100 * (1 - fewer / pairs):.0f} % fewer);",
        end=" ",
    )
    print(
        f"all in all {joint:,.0f} → {bottleneck:,.0f} million multiply-adds "
        f"({100 * (bottleneck / joint - 1):+.0f} %)"
    )

# %% [markdown]
# Half of the comparisons, but at these lengths comparing is the small part (see `02_video_to_tokens`): with most tokens hidden the
# bottlenecks save next to nothing, and they need a second set of blocks. Their point is another: they force each sense to sum up what
# the other needs. The savings come with longer lists.

# %%
n = torch.logspace(1.5, 5, 200).double()
joint = 4 * n**2
diagrams.lines(
    {"joint": (n, joint), "4 bottlenecks": (n, 2 * (n + 4) ** 2)},
    "tokens of each modality",
    "comparisons a layer",
    log=True,
)

# %%
quiz("why_bottlenecks")

# %% [markdown]
# ## 5. Does hearing help seeing?
#
# That something *can* pass says nothing about whether the model uses it. The test: fill in a clip's hidden pictures with the sound of
# **another** clip, a stranger's. A model that does not listen makes the same errors. Beside it stand two bars: no partner at all, and
# what needs no learning.

# %%
from mavil_edu.losses import masked_mse, trivial_answers
from mavil_edu.mavil import Masks, patch_targets

# ↓ the budget of this lesson
device, steps, clips = ("cuda", 3000, 8192) if torch.cuda.is_available() else ("cpu", 160, 512)


def generated(clips: int, seed: int) -> tuple[Tensor, Tensor]:
    """What clips sound and look like, as the model takes them;
    in 16 bits and little by little, for memory's sake.
    """
    sides = [
        torch.empty(clips, *side.shape[1:], dtype=torch.float16)
        for side in (inputs.audio, inputs.video)
    ]
    for few in torch.arange(clips).split(32):
        world = World(len(few), 1000 * seed + int(few[0]), config, no_change, quiet=True)
        given = to_inputs(collate([world.sample(clip, None) for clip in range(len(few))]), config)
        sides[0][few], sides[1][few] = given.audio.half(), given.video.half()
    return tuple(sides)


# %%
def to_learn(few: Tensor):
    return patch_targets(heard[few].float(), seen[few].float(), config)


(heard, seen), targets = generated(clips, 1), patch_targets(inputs.audio, inputs.video, config)
means = {"audio": 0, "video": 0}  # the mean patch of each place
for few in torch.arange(clips).split(32):
    means = {
        side: mean + getattr(to_learn(few), side).sum(dim=0) / clips for side, mean in means.items()
    }
rows, objective = len(inputs.audio), tiny_squares().objective
own, stranger = torch.arange(rows), torch.arange(rows).roll(1)


# %%
def error(model: MAViL, side: str, masks: Masks, partner: Tensor) -> float:
    """The mean squared error over one side's hidden patches,
    with the other side of clip `partner[i]` in place of clip i's.
    """
    errors, model = [], model.cpu().eval()
    for few in torch.arange(rows).split(32):
        audio = inputs.audio[few if side == "audio" else partner[few]]
        video = inputs.video[few if side == "video" else partner[few]]
        hidden = Masks(masks.audio[few], masks.video[few])
        with torch.inference_mode():
            said = getattr(model(audio, video, hidden), side).patches
        errors.append(masked_mse(said, getattr(targets, side)[few], getattr(hidden, side)))
    return float(sum(errors) / len(errors))


# %%
def best_trivial(side: str, masks: Masks) -> float:
    """The best of the answers without learning: mean patch, nearest visible patch,
    or the mean corrected by visible neighbours.
    """
    target, hidden = getattr(targets, side), getattr(masks, side)
    return min(
        trivial_answers(target, hidden, hidden, getattr(config, side).grid, means[side]).values()
    )


# %% [markdown]
# First as the model was trained: 80 % of both hidden. "Nothing" hides the partner entirely. **Guess:** who needs whom more?

# %%
masks = draw_masks(rows, config, objective, torch.Generator().manual_seed(0))  # 80 % of both
everything = torch.ones(rows, 64, dtype=torch.bool)
nothing = torch.zeros(rows, 64, dtype=torch.bool)
unseen, unheard = Masks(masks.audio, everything), Masks(everything, masks.video)
found, bars = {}, {}
for title, side, without in (
    ("the hidden sound", "audio", unseen),
    ("the hidden picture", "video", unheard),
):
    partners = {
        "its own": (masks, own),
        "a stranger's": (masks, stranger),
        "nothing": (without, own),
    }
    found[title] = {name: error(model, side, *given) for name, given in partners.items()}
    bars[title] = {"best trivial answer": best_trivial(side, masks)}
fusion_pictures.worth_of_a_partner(found, bars)

# %%
for title, errors in found.items():
    worse = errors["a stranger's"] / errors["its own"] - 1
    print(
        f"{title}: a stranger's partner makes it {100 * worse:.0f} % worse, which is",
        "little" if worse < 0.15 else "much",
    )

# %%
quiz("mismatched_sound")

# %% [markdown]
# The model reconstructs well, far below the trivial answer, and yet hardly listens. It does not have to: the visible fifth of a picture
# tells more of the rest than any sound. **Guess:** now hide *all* of one side. Then only the partner can help. How good is it?

# %%
no_sound, no_picture = Masks(everything, nothing), Masks(nothing, everything)
neither = Masks(everything, everything)


def all_hidden(model: MAViL) -> dict[str, dict[str, float]]:
    found = {}
    for title, side, hidden in (
        ("sound from sight", "audio", no_sound),
        ("picture from sound", "video", no_picture),
    ):
        partners = {
            "its own": (hidden, own),
            "a stranger's": (hidden, stranger),
            "nothing": (neither, own),
        }
        found[title] = {name: error(model, side, *given) for name, given in partners.items()}
    return found


# %%
mean_patch = {
    "sound from sight": {"mean patch": best_trivial("audio", no_sound)},
    "picture from sound": {"mean patch": best_trivial("video", no_picture)},
}
before = all_hidden(model)
for title, errors in before.items():
    print(
        f"{title}: worse than the mean patch: "
        f"{'yes' if errors['its own'] > mean_patch[title]['mean patch'] else 'no'}"
    )
fusion_pictures.worth_of_a_partner(before, mean_patch)

# %% [markdown]
# Worse than someone who always draws the mean patch, and it matters little whose partner it gets. Nothing is broken: in training, a fifth
# of each side was always visible. A model does what it was asked to do, and this it was never asked.
#
# ## 6. Ask for it
#
# So ask: go on from these weights (on a GPU: begin anew, with a larger model), and in each step hide **all** of one side and nothing of
# the other. One line makes it another task.
# First, though: how much *could* one know? Nobody can see the room's echo. The generated world can tell: take a clip, keep what is shared,
# draw everything that is only heard anew, sixteen times; the mean of these is the answer of somebody who reads every shared cause off the
# picture.

# %%
from mavil_edu.data.factors import HEARD_ONLY, SEEN_ONLY, sample_factors
from mavil_edu.data.world_sound import render_audio
from mavil_edu.losses import normalise_patches
from mavil_edu.video import normalise

shown, times = 24, (torch.arange(8) + 0.5) * 0.32
many = [clip for clip in range(shown) for _ in range(16)]
other = sample_factors(len(many), 9)
for_sound, for_picture = (
    replace(held_out.factors[many], **{name: getattr(other, name) for name in unknown})
    for unknown in (HEARD_ONLY, SEEN_ONLY)
)


# %%
def redrawn(side: str, clip: int) -> Tensor:
    """A clip sixteen times, the same in all that both senses tell: patches, (16, n, values)."""
    part = slice(16 * clip, 16 * clip + 16)
    if side == "audio":
        return patchify(
            audio.spectrogram(render_audio(for_sound[part], 2.56), config.audio), config.audio
        )
    return patchify(
        normalise(render_video(for_picture[part], times, 32, 32), config.video), config.video
    )


# %%
for title, side in (("sound from sight", "audio"), ("picture from sound", "video")):
    target, knowing = getattr(targets, side)[:shown], 0.0
    for clip in range(shown):
        patches = normalise_patches(redrawn(side, clip))
        strays = patches.var(dim=0).mean() / 16  # sixteen are few: so far their mean strays
        knowing += float((patches.mean(dim=0) - target[clip]).square().mean() - strays) / shown
    mean = float((means[side] - target).square().mean())
    mean_patch[title]["all shared causes known"] = mean_patch[title]["mean patch"] * knowing / mean
    print(
        f"{title}: who knows all shared causes errs {100 * (1 - knowing / mean):.0f} % less than "
        "the mean patch"
    )

# %% [markdown]
# Much of a sound can be known from sight: what it is made of, how large it is, when it strikes. Of a picture little can be known from
# sound: background and place cannot be heard. No model can do better than this, so we know what to hope for.
#
# Now train. **Guess:** after two minutes, which of the two gets how far?


# %%
def hide_one(rows: int, sound: bool) -> Masks:
    # ↓ ratio 1 for one side, 0 for the other
    return Masks(torch.full((rows, 64), sound), torch.full((rows, 64), not sound))


# %%
from mavil_edu.mavil import stage_one_losses
from mavil_edu.optimiser import learning_rate, make_optimiser

asked, course, base_lr = copy.deepcopy(model), {0: before}, 2.4e-2
if device == "cuda":  # a larger model, from nothing
    asked = MAViL(replace(config, encoder=small().model.encoder, decoder=small().model.decoder))
    base_lr = 1.2e-2
    course = {0: all_hidden(asked)}
plan = replace(tiny_squares().train, steps=steps, base_lr=base_lr)
optimiser, generator = make_optimiser(asked.to(device), plan), torch.Generator().manual_seed(0)


# %%
def step_on(step: int) -> None:
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(step, plan)
    chosen = torch.randint(clips, (32,), generator=generator)
    masks = hide_one(32, sound=step % 2 == 0)
    audio, video = heard[chosen].float().to(device), seen[chosen].float().to(device)
    masks = Masks(*(mask.to(device) for mask in masks))
    output = asked.train()(audio, video, masks)
    stage_one_losses(output, audio, video, *masks, config, objective).total.backward()
    torch.nn.utils.clip_grad_norm_(asked.parameters(), 3.0)
    optimiser.step()
    optimiser.zero_grad()


# %%
for step in range(steps):
    step_on(step)
    if (step + 1) % (steps // 4) == 0:
        course[step + 1] = all_hidden(asked)
        asked.to(device)
after = course[steps]
fusion_pictures.worth_of_a_partner(after, mean_patch, percents=False)

# %%
for title, errors in after.items():
    ours, strange, bars = errors["its own"], errors["a stranger's"], mean_patch[title]
    print(
        f"{title}: below the mean patch: {'yes' if ours < 0.995 * bars['mean patch'] else 'no'};",
        end=" ",
    )
    print(
        f"a stranger's partner more than 1.5 % worse: {'yes' if strange > 1.015 * ours else 'no'};",
        end=" ",
    )
    half = (bars["mean patch"] + bars["all shared causes known"]) / 2
    print(f"half of what could be known: {'yes' if ours < half else 'no'}")

# %%
places = torch.tensor(list(course))
curves = {
    f"{title}, {who}": (
        places,
        torch.tensor(
            [look[title][who] / mean_patch[title]["mean patch"] for look in course.values()]
        ),
    )
    for title in after
    for who in ("its own", "a stranger's")
}
curves["mean patch"] = (places, torch.ones(len(places)))
fell = all(
    curves[f"{title}, its own"][1][-1] < 0.995 < curves[f"{title}, its own"][1][0]
    for title in after
)
sentence = (
    f"Errors over {steps} steps as shares of the mean patch's; "
    f"with its own partner both fall below it: {'yes' if fell else 'no'}."
)
replace(diagrams.lines(curves, "step", "error / the mean patch's"), sentence=sentence)

# %% [markdown]
# Now the partner matters, for both: one's own beats the mean patch, a stranger's is worse than it, for it misleads. That is how listening
# looks in numbers. But of what could be known of the sound, little is reached. See it, and hear it: a clip whose sound is wholly hidden,
# filled in from its own picture and from a stranger's.

# %%
from mavil_edu.reconstruct import reconstruct


def imagined(given, masks: Masks):
    """What the model makes of clip `one`."""
    given, masks = (
        type(all_clips)(*(values[one : one + 1] for values in all_clips))
        for all_clips in (given, masks)
    )
    return reconstruct(asked.cpu().eval(), given, masks)[0]


mean_sound = torch.stack([few.float().mean(dim=0) for few in heard.split(32)]).mean(
    dim=0, keepdim=True
)
from_own, from_strange = (
    imagined(given, no_sound) for given in (inputs, inputs._replace(video=inputs.video[stranger]))
)

# %%
spectrograms = {
    "the sound that was hidden": from_own.spectrogram.original,
    "imagined from its own picture": from_own.spectrogram.reconstruction,
    "imagined from a stranger's picture": from_strange.spectrogram.reconstruction,
    "the mean of all sounds": audio.to_log_mel(mean_sound, config.audio)[0],
}

# %%
# how far the loudness swings over time
swing = {title: float(values[:254].mean(dim=1).std()) for title, values in spectrograms.items()}
still = [title for title in swing if swing[title] < 0.2 * swing["the sound that was hidden"]]
sentence = f"Four spectrograms. Hardly louder or softer over time: {'; '.join(still)}."
replace(figures.spectrogram_panels(spectrograms, 2.56), sentence=sentence)

# %%
waves = audio.to_waveform(
    torch.stack(list(spectrograms.values())), samples=40_960, heard=example.heard.expand(4, 2)
)
player(loud, "The sound that was hidden, made louder")

# %% tags=["nbval-ignore-output"]
# not compared: which frequency of a hiss is strongest differs from machine to machine
player(0.3 * waves[1] / waves[1].abs().max(), "Imagined from its own picture")

# %% tags=["nbval-ignore-output"]
# not compared, for the same reason
player(0.3 * waves[2] / waves[2].abs().max(), "Imagined from a stranger's picture")

# %%
player(0.3 * waves[3] / waves[3].abs().max(), "The mean of all sounds")

# %% [markdown]
# A hiss without a strike, and all three much alike: the model has learnt *a little* of what kind of sound belongs to what picture, and
# nothing that one could hear of when it strikes. Now the other way: the picture wholly hidden, and only the sound to go by. **Guess:** what
# of a picture can be heard?

# %%
seen_own, seen_strange = (
    imagined(given, no_picture) for given in (inputs, inputs._replace(audio=inputs.audio[stranger]))
)
seen_other = held_out.sample(int(stranger[one]), None).frames
strips = {
    "the picture that was hidden": seen_own.frames.original,
    "imagined from its own sound": seen_own.frames.reconstruction,
    "imagined from a stranger's sound": seen_strange.frames.reconstruction,
    "the stranger's own picture": seen_other,
}
# how red and how green it is low in the middle
middle = {
    title: frames[:, 18:28, 10:20, :2].float().mean(dim=(0, 1, 2))
    for title, frames in strips.items()
}
colour = [f"{title}: {'red' if red > green else 'green'}" for title, (red, green) in middle.items()]
replace(
    figures.frame_panels(strips, 2.56),
    sentence=f"Four filmstrips, and what is stronger low in the middle: {'; '.join(colour)}.",
)

# %% [markdown]
# A blurred object, for nobody can hear where it is; a grey background, for nobody can hear that either. Its colour and pattern belong to
# its material in this world, and could be heard. Compare the strips, and read the sentence below them: does the object that is imagined
# from the clip's own sound have its own colour, and from the stranger's sound the stranger's? Where both come out alike, these few steps
# have not learnt it for this clip. What they have learnt of material is seen in the mean error over 128 clips, and not in one picture.
#
# Why does the sound get so little? Look at what its decoder is given. It reads the *sound's* fused tokens; all that the picture knows must
# come through these. **Guess:** how many of them are left when the whole sound is hidden?

# %%
with torch.no_grad():
    left = asked.audio_encoder(patchify(inputs.audio, config.audio), no_sound.audio)
print("patch tokens:", left.patch_tokens.shape[1], "   class tokens:", left.class_token.shape[1])

# %% [markdown]
# One: the class token, the narrowest of bottlenecks, and nobody ever asked it to carry anything. Is it to blame? A control without any
# fusion: a weighted sum (ridge regression, lesson 07), fitted from one vector that the shipped model makes of the pictures, and that was
# trained to match their sound's (lesson 06), to the patches.


# %%
@torch.no_grad()
def projection(pictures: Tensor) -> Tensor:
    return torch.cat(
        [model.encode(video=part.float()).video_projection for part in pictures.split(32)]
    )


x = projection(seen)
middle, scale = x.mean(dim=0), x.std(dim=0)
z = (x - middle) / scale
weights = sum(z[few].T @ to_learn(few).audio.flatten(1) for few in torch.arange(clips).split(32))
weights = torch.linalg.solve(z.T @ z + 300 * torch.eye(z.shape[1]), weights)
answer = (projection(inputs.video) - middle) / scale @ weights + means["audio"].flatten()

# %%
bar = mean_patch["sound from sight"]["mean patch"]
line = float((answer - targets.audio.flatten(1)).square().mean())
gain, trained = 1 - line / bar, 1 - after["sound from sight"]["its own"] / bar
print(f"a straight line from the picture's projection: {100 * gain:.0f} % below the mean patch")
print("that is more than what the fusion has learnt here:", "yes" if gain > 1.2 * trained else "no")

# %% [markdown]
# The picture's encoder knows more of the sound than the fusion has learnt to pass on. And this vector is no wider than the class token: so
# narrowness alone is not what stopped the fusion. (Of all that there is to tell it is still little.) We also trained for 2,000 steps on
# 2,048 clips: the picture gained some more, the sound hardly anything. And what did the new task cost?

# %%
for title, side in (("the hidden sound", "audio"), ("the hidden picture", "video")):
    now = error(asked, side, masks, own) / found[title]["its own"] - 1
    print(f"80 % hidden, {title}: more than 10 % worse than before: {'yes' if now > 0.1 else 'no'}")

# %% [markdown]
# It forgets what it is no longer asked. A model that should do both must be asked both.
#
# ## 7. Where does a sound look?
#
# It is tempting to draw attention over the frames and to say: see, it has found the ball. Let us be careful. First, how much do the
# pictures listen at all, before and after the training?

# %% [markdown]
# EXERCISE attention_to_sound
#
# SOLUTION attention_to_sound


# %%
@exercise("attention_to_sound")
def attention_to_sound(maps: Tensor, audio: int) -> Tensor:
    raise NotImplementedError


check("attention_to_sound")


# %%
def last_map(model: MAViL) -> Tensor:
    """The last fusion block's attention on 64 complete clips: (64, heads, 130, 130)."""
    found, model = [], model.cpu().eval()
    for few in torch.arange(64).split(16):
        maps = {}
        with torch.no_grad():
            model.encode(inputs.audio[few], inputs.video[few], maps=maps)
        found.append(maps["fusion.1"])
    return torch.cat(found)


listened, listens = (float(attention_to_sound(last_map(m), 65).mean()) for m in (model, asked))
print(f"before: {100 * listened:.0f} % of a picture token's attention (evenly spread: 50 %)")
print(
    "after section 6 it is more by a twentieth or more:",
    "yes" if listens > 1.05 * listened else "no",
)

# %% [markdown]
# Where is the object? In the generated world one can ask: paint it in another material; the pixels that change are the object's.

# %%
factors = held_out.factors[:64]
repainted = replace(factors, material=(factors.material + 1) % 6)
as_it_is, other = (render_video(f, times, 32, 32).short() for f in (factors, repainted))
changed = ((as_it_is - other).abs().amax(dim=-1) > 8).float()
covered = reduce(changed, "b (t pt) (h ph) (w pw) -> b (t h w)", "mean", pt=2, ph=8, pw=8)
print(f"the object covers {100 * covered.mean():.0f} % of the picture")

# %% [markdown]
# Now where the sound's tokens look, of what they give to the picture; beside it two controls: the *mean* over all clips, which looks at the
# same places whatever is in them, and a model with *fresh* weights. **Guess:** which of the three looks at the object?


# %%
def places_of(model: MAViL) -> Tensor:
    """How each sound token shares out its attention to the picture: (b, 64, 64), rows sum to 1."""
    shares = reduce(
        last_map(model)[:, :, 1:65, 66:], "b heads sound place -> b sound place", "mean"
    )
    return shares / shares.sum(dim=-1, keepdim=True)


torch.manual_seed(0)
shipped, fresh = places_of(model), places_of(MAViL(config))
always = reduce(shipped, "b sound place -> sound place", "mean").expand_as(shipped)
answers = {
    "this clip's map": shipped,
    "control: mean over clips": always,
    "control: fresh weights": fresh,
}

# %%
# the token at the loudest moment
loudest = int(inputs.audio[one, 0, :254].mean(dim=1).argmax()) // 8 * 2
grids = {
    title: rearrange(shares[one, loudest], "(t h w) -> t h w", t=4, h=4)
    for title, shares in answers.items()
}
fusion_pictures.places_looked_at(example.frames, grids)

# %% [markdown]
# One picture proves nothing. Over 64 clips and all sound tokens: how much attention falls on the object, in multiples of what an even
# spread would give it? And does a sound token look at its *own moment*, one of four?

# %%
for title, shares in answers.items():
    on_object = float(torch.einsum("b s p, b p -> b s", shares, covered).mean() / covered.mean())
    by_time = reduce(shares, "b (moment near) (t p) -> moment t", "mean", moment=4, t=4, p=16) * 16
    print(
        f"{title:26} on the object: {on_object:.1f} times even; at its own moment: "
        f"{100 * by_time.diagonal().mean():.0f} % (even: 25 %)"
    )

# %%
on = {
    title: float(torch.einsum("b s p, b p -> b s", shares, covered).mean())
    for title, shares in answers.items()
}
finds = on["this clip's map"] > 1.5 * on["control: mean over clips"]
print("half as much again as a map that never looks at the clip:", "yes" if finds else "no")

# %% [markdown]
# In the weights that this was written with, the answer is no. The map falls on the object somewhat more often than an even spread, but so
# does the mean map: objects are mostly in the middle, and any map that likes the middle finds them. And no token looks at its
# own moment. That the partner's *content* is used a little (section 5) does not mean that it is used as we would: an attention map
# shows where numbers are fetched, not why. Without the two controls, the picture would have told a nice story.
#
# ## What to remember
#
# - Encoders keep the senses apart; the fusion is the only place where anything passes, and in it only the cross-modal half of attention.
# - Bottlenecks: write, average, read. It takes two layers; what they cut is comparisons, which are the small part at these lengths.
# - "Can pass" is a derivative; "is used" is an error with a stranger's partner; "is needed" is an error beside the trivial answer.
# - A model does what it was asked: hidden at random, it hardly needs its partner. Hide a whole sense, and it must listen.
# - An attention map needs a control before it means anything.
#
# **Next:** `06_contrast`: which sound belongs to which picture?
