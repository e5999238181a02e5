"""What a person sees while something runs: a bar in a terminal, plain lines where output goes to a file."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

Item = TypeVar("Item")
LINE_SECONDS = 15.0  # between two plain lines
TERMS = {"audio": "audio MSE", "video": "video MSE", "inter": "inter", "intra": "intra"}


def terms_line(row: dict) -> str:
    """Each loss beside its trivial answer, "audio MSE 0.70 (trivial 0.82)"; a term that is not computed is left out."""
    parts = []
    for name, label in TERMS.items():
        value, trivial = row.get(_key(name)), row.get(f"{_key(name)}_trivial")
        if value is not None:
            parts.append(f"{label} {value:.3f}" + ("" if trivial is None else f" (trivial {trivial:.3f})"))
    return " · ".join(parts)


def _key(name: str) -> str:
    return f"{name}_mse" if name in ("audio", "video") else name


class ProgressBar:
    """Counts towards a total, with time left and a line of detail; a context manager."""

    def __init__(self, title: str, total: int, done: int = 0):
        self.title, self.total, self.done = title, total, done
        self.console = Console(file=sys.stderr)
        self.started = self.last_line = time.monotonic()
        self.first = done
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self.console,
        )
        self.task = self.bar.add_task(title, total=total, completed=done)
        self.detail = ""
        self.live = Live(get_renderable=self._shown, console=self.console, refresh_per_second=4)

    def _shown(self) -> Group:
        """The bar, and below it, where there is any, the detail: wide as it may be, it leaves the bar its place."""
        return Group(self.bar, Text(self.detail)) if self.detail else Group(self.bar)

    def __enter__(self) -> "ProgressBar":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def update(self, done: int, detail: str = "") -> None:
        """Moves to `done`; `detail` stands below the bar."""
        self.done = done
        if self.console.is_terminal:
            self.bar.update(self.task, completed=done)
            self.detail = detail
            return
        now = time.monotonic()
        if now - self.last_line >= LINE_SECONDS or done == self.total:
            self.last_line = now
            rate = (done - self.first) / max(now - self.started, 1e-9)
            left = f"{(self.total - done) / rate:.0f} s left" if rate > 0 else "timing"
            self.say(f"{self.title} {done}/{self.total} · {left}" + (f" · {detail}" if detail else ""))

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def tracked(items: Iterable[Item], title: str, total: int) -> Iterator[Item]:
    """Passes items on, with a progress bar."""
    with ProgressBar(title, total) as bar:
        for done, item in enumerate(items, start=1):
            bar.update(done)
            yield item
