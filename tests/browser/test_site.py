"""The website as a visitor meets it: at a desk and on a phone, light and dark, with its players and its search, and without a network."""

import functools
import http.server
import json
import os
import subprocess
import threading

import pytest
from browser_lab import FLAGS, HERE, ROOT, chromium, missing

SITE = ROOT / "build" / "site"
LESSONS = [f"notebooks/{path.stem}.html" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
PAGES = [
    "index.html",
    *(f"docs/{path.stem}.html" for path in sorted((ROOT / "docs").glob("*.md"))),
    "api/index.html",
    "api/mavil_edu.masking.html",
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        """Tests do not speak."""


@pytest.fixture(scope="module")
def found(request):
    """What the browser found on the site that `make site` has built."""
    lack = missing() or (None if (SITE / "index.html").is_file() else "the site is not built; do: make site")
    if lack:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(lack)
    screenshots = request.config.getoption("screenshots", None)
    wish = {"browser": chromium(), "flags": FLAGS, "pages": PAGES, "lessons": LESSONS, "search": "griffin_lim"}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        wish |= {"url": f"http://127.0.0.1:{server.server_port}/", "screenshots": str(screenshots) if screenshots else None}
        command = ["node", str(HERE / "site.mjs")]
        done = subprocess.run(command, input=json.dumps(wish), capture_output=True, text=True, check=False, timeout=1800)
        server.shutdown()
    assert not done.returncode, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("page", [*PAGES, *LESSONS])
def test_a_page_fits_desk_and_phone_and_can_be_read_light_and_dark(found, page):
    assert not found["pages"][page]


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lessons_players_play(found, lesson):
    page = (SITE / lesson).read_text(encoding="utf-8")
    assert found["played"][lesson] == page.count("<audio ") + page.count("<video ") > 0


def test_the_search_finds_a_function(found):
    assert any("audio" in title for title in found["hits"])


def test_no_page_asks_another_host_or_fails(found):
    assert not found["foreign"] and not found["errors"]
