"""What a machine brings for the course, what is missing, and how long the course takes on it."""

import json
import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mavil_edu.course.budget import TOLERANCE, budget_of, lessons

REFERENCE_RATE = 90.0  # GFLOP/s of `matrix_rate` on the two Xeon cores on which the lessons' budgets were measured
SIZE = 1024  # of the matrices
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
UNRUN = "A notebook that was not run shows their pictures; run the cell. After installing, reload the page."


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    value: str
    problem: bool = False  # something of the course will not work
    advice: str = ""
    doubtful: bool = False  # it will work, but not as the lessons promise

    @property
    def mark(self) -> str:
        return "✗" if self.problem else "!" if self.doubtful else "✓"


def matrix_rate(seconds: float = 2.0) -> float:
    """GFLOP/s of the product of two 1024 × 1024 matrices in float32, on the CPU with torch's threads: the median over some seconds."""
    import torch

    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, SIZE, SIZE, generator=generator)
    times, started = [], time.perf_counter()
    while not times or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - before)
    return 2 * SIZE**3 / sorted(times)[len(times) // 2] / 1e9


def course_minutes(rate: float) -> dict[str, dict[str, float]]:
    """Each lesson's minutes, as declared for the reference machine and as expected here, from how fast matrices are multiplied."""
    return {
        path.stem: {"declared_minutes": budget_of(path).minutes, "here_minutes": budget_of(path).minutes * REFERENCE_RATE / rate}
        for path in lessons()
    }


def installed(name: str) -> str | None:
    """A distribution's version; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def free_memory() -> int | None:
    """Bytes that a program may still take, the limit of a container counted; None where the system does not tell."""
    found = []
    meminfo, limit, used = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if meminfo.exists():
        available = [line.split()[1] for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:")]
        found += [int(kilobytes) * 1024 for kilobytes in available]
    if limit.exists() and used.exists() and (most := limit.read_text().strip()).isdigit():
        found.append(int(most) - int(used.read_text()))
    if not found and "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
        found.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return max(0, min(found)) if found else None


def _python() -> Finding:
    old = sys.version_info < (3, 11)
    return Finding("Python", f"{platform.python_version()} on {platform.platform()}", old, "Python 3.11 or newer is needed." if old else "")


def _torch() -> Finding:
    import torch

    if torch.cuda.is_available():
        device = f"GPU {torch.cuda.get_device_name(0)}"
    else:
        device = "Apple GPU (MPS)" if torch.backends.mps.is_available() else "CPU"
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    advice = ""
    if torch.version.cuda and not torch.cuda.is_available():
        advice = "This torch is built for CUDA, but there is no GPU that it can use: everything runs on the CPU."
    elif torch.get_num_threads() > usable:
        advice = f"More threads than cores slow everything down: set OMP_NUM_THREADS={usable}."
    return Finding("torch", f"{torch.__version__}, {device}, {torch.get_num_threads()} threads on {usable} cores", advice=advice)


def _major(release: str) -> int:
    return int(release.partition(".")[0])


def widgets(versions: dict[str, str | None], jupyter_elsewhere: str | None = None) -> Finding:
    """Whether notebooks' controls can show, and if not, why.

    versions: of ipywidgets, jupyterlab_widgets, jupyterlab and ipykernel, None where not installed. jupyter_elsewhere: the
    jupyter-lab on the PATH, where it belongs to another Python.
    """
    value = ", ".join(f"{name} {release or 'missing'}" for name, release in versions.items())
    install = 'Install what the notebooks need: make lab, or pip install "mavil-edu[notebooks]".'
    if versions["ipywidgets"] is None or versions["ipykernel"] is None:
        return Finding("widgets", value, True, install)
    if _major(versions["ipywidgets"]) < 8:
        return Finding("widgets", value, True, "ipywidgets is older than 8: pip install --upgrade ipywidgets.")
    if versions["jupyterlab"] is None:
        return Finding("widgets", value, advice="No JupyterLab. VS Code shows widgets, too, and fetches their scripts from the network.")
    if versions["jupyterlab_widgets"] is None or _major(versions["jupyterlab_widgets"]) < 3:
        problem = "JupyterLab draws widgets with jupyterlab_widgets 3, which is missing: pip install --upgrade jupyterlab_widgets."
        return Finding("widgets", value, True, problem)
    if jupyter_elsewhere:
        other = f"jupyter-lab on your PATH is {jupyter_elsewhere}, of another Python, which may lack jupyterlab_widgets; start: make lab."
        return Finding("widgets", value, advice=f"{other} {UNRUN}")
    return Finding("widgets", value, advice=UNRUN)


def _jupyter_elsewhere() -> str | None:
    found = shutil.which("jupyter-lab")
    return found if found and not Path(found).resolve().is_relative_to(Path(sys.prefix).resolve()) else None


def other_kernel(folders: list[Path]) -> str | None:
    """The Python of the first kernel `python3` in Jupyter's data folders, where it is not this one."""
    for folder in folders:
        described = folder / "kernels" / "python3" / "kernel.json"
        if described.is_file():
            python = Path(json.loads(described.read_text(encoding="utf-8"))["argv"][0])
            same = not python.is_absolute() or python.parent.resolve() == Path(sys.executable).parent.resolve()
            return None if same else str(python)
    return None


def _kernel() -> Finding:
    if installed("ipykernel") is None:
        return Finding(
            "notebook kernel", "none, ipykernel is missing", True, "Notebooks need it: make lab installs it, or pip install ipykernel."
        )
    named = os.environ.get("JUPYTER_DATA_DIR")
    user = Path(named) if named else Path("~/Library/Jupyter" if sys.platform == "darwin" else "~/.local/share/jupyter").expanduser()
    try:
        other = other_kernel([Path(sys.prefix) / "share" / "jupyter", user])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return Finding("notebook kernel", "its kernel.json is damaged", True, f"Mend it: python -m ipykernel install --user ({error})")
    if other:
        return Finding("notebook kernel", other, True, "Notebooks would run in another Python, without mavil_edu; use: make lab.")
    return Finding("notebook kernel", "this Python")


def _browser() -> Finding:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return Finding("Chromium", found or "not found", advice="" if found else "Any browser will do; only the browser tests need this one.")


def _memory() -> Finding:
    free, needed = free_memory(), max((budget_of(path).megabytes for path in lessons()), default=0)
    if free is None:
        return Finding("free memory", "this system does not tell")
    short = free < needed * 1e6
    return Finding(
        "free memory",
        f"{free / 1e9:.1f} GB",
        short,
        f"The largest lesson needs {needed / 1000:g} GB: close other programs." if short else "",
    )


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    short = free < 1e9
    return Finding("free disk here", f"{free / 1e9:.1f} GB", short, "Runs and their checkpoints take up to 1 GB." if short else "")


def _speed(rate: float) -> Finding:
    times = rate / REFERENCE_RATE
    slow = times < 1 / TOLERANCE
    return Finding(
        "speed",
        f"{rate:.0f} GFLOP/s, {times:.2g} times the two cores on which the lessons were measured",
        advice="Other programs are at work, or this machine is slow: lessons take longer than their budgets say." if slow else "",
        doubtful=slow,
    )


def examine(rate: float) -> list[Finding]:
    """All that is looked at; rate: from `matrix_rate`."""
    versions = {name: installed(name) for name in ("ipywidgets", "jupyterlab_widgets", "jupyterlab", "ipykernel")}
    found = [_python(), _torch(), widgets(versions, _jupyter_elsewhere()), _kernel(), _browser(), _memory(), _disk(), _speed(rate)]
    if not lessons():
        found.append(Finding("the course", "no notebooks here", advice="Run it in a clone, beside the folder notebooks/."))
    return found
