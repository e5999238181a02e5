"""A prediction beside the real thing: `pretrain` runs on generated clips, each between two predictions of it."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any, TypeVar

from mavil_edu.benchmarks.predict import Say, benchmark_predict, plan_of, reading_of
from mavil_edu.config import Config
from mavil_edu.data.source import open_run
from mavil_edu.data.world import write_world
from mavil_edu.run import pretrain_on

Found = TypeVar("Found")


def with_share(act: Callable[[], Found]) -> tuple[Found, float]:
    """What a call returns, and the CPU seconds that this process got in each second of it."""
    started, used = time.perf_counter(), time.process_time()
    found = act()
    return found, (time.process_time() - used) / (time.perf_counter() - started)


def check_against_run(config: Config, clips: int, steps: int, rounds: int, repetitions: int, say: Say) -> dict[str, Any]:
    """Predicts a real `pretrain` run of at least `steps` steps on generated clips, runs it, and compares, `rounds` times.

    The machine is measured before and after each run, and the mean of both predictions counts, for a busy machine changes. The run looks
    at held-out clips and saves twice on its way, and reads its clips from files between steps; `run_seconds` are those of its summary.json.
    `ratio` is predicted over real seconds; `cpu_ratio` the same in CPU seconds: each side times the share of a core that this process got
    meanwhile, which on a CPU that other programs use too is what the machine's state leaves comparable.
    """
    if min(clips, steps, rounds, repetitions) < 1:
        raise ValueError(f"A check needs 1 clip, step, round and repetition or more ({clips}, {steps}, {rounds}, {repetitions}).")
    found, model, augment = [], config.model, config.train.augment
    with tempfile.TemporaryDirectory(prefix="mavil-edu-predict-") as place:
        folder = Path(place) / "clips"
        write_world(folder, clips, seed=0, seconds=model.video.seconds)
        data = open_run(folder, None, model, augment, seed=0)
        batch = min(config.train.batch, len(data.training))
        a_pass = len(data.training) // batch
        plan = plan_of(data, epochs=-(-steps // a_pass))
        steps = a_pass * plan.epochs
        every = -(-steps // 3)
        config = replace(
            config, train=replace(config.train, batch=batch, accumulate=1, steps=steps, evaluate_every=every, save_every=every)
        )

        def predicted() -> dict[str, Any]:
            reading = reading_of(open_run(folder, None, model, augment, seed=0).training, batch, plan.epochs, workers=0)
            return benchmark_predict(config, plan, reading=reading, repetitions=repetitions, measured_clips=batch, say=lambda _: None)

        for number in range(rounds):
            say(f"round {number + 1} of {rounds}: predicted, run, predicted")
            before = with_share(predicted)
            run = Path(place) / f"run{number}"
            summary, share = with_share(lambda run=run: pretrain_on(folder, None, config, run, workers=0))
            answers = [before, with_share(predicted)]
            seconds = [3600 * answer["hours"] for answer, _ in answers]
            cpu_seconds = [one * got for one, (_, got) in zip(seconds, answers, strict=True)]
            found.append(
                {
                    "predicted_seconds": seconds,
                    "run_seconds": summary["seconds"],
                    "ratio": mean(seconds) / summary["seconds"],
                    "predicted_cpu_seconds": cpu_seconds,
                    "run_cpu_seconds": summary["seconds"] * share,
                    "cpu_ratio": mean(cpu_seconds) / (summary["seconds"] * share),
                }
            )
    last = answers[1][0]
    return {name: last["rate"][name] for name in ("machine", "torch", "peak_tflops", "share", "memory")} | {
        "clips": clips,
        "steps": steps,
        "batch": batch,
        "seconds": last["seconds"],
        "rounds": found,
        "median_ratio": median(one["ratio"] for one in found),
        "median_cpu_ratio": median(one["cpu_ratio"] for one in found),
    }


def check_table(answer: dict[str, Any]) -> str:
    """The comparison as text, a line a run."""
    lines = [
        f"{answer['steps']} steps of {answer['batch']} on {answer['clips']} clips, {answer['machine']}",
        "",
        f"{'':<10}{'predicted s':>14}{'run s':>10}{'ratio':>8}{'CPU predicted s':>18}{'CPU run s':>12}{'ratio':>8}",
    ]
    for number, one in enumerate(answer["rounds"], 1):
        lines.append(
            f"run {number:<6}{mean(one['predicted_seconds']):>14.1f}{one['run_seconds']:>10.1f}{one['ratio']:>8.2f}"
            f"{mean(one['predicted_cpu_seconds']):>18.1f}{one['run_cpu_seconds']:>12.1f}{one['cpu_ratio']:>8.2f}"
        )
    told = f"predicted over real, median: {answer['median_ratio']:.2f}; in CPU seconds of this process: {answer['median_cpu_ratio']:.2f}"
    return "\n".join([*lines, "", told])
