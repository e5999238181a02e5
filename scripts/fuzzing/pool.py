"""Cases run in a process of their own that may crash, hang or take all memory; each end is told and the next case goes on."""

import faulthandler
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 10.0  # of the processor, after which a step of a case hangs
PATIENCE = 6  # times that by the clock, where a step only waits, or the machine is busy
PEAK = 1 << 30  # bytes that a case may take beside what its process had before
AHEAD = 4 << 30  # bytes of address space beside that; more is refused by the system, so that no case takes the machine


@dataclass
class Outcome:
    """What became of one case."""

    outcome: str  # in a word or two, for the count
    mutation: str  # what was done to what
    faults: list[str] = field(default_factory=list)  # claims that the case refutes, a line each
    seconds: float = 0.0
    peak: int = 0  # bytes taken at most


Work = Callable[[int], Outcome]
_hear: Callable[[str], None] = str  # what a worker does with the steps of its case; outside of one nothing
_steps: list[str] = []  # of the case at hand


def step(what: str) -> None:
    """Says what a case does next: first what its input is, then each thing that is tried with it.

    The time that it may take begins anew with each; a crash, a hang and all else that ends a case is told with these words.
    """
    _steps.append(what)
    _hear(what)


def _resident(name: str) -> int:
    """Bytes by /proc: VmRSS now, VmHWM at most since it was last reset, VmSize of address space."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"/proc/self/status tells no {name}.")


def measured(work: Work, case: int) -> Outcome:
    """Runs a case here; what it raises, takes too much of, or is refused is a fault."""
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before, began = _resident("VmRSS"), time.monotonic()
    _steps.clear()
    try:
        found = work(case)
    except MemoryError:
        found = Outcome("memory", "", ["memory: an allocation was refused"])
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        told = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno} {last.name})"
        found = Outcome("raised", "", [f"raised: {told}"])
    if not found.mutation and _steps:
        found.mutation, found.faults = _steps[0], [f"{fault}, while {_steps[-1]}" for fault in found.faults]
    found.seconds, found.peak = round(time.monotonic() - began, 3), max(0, _resident("VmHWM") - before)
    if found.peak > PEAK:
        found.faults.append(f"memory: {found.peak >> 20} MB were taken")
    return found


def _serve(work: Work, asked: int, answers: int, log: Path) -> None:
    """A worker's life: a case's number a line in, its outcome as JSON a line out."""
    number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(number, 1)
    os.dup2(number, 2)
    faulthandler.enable(number)
    faulthandler.register(signal.SIGUSR1, number)  # asked where it is, when it hangs
    most = _resident("VmSize") + AHEAD
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(asked) as numbers, os.fdopen(answers, "w") as out:

        def answer(words: dict) -> None:
            out.write(json.dumps(words) + "\n")
            out.flush()

        def hear(what: str) -> None:
            answer({"step": what})

        global _hear
        _hear = hear
        for line in numbers:
            os.ftruncate(number, 0)
            answer(measured(work, int(line)).__dict__)


class _Worker:
    """A forked process that serves cases."""

    def __init__(self, work: Work, log: Path, seconds: float):
        theirs, self.asking = os.pipe()
        self.reading, back = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            status = 1
            try:
                os.close(self.asking)
                os.close(self.reading)
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                _serve(work, theirs, back, log)
                status = 0
            finally:
                os._exit(status)
        os.close(theirs)
        os.close(back)
        self.log, self.seconds, self.unread, self.hung = log, seconds, b"", False

    def ask(self, case: int) -> Outcome | None:
        """The outcome, or None where the worker is gone or a step of its case does not end in time."""
        os.write(self.asking, f"{case}\n".encode())
        self.steps, self.began = [], time.monotonic()
        while True:
            before = self.used()
            while b"\n" not in self.unread:
                ready, _, _ = select.select([self.reading], [], [], min(0.5, self.seconds))
                if ready and (piece := os.read(self.reading, 1 << 16)):
                    self.unread += piece
                elif ready or self.used() - before > self.seconds or time.monotonic() - self.began > PATIENCE * self.seconds:
                    self.hung = not ready
                    return None
            line, _, self.unread = self.unread.partition(b"\n")
            words = json.loads(line)
            if "step" not in words:
                return Outcome(**words)
            self.steps.append(words["step"])
            self.began = time.monotonic()

    def used(self) -> float:
        """Seconds of the processor that the worker has had; a worker that is gone needs no more."""
        try:
            user, system = Path(f"/proc/{self.child}/stat").read_text().rpartition(")")[2].split()[11:13]
        except OSError:
            return 0.0
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def said(self) -> str:
        """What a worker that died or hangs left: where it was, in one line."""
        lines = self.log.read_text(errors="replace").splitlines()
        where = [line.strip() for line in lines if line.strip()]
        return " | ".join(where[:1] + [line for line in where[1:] if "File" in line][:6])[:600]

    def end(self) -> int:
        """Ends it; its status as `os.waitpid` gives it."""
        os.close(self.asking)
        pid, status = os.waitpid(self.child, os.WNOHANG)
        if not pid:
            time.sleep(0.05)
            os.kill(self.child, signal.SIGKILL)
            _, status = os.waitpid(self.child, 0)
        os.close(self.reading)
        return status


def campaign(work: Work, cases: list[int], log: Path, seconds: float = SECONDS) -> Iterator[tuple[int, Outcome]]:
    """Each case's number and outcome, in order; a worker that crashed or hangs is told, ended, and another takes its place."""
    worker = None
    try:
        for case in cases:
            worker = worker or _Worker(work, log, seconds)
            try:
                found = worker.ask(case)
            except BrokenPipeError:
                found = None
            if found is None:
                lasted, steps, hung = time.monotonic() - worker.began, [*worker.steps, "", ""], worker.hung
                if hung:
                    os.kill(worker.child, signal.SIGUSR1)
                time.sleep(0.3)  # to tell where it is; one that died may not be gone yet
                said, status = worker.said(), worker.end()
                how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
                where = f"while {steps[len(worker.steps) - 1]}; {said}"
                fault = f"hang: over {seconds:g} s {where}" if hung else f"crash: {how} {where}"
                found = Outcome("hang" if hung else "crash", steps[0], [fault], round(lasted, 3))
                worker = None
            yield case, found
    finally:
        if worker is not None:
            worker.end()
        sys.stdout.flush()
