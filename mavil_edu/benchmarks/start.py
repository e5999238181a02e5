"""How long one waits: for the package to start, and for an explorer's new picture; each beside what sets the scale."""

import subprocess
import sys
from itertools import count
from typing import Any

import torch

from mavil_edu import audio
from mavil_edu.benchmarks.interleaved import interleaved, ratio, spread, told
from mavil_edu.config import ModelConfig
from mavil_edu.masking import AUDIO_STRATEGIES, VIDEO_STRATEGIES
from mavil_edu.masking_picture import _generated
from mavil_edu.processes import machine

STARTS = {
    "python": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import mavil_edu": ["-c", "import mavil_edu"],
    "its model": ["-c", "from mavil_edu import MAViL"],
    "its training": ["-c", "import mavil_edu.run"],
    "mavil-edu --help": ["-m", "mavil_edu", "--help"],
}
PROMPT = 150.0  # milliseconds in which a choice is to be shown


def _start(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} failed: {done.stderr.strip()[-300:]}")


def benchmark_import(rounds: int) -> dict[str, Any]:
    """`mavil-edu benchmark import`: what is waited for in a fresh process, each start beside `import torch`, in turn.

    `ratio` is over `import torch`. Raises ValueError for no round, RuntimeError where a start fails.
    """
    if rounds < 1:
        raise ValueError(f"A benchmark needs 1 round or more ({rounds}).")
    took = interleaved({name: lambda arguments=arguments: _start(arguments) for name, arguments in STARTS.items()}, rounds)
    return {
        "machine": machine(torch.device("cpu")),
        "torch": torch.__version__,
        "rounds": rounds,
        "ms": {name: spread([1000 * second for second in one.wall]) for name, one in took.items()},
        "ratio": {name: ratio(one.wall, took["import torch"].wall) for name, one in took.items()},
    }


def import_table(answer: dict[str, Any]) -> str:
    """The numbers as text, a line a start."""
    lines = [
        f"{answer['rounds']} rounds in turn, {answer['machine']}, torch {answer['torch']}",
        f"{'':<20}{'ms (quartiles)':>24}{'over import torch':>24}",
    ]
    lines += [f"{name:<20}{told(answer['ms'][name], 0):>24}{told(answer['ratio'][name]):>24}" for name in STARTS]
    return "\n".join(lines)


def benchmark_interact(model: ModelConfig, rounds: int) -> dict[str, Any]:
    """`mavil-edu benchmark interact`: from a changed control of the masking explorer to its new picture, text and sound, without a browser.

    In turn: the whole change, the picture in it, and that picture in a figure drawn anew; each time a draw that was not there before.
    `ratio` is over the figure drawn anew. Raises ValueError for no round, and where the notebooks' extra is not installed.
    """
    if rounds < 1:
        raise ValueError(f"A benchmark needs 1 round or more ({rounds}).")
    try:
        from mavil_edu.explorers.masking import MaskView, masking_explorer
    except ModuleNotFoundError as missing:
        raise ValueError("This benchmark needs ipywidgets: pip install 'mavil-edu[notebooks]'.") from missing
    waveform, frames = _generated(model, seed=0)
    shown = audio.to_log_mel(audio.spectrogram(waveform[None], model.audio), model.audio)[0], frames, model.audio, model.video
    explorer, view, draws = masking_explorer(*shown), MaskView(*shown), count(1)

    def masks() -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(next(draws))
        grids = (AUDIO_STRATEGIES, model.audio.grid), (VIDEO_STRATEGIES, model.video.grid)
        return [strategies["random"](1, grid, 0.8, generator)[0] for strategies, grid in grids]

    def change() -> None:
        before = explorer.picture.value
        explorer.controls["seed"].value = next(draws)
        if explorer.picture.value == before:
            raise RuntimeError("The explorer's picture did not change.")

    ways = {"change": change, "picture": lambda: view.png(*masks()), "anew": lambda: MaskView(*shown).png(*masks())}
    took = interleaved(ways, rounds)
    return {
        "machine": machine(torch.device("cpu")),
        "rounds": rounds,
        "ms": {way: spread([1000 * second for second in one.wall]) for way, one in took.items()},
        "cpu_ms": {way: spread([1000 * second for second in one.cpu]) for way, one in took.items()},
        "ratio": {way: ratio(took[way].wall, took["anew"].wall) for way in ("change", "picture")},
        "within_150_ms": sum(1000 * second <= PROMPT for second in took["change"].wall) / rounds,
    }


def interact_table(answer: dict[str, Any]) -> str:
    """The numbers as text, a line a way."""
    names = {"change": "a control changed", "picture": "… its picture alone", "anew": "a figure drawn anew"}
    lines = [
        f"{answer['rounds']} rounds in turn, {answer['machine']}",
        f"{'':<22}{'ms (quartiles)':>24}{'CPU ms':>24}{'over drawn anew':>20}",
    ]
    for way, name in names.items():
        over = told(answer["ratio"][way]) if way in answer["ratio"] else ""
        lines.append(f"{name:<22}{told(answer['ms'][way], 1):>24}{told(answer['cpu_ms'][way], 1):>24}{over:>20}")
    return "\n".join([*lines, f"{100 * answer['within_150_ms']:.0f} % of the changes were shown within {PROMPT:.0f} ms"])
