"""Machines of one run notice when another has gone silent. A process that ends closes its connections, and all hear of it; a machine that
loses its power or its network closes nothing, and gloo and NCCL wait for it for as long as they would for one that evaluates.
"""

import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from mavil_edu.launch import LEFT_ALONE

IDLE, BETWEEN, TRIES = 5, 5, 4  # seconds of silence before the kernel asks, between its questions, and how many stay unanswered
MEET = 60.0  # seconds that machines have to find each other
_lines: list[socket.socket] = []  # of this process; closed when it ends


def keep_alive(line: socket.socket) -> None:
    """Has the kernel give a connection up when the other machine has not answered for some 25 seconds, even if Python is busy."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)  # Linux's name and macOS's
    for option, value in ((idle, IDLE), (getattr(socket, "TCP_KEEPINTVL", None), BETWEEN), (getattr(socket, "TCP_KEEPCNT", None), TRIES)):
        if option is not None:
            line.setsockopt(socket.IPPROTO_TCP, option, value)
    line.settimeout(None)


def _end() -> None:
    print(
        "error: another machine of this run does not answer any more, so the run ends here. What is saved is whole. "
        "To go on: the same command with --resume.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(LEFT_ALONE)  # the main thread may wait in C++ for the machine that has gone; a checkpoint is moved by one rename


def listen_for_silence(line: socket.socket, end: Callable[[], Any] = _end) -> None:
    """Waits until a connection ends; calls `end` if it broke and was not closed. (Of a closed one the main thread hears.)"""
    try:
        line.recv(1)
    except ConnectionResetError:  # the process at the other end has gone, its machine has not
        return
    except OSError:
        end()


def watch_hosts(rank: int, hosts: int, first_here: bool, broadcast: Callable[[Any], Any]) -> None:
    """Connects the first process of each machine with that of the first, and ends each of them when the other machine falls silent.

    broadcast: gives process 0's object to all. Nothing is done where there is one machine, or where it is done already.
    Raises OSError where machines cannot connect within a minute.
    """
    if hosts == 1 or _lines:
        return
    server = socket.create_server(("", 0)) if rank == 0 else None
    port = broadcast(server.getsockname()[1] if server else None)
    if server:
        server.settimeout(MEET)
        with server:
            _lines.extend(server.accept()[0] for _ in range(hosts - 1))
    elif first_here:
        _lines.append(socket.create_connection((os.environ["MASTER_ADDR"], port), timeout=MEET))
    for line in _lines:
        keep_alive(line)
        threading.Thread(target=listen_for_silence, args=(line,), daemon=True).start()
