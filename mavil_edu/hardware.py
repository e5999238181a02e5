"""What a device can do: the speed of its matrix products, the precisions that it has units for, the memory that it holds."""

import gc
import platform
import sys
import time
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from mavil_edu.stopwatch import wait_for

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
MATRICES = {"cuda": (2048, 4096, 8192), "mps": (1024, 2048, 4096), "cpu": (512, 1024, 2048)}  # rows of the square matrices
MEGABYTE = 2**20


def _cpu_flags() -> set[str]:
    """What Linux says of the processor; elsewhere nothing."""
    info = Path("/proc/cpuinfo")
    return set(info.read_text(encoding="utf-8").split()) if info.exists() else set()


def check_precision(precision: Precision, device: torch.device) -> None:
    """Raises ValueError where a device would have to emulate a precision: its times would say nothing."""
    if precision == "32-true":
        return
    if device.type == "cuda":
        good = precision == "16-mixed" or torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "mps":
        good = precision == "16-mixed" or torch.backends.mps.is_macos_or_newer(14, 0)
    else:
        good = precision == "bf16-mixed" and bool(_cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})
    if not good:
        raise ValueError(f"This {device.type} has no units for {precision}, it would emulate them; leave --precision at 32-true.")


class Peak(NamedTuple):
    """The fastest square matrix product that was found on a device."""

    tflops: float  # 10^12 floating-point operations a second, two for each multiply-add
    size: int  # rows of the matrices
    dtype: str


def matrix_peak(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> Peak:
    """The best of several sizes of products of random square matrices, each for a share of the seconds and 5 times at least."""
    sizes, best = MATRICES.get(device.type, MATRICES["cpu"]), Peak(0.0, 0, "")
    for size in sizes:
        generator = torch.Generator(device).manual_seed(size)
        a, b = (torch.randn(size, size, device=device, generator=generator).to(dtype) for _ in range(2))
        product, took = torch.mm(a, b), []
        wait_for(device)
        until = time.perf_counter() + seconds / len(sizes)
        while len(took) < 5 or time.perf_counter() < until:
            started = time.perf_counter()
            torch.mm(a, b, out=product)
            wait_for(device)
            took.append(time.perf_counter() - started)
        best = max(best, Peak(2e-12 * size**3 / min(took), size, str(dtype).removeprefix("torch.")))
    return best


class Memory:
    """The most memory held since `reset`, in MB: given out by CUDA's allocator, held by Metal's driver, or the resident set."""

    def __init__(self, device: torch.device):
        self.device = device
        kinds = {"cuda": "given out by CUDA's allocator", "mps": "held by Metal's driver"}
        self.kind = kinds.get(device.type, "resident set of the process")

    def reset(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        elif self.device.type == "cpu" and sys.platform == "linux":
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark falls to what is held now

    def peak(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / MEGABYTE
        if self.device.type == "mps":
            return torch.mps.driver_allocated_memory() / MEGABYTE
        if sys.platform == "linux":
            lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
            return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 1024
        import resource  # not on Windows

        unit = 1 if platform.system() == "Darwin" else 1024  # bytes there, kB elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEGABYTE
