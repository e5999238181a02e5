"""Runs the notebooks' sources as plain Python scripts, each in a process of its own, and tells how each went.

    python scripts/run_lessons.py RESULT.json                      # all lessons, side by side
    python scripts/run_lessons.py RESULT.json --only 01 --limit 120

A source in percent format is Python; what a cell would display is computed and not shown. Where ipywidgets is not installed, a stand-in
takes its place: controls hold their values and show nothing. A lesson that needs another package that is not there is left out, and the
answer says so. Exit code 1 where a lesson fails.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAND_IN = '''
"""Stands for ipywidgets where it is not installed: widgets that hold their values and show nothing."""
import sys
from types import ModuleType, SimpleNamespace


class Widget:
    def __init__(self, *parts, value=None, **options):
        self.value, self.style = value, SimpleNamespace()

    def observe(self, *_):
        pass

    on_click = observe

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {}


names = "HTML BoundedIntText BoundedFloatText Button HBox VBox Layout ToggleButtons Dropdown Checkbox IntText Text Output".split()
for name in names:
    globals()[name] = type(name, (Widget,), {})
widgets, valuewidget = ModuleType("ipywidgets.widgets"), ModuleType("ipywidgets.widgets.valuewidget")
valuewidget.ValueWidget = Widget
sys.modules["ipywidgets.widgets"], sys.modules["ipywidgets.widgets.valuewidget"] = widgets, valuewidget
'''


# Not as __main__: a process that a lesson starts would run the lesson again, in search of what stands in it, as from no notebook's kernel.
RUN = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='lesson')"


def run(source: Path, limit: float, environment: dict[str, str]) -> dict:
    """One lesson: its status (passed, failed, too slow), seconds, and the end of what it said."""
    started = time.monotonic()
    try:
        command, where = [sys.executable, "-c", RUN, source], ROOT / "notebooks"
        done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=limit, check=False)
        status, said = ("passed" if done.returncode == 0 else "failed"), done.stdout[-400:] + done.stderr[-2000:]
    except subprocess.TimeoutExpired:
        status, said = "too slow", f"not done after {limit:g} s"
    # The stand-in is there, so what is missing is another package.
    found = {"status": status, "seconds": round(time.monotonic() - started, 1), "said": said if status != "passed" else ""}
    if status == "failed" and (missing := re.search(r"ModuleNotFoundError: No module named '(\w+)", said)):
        found |= {"status": "left out", "said": f"{missing[1]} is not installed"}
    print(f"{source.name}: {found['status']} after {found['seconds']} s {found['said']}", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="first letters of lessons; all by default")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one lesson")
    parser.add_argument("--jobs", type=int, default=6)
    asked = parser.parse_args()
    sources = [p for p in sorted((ROOT / "notebooks" / "src").glob("*.py")) if not asked.only or p.stem.startswith(tuple(asked.only))]
    if not sources:
        parser.error(f"no lesson begins with {' or '.join(asked.only)}")
    with tempfile.TemporaryDirectory() as place:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        if find_spec("ipywidgets") is None:
            (Path(place) / "ipywidgets.py").write_text(STAND_IN, encoding="utf-8")
            paths.append(place)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "MPLBACKEND": "Agg", "MAVIL_EDU_PROGRESS": ""}
        with ThreadPoolExecutor(asked.jobs) as pool:
            found = dict(zip((p.stem for p in sources), pool.map(lambda p: run(p, asked.limit, environment), sources), strict=True))
    asked.result.parent.mkdir(parents=True, exist_ok=True)
    asked.result.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(any(one["status"] in ("failed", "too slow") for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
