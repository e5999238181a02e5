"""JupyterLab on this machine alone, as fresh as on a learner's first day, and notebooks visited by a real browser."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

from mavil_edu.course.budget import TOLERANCE, budget_of
from mavil_edu.doctor import BROWSERS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STEPS = ("unrun", "themes", "run", "keyboard")  # of visit.mjs
QUICK = ("00_quickstart", "01_sound_to_tokens")  # the lessons that `make test` runs; it opens the others
FLAGS = [
    "--no-sandbox",  # Chromium does not start without it where root runs the tests
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",  # its own news and updates
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # a request to elsewhere is seen, and gets nowhere
]
SETTINGS = {  # all cells are laid out, wherever they stand; no window about news, and nobody asked for any
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


def chromium() -> str | None:
    """The Chromium on PATH, as `mavil-edu doctor` finds it."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def missing() -> str | None:
    """What the browser tests lack here, in a sentence with its remedy; None where nothing."""
    if chromium() is None:
        return "no Chromium here; on Debian: apt-get install chromium"
    if shutil.which("node") is None:
        return "no Node.js here; on Debian: apt-get install nodejs npm"
    if not (HERE / "node_modules" / "playwright-core").is_dir():
        return "playwright-core is not installed here; do: npm ci --prefix tests/browser"
    return None


class Lab:
    """A JupyterLab server on 127.0.0.1 whose settings, trusted notebooks and workspaces are its own. Use it with `with`.

    folder: an empty folder. What stands in `folder/course` is served: notebooks/, and the data_samples/, docs/ and results/ that they read.
    """

    def __init__(self, folder: Path):
        self.course, self.home, self.token = folder / "course", folder / "jupyter", secrets.token_hex(16)
        (self.course / "notebooks").mkdir(parents=True)
        for read in ("data_samples", "docs", "results"):
            shutil.copytree(ROOT / read, self.course / read)
        for name, values in SETTINGS.items():
            path = self.home / "config" / "lab" / "user-settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values))

    def __enter__(self) -> "Lab":
        self.log = (self.home / "log").open("w")
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
        command += [f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={self.course}", "--expose-app-in-browser"]
        self.process = subprocess.Popen(command, cwd=self.course, env=self._environment(), stdout=self.log, stderr=subprocess.STDOUT)
        try:
            self.url = self._address()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()

    def _environment(self) -> dict[str, str]:
        own = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython"}
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        return os.environ | {name: str(self.home / sub) for name, sub in own.items()} | {"PYTHONPATH": os.pathsep.join(paths)}

    def _address(self, patience: float = 90) -> str:
        """Where the server listens, once it does."""
        described = self.home / "runtime" / f"jpserver-{self.process.pid}.json"
        until = time.monotonic() + patience
        while time.monotonic() < until and self.process.poll() is None:
            if described.exists() and (text := described.read_text()):
                return json.loads(text)["url"].replace("localhost", "127.0.0.1")
            time.sleep(0.1)
        raise RuntimeError(f"JupyterLab did not start:\n{(self.home / 'log').read_text()[-2000:]}")

    def _minutes(self, notebook: str) -> float:
        """What Run All may take by the lesson's own word; 0 for a notebook that is no lesson."""
        try:
            return TOLERANCE * budget_of(self.course / notebook).minutes
        except ValueError:
            return 0

    def visit(self, steps: dict[str, list[str]], patience: float = 120, screenshots: Path | None = None) -> dict:
        """Opens notebooks in the browser, takes the steps of each, and tells what was found: see visit.mjs.

        steps: notebook's path in `self.course` -> steps. patience: seconds that a step may take; Run All has the tolerated minutes of the
        lesson's budget besides. Raises RuntimeError where the browser itself fails, TimeoutExpired where it hangs.
        """
        visits = [{"notebook": path, "minutes": self._minutes(path), "steps": each} for path, each in steps.items()]
        wish = {"url": self.url, "token": self.token, "browser": chromium(), "flags": FLAGS, "patience": patience, "visits": visits}
        wish |= {"screenshots": str(screenshots) if screenshots else None}
        longest = sum(patience * (1 + len(each["steps"])) + 60 * each["minutes"] for each in visits)
        command = ["node", str(HERE / "visit.mjs")]
        done = subprocess.run(command, input=json.dumps(wish), capture_output=True, text=True, check=False, timeout=longest)
        if done.returncode:
            raise RuntimeError(f"The browser failed:\n{done.stderr[-4000:]}")
        return json.loads(done.stdout)
