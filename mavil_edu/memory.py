"""Freed memory: handed back to the system, or kept for the next step. What the C library does with it by itself is neither."""

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # the numbers of <malloc.h>


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def give_back() -> None:
    """Hands back to the system what is free; with another C library than glibc nothing is done.

    Rendering works in float64 on many clips at once, and what that took would still be counted as this process's: 100 to 250 MB of a
    laptop that has eight other programs open. It takes some milliseconds.
    """
    if libc := _glibc():
        libc.malloc_trim(0)


def keep_freed_memory() -> None:
    """Lets glibc keep blocks of up to 32 MB when they are freed; elsewhere nothing is done.

    By default it hands them back to the system, and the next step's same block costs page faults again: 9,000 to 15,000 a step of `tiny`
    on a CPU, a tenth of its time, against 130 with this.
    """
    if libc := _glibc():
        libc.mallopt(MMAP_THRESHOLD, 2**25)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
