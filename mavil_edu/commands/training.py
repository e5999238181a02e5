"""Commands that train a model, or show what one has learnt: demo, pretrain, reconstruct."""

from pathlib import Path

import tyro

from mavil_edu.commands.common import Preset, say
from mavil_edu.config import AudioMasking, Config, ObjectiveConfig, VideoMasking, tiny

TINY = tiny()


def tell(out: Path, summary: dict) -> None:
    """A run's verdict in the terminal."""
    from mavil_edu.report import FEW_CLIPS, few_clips

    if summary["shuffled_pairs"]:
        say("This is a control: it was trained on shuffled pairs, each sound with another clip's picture, and is measured on true ones.")
    if summary["target"] == "teacher":
        say("This is stage 2: errors are in the space of the teacher's tokens.")
    for name in ("audio", "video"):
        ours, best = summary[name]["masked_mse"], summary[name]["best_trivial_mse"]
        gain = 100 * (1 - ours / best) if best else 0.0
        say(f"{name}: masked MSE {ours:.3f}, {abs(gain):.0f} % {'below' if gain > 0 else 'ABOVE'} the best trivial answer's {best:.3f}")
    r = summary["retrieval"]
    for way, label in (("audio_to_video", "sound to picture"), ("video_to_audio", "picture to sound")):
        shares = [f"R@{k} {100 * r[way][f'r{k}']:.1f} % (chance {100 * r[f'chance_r{k}']:.1f})" for k in (1, 5) if k < r["clips"]]
        if shares:  # among k clips or fewer, all are found
            say(f"{label}, {r['clips']} clips: {', '.join(shares)}")
    if r["clips"] < FEW_CLIPS:
        say(few_clips(r["clips"]))
    say(f"Open {out / 'report.html'} in a browser to see {'it' if summary['target'] == 'teacher' else 'and hear it'}.")


def demo(out: Path = Path("runs/demo"), minutes: float = 5.5, clips: int = 6000, seed: int = 0) -> None:
    """Trains the tiny model on generated clips and shows, on held-out ones, what it learnt.

    Example: mavil-edu demo --minutes 2 --out runs/quick

    Args:
        out: the run's folder; what an earlier demo left there is kept under a new name.
        minutes: of training.
        clips: generated clips to train on; they are kept in runs/cache for the next time.
        seed: of the model, the masks and the order of the clips.
    """
    from mavil_edu import run

    summary = run.demo(out, minutes, clips, seed)
    tell(out, summary)


def pretrain(
    data: Path,
    out: Path,
    eval_data: Path | None = None,
    list: Path | None = None,
    classes: Path | None = None,
    preset: Preset | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    workers: int | None = None,
    min_seconds: float = 1.0,
    resume: tyro.conf.FlagCreatePairsOff[bool] = False,
    shuffled_pairs: tyro.conf.FlagCreatePairsOff[bool] = False,
    start: str | None = None,
    teacher: str | None = None,
    iterations: int = 1,
    allow_collapsed: tyro.conf.FlagCreatePairsOff[bool] = False,
    processes: int = 1,
    fast: tyro.conf.FlagCreatePairsOff[bool] = False,
    config: tyro.conf.AvoidSubcommands[Config] = TINY,  # with --fast another one: cli.py. A decoder may be None, in a model of others
) -> None:
    """Pre-trains a model on any folder of clips, on AV-MNIST, or on the clips of an official list; labels are not used.

    Example: mavil-edu pretrain --data my_clips --preset tiny --minutes 10 --out runs/mine

    Example: mavil-edu pretrain --data downloads --list vggsound.csv --out runs/vggsound

    Example: mavil-edu pretrain --data my_clips --start tiny --steps 200 --out runs/adapted    # on from trained weights

    Example: mavil-edu pretrain --data my_clips --teacher runs/mine --out runs/student    # stage 2

    Args:
        data: a folder of clips, or what `mavil-edu shards` or `avmnist` wrote; files that cannot be trained on are left out and named.
        out: the run's folder, new or empty.
        eval_data: a folder of other clips for evaluation; without it AV-MNIST's val split, else a tenth of the clips, is held out.
        list: VGGSound's or AudioSet's CSV file: of the clips in DATA those of its train split are taken, and missing ones are listed.
        classes: the list's file of class names; by default the one beside it.
        preset: the config to start from, every number of which can be changed by the options below; by default tiny, or with --start or
            --teacher that model's own.
        steps: steps of training, in place of the preset's.
        minutes: of training, in place of steps: 30 steps are timed, and the number of steps is fixed from that.
        seed: of the model, the masks, the order and the windows of the clips.
        workers: processes that decode clips; by default 1, or 0 where clips are few.
        min_seconds: least length of a clip's sound and picture together.
        resume: go on with the run in OUT, from its newest checkpoint; its numbers are its own, and other ones are refused.
        shuffled_pairs: the control: train on each sound with another clip's picture; such a run says so in all it writes.
        start: a run's folder, a model's folder or a name (tiny is one that comes with the package), whose weights training goes on from.
        teacher: stage 2: a run's folder, a model's folder or a name on the Hub, whose tokens of complete clips are to be predicted.
        iterations: of stage 2, each student being the next one's teacher, in OUT/1, OUT/2 and so on.
        allow_collapsed: take a teacher that answers all clips nearly alike.
        processes: that train together on this machine, one on each GPU, or on its CPU; they share every batch. Several machines: torchrun.
        fast: less work a step: a quarter of the hidden patches decoded, by cross-attention, and more; docs/fast.md tells what it costs.
        config: the run's numbers.
    """
    from dataclasses import replace

    from mavil_edu import run

    if steps is not None and minutes is not None:
        raise ValueError("Give --steps or --minutes, not both.")
    if steps is not None:
        config = replace(config, train=replace(config.train, steps=steps))
    if iterations < 1 or (iterations > 1 and teacher is None):
        raise ValueError(f"--iterations is {iterations}; give 1 or more, and beyond 1 the first --teacher.")
    options = {
        "listed": list,
        "classes": classes,
        "seed": seed,
        "minutes": minutes,
        "workers": workers,
        "min_seconds": min_seconds,
        "shuffled_pairs": shuffled_pairs,
        "allow_collapsed": allow_collapsed,
        "start": start,
    }
    if iterations == 1:
        summaries = {out: run.pretrain_on(data, eval_data, config, out, resume=resume, teacher=teacher, **options)}
    else:
        made = run.self_train_on(data, out, teacher, iterations, resume, eval_data, config, **options)
        summaries = {out / str(k): summary for k, summary in enumerate(made, 1)}
    for place, summary in summaries.items():
        if summary is not None:  # of several processes the first one tells
            tell(place, summary)


def reconstruct(
    clip: tyro.conf.Positional[Path],
    out: Path,
    checkpoint: str | None = None,
    audio_ratio: float = 0.8,
    video_ratio: float = 0.8,
    audio_masking: AudioMasking = "random",
    video_masking: VideoMasking = "random",
    position: float = 0.5,
    seed: int = 0,
) -> None:
    """Hides most of a clip's sound and picture and lets a model fill them in: pictures, sounds and videos.

    Example: mavil-edu reconstruct --checkpoint runs/demo holiday.mp4 --out holiday

    Example: mavil-edu reconstruct holiday.mp4 --out unheard --audio-ratio 1 --video-ratio 0    # the sound from the sight alone

    Args:
        clip: any media file with sound, picture or both.
        out: a new or empty folder for the results.
        checkpoint: a run's folder, a model's folder or a name on the Hub; by default the small model that comes with the package.
        audio_ratio: share of the sound's patches that is hidden.
        video_ratio: share of the picture's patches that is hidden.
        audio_masking: what hides together: single patches, moments (time), bands (frequency), or moments and bands.
        video_masking: what hides together: single patches, places in all frames (tube), frames, or blocks through all frames.
        position: where in the clip the window lies, from 0 (start) to 1 (end).
        seed: of the masks.
    """
    from mavil_edu.examples import reconstruct_file

    hiding = ObjectiveConfig(audio_ratio=audio_ratio, video_ratio=video_ratio, audio_masking=audio_masking, video_masking=video_masking)
    for line in reconstruct_file(checkpoint, clip, out, hiding, position, seed):
        say(line)
