"""Freed memory: handed back when asked, kept when asked."""

import platform
import subprocess
import sys
import textwrap

import pytest

from mavil_edu import memory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory is handed back with glibc only")


def resident_after(code: str) -> float:
    """Megabytes that a fresh process says its code left free but resident."""
    program = """
        from pathlib import Path
        from mavil_edu import memory

        def now():
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

        def small_blocks():  # 100 MB that lie under 1 MB of kept blocks, so that the heap's end cannot be cut off by itself
            blocks = [bytearray(50_000) for _ in range(2000)]
            kept = [bytearray(50_000) for _ in range(20)]
            return kept

        {code}
    """
    program = textwrap.dedent(program).replace("{code}", textwrap.dedent(code))
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    return float(found.stdout)


@glibc
def test_free_memory_goes_back_to_the_system():
    left = resident_after("before = now(); kept = small_blocks(); print(now() - before)")
    given = resident_after("before = now(); kept = small_blocks(); memory.give_back(); print(now() - before)")
    assert left > 60 > 20 > given


@glibc
def test_freed_blocks_are_kept_for_the_next_step():
    code = "before = now(); block = bytearray(20_000_000); del block; print(now() - before)"
    assert resident_after(code) < 10 < resident_after(f"memory.keep_freed_memory(); {code}")


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    asked = []
    monkeypatch.setattr(memory.ctypes, "CDLL", asked.append)
    memory.give_back()
    memory.keep_freed_memory()
    assert asked == [], "musl and macOS have no such calls"


def test_a_notebook_gives_back_after_each_cell():
    cells = textwrap.dedent("""
        from IPython.core.interactiveshell import InteractiveShell

        from mavil_edu import memory

        shell, given = InteractiveShell.instance(), []
        memory.give_back = lambda: given.append(True)
        for cell in ("import mavil_edu.exercises", "1", "raise ValueError"):
            shell.run_cell(cell)
        print(len(given))
    """)
    found = subprocess.run([sys.executable, "-c", cells], capture_output=True, text=True, timeout=60)
    assert found.stdout.splitlines()[-1] == "3", found.stdout + found.stderr
