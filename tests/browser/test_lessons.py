"""The course as a learner meets it: in a browser, opened and not run; run; by keyboard; dark and light; without a network."""

import json
import re

import pytest
from browser_lab import QUICK, ROOT

LESSONS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


def lessons(*quick: str) -> list:
    """Those that `make test` looks at, and the others for `make browser`."""
    return [pytest.param(stem, marks=[] if stem in quick else pytest.mark.browser_all) for stem in LESSONS]


def outputs(lesson: str) -> list[dict]:
    return [output["data"] for cell in LESSONS[lesson]["cells"] for output in cell.get("outputs", []) if "data" in output]


def stored(lesson: str) -> dict[str, int]:
    """Pictures and players that the file holds."""
    pages = "".join("".join(data.get("text/html", "")) for data in outputs(lesson))
    return {tag: len(re.findall(f"<{tag} ", pages)) for tag in ("img", "audio", "video")}


def explorers(lesson: str) -> int:
    """Cells that show one. The file does not keep widgets, only what they show without a kernel."""
    return sum(bool(re.search(r"^\w+_explorer\(", "".join(cell["source"]), re.M)) for cell in LESSONS[lesson]["cells"])


def test_there_are_lessons_with_pictures_players_and_explorers():
    assert len(LESSONS) >= 5 and set(QUICK) <= set(LESSONS)
    assert all(stored(lesson)["img"] for lesson in LESSONS) and sum(map(explorers, QUICK))


@pytest.mark.parametrize("lesson", lessons(*LESSONS))
def test_opened_and_not_run_every_picture_shows_and_every_player_plays(found, lesson):
    seen = found[lesson]["unrun"]
    assert found[lesson]["trusted"] == 0, "the notebook was trusted: this is not what a learner opens first"
    assert not seen["complaints"]
    shown = {tag: seen["counts"][name] for tag, name in {"img": "images", "audio": "audio", "video": "video"}.items()}
    assert shown == stored(lesson), "shown in the browser, and stored in the file"
    assert seen["played"] == shown["audio"] + shown["video"]


@pytest.mark.parametrize("lesson", lessons(*LESSONS))
def test_no_request_leaves_this_machine(found, lesson):
    assert found[lesson]["foreign"] == []


@pytest.mark.parametrize("lesson", lessons(*QUICK))
def test_run_all_ends_without_an_error_and_explorers_appear(found, lesson):
    seen = found[lesson]["run"]
    assert not seen["complaints"]
    assert seen["counts"]["widgets"] == explorers(lesson)
    assert seen["played"] == seen["counts"]["audio"] + seen["counts"]["video"] > 0


@pytest.mark.parametrize("lesson", lessons(*QUICK))
def test_every_explorer_can_be_used_by_keyboard_alone(found, lesson):
    seen = found[lesson]["keyboard"]
    assert not seen["complaints"]
    assert len(seen["explorers"]) == explorers(lesson)


@pytest.mark.parametrize("lesson", lessons())
def test_words_are_read_easily_in_the_dark_and_the_light_theme(found, lesson):
    assert not found[lesson]["themes"]["complaints"]
