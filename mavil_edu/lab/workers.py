"""Runs in parallel processes of one thread each: what depends waits, what fails is told and the others go on, Ctrl-C ends all."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

ATTEMPTS = 2  # of a run whose process ended without a word


@dataclass
class Task:
    """One run, by a name that others may wait for."""

    name: str
    what: Any  # handed to the function; it travels to another process
    after: tuple[str, ...] = ()  # names of tasks; those that are not asked for count as done
    attempts: int = 0


def _begin(parent: int) -> None:
    """In a worker: one thread, no ear for Ctrl-C, which the parent hears, and an end where the parent has gone."""
    os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}  # read by torch when a run imports it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, get_context("spawn"), _begin, (os.getpid(),))


def _end(pool: ProcessPoolExecutor) -> None:
    """Ends every process of a pool at once, whatever it does."""
    for process in list((pool._processes or {}).values()):
        process.kill()
    pool.shutdown(wait=True, cancel_futures=True)


def run_all(tasks: Iterable[Task], run: Callable[[Any], Any], workers: int, told: Callable[[Task, Any, str | None], None]) -> None:
    """Runs tasks in `workers` processes; `told` hears of each end: the task, its result, and the reason where it failed.

    A task whose `after` failed fails with it. A process that is killed takes its runs with it, which are tried once more.
    Raises KeyboardInterrupt after Ctrl-C, when all processes have ended.
    """
    waiting, names = list(tasks), {task.name for task in tasks}
    ended: dict[str, bool] = {}  # name -> whether it went well
    running: dict[Future, Task] = {}
    pool = _pool(workers)

    def end(task: Task, result: Any, reason: str | None) -> None:
        ended[task.name] = reason is None
        told(task, result, reason)

    try:
        while waiting or running:
            for task in list(waiting):
                needed = [name for name in task.after if name in names]
                if failed := [name for name in needed if ended.get(name) is False]:
                    waiting.remove(task)
                    end(task, None, f"it needs {failed[0]}, which failed")
                elif all(name in ended for name in needed) and len(running) < workers:
                    waiting.remove(task)
                    running[pool.submit(run, task.what)] = task
            if not running:
                if waiting and not any(any(name in ended for name in task.after) for task in waiting):
                    raise ValueError(f"{waiting[0].name} waits for {waiting[0].after}, which wait for it.")
                continue
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            broken = False
            for future in done:
                task, error = running.pop(future), future.exception()
                if isinstance(error, BrokenProcessPool):
                    broken, task.attempts = True, task.attempts + 1
                    if task.attempts < ATTEMPTS:
                        waiting.append(task)
                    else:
                        end(task, None, "its process ended without a word: was it killed, or out of memory?")
                elif error is not None:
                    end(task, None, f"{type(error).__name__}: {error}")
                else:
                    end(task, future.result(), None)
            if broken:
                for future, task in list(running.items()):
                    wait([future])
                    del running[future]
                    task.attempts += 1
                    waiting.append(task)
                _end(pool)
                pool = _pool(workers)
    finally:
        _end(pool)
