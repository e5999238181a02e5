"""Commands that measure something of ours beside what else does it: benchmark peers, decode, fbank, import, interact."""

import json as json_module
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import tyro

from mavil_edu.commands.common import Preset, say
from mavil_edu.config import PRESETS


def _print(answer: dict[str, Any], table: Callable[[dict[str, Any]], str], json: bool) -> None:
    print(json_module.dumps(answer, indent=1) if json else table(answer))


def peers(
    preset: Preset = "tiny",
    against: tuple[Literal["videomae", "vitmae"], ...] = ("videomae", "vitmae"),
    batch: int = 8,
    rounds: int = 10,
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> int:
    """Measures a masked autoencoder's step, forward and backward, beside transformers' VideoMAE and ViTMAE, set alike.

    Example: mavil-edu benchmark peers --preset paper --batch 2 --rounds 5

    Needs transformers: pip install 'mavil-edu[bench]'.

    Args:
        preset: sizes and shares hidden; patches and grids are made square where a peer takes no others.
        against: which of them.
        batch: clips of a step.
        rounds: in each of which ours, theirs eager and theirs with SDPA take a step in turn.
        json: print all numbers as JSON in place of a table.
    """
    from mavil_edu.benchmarks.peers import benchmark_peers, table

    answer = {"preset": preset} | benchmark_peers(PRESETS[preset](), list(against), batch, rounds, say)
    _print(answer, lambda found: f"{preset}, {table(found)}", json)
    return 0


def decode(
    data: Path | None = None,
    preset: Preset = "tiny",
    clips: int = 16,
    seconds: float = 10.0,
    rounds: int = 5,
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> int:
    """Measures how fast a model's window is read from a media file, beside plain PyAV loops.

    Example: mavil-edu benchmark decode --data my_clips

    Args:
        data: a folder of clips; without it clips of the generated world are made for the occasion.
        preset: the model whose windows are read.
        clips: how many, at most.
        seconds: the length of generated ones.
        rounds: in each of which every way reads every clip.
        json: print all numbers as JSON in place of a table.
    """
    from mavil_edu.benchmarks.front import benchmark_decode, decode_table

    answer = {"preset": preset} | benchmark_decode(PRESETS[preset](), data, clips, seconds, rounds)
    _print(answer, lambda found: f"{preset}, {decode_table(found)}", json)
    return 0


def fbank(
    batch: int = 16,
    seconds: float = 10.0,
    mel_bins: int = 128,
    rounds: int = 10,
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> int:
    """Measures the batched log-mel front end beside torchaudio's Kaldi function, a clip at a time; they have to agree to 0.001.

    Example: mavil-edu benchmark fbank --batch 16

    Args:
        batch: waveforms of noise and tones.
        seconds: the length of each.
        mel_bins: mel bands.
        rounds: in each of which both compute all spectrograms.
        json: print all numbers as JSON in place of a table.
    """
    from mavil_edu.benchmarks.front import benchmark_fbank, fbank_table

    answer = benchmark_fbank(batch, seconds, mel_bins, rounds)
    _print(answer, fbank_table, json)
    return 0 if answer["equal"] else 1


def import_(rounds: int = 5, json: tyro.conf.FlagCreatePairsOff[bool] = False) -> int:
    """Measures how long the package, its model and the command line take to start, beside `import torch`.

    Example: mavil-edu benchmark import

    Args:
        rounds: in each of which every start is made once, in a process of its own.
        json: print all numbers as JSON in place of a table.
    """
    from mavil_edu.benchmarks.start import benchmark_import, import_table

    _print(benchmark_import(rounds), import_table, json)
    return 0


def interact(preset: Preset = "tiny", rounds: int = 10, json: tyro.conf.FlagCreatePairsOff[bool] = False) -> int:
    """Measures the time from a changed control of the masking explorer to its new picture, beside a figure drawn anew; no browser.

    Example: mavil-edu benchmark interact

    Args:
        preset: the model whose masks are shown.
        rounds: in each of which every way makes a picture that was not there before.
        json: print all numbers as JSON in place of a table.
    """
    from mavil_edu.benchmarks.start import benchmark_interact, interact_table

    answer = {"preset": preset} | benchmark_interact(PRESETS[preset]().model, rounds)
    _print(answer, lambda found: f"{preset}, {interact_table(found)}", json)
    return 0
