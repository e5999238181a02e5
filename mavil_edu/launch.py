"""Several processes on this machine: started, watched and ended together. No torch here: whoever watches has to be light."""

import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO, NamedTuple

GRACE = 30.0  # seconds that the others have to save and end when one has gone
LEFT_ALONE = 3  # exit status of a process that ended because another had gone
CAUSE = 5.0  # seconds that are waited for the process that had gone, to tell the cause from its consequences
LIFELINE = "MAVIL_EDU_LIFELINE"  # a pipe that closes when the watching process has gone, however it went


class Place(NamedTuple):
    """Where this process stands among those of its run."""

    rank: int
    ranks: int
    here: int  # of them on this machine


def place() -> Place:
    """This process's place, by torchrun's variables; alone without them."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Place(0, 1, 1)
    return Place(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")))


def launched() -> int:
    """How many processes this one's run has."""
    return place().ranks


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def variables(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What torchrun tells a process of where it stands, for one of several on this machine."""
    here = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": ranks,
        "LOCAL_WORLD_SIZE": ranks,
    }
    return {name: str(value) for name, value in here.items()} | {"TORCHELASTIC_RUN_ID": "mavil-edu"}


def hold_lifeline() -> None:
    """Ends this process as SIGTERM would when the one that started it has gone; nothing is done where none has."""
    number = os.environ.pop(LIFELINE, None)
    if number is None:
        return

    def wait() -> None:
        os.read(int(number), 1)  # returns when the other end is closed
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


class _Group:
    """The processes of one run, and what those but the first say on standard error."""

    def __init__(self, command: Sequence[str], count: int):
        reading, self.lifeline = os.pipe()
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
        shared, port = {"OMP_NUM_THREADS": threads, LIFELINE: str(reading)}, free_port()
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns that it looks for weights without a gradient, as it was told
        self.said: list[BinaryIO | None] = [None, *(tempfile.TemporaryFile() for _ in range(count - 1))]
        self.members = [
            subprocess.Popen(
                command,
                env=os.environ | shared | variables(rank, count, port),
                stdout=None if rank == 0 else subprocess.DEVNULL,
                stderr=self.said[rank],
                stdin=subprocess.DEVNULL,
                pass_fds=[reading],
                start_new_session=True,  # Ctrl-C reaches them through us, once
            )
            for rank in range(count)
        ]
        os.close(reading)

    def send(self, number: int) -> None:
        for member in self.members:
            if member.poll() is None:
                member.send_signal(number)

    def first_gone(self) -> int | None:
        """The process that ended badly: one killed by a signal before one with an error, and that before those which were left alone."""
        gone = [rank for rank, member in enumerate(self.members) if member.poll() not in (None, 0)]
        return min(gone, key=lambda rank: (self._left_alone(rank), self.members[rank].returncode > 0, rank)) if gone else None

    def _left_alone(self, rank: int) -> bool:
        return self.members[rank].returncode == LEFT_ALONE

    def cause_known(self) -> bool:
        """Whether a process has gone for a reason of its own, or all have ended."""
        gone = self.first_gone()
        return not self.running() or (gone is not None and not self._left_alone(gone))

    def running(self) -> bool:
        return any(member.poll() is None for member in self.members)

    def last_words(self, rank: int) -> str:
        if self.said[rank] is None:
            return ""
        self.said[rank].seek(0)
        return self.said[rank].read().decode(errors="replace").strip()


def _wait(until: Callable[[], bool], seconds: float = math.inf) -> None:
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        time.sleep(0.05)


def watch(command: Sequence[str], count: int) -> int:
    """Runs a command in `count` processes on this machine, which find their places by `place`; returns the exit status of the whole.

    Ctrl-C and SIGTERM are handed on. Where one process ends badly the others are asked to end, and killed after 30 seconds.
    Raises ValueError on Windows.
    """
    if os.name == "nt":
        raise ValueError("--processes needs Linux or macOS; leave it out, or start the processes by torchrun.")
    group = _Group(command, count)
    asked = []

    def hand_on(number: int, _frame: object) -> None:
        asked.append(number)
        group.send(number)

    old = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _wait(lambda: group.first_gone() is not None or not group.running())
        _wait(group.cause_known, CAUSE)
        gone = group.first_gone()
        if gone is not None and not asked:  # a second signal would mean at once, and the first process may be saving
            group.send(signal.SIGTERM)
        _wait(lambda: not group.running(), GRACE)
    finally:
        group.send(signal.SIGKILL)  # who has not ended by now; nobody in most cases
        for member in group.members:
            member.wait()
        for number, handler in old.items():
            signal.signal(number, handler)
    return _verdict(group, gone, count)


def _verdict(group: _Group, gone: int | None, count: int) -> int:
    """The exit status of the whole run; why it ended is said, unless the first process has said so."""
    if gone is None:
        return 0
    status = group.members[gone].returncode
    if status < 0:
        why = " It may have used up the memory." if status == -signal.SIGKILL else ""
        _say(
            f"error: process {gone} of {count} was ended by {signal.Signals(-status).name}.{why} The others were stopped. "
            "What is saved is whole. To go on: the same command with --resume."
        )
        return 2
    if status != 130 and gone > 0:
        _say(f"Process {gone} of {count} stopped the run:\n{group.last_words(gone)}")
    return 2 if status == LEFT_ALONE else status
