# %% [markdown]
# # Your own clips
#
# **The question:** everything so far was generated, or recorded by others. What does it take to go from a telephone's video to a model, and
# what does a model that never heard your kitchen make of it?
#
# **You will be able to** say which of your files can be trained on and why the others cannot, cut windows in which sound and picture stay
# in step, hold out clips without a leak, adapt a trained model to your recordings, and tell whether it has learnt anything.
#
# **Budget:** 2 minutes of computing on two CPU cores, 1.2 GB of memory, no network, no GPU. Reading and exercises: 60 minutes.
# **Opens:** [`inspection.py`](../mavil_edu/inspection.py), [`media.py`](../mavil_edu/media.py),
# [`data/folder.py`](../mavil_edu/data/folder.py), [`reconstruct.py`](../mavil_edu/reconstruct.py).
# **Paper:** MAViL, [arXiv 2212.08071](https://arxiv.org/abs/2212.08071), section 4 (its clips: AudioSet, VGGSound).
#
# Before each cell that computes, guess what it will show. Then run it (Shift + Enter).

# %%
import copy
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mavil_edu import MAViL, audio, diagrams, figures, losses, media
from mavil_edu.config import AugmentConfig, tiny

# %% [markdown]
# ## 1. Record
#
# Make a folder `my_clips` beside this notebook (in JupyterLab: the folder button above the list of files) and drag recordings into it; any
# format that FFmpeg knows will do. Twenty or more clips of 3 to 10 seconds are a beginning: one thing that sounds and is *seen* to
# sound, a cup on a table, a door, a drum. Leave the camera's own microphone on, and ask everybody who can be seen or heard.
#
# **No recordings at hand?** Then the next cells make some, with a stranger's camera and microphone: other noise, more objects, more clutter
# than the shipped model was trained on. Everything you see here was made with these.
# %%
from mavil_edu.data.factors import sample_factors
from mavil_edu.data.world_picture import render_video
from mavil_edu.data.world_sound import render_audio
from mavil_edu.display import player, video_player
from mavil_edu.exercises import check, exercise, quiz
from mavil_edu.inspection import inspect_paths


def record(folder: Path, clips: int, seed: int, seconds: float) -> None:
    """MP4 files of the hard world, 25 pictures of 64 × 64 a second."""
    factors = sample_factors(clips, seed, seconds, difficulty="hard")
    times = torch.arange(round(25 * seconds)) / 25
    for i in range(clips):
        pictures = render_video(factors[i : i + 1], times, 64, 64)[0]
        sound = render_audio(factors[i : i + 1], seconds)[0]
        media.write_mp4(folder / f"{seconds:.0f}s-{i:03d}.mp4", pictures, 25, sound)


# %%
# ↓ the budget of this lesson
device, steps, files = ("cuda", 2000, 1000) if torch.cuda.is_available() else ("cpu", 160, 100)
folder = Path("my_clips")
if not media.find_media([folder] if folder.is_dir() else []):
    folder = Path(tempfile.mkdtemp())
    record(folder, files, 31, 2.56)
    record(folder, 4, 32, 10.24)  # four longer ones
    good = (folder / "3s-000.mp4").read_bytes()
    (folder / "torn.mp4").write_bytes(good[: len(good) // 2])  # the battery was empty
    (folder / "really a letter.mp4").write_text("Dear aunt,")
    media.write_wav(
        folder / "memo.wav", media.read_clip(folder / "3s-001.mp4", 2.56, 2.56, 8).waveform
    )
    media.write_mp4(
        folder / "muted.mp4",
        torch.full((64, 64, 64, 3), 99, dtype=torch.uint8),
        25,
        torch.zeros(40_960),
    )
    record(folder, 1, 33, 0.6)

# %% [markdown]
# ## 2. Inspect
#
# Each file gets one word. **Guess:** of the five odd files above, which can be trained on?

# %%
verdicts = list(inspect_paths([folder], tiny().model))
words = [v.status for v in verdicts]
print({word: words.count(word) for word in sorted(set(words))})
for v in [v for v in verdicts if not v.trainable][:8]:
    print(
        f"{v.path.name:20} {v.status:10} sound {v.audio_seconds:.1f} s, "
        f"picture {v.video_seconds:.1f} s"
    )

# %% [markdown]
# None of the five. A film without sound tells nothing about sounds; a *silent* one is worse: it has a sound track, and a model would
# learn that cups make none. In a terminal `mavil-edu inspect my_clips` says the same, with a sentence for each file.

# %%
usable = [v.path for v in verdicts if v.trainable]
if len(usable) < 5:
    raise ValueError(
        f"{len(usable)} usable clips are too few: "
        "one part trains, another is held out. Record five or more."
    )
print(len(usable), "files are left")

# %%
quiz("silent_film")

# %% [markdown]
# ## 3. One sound track, one clock
#
# A microphone records one channel, a telephone two, a cinema six. The model hears one. (The library makes this very mean of two; a cinema's
# six it weighs, the centre most, and leaves the bass channel out.)

# %% [markdown]
# EXERCISE mixed_down
#
# SOLUTION mixed_down


# %%
@exercise("mixed_down")
def mixed_down(channels: Tensor) -> Tensor:
    raise NotImplementedError


check("mixed_down")

# %% [markdown]
# Where the model's window of 2.56 s lies in a longer recording is a number from 0, the first possible place, to 1, the last.

# %% [markdown]
# EXERCISE window_start
#
# SOLUTION window_start


# %%
@exercise("window_start")
def window_start(length: float, window: float, position: float) -> float:
    raise NotImplementedError


check("window_start")

# %% [markdown]
# In that window eight pictures are wanted, at even times. Telephones do not film at an even rate: in the dark they wait longer for light.
# Whoever counts pictures loses the beat; each picture carries its own time.

# %% [markdown]
# EXERCISE shown_at
#
# SOLUTION shown_at


# %%
@exercise("shown_at")
def shown_at(times: Tensor, wanted: Tensor) -> Tensor:
    raise NotImplementedError


check("shown_at")

# %%
# 25 pictures a second; then the light goes out, and 10
bright, dark = torch.arange(50) / 25, 2 + torch.arange(20) / 10
times, wanted = torch.cat([bright, dark]), (torch.arange(8) + 0.5) / 2
by_rate = (wanted * len(times) / 4).long()  # "70 pictures in 4 seconds"
late = times[by_rate] - times[shown_at(times, wanted)]
print("wanted at   ", [round(float(t), 2) for t in wanted])
print("off by      ", [round(float(t), 2) for t in late], "seconds, if pictures are counted")

# %% [markdown]
# Up to three quarters of a second: a sound would be shown the picture of another blow.
#
# Here is one of the clips as it was recorded, then as the model gets it.

# %%
recorded = media.read_whole(usable[0], 25, 2.56)
louder = 0.5 / recorded.waveform.abs().max()
video_player(recorded.frames, 25, louder * recorded.waveform, "A recording, made louder")

# %%
from mavil_edu.data.batch import collate, to_inputs
from mavil_edu.data.folder import FolderClips, TiledClips

shape = tiny().model
no_change = AugmentConfig(roll=False, magnitude=False, crop=(1.0, 1.0), flip=False)
# a long recording is covered by windows, end to end
windows = TiledClips(FolderClips(usable, shape, no_change))
samples = [windows.sample(i, None) for i in range(len(windows))]
# a window may be silent though its clip is not
kept = [i for i, sample in enumerate(samples) if hasattr(sample, "waveform")]
parts = [
    to_inputs(collate([samples[i] for i in few.tolist()]), shape)
    for few in torch.tensor(kept).split(16)
]
heard, seen = (torch.cat([getattr(part, side) for part in parts]) for side in ("audio", "video"))
recordings = torch.tensor([windows.tiles[i].clip for i in kept])
sizes = tuple(heard.shape[1:]), tuple(seen.shape[1:])
print(len(usable), "files,", len(heard), "windows; as the model takes them:", *sizes)
del parts

# %%
one = kept.index(next(i for i in kept if windows.tiles[i].clip == 0))
figures.spectrogram_panels(
    {"what it hears": audio.to_log_mel(heard[one : one + 1], shape.audio)[0]}, 2.56
)

# %%
figures.frame_panels({"what it sees": samples[kept[one]].frames}, 2.56)

# %% [markdown]
# ## 4. Hold some out, without a leak
#
# Windows of one recording share the room, the lamp and the microphone. If some of them train and others are held out, the model is asked
# what it has seen already. So whole *recordings* are held out.

# %% [markdown]
# EXERCISE held_out
#
# SOLUTION held_out


# %%
@exercise("held_out")
def held_out(recordings: Tensor, every: int) -> Tensor:
    raise NotImplementedError


check("held_out")

# %%
out = held_out(recordings, 5)
mine, others = torch.where(~out)[0], torch.where(out)[0]
print("windows to train on:", len(mine), "  held out:", len(others))
print(
    "recordings on both sides:",
    len(set(recordings[mine].tolist()) & set(recordings[others].tolist())),
)

# %%
quiz("leak")

# %% [markdown]
# ## 5. What does the shipped model make of them?
#
# It was trained on 7,500 generated clips of a tidier world. **Guess:** on these, how far is it below the mean patch?

# %%
from mavil_edu.losses import trivial_answers
from mavil_edu.mavil import Masks, draw_masks, patch_targets

masks = draw_masks(len(others), shape, tiny().objective, torch.Generator().manual_seed(0))
targets, sides = patch_targets(heard[others], seen[others], shape), ("audio", "video")
means = {side: 0 for side in sides}  # the mean patch of each place, over the windows to train on
for few in mine.split(16):
    part = patch_targets(heard[few], seen[few], shape)
    means = {
        side: mean + getattr(part, side).sum(dim=0) / len(mine) for side, mean in means.items()
    }


# %%
def error(model: MAViL) -> dict[str, float]:
    """The mean squared error over hidden patches of held-out windows, in normalised patches."""
    with torch.inference_mode():
        said = model.cpu().eval()(heard[others], seen[others], masks)
    found = {}
    for side in sides:
        predicted, target = getattr(said, side).patches, getattr(targets, side)
        found[side] = float(losses.masked_mse(predicted, target, getattr(masks, side)))
    return found


bars = {}
for side in sides:
    target, hidden = getattr(targets, side), getattr(masks, side)
    grid = getattr(shape, side).grid
    answers = trivial_answers(target, hidden, hidden, grid, means[side]).values()
    bars[side] = min(float(answer) for answer in answers)
shipped = MAViL.from_pretrained("tiny")  # comes with the package
before = error(shipped)

# %%
for side in sides:
    worse = (
        "worse"
        if before[side] > 1.2 * bars[side]
        else "better"
        if before[side] < 0.8 * bars[side]
        else "as good"
    )
    print(f"{side}: the shipped model is {worse} than the best answer that needs no learning")

# %% [markdown]
# For *sounds* it is far worse than a constant. It is not broken: it knows one microphone, whose noise is soft, and yours is another.
# Pictures travelled better here. Whoever publishes a model's features should ask this first, of each sense.

# %%
quiz("foreign_microphone")

# %% [markdown]
# ## 6. Train
#
# Twice, for equally many steps on the same windows: *on* from the shipped weights, at a quarter of the learning rate; and from fresh ones.
# The loss is the reconstruction of both senses; contrast among so few clips would mostly learn them by heart. **Guess:** which is better
# on recordings that neither has seen? Does either come below the line?

# %%
from mavil_edu.mavil import stage_one_losses
from mavil_edu.optimiser import learning_rate, make_optimiser

# reconstruction, and each hidden patch's own mean and spread
alone = replace(tiny().objective, alpha=0, beta=0, inter_views=1)


def step_on(model: MAViL, few: Tensor, generator: torch.Generator) -> None:
    """Gradients of one batch."""
    hidden = draw_masks(len(few), shape, tiny().objective, generator)
    x = heard[few].to(device)
    y = seen[few].to(device)
    hidden = Masks(*(mask.to(device) for mask in hidden))
    stage_one_losses(model.train()(x, y, hidden), x, y, *hidden, shape, alone).total.backward()


# %%
def train(model: MAViL, base_lr: float) -> list[dict[str, float]]:
    """The held-out errors on the way, at nine moments."""
    plan = replace(tiny().train, steps=steps, base_lr=base_lr)
    generator = torch.Generator().manual_seed(0)
    course = [error(model)]
    optimiser = make_optimiser(model.to(device), plan)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, plan)
        step_on(
            model.to(device), mine[torch.randint(len(mine), (32,), generator=generator)], generator
        )
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if (step + 1) % (steps // 8) == 0:
            course.append(error(model))
    return course


# %%
torch.manual_seed(0)
adapted, fresh = copy.deepcopy(shipped), MAViL(shape)
courses = {
    "on from the shipped model": train(adapted, 4e-3),
    "from fresh weights": train(fresh, 1.6e-2),
}

# %%
curves = {
    f"{side}, {title}": (
        torch.linspace(0, steps, len(course)),
        torch.tensor([at[side] / bars[side] for at in course]).clamp(max=2),
    )
    for title, course in courses.items()
    for side in sides
}
adapted_below, fresh_below = (
    [course[-1][side] < 0.9 * bars[side] for side in sides] for course in courses.values()
)
sentence = (
    "A tenth below the best trivial answer in both senses: "
    f"on from the shipped model {'yes' if all(adapted_below) else 'no'}, "
)
sentence += f"from fresh weights {'yes' if all(fresh_below) else 'no'}."
replace(diagrams.lines(curves, "step", "error / trivial, at most 2"), sentence=sentence)

# %% [markdown]
# Within a few steps the shipped model has got used to the noise; what it knows of objects, sounds and time it keeps. From fresh weights
# pictures come just below the line and sounds do not. One run each: for a claim take five seeds (lesson 11), and a third arm that goes on
# with the shipped weights *shuffled*, so that sizes alone cannot explain it.

# %% [markdown]
# ## 7. Listen
#
# A held-out recording: the sound, what is left of it with 80 % hidden, and what the adapted model makes of that.

# %%
from mavil_edu.reconstruct import reconstruct

first = others[:1]
full = to_inputs(collate([samples[kept[int(first)]]]), shape)
result = reconstruct(adapted, full, Masks(masks.audio[:1], masks.video[:1]))[0]
figures.frame_panels(
    {
        "recorded": result.frames.original,
        "given": result.frames.masked,
        "made of it": result.frames.completed,
    },
    2.56,
)

# %%
spectrograms = torch.stack(
    [result.spectrogram.original, result.spectrogram.masked, result.spectrogram.completed]
)
waves = audio.to_waveform(
    spectrograms, samples=40_960, heard=samples[kept[int(first)]].heard.expand(3, 2)
)
figures.spectrogram_panels(
    dict(zip(("recorded", "given", "made of it"), spectrograms, strict=True)), 2.56
)

# %%
player(0.5 * waves[0] / waves[0].abs().max(), "Recorded: its spectrogram made sound again, louder")

# %%
player(0.5 * waves[1] / waves[1].abs().max(), "What the model is given, louder")

# %%
player(0.5 * waves[2] / waves[2].abs().max(), "What it makes of that, louder")

# %% [markdown]
# In ours the ball and the bars behind it come back, from slivers. Of the sound the hiss comes back, as an even one, since the best guess of
# noise is its mean; blows that fell into hidden moments do not. What do yours do?
#
# ## 8. On your own
#
# | you want | type in a terminal |
# |---|---|
# | the verdict on each file | `mavil-edu inspect my_clips` |
# | the shipped model, adapted to yours | `mavil-edu pretrain --data my_clips --start tiny --minutes 5 --out runs/adapted` |
# | a model of your own, from fresh weights | `mavil-edu pretrain --data my_clips --minutes 30 --out runs/mine` |
# | what it makes of one clip | `mavil-edu reconstruct --checkpoint runs/mine CLIP --out seen` |
# | which pictures it finds for a sound | `mavil-edu retrieve --checkpoint runs/mine --data my_clips --page found.html` |
#
# ## What to remember
#
# - Inspect before you train. A silent film, a torn one and a letter are all called `.mp4`.
# - Pictures are found by their time, never by their number.
# - Hold out whole recordings.
# - A model is good *on clips like those it saw*. Measure it on yours, in each sense, beside the best trivial answer.
# - With few clips, go on from trained weights; and watch recordings that it has not seen.
