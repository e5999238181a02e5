"""What a person sees while something runs: in a terminal, and in a file."""

import io
import re

import pytest
from rich.console import Console

from mavil_edu.progress import ProgressBar, terms_line, tracked

ROW = {
    "audio_mse": 0.7, "audio_mse_trivial": 0.82, "video_mse": 0.5, "video_mse_trivial": 0.64,
    "inter": 3.1, "inter_trivial": 4.159, "intra": 3.6, "intra_trivial": 4.159,
}  # fmt: skip


def seen(width: int | None) -> str:
    """What a bar writes: into a terminal that many columns wide, or into a file."""
    screen = io.StringIO()
    bar = ProgressBar("training", 100)
    console = Console(file=screen, force_terminal=width is not None, width=width, color_system=None)
    bar.console = bar.live.console = bar.bar.live.console = console
    with bar:
        bar.update(40, terms_line(ROW))
        bar.say("step 40, held-out clips")
        bar.update(100, terms_line(ROW))
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())


def test_each_loss_stands_beside_its_trivial_answer():
    line = terms_line(ROW)
    for part in ("audio MSE 0.700 (trivial 0.820)", "video MSE 0.500 (trivial 0.640)", "inter 3.100 (trivial 4.159)", "intra 3.600"):
        assert part in line
    assert "intra" not in terms_line(ROW | {"intra": None})


@pytest.mark.parametrize("width", [80, 110, 200])
def test_a_terminal_of_any_width_shows_steps_time_left_and_every_loss(width):
    text = re.sub(r"\s+", " ", seen(width))
    for part in ("training", "40/100", "100/100", "left 0:00:00", "audio MSE 0.700", "intra 3.600 (trivial 4.159)", "step 40, held-out"):
        assert part in text, part


def test_a_file_gets_plain_lines_with_time_left():
    text = seen(None)
    assert "training 100/100 · 0 s left · audio MSE 0.700 (trivial 0.820)" in text
    assert "\x1b" not in text and "━" not in text


def test_tracking_passes_every_item_on():
    assert list(tracked("abc", "letters", 3)) == ["a", "b", "c"]
