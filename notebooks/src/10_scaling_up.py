# %% [markdown]
# # From a laptop to a cluster
#
# **The question:** the models of this course have a million parameters and learn in minutes. The paper's has two hundred times as many,
# and saw two million clips twenty times. What changes on the way from one to the other, what does it cost, and how would you know
# *before* you have paid for it?
#
# **You will be able to** count a model's parameters, arithmetic and memory before it exists, predict the hours of a run and check the
# prediction, say what sixteen bits lose, train with several processes so that they learn what one would, share clips out so that each
# comes once, and put published weights to work on clips of your own.
#
# **Budget:** 1 minute of computing on two CPU cores, 1.2 GB of memory, no network, no GPU. Reading and exercises: 90 minutes.
# **Opens:** [`multiply_adds.py`](../mavil_edu/multiply_adds.py), [`footprint.py`](../mavil_edu/footprint.py),
# [`cost.py`](../mavil_edu/cost.py), [`processes.py`](../mavil_edu/processes.py), [`data/shards.py`](../mavil_edu/data/shards.py),
# [`released.py`](../mavil_edu/released.py), and the page [`scaling.md`](../docs/scaling.md).
# **Paper:** MAViL, [arXiv 2212.08071](https://arxiv.org/abs/2212.08071), section 4.
#
# Before each cell that computes, guess what it will show. Then run it (Shift + Enter). Two cells are for a machine with a GPU; they say
# so, and what they are about is seen without one, too.

# %%
import inspect
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

# %%
from mavil_edu import MAViL, diagrams, figures, losses
from mavil_edu.config import AugmentConfig, paper, small, tiny
from mavil_edu.cost import Plan, Rate, Reading, predict
from mavil_edu.display import player
from mavil_edu.exercises import check, exercise, quiz
from mavil_edu.footprint import activations_by_part, footprint, parameters_by_part
from mavil_edu.mavil import draw_masks, draw_second_masks, losses_of, patch_targets
from mavil_edu.multiply_adds import forward_by_part, step_by_part

# %% [markdown]
# ## 1. The same code, other numbers
#
# There is one implementation. What is called `tiny`, `small` or `paper` is a **config**: numbers.

# %%
configs = {"tiny": tiny(), "small": small(), "paper": paper()}
for name, config in configs.items():
    of = config.model
    print(
        f"{name:6}{of.encoder.depth:3} blocks of width {of.encoder.width:3}, "
        f"{of.audio.tokens} + {of.video.tokens} tokens,",
        end=" ",
    )
    print(
        f"batches of {config.train.batch}: "
        f"{sum(parameters_by_part(of).values()) / 1e6:6.1f} M parameters"
    )

# %% [markdown]
# Where do they lie? One block is like another, so count one.

# %% [markdown]
# EXERCISE block_weights
#
# SOLUTION block_weights


# %%
@exercise("block_weights")
def block_weights(width: int, mlp_ratio: int) -> int:
    raise NotImplementedError


check("block_weights")

# %% [markdown]
# A model of the paper's size would take a gigabyte. To count it, it need not exist: on the device `meta` tensors have shapes and no
# numbers.

# %%
from mavil_edu.checkpoint import Undrawn

with torch.device("meta"), Undrawn():  # and nothing is drawn for them
    encoder = MAViL(paper()).audio_encoder
assert sum(p.numel() for p in encoder.transformer.blocks[0].parameters()) == block_weights(768, 4)
print(
    f"one block: {block_weights(768, 4):,} weights; one encoder: "
    f"{sum(p.numel() for p in encoder.parameters()) / 1e6:.1f} M"
)

# %% [markdown]
# With its positions (513 of 768 numbers, which are fixed and not learnt) that is the paper's 86 M. **Guess:** which part of the whole
# model has most of the weights, and which does most of the arithmetic?

# %%
weights = {f"{name}, weights": parameters_by_part(config.model) for name, config in configs.items()}
diagrams.stacked(weights, "share of the weights, %", shares=True)

# %% [markdown]
# ## 2. What a step computes
#
# The arithmetic of a network is in its matrix products, and those follow from its sizes (lesson 02 counted a block, lesson 03 what hiding
# saves). Here is a whole step's forward pass, clip by clip: both masked views, fusion, decoders, losses.


# %%
def in_groups(parts: dict[str, int]) -> dict[str, int]:
    main = ("encoders", "fusion", "decoders")
    return {name: parts[name] for name in main} | {
        "the rest": sum(count for name, count in parts.items() if name not in main)
    }


forward = {name: forward_by_part(config, config.train.batch) for name, config in configs.items()}
diagrams.stacked(
    {name: in_groups(parts) for name, parts in forward.items()},
    "share of the multiply-adds, %",
    shares=True,
)

# %% [markdown]
# In the paper's model the decoders have a fifth of the weights and nearly half of the arithmetic: they see **all** places, the encoders a
# fifth of them. Whoever counts parameters alone is surprised by the bill.

# %%
for name, parts in forward.items():
    clip, batch = sum(parts.values()), configs[name].train.batch
    print(
        f"{name:6}{clip / 1e9:8.2f} G multiply-adds a clip, forward; "
        f"{3 * clip * batch / 1e12:8.3f} T a step of {batch}"
    )

# %% [markdown]
# Why three times? **Backward** there are two products for each one forward: the gradient for the layer's input, and the one for its
# weights. That can be measured. A step on clips of noise, for noise takes as long as music:


# %%
def make_step(config, rows: int):
    """A model, and a function that computes its loss on some clips of noise."""
    torch.manual_seed(0)
    shape, goal, model = config.model, config.objective, MAViL(config)
    sound = torch.randn(rows, 1, shape.audio.frames, shape.audio.mel_bins)
    film = torch.randn(rows, 3, shape.video.frames, shape.video.height, shape.video.width)
    views = draw_masks(rows, shape, goal), draw_second_masks(rows, shape, goal)
    targets = patch_targets(sound, film, shape)
    return model, lambda: losses_of(model(sound, film, *views), targets, *views[0], goal).total


# %%
def quickest(work: dict, tries: int = 6) -> dict[str, float]:
    """Seconds of this thread for each piece of work, in turn, the best of several tries:
    a busy machine does not change that much.
    """
    took = {name: math.inf for name in work}
    for _ in range(tries):
        for name, act in work.items():
            begin = time.thread_time()
            act()
            took[name] = min(took[name], time.thread_time() - begin)
    return took


# %%
threads = torch.get_num_threads()
torch.set_num_threads(1)
_, tiny_loss = make_step(tiny(), 16)
took = quickest({"forward": tiny_loss, "both": lambda: tiny_loss().backward()})
ratio = took["both"] / took["forward"]
print(
    "counted: 3 times the forward pass; measured: between 1.5 and 4 times:",
    "yes" if 1.5 < ratio < 4 else "no",
)

# %% [markdown]
# How often exactly depends on the machine: `print(ratio)`.
#
# ## 3. What a step keeps
#
# **Guess:** a model has 238 M parameters of four bytes, 0.95 GB. How much memory does its training need, before it sees the first clip?

# %%
parameters = sum(parameters_by_part(paper().model).values())
for what, size in {"weights": 4, "gradients": 4, "AdamW's two moments": 8}.items():
    print(f"{what:20}{size} bytes each: {size * parameters / 1e9:5.2f} GB")

# %% [markdown]
# Sixteen bytes a parameter. And for each clip, what the backward pass will ask for: the **activations**, every layer's input. How many
# bytes are those? The package has a formula (`footprint.py`); autograd can be watched while it stores them. We do it at the paper's
# widths and tokens, with one block of each kind: the blocks are alike.

# %%
one = paper()
thin = replace(
    one.model,
    encoder=replace(one.model.encoder, depth=1),
    decoder=replace(one.model.decoder, depth=1),
    fusion_depth=1,
)
one = replace(one, model=thin)


# %%
def kept(model, loss) -> int:
    """Bytes that autograd keeps of a forward pass, less the model's own."""
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    found = {}

    def note(x: Tensor) -> Tensor:
        # held, so that no place is given away twice
        found[x.untyped_storage().data_ptr()] = x.untyped_storage()
        return x.detach()  # not x itself, which would hold the graph that holds it

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        loss()
    return sum(storage.nbytes() for place, storage in found.items() if place not in own)


# %%
model, loss = make_step(one, 1)
# no gradient goes through the clip itself
clip_itself = 2 * 4 * sum(side.tokens * side.patch_values for side in (thin.audio, thin.video))
counted, watched = sum(activations_by_part(one).values()) - clip_itself, kept(model, loss)
print(
    f"counted {counted / 1e6:.0f} MB a clip; autograd keeps as much within 3 %:",
    "yes" if abs(watched / counted - 1) < 0.03 else "no",
)

# %% [markdown]
# So the formula may be asked for the whole model, which this machine could not hold. **Guess:** how many clips fit at once into a GPU of
# 80 GB?

# %%
sizes, curves = [1, 2, 4, 8, 16, 32, 64, 128, 256], {}
for title, precision in (("32 bits", "32-true"), ("16 bits, mixed", "bf16-mixed")):
    config = replace(paper(), train=replace(paper().train, precision=precision))
    curves[title] = (
        torch.tensor(sizes),
        torch.tensor([footprint(config, rows, devices=64).peak / 1e9 for rows in sizes]),
    )
    most = max(rows for rows in range(1, 400) if footprint(config, rows, devices=64).peak < 80e9)
    print(
        f"{title}: {footprint(config, 8, devices=64).peak / 1e9:.1f} GB for 8 clips; "
        f"into 80 GB fit {most}"
    )
curves["80 GB"] = torch.tensor(sizes), torch.full((len(sizes),), 80.0)
diagrams.lines(curves, "clips at once", "memory of a device, GB", log=True)

# %% [markdown]
# More clips than fit? **Accumulate**: several rounds of forward and backward, then one step. For the errors of patches that is the same
# as one large batch. For InfoNCE it is not: a clip meets the strangers of its own round only.
#
# ## 4. How long
#
# $$\text{hours} = \frac{2 \cdot 3 \cdot \text{multiply-adds of a clip} \cdot \text{clips} \cdot \text{epochs}}
# {\text{devices} \cdot \text{share} \cdot \text{peak}} \cdot \frac{1}{3600}$$
#
# The *share* of a device's peak that a step reaches is called **MFU**, model FLOPs utilisation.

# %% [markdown]
# EXERCISE run_hours
#
# SOLUTION run_hours


# %%
@exercise("run_hours")
def run_hours(
    forward: int, clips: int, epochs: int, tflops: float, share: float, devices: int
) -> float:
    raise NotImplementedError


check("run_hours")

# %% [markdown]
# Is that any good? **Check it.** Measure one step, predict others by arithmetic alone, measure those. **Guess:** from 16 clips of `tiny`
# to 32; and from `tiny` to the paper's widths: will the prediction be too long, or too short?

# %%
cases = {"tiny, 8": (tiny(), 8), "tiny, 16": (tiny(), 16), "tiny, 32": (tiny(), 32)}
steps = {name: make_step(*case)[1] for name, case in cases.items()} | {"ViT-B's widths": loss}
took = quickest(
    {name: lambda step=step: step().backward() for name, step in steps.items()}, tries=3
)
# in floating-point operations
work = {
    name: 2 * sum(step_by_part(*case).values())
    for name, case in (cases | {"ViT-B's widths": (one, 1)}).items()
}
rate = {name: work[name] / took[name] for name in work}  # operations a second, of one thread

# %%
twice = (work["tiny, 32"] / rate["tiny, 16"]) / took["tiny, 32"]  # predicted over measured
large = (work["ViT-B's widths"] / rate["tiny, 8"]) / took["ViT-B's widths"]
print(
    "from 16 clips of tiny to 32: predicted within a factor of 1.5:",
    "yes" if 1 / 1.5 < twice < 1.5 else "no",
)
print(
    "ViT-B's widths, predicted from 8 of tiny: half as long again as it takes, or more:",
    "yes" if large > 1.5 else "no",
)

# %%
del model, loss, steps  # memory
torch.set_num_threads(threads)
gigaflops = rate["ViT-B's widths"] / 1e9
years = (
    run_hours(sum(forward["paper"].values()), 2_000_000, 20, gigaflops / 1000, 1.0, 1) / 24 / 365
)
print(
    "the paper's run, on one thread of this machine: more than a year:",
    "yes" if years > 1 else "no",
)

# %% [markdown]
# (`print(gigaflops, years)` tells how many, `print(twice, large)` how good the predictions were.) Large products reach more of a machine
# than small ones: whoever measures `tiny` and divides predicts too long a run. **Measure at the widths that you will train.** `mavil-edu
# benchmark predict` does it, with the front ends, the optimiser, the loader and the held-out clips; `--check 3` sets real runs beside its
# predictions.
#
# Now the machine that one would take. An H100 does 989 · 10¹² operations a second in 16 bits, says its maker; a step that reaches 40 % of
# that is a good one. Both numbers are **stated, not measured here**. **Guess:** hours for AudioSet-2M, twenty epochs, on one, and on 64?


# %%
def plan(devices: int, speed: float = 25.0, tflops: float = 989 * 0.4) -> dict:
    """The paper's run on so many devices, each of which sends so many gigabytes a second."""
    rounds = max(1, 16 // devices)  # 32 clips at once, at most
    train = replace(paper().train, precision="bf16-mixed", accumulate=rounds, save_every=2000)
    config = replace(paper(), train=train)
    return predict(
        config, Plan(2_000_000, 20, devices, gigabytes_a_second=speed), Rate(tflops), Reading()
    )


for devices in (1, 8, 64):
    found = plan(devices)
    print(
        f"{devices:3} H100: {found['hours']:5.1f} hours, "
        f"{found['device_hours']:6.1f} of one device,",
        end=" ",
    )
    print(
        f"{40e6 / found['hours'] / 3600:6.0f} clips a second, "
        f"{found['memory_megabytes']['peak'] * 2**20 / 1e9:4.1f} GB each"
    )

# %%
by_hand = run_hours(sum(forward["paper"].values()), 2_000_000, 20, 989, 0.4, 1)
print(
    f"your formula says {by_hand:.1f} hours for one; the arithmetic alone, equal within 1 %:",
    end=" ",
)
print("yes" if abs(3600 * by_hand / plan(1)["seconds"]["arithmetic"] - 1) < 0.01 else "no")

# %% [markdown]
# (One device takes its 512 clips in sixteen rounds of 32: its InfoNCE has 31 strangers, that of the 64 devices 511. That is another run,
# and not only a slower one.) Sixty-four devices are not sixty-four times as fast. What do they wait for? After each step all must agree
# on the gradients.

# %% [markdown]
# EXERCISE exchange_wait
#
# SOLUTION exchange_wait


# %%
@exercise("exchange_wait")
def exchange_wait(weights: int, devices: int, gigabytes_a_second: float, backward: float) -> float:
    raise NotImplementedError


check("exchange_wait")

# %%
arithmetic = 2 * sum(step_by_part(paper(), 512).values()) / 64 / (989e12 * 0.4)
waited = exchange_wait(parameters, 64, 25.0, 2 / 3 * arithmetic)
print(
    f"of 64 devices, each computes {1000 * arithmetic:.0f} ms in a step, "
    f"and then waits {1000 * waited:.0f} ms for gradients"
)

# %%
seconds = {}
plans = {
    "1 device": plan(1),
    "8": plan(8),
    "64": plan(64),
    "64, a network ten times as fast": plan(64, speed=250.0),
}
for title, found in plans.items():
    seconds[title] = {
        name: found["seconds"][name] for name in ("arithmetic", "exchange", "checkpoints")
    }
diagrams.stacked(seconds, "share of a run's time, %", shares=True)

# %% [markdown]
# A device of today is done with its eight clips before the gradients have gone round. So the number of devices, their speed and the
# network between them belong together. The paper used 64; of which kind we do not know. For devices an eighth as fast (a V100 states 125
# · 10¹²) the same network is fast enough:

# %%
numbers = [1, 2, 4, 8, 16, 32, 64, 128]
curves = {
    "989 · 10¹² stated, 25 GB/s": [plan(n)["hours"] for n in numbers],
    "989 · 10¹² stated, 250 GB/s": [plan(n, speed=250.0)["hours"] for n in numbers],
    "125 · 10¹² stated, 25 GB/s": [plan(n, tflops=125 * 0.4)["hours"] for n in numbers],
}
diagrams.lines(
    {name: (torch.tensor(numbers), torch.tensor(hours)) for name, hours in curves.items()},
    "devices",
    "hours",
    log=True,
)

# %% [markdown]
# The straight part is where more devices help. Where a curve lies flat, money is burnt; what helps there is a larger batch (and its own
# tuning), or a better network.
#
# **Explore:** devices, their kind, the share of their peak, the network. **Find:**
#
# 1. the kind for which 64 devices with 25 GB/s are just worth it: at least half of the time is arithmetic;
# 2. what a *better program* (60 % of the peak in place of 40) saves 64 H100s with 25 GB/s;
# 3. the fewest H100s that are done in three hours, and what a tenfold network changes for them.

# %%
from mavil_edu.explorers.cost import cost_explorer

cost_explorer(
    replace(paper(), train=replace(paper().train, precision="bf16-mixed")),
    clips=2_000_000,
    epochs=20,
)

# %% [markdown]
# <details><summary>What there is to find</summary>
#
# 1. The V100: 81 % of its time is arithmetic; of the A100's 39 %, of the H100's 13 %.
# 2. Next to nothing: they wait longer for the gradients, which the faster program has less time to hide. Before you tune a step, look
#    where the time goes.
# 3. Eight. A tenfold network takes them from 2.8 hours to 1.9.
#
# </details>

# %% [markdown]
# And *your* device? The next two cells are for a machine with a GPU (without one they take `tiny`, and the CPU): they measure steps of
# the paper's model, its memory beside the formula's, and predict from them. On a CPU the process holds more than the tensors that the
# formula counts.


# %% tags=["nbval-skip"]
def clips_that_fit(config) -> int:
    """Clips that a step of this GPU may have at once, by the formula,
    with a fifth of its memory left.
    """
    room = 0.8 * torch.cuda.get_device_properties(0).total_memory
    return max(rows for rows in (1, 2, 4, 8, 16, 32) if footprint(config, rows).peak < room)


# %% tags=["nbval-skip"]
from mavil_edu.benchmarks.predict import measure

config, rows = tiny(), 8
if torch.cuda.is_available():  # ← the budget of this cell
    config = replace(paper(), train=replace(paper().train, precision="bf16-mixed"))
    rows = clips_that_fit(config)
here = measure(config, 1, rows, 10)
memory = here.facts["memory"]
hours = predict(config, Plan(2_000_000, 20), here.rate, Reading())["hours"]
print(
    f"{here.facts['machine']}, {rows} clips: "
    f"{100 * here.facts['share']:.0f} % of {here.facts['peak_tflops']:.3g} TFLOP/s"
)
print(
    f"AudioSet-2M, 20 epochs: {hours:.0f} hours on one; "
    f"memory {memory['measured']:.0f} MB, formula {memory['formula']:.0f} MB"
)
if torch.cuda.is_available():
    print(
        "the formula tells the memory within 15 %:",
        "yes" if abs(memory["formula"] / memory["measured"] - 1) < 0.15 else "no",
    )

# %%
quiz("more_devices")

# %% [markdown]
# ## 5. Sixteen bits
#
# GPUs multiply matrices several times faster in 16 bits than in 32. There are two ways to spend 16 bits.

# %%
formats = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
for name, kind in formats.items():
    about = torch.finfo(kind)
    print(
        f"{name:9} from {about.tiny:.0e} to {about.max:.0e}; "
        f"the next number after 1 is {1 + about.eps:.7f}"
    )

# %% [markdown]
# **Guess:** which of the two loses gradients of a hundred-millionth, and which loses digits?


# %%
def lost(kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """By how much numbers of each size are off when they are stored in a format: 1 means gone."""
    exact = torch.logspace(-10, 6, 4000, dtype=torch.float64)
    off = ((exact.to(kind).double() - exact) / exact).abs().clamp(1e-9, 1)
    return exact.unflatten(0, (80, 50)).mean(1), off.unflatten(0, (80, 50)).mean(1)


diagrams.lines(
    {name: lost(kind) for name, kind in formats.items()}, "a number", "off by, relative", log=True
)

# %% [markdown]
# float16 has three more bits of digits and ends at 65,504; below 6 · 10⁻⁵ it loses them one by one, and at 6 · 10⁻⁸ the number is gone.
# With it, the loss is multiplied by a large number before backward and the gradients divided by it (*loss scaling*). bfloat16 reaches as
# far as float32, with two to three digits; it needs no scaling. Is that enough? For a product of matrices, whose errors average out:

# %%
a, b = torch.randn(2, 512, 512, generator=torch.Generator().manual_seed(0))
# what a GPU does: products of 16 bits, added up in 32
rounded = a.bfloat16().float() @ b.bfloat16().float()
error = float((rounded - a @ b).norm() / (a @ b).norm())
print(f"the product is off by {100 * error:.1f} %")

# %% [markdown]
# For the weights it is not. A thousand steps, each a thousandth. **Guess** where the weight ends.

# %%
for name, kind in formats.items():
    weight = torch.ones((), dtype=kind)
    for _ in range(1000):
        weight += torch.tensor(0.001, dtype=kind)
    print(f"{name:9}1 + 1000 · 0.001 = {float(weight):.2f}")

# %% [markdown]
# That is why it is called **mixed** precision: products in 16 bits, while weights, moments, norms and losses stay in 32. In this package
# it is one word, `--config.train.precision bf16-mixed`, and Lightning Fabric does it.
#
# The second word is **compile**. How many operations is one block? Guess, then list them.


# %%
def operations(value: Tensor) -> list[str]:
    """The names of the operations that led to a value, as autograd has written them down."""
    found, waiting = {}, [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found[node] = type(node).__name__.removesuffix("0").removesuffix("Backward")
            waiting += [before for before, _ in node.next_functions]
    return list(found.values())


# %%
block = MAViL(tiny()).audio_encoder.transformer.blocks[0]
listed = operations(block(torch.randn(2, 14, 96)))
passes = [name for name in listed if name in ("NativeLayerNorm", "Add", "Gelu")]
print(listed.count("Addmm"), "matrix products and an attention; and", ", ".join(sorted(passes)))

# %% [markdown]
# Norms, GELU, sums: each reads all its numbers from memory and writes them back, to do next to nothing with them. `torch.compile` takes
# the whole list down and makes one pass of several. For that it writes and compiles code for the device, which takes a minute; so it pays
# in long runs alone. On a machine with a GPU the next cell measures what both words give: steps in 32 bits, in 16, and compiled.

# %% tags=["nbval-skip"]
from mavil_edu.benchmarks.step import benchmark_step, table

words, rows, config = [("32-true", False)], 4, tiny()
if torch.cuda.is_available():  # ← the budget of this cell
    words += [("bf16-mixed", False), ("bf16-mixed", True)]
    rows, config = clips_that_fit(paper()), paper()
milliseconds = []
for precision, compiled in words:
    answer = benchmark_step(config, rows, 10, [1], precision, compiled, print)
    print(table(answer), "\n")
    milliseconds.append(answer["stages"]["1"]["step_ms"]["median"])
print(
    "each word makes a step shorter:",
    "yes" if milliseconds == sorted(milliseconds, reverse=True) else "no",
)

# %%
quiz("sixteen_bits")

# %% [markdown]
# ## 6. Two processes, one model
#
# Several devices train one model like this (**DDP**, distributed data parallel): each process has a copy of the model and its own part of
# the batch; after backward the gradients are averaged, and all make the same step. For a mean over clips that is exact. But InfoNCE is no
# mean over clips: each is compared with *all others*. Here are the pairs that are compared, in a batch of 8:

# %%
together = torch.ones(8, 8)
apart = torch.block_diag(torch.ones(4, 4), torch.ones(4, 4))
diagrams.maps(
    {"one process": together, "two, each by itself": apart},
    ("picture of clip", 0, 8),
    ("sound of clip", 0, 8),
)

# %% [markdown]
# The dark pairs are in nobody's gradient. So the embeddings of all processes have to be **gathered** first.

# %% [markdown]
# EXERCISE gathered_info_nce
#
# SOLUTION gathered_info_nce


# %%
@exercise("gathered_info_nce")
def gathered_info_nce(x: Tensor, y: Tensor, temperature: float) -> Tensor:
    raise NotImplementedError


check("gathered_info_nce")

# %%
x, y = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(0))
whole = losses.info_nce(x, y, 0.1)
assert torch.allclose(gathered_info_nce(x.unflatten(0, (2, 4)), y.unflatten(0, (2, 4)), 0.1), whole)
alone = torch.stack(
    [losses.info_nce(*half, 0.1) for half in zip(x.chunk(2), y.chunk(2), strict=True)]
).mean()
print(
    f"8 clips in one process: {whole:.2f}, in two that gather: the same; each by itself: "
    f"{alone:.2f}"
)
print(f"who knows nothing: log 8 = {math.log(8):.2f}, log 4 = {math.log(4):.2f}")

# %% [markdown]
# That was the value. Training needs its **gradient**, across processes. These are the lines:

# %%
import torch.distributed as dist
from torch import nn


def summed(gradient: Tensor) -> Tensor:
    gradient = gradient.clone()
    dist.all_reduce(gradient)  # ← what all processes have as gradient of these rows, added up
    return gradient


# %%
def gather(x: Tensor, back: bool) -> Tensor:
    """The rows of all processes, in order; with `back`,
    the gradient finds its way back through all of them.
    """
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.detach())
    # ↓ one's own rows, as they are: here the gradient goes on into the model
    parts[dist.get_rank()] = x
    rows = torch.cat(parts)
    if back:
        rows.register_hook(summed)
    return rows


# %% [markdown]
# A small experiment: one layer, eight clips, InfoNCE, and the gradient of the layer after DDP has averaged it. In three ways: gathered
# with the way back; gathered without it (the others' rows are numbers only); and each process by itself.


# %%
def contrast(fabric, way: str) -> list[float]:
    """The gradient of one layer after InfoNCE on 8 clips, of which this process has its share."""
    # here, for the notebook's process needs none of what that loads
    from mavil_edu.processes import share_of

    torch.manual_seed(0)  # the same weights and clips everywhere
    encoder = fabric.setup(nn.Linear(32, 8))
    # sounds and pictures that have something in common
    clips = torch.randn(2, 8, 32) + torch.randn(8, 32)
    mine = torch.cat([share_of(side, fabric) for side in clips])
    x, y = encoder(mine).chunk(2)
    if fabric.world_size > 1 and way != "each by itself":
        x, y = (gather(rows, back=way == "gathered") for rows in (x, y))
    fabric.backward(losses.info_nce(x, y, 0.1))
    return next(encoder.parameters()).grad.flatten().tolist()


# %% [markdown]
# And a large one: the package's own step, on its own stream of clips, with `tiny`, eight clips at a time. Nothing in it knows how many
# processes there are but the two words `rank` and `ranks`.


# %%
def four_steps(fabric) -> list[float]:
    """The loss of each of four steps, and the size of its gradient."""
    from mavil_edu.data.world import World
    from mavil_edu.train import set_up, update

    config = replace(tiny(), train=replace(tiny().train, batch=8, steps=4))
    clips, found = World(24, 5, config.model, config.train.augment, quiet=True), []
    torch.manual_seed(0)
    model, optimiser = set_up(fabric, MAViL(config), config.train)
    stream = training_steps(clips, 8, seed=0, rank=fabric.global_rank, ranks=fabric.world_size)
    for step, data in zip(range(4), stream, strict=False):
        terms, norm = update(fabric, model, optimiser, data, config, seed=0, step=step)
        found += [float(terms.total), float(norm)]
    return found


# %% [markdown]
# Both become a program, and the program is started twice at the same time, as `torchrun` would do it: each process is told by variables
# who it is and where the others are. To compare with, it also does all of it as if it were alone.

# %%
head = """
import json, sys
from dataclasses import replace
from pathlib import Path
import torch, torch.distributed as dist
from torch import Tensor, nn
from mavil_edu import MAViL, losses
from mavil_edu.config import tiny
from lightning_fabric import Fabric
from mavil_edu.data.loader import training_steps
from mavil_edu.processes import join
"""

# %%
WAYS = ("gathered", "gathered, no way back", "each by itself")
main = f"""
WAYS = {WAYS}
fabric, alone = join(), Fabric(accelerator="cpu", devices=1)  # the second knows of no other process
found = dict(zip(WAYS, [contrast(fabric, way) for way in WAYS]), steps=four_steps(fabric))
found |= dict(one=contrast(alone, ""), steps_of_one=four_steps(alone))
if fabric.is_global_zero:
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")
"""
workplace = tempfile.TemporaryDirectory()
place = Path(workplace.name)
program = place / "program.py"
program.write_text(
    "\n".join([head, *map(inspect.getsource, (summed, gather, contrast, four_steps)), main]),
    encoding="utf-8",
)
print(len(program.read_text(encoding="utf-8").splitlines()), "lines")

# %%
from mavil_edu.launch import free_port, variables


def in_processes(ranks: int) -> dict:
    """What the program found, run by so many processes on the CPU."""
    port, out, running = free_port(), place / "found.json", []
    for rank in range(ranks):
        told = variables(rank, ranks, port) | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        running.append(
            subprocess.Popen(
                [sys.executable, program, out],
                env=os.environ | told,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [process.communicate()[1] for process in running]
    assert all(process.returncode == 0 for process in running), said
    return json.loads(out.read_text(encoding="utf-8"))


# %%
found = in_processes(2)
truth = torch.tensor(found["one"])
for way in WAYS:
    ours = torch.tensor(found[way])
    cosine = float(nn.functional.cosine_similarity(ours, truth, dim=0))
    print(
        f"{way:24}length {float(ours.norm() / truth.norm()):.2f} of the true gradient's, "
        f"cosine {cosine:.2f}"
    )

# %% [markdown]
# *Gathered* is the gradient of one process. Without the way back it has the right direction and half the length: DDP takes the mean of
# two halves where the sum was due. AdamW, which divides by the gradient's size, would hardly notice; the balance with the other terms of
# the loss, α L_inter beside L_raw, would be off by the number of processes, without a word. (So it is where each process computes the whole
# table, as here. Where each computes its own rows only, as in your exercise, the length is right and the direction is not: the others' rows
# never learn what they did to yours.) And each by itself is another gradient.
#
# And the whole model? **Guess:** for how many digits do one process and two agree after four steps?

# %%
losses_of_one, losses_of_two = (
    torch.tensor(found[name]).unflatten(0, (4, 2)) for name in ("steps_of_one", "steps")
)
close = bool(torch.allclose(losses_of_one, losses_of_two, rtol=1e-3))
curves = {
    "one process": (torch.arange(4), losses_of_one[:, 0]),
    "two processes": (torch.arange(4), losses_of_two[:, 0]),
}
sentence = (
    "The loss of four steps, in one process and in two; "
    f"equal to three digits or more, gradients too: {'yes' if close else 'no'}."
)
replace(diagrams.lines(curves, "step", "loss"), sentence=sentence)

# %% [markdown]
# They differ in the last digits only, for sums are taken in another order. After thousands of steps that is enough for two runs to part;
# they learn the same, and not in each digit. The global batch is what counts, so one more rule:

# %% [markdown]
# EXERCISE peak_rate
#
# SOLUTION peak_rate


# %%
@exercise("peak_rate")
def peak_rate(base: float, rows: int, devices: int, rounds: int) -> float:
    raise NotImplementedError


check("peak_rate")

# %%
assert math.isclose(peak_rate(2e-4, 8, 64, 1), paper().train.peak_lr)
print(
    f"the paper's rate, 8 clips on each of 64 devices: {peak_rate(2e-4, 8, 64, 1):.0e}; "
    "the same for 512 on one"
)

# %% [markdown]
# In this package `--config.train.batch` *is* the global batch: run it on one device or on 64, the rate stays. On one machine `mavil-edu
# pretrain --processes 4 …`, on several `torchrun`: docs/scaling.md has the commands, and a script for SLURM.

# %%
quiz("own_negatives")

# %% [markdown]
# ## 7. Clips for many readers
#
# On 64 devices the run above asks for thousands of clips a second. Decoding a film takes tens of milliseconds of a core, so it is done
# **once**: the clips are written into **shards**, archives of some dozen clips each, as samples and small pictures, and read from there,
# one after another.

# %%
place_of_shards = place / "shards"
command = [
    sys.executable,
    "-m",
    "mavil_edu",
    "shards",
    "--data",
    "../data_samples",
    "--out",
    str(place_of_shards),
]
done = subprocess.run(
    [*command, "--clips-per-shard", "6", "--workers", "1"], capture_output=True, text=True
)
assert done.returncode == 0, done.stderr
archives = sorted(place_of_shards.glob("*.tar"))
print(len(archives), "archives:", ", ".join(path.name for path in archives))

# %%
import tarfile

with tarfile.open(archives[0]) as archive:
    members = archive.getnames()
print(f"the first holds {len(members)} files;", "of one clip:", ", ".join(members[:3]), "…")

# %%
from mavil_edu.data.shards import Shards

no_change = AugmentConfig(roll=False, magnitude=False, crop=(1.0, 1.0), flip=False)
stored = Shards(place_of_shards, tiny().model, no_change)
clip = stored.sample(0, None)
figures.frame_panels({f"a clip out of a shard ({stored.labels['material'][0]})": clip.frames}, 2.56)

# %%
player(clip.waveform * (0.5 / clip.waveform.abs().max()), "Its sound, made louder")

# %% [markdown]
# Now many read at once: two processes with four workers each, say. Who reads what?

# %% [markdown]
# EXERCISE own_samples
#
# SOLUTION own_samples


# %%
@exercise("own_samples")
def own_samples(samples: int, rank: int, ranks: int, worker: int, workers: int) -> list[int]:
    raise NotImplementedError


check("own_samples")

# %%
readers = [(rank, worker) for rank in range(2) for worker in range(4)]
right, wrong = torch.zeros(8, 24), torch.zeros(8, 24)
for row, (rank, worker) in enumerate(readers):
    right[row, own_samples(24, rank, 2, worker, 4)] = 1
    # the classic: split by rank, and forget the workers
    wrong[row, own_samples(24, rank, 2, 0, 1)] = 1
print(
    "each clip is read",
    right.sum(0).unique().int().tolist(),
    "time; with the workers forgotten",
    wrong.sum(0).unique().int().tolist(),
)
diagrams.maps(
    {"by rank and worker": right, "by rank alone": wrong}, ("clip", 0, 24), ("reader", 0, 8)
)

# %% [markdown]
# Nothing fails when this is wrong. An epoch is just four times as long, and a batch may hold a clip twice: in InfoNCE, its own worst
# stranger. So it is worth a test. The package's stream goes another way (it makes the order from the seed, and each process its own rows
# of each batch), and has to keep the same promise:

# %%
from mavil_edu.data.loader import training_steps

drawn = []
for rank in range(2):
    stream = training_steps(stored, 8, seed=0, rank=rank, ranks=2)
    drawn += [number for _, data in zip(range(3), stream, strict=False) for number in data.numbers]
print(
    "24 clips in 3 batches of 8 over two processes, each exactly once:",
    "yes" if sorted(drawn) == list(range(24)) else "no",
)

# %% [markdown]
# ## 8. Published weights
#
# Whoever has no 64 GPUs takes weights that others have trained. The authors of MAViL published theirs, under a licence of their own; if
# you have the file, put it beside this folder as `checkpoint.pth`. Otherwise the next cell writes one in the same layout, from the model
# of this course.

# %%
from mavil_edu.released import export_released, load_released, preprocess, read_weights

published, told = Path("../checkpoint.pth"), {}
if not published.is_file():
    published = place / "checkpoint.pth"
    told = {"heads": 3, "audio_grid": (32, 2), "video_grid": (8, 1, 8)}
    written = export_released(MAViL.from_pretrained("tiny"), published)
    print("what the layout has no place for:", ", ".join(written.left_out))
names = list(read_weights(published))  # numbers alone: no code of the file is ever run
print(f"{len(names)} tensors:", ", ".join(names[:4]), "…", names[-1])

# %% [markdown]
# The names are the authors'. `load_released` maps them onto ours, reads width, depth and patch sizes from the shapes, and refuses what
# does not fit. For the authors' file it needs no more than the path. A smaller model's heads and grids cannot be read from any shape:
# those are told.

# %%
model = load_released(published, **told)
of = model.config
print(
    f"{of.encoder.depth} blocks of width {of.encoder.width}, {of.encoder.heads} heads, "
    f"fusion of {of.fusion_depth};",
    end=" ",
)
print(f"{len(model.report.used)} tensors used, not in the file: {', '.join(model.report.missing)}")

# %% [markdown]
# **Your own clips:** name your folder here. A model takes clips as it was trained on them; what such a file does *not* say, the length of
# the window and the normalisation, you have to know. Ours saw 2.56 s; from eight frames nobody could tell.

# %%
folder = Path("my_clips") if Path("my_clips").is_dir() else Path("../data_samples")
window = replace(of, video=replace(of.video, seconds=2.56)) if told else of
paths = sorted(
    path for path in folder.iterdir() if path.suffix in (".mp4", ".mov", ".mkv", ".webm")
)[:24]
ready = [preprocess(path, window) for path in paths]
with torch.no_grad():
    encoded = [model.encode(audio=clip.audio, video=clip.video) for clip in ready]
print(
    f"{len(paths)} clips; of each {encoded[0].audio_tokens.shape[1]} tokens of sound, "
    f"{encoded[0].video_tokens.shape[1]} of pictures"
)

# %% [markdown]
# For the authors' model the same clip looks like this: ten seconds, 1024 × 128, of which ours fills a quarter, and the rest is padding.

# %%
as_published = preprocess(paths[0]).audio[0, 0]
figures.patch_grid(as_published, (16, 16), 10.24)

# %% [markdown]
# What can one do with it? Ask which clips look alike. **Guess:** how often has a film's nearest neighbour an object of the same material,
# of six? Beside it the control that needs no weights: the pixels themselves.


# %%
def neighbours(x: Tensor) -> Tensor:
    """Each clip's likeness to the others: cosines,
    after what all clips have in common is taken off; to itself −1.
    """
    x = nn.functional.normalize(x - x.mean(dim=0), dim=1)
    return (x @ x.T).fill_diagonal_(-1)


table = [
    line.split(",")
    for line in Path("../data_samples/labels.csv").read_text(encoding="utf-8").splitlines()[1:]
]
material = {row[0]: row[1] for row in table}  # of the clips that come with the course
by_weights = neighbours(torch.cat([one.video_embedding for one in encoded]))
by_pixels = neighbours(torch.cat([clip.video.flatten(1) for clip in ready]))

# %%
if folder.name == "data_samples":
    kinds = [material[path.name] for path in paths]
    same = torch.tensor([[a == b for b in kinds] for a in kinds]).fill_diagonal_(False)
    for what, likeness in (("the file's weights", by_weights), ("pixels", by_pixels)):
        hits = same[torch.arange(len(kinds)), likeness.argmax(dim=1)].sum()
        print(
            f"{what}: the nearest film is of the same material in {hits} of {len(kinds)}; "
            f"by chance {same.sum() / 23:.1f}"
        )

# %%
from mavil_edu.video import denormalise

chosen = {
    "asked": 0,
    **dict(zip(("most like it", "then"), by_weights[0].topk(2).indices.tolist(), strict=True)),
}
named = {n: f"{paths[n].name} {material.get(paths[n].name, '')}" for n in chosen.values()}
figures.frame_panels(
    {
        f"{title}: {named[n]}": denormalise(ready[n].video, window.video)[0]
        for title, n in chosen.items()
    },
    2.56,
)

# %% [markdown]
# ## 9. VGGSound, to the last command
#
# VGGSound is 200,000 films of ten seconds, of 309 kinds of sound; its authors publish a list (`vggsound.csv`: id, start, class, split),
# and the films have to be fetched by whoever wants them, under the rules of where they lie. Some are gone. A subset of 20 a class is
# 6,000 clips, a few gigabytes, and enough for `small` in an evening on one GPU. First a **rehearsal** with what is here: a list in the
# same form, of our 24 clips, some of which are not there.

# %%
from mavil_edu.data.official import draw, read_list, write_subset

downloads, listed = place / "downloads", place / "vggsound.csv"
downloads.mkdir(exist_ok=True)
lines = []
for number, (name, kind) in enumerate(sorted(material.items())):
    lines.append(
        f"rehearsal{number:02d},{10 * number},{kind},{'test' if number % 4 == 0 else 'train'}\n"
    )
    if number % 5 != 2:
        (downloads / f"rehearsal{number:02d}_{10 * number:06d}.mp4").symlink_to(
            (Path("../data_samples") / name).resolve()
        )
listed.write_text("".join(lines), encoding="utf-8")
listing = read_list(listed)
counts = write_subset(listing, draw(listing, (), 3, None, 0), place / "small", downloads)
print({name: counts[name] for name in ("drawn", "present", "missing")}, counts["classes"])

# %% [markdown]
# The same seed draws the same clips, whichever of them are there: so two people's subsets are equal, and what is missing is counted. And
# now in earnest, line by line:
#
# ```
# mavil-edu subset --list vggsound.csv --per-class 20 --seed 0 --out small
# # fetch the clips that small/vggsound.csv names into downloads/, as ID_000030.mp4 (id, start in six digits)
# mavil-edu subset --list vggsound.csv --per-class 20 --seed 0 --clips downloads --out there
# mavil-edu inspect downloads
# mavil-edu benchmark predict --preset small --data downloads --epochs 100
# mavil-edu pretrain --data downloads --list small/vggsound.csv --preset small --workers 4 --out runs/vggsound
# mavil-edu pretrain --data downloads --list small/vggsound.csv --preset small --workers 4 --shuffled-pairs --out runs/control
# mavil-edu retrieve --checkpoint runs/vggsound --data downloads --list small/vggsound.csv --page found.html
# mavil-edu finetune --data downloads --list small/vggsound.csv --checkpoint runs/vggsound --labels 0.1 --out runs/tenth
# mavil-edu finetune --data downloads --list small/vggsound.csv --labels 0.1 --checkpoint runs/vggsound --from-scratch --out runs/fresh
# ```
#
# Each number beside its control: shuffled pairs, fresh weights; `finetune` prints chance, raw features and an untrained model by itself.
# For the paper's size on a machine of eight GPUs, from shards:
#
# ```
# mavil-edu shards --data downloads --preset paper --workers 16 --out shards
# mavil-edu benchmark predict --preset paper --data shards --devices 8 --precision bf16-mixed --peak-tflops 989 --share 0.4
# mavil-edu pretrain --data shards --preset paper --processes 8 --config.train.precision bf16-mixed --workers 7 --out runs/vit-b
# ```
#
# **What is not known.** Nobody has run these last three lines here: this course was written on two cores. What the package does on GPUs
# is asked by `scripts/gpu_checklist.sh`, and by `make test-gpu`, which runs every lesson of this course on one, this one's two cells for
# GPUs too, and compares the verdicts.

# %% [markdown]
# ## Questions
#
# Answer with a letter, for example `quiz("measure_where", "a")`. Three of the four stood above.

# %%
quiz("measure_where")

# %% [markdown]
# ## What to remember
#
# - Parameters, arithmetic and memory follow from the config; nothing need be built to count them. Decoders are few weights and much
#   arithmetic.
# - A step is three forward passes, two operations a multiply-add. Sixteen bytes a parameter, and activations for each clip.
# - Hours = operations / (devices · share · peak). Measure the share at the widths that you will train, and check a prediction before you
#   pay.
# - More devices help while each computes longer than it sends.
# - Sixteen bits for products, thirty-two for weights.
# - InfoNCE needs everybody's rows, with the way back. Test two processes against one: nothing else will tell you.
# - Each clip once: split by rank *and* worker.
# - Published weights do not say all that you have to know: windows, normalisation, heads.
#
# **Next:** `11_reproduction_lab`: does what the paper claims hold, and when may one say so?
