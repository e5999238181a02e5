"""Machines of one run notice when another has gone silent; two namespaces stand for two machines: scripts/two_hosts.py."""

import json
import socket
import threading
from pathlib import Path

import pytest

from mavil_edu import hosts

ROOT = Path(__file__).parents[1]


class Broken:
    """A connection whose other machine answers no more."""

    def __init__(self, error: OSError):
        self.error = error

    def recv(self, _bytes):
        raise self.error


@pytest.mark.parametrize("error", [TimeoutError(110, "timed out"), OSError(113, "no route to host")])
def test_a_machine_that_does_not_answer_ends_the_run(error):
    ended = []
    hosts.listen_for_silence(Broken(error), lambda: ended.append(True))
    assert ended == [True]


def test_a_process_that_ends_is_no_silent_machine():
    ended = []
    ours, other = socket.socketpair()
    other.close()
    hosts.listen_for_silence(ours, lambda: ended.append(True))
    hosts.listen_for_silence(Broken(ConnectionResetError()), lambda: ended.append(True))
    assert not ended


def test_the_first_processes_of_two_machines_are_connected_and_the_kernel_asks_for_the_other_within_half_a_minute(monkeypatch):
    monkeypatch.setattr(hosts, "_lines", [])
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    told, known = [], threading.Event()

    def tell(port):
        told.append(port)
        known.set()
        return port

    first = threading.Thread(target=hosts.watch_hosts, args=(0, 2, True, tell), daemon=True)
    first.start()
    assert known.wait(10)
    other = socket.create_connection(("127.0.0.1", told[0]), timeout=10)
    first.join(10)
    (line,) = hosts._lines
    assert line.getpeername() == other.getsockname()
    assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) and line.gettimeout() is None
    if hasattr(socket, "TCP_KEEPIDLE"):
        idle, between, tries = (
            line.getsockopt(socket.IPPROTO_TCP, option) for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + between * tries <= 30
    hosts.watch_hosts(0, 2, True, lambda _: pytest.fail("they meet once"))
    other.close()


def test_one_machine_opens_nothing(monkeypatch):
    monkeypatch.setattr(hosts, "_lines", [])
    hosts.watch_hosts(0, 1, True, lambda _: pytest.fail("there is nobody to tell"))
    assert hosts._lines == []


def test_what_docs_scaling_says_of_two_machines_is_what_the_stored_result_says():
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    found = json.loads((ROOT / "results" / "two_hosts.json").read_text())
    assert found["same"]["differences"] == [] and found["same"]["compared"] >= 5
    for how in ("killed", "unplugged"):
        longest = max(found[how]["ended_after_seconds"].values())
        assert longest < 60 and found[how]["said"] and found[how]["whole_checkpoint"] and not found[how]["half_written"]
        assert f"{longest} s" in text
    assert found["resumed"]["differences"] == [] and found["resumed"]["compared"] == found["same"]["compared"]
    assert f"{found['resumed']['ended_after_seconds']['host 1']} s; both, begun again with `--resume`" in text
    low, high = min(found["slow"]["ratios"]), max(found["slow"]["ratios"])
    assert f"{low:.1f} to {high:.1f} times" in text and f"{found['slow']['megabits_a_second']} Mbit/s" in text
