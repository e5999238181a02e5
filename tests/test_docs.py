"""The map from equations to code, lessons and tests leads to what exists, and the glossary explains what it names."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from mavil_edu import cli
from mavil_edu.course.registry import EXERCISES, LESSONS

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ["equation", "code", "lesson", "test"]


def rows_of(text: str) -> list[list[str]]:
    """The cells of every table's rows, less its head and rule."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in cells if row != COLUMNS and set(row[0]) != {"-"}]


MAP = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8")
ROWS = rows_of(MAP)


@cache
def defined_in(path: Path) -> set[str]:
    """Functions and classes at the top of a Python file."""
    if not path.exists():
        return set()
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def faults(row: list[str]) -> list[str]:
    """What a row of the map names and does not exist."""
    equation, code, lesson, test = row
    names = [("mavil_edu", name) for name in re.findall(r"`([^`]+)`", code)] + [("tests", name) for name in re.findall(r"`([^`]+)`", test)]
    missing = [] if re.search("`", code) and re.search("`", test) else ["names no code or no test"]
    for folder, name in names:
        module, _, function = name.partition(".")
        if function not in defined_in(ROOT / folder / f"{module}.py"):
            missing.append(f"{folder}/{module}.py has no {function}")
    found = re.fullmatch(r"(\d\d)(?:: (.+))?", lesson)
    if found is None:
        return [*missing, f"{lesson!r} names no lesson"]
    for source in (ROOT / "notebooks" / "src").glob(f"{found[1]}_*.py"):
        headings = re.findall(r"^# ##+ (?:\d+\. )?(.+)$", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
        if found[2] and found[2] not in headings:
            missing.append(f"{source.name} has no section {found[2]!r}")
    return [f"{equation}: {fault}" for fault in missing]


def test_the_map_is_made_of_whole_rows():
    assert len(ROWS) >= 35 and all(len(row) == 4 and all(row) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_what_the_map_names_exists(row):
    assert faults(row) == []


def test_a_row_that_leads_nowhere_is_noticed():
    good = ["E", "`losses.masked_mse`", "00: Tokens", "`test_losses.test_info_nce_equals_a_double_loop`"]
    assert faults(good) == []
    for column, wrong, words in (
        (1, "`losses.no_such_loss`", "losses.py has no no_such_loss"),
        (1, "`no_module.f`", "no_module.py has no f"),
        (1, "losses", "names no code"),
        (2, "00: No such section", "has no section"),
        (2, "Tokens", "names no lesson"),
        (3, "`test_losses.test_nothing`", "test_losses.py has no test_nothing"),
    ):
        (fault,) = faults([*good[:column], wrong, *good[column + 1 :]])
        assert words in fault


def test_every_exercise_with_an_equation_has_its_place_on_the_map():
    named = set(re.findall(r"`solutions\.(\w+)`", MAP))
    without = {
        "token_count",
        "below_trivial",
        "tokens_of",
        "complete",
        "cross_modal_mask",
        "attention_to_sound",
        "false_negatives",
        "held_out",
        "steps_of_equal_compute",
    }  # counting and drawing
    assert named | without == set(EXERCISES) and not named & without


def test_the_glossary_explains_each_word_once_in_a_sentence():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    entries = re.findall(r"^- \*\*(.+?)\*\*: (.+)$", text, flags=re.MULTILINE)
    assert len(entries) >= 60 and len(entries) == len(re.findall(r"^- ", text, flags=re.MULTILINE))
    words = [word for names, _ in entries for word in names.split(", ")]
    assert len(set(words)) == len(words)
    assert all(sentence.endswith(".") and len(sentence) > 20 for _, sentence in entries)
    for word in ("patchify", "mask token", "InfoNCE", "mask ratio", "class token", "log-mel", "tubelet", "teacher", "collapse", "probe"):
        assert word in words


def test_the_teachers_page_lists_every_exercise_by_difficulty_with_its_minutes():
    page = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8").split("\n## Exercises\n")[1]
    listed = {row[0]: row[1:] for row in rows_of(page) if re.fullmatch(r"\d\d", row[0])}
    for lesson in LESSONS:
        cells = [", ".join(f"`{entry.name}`" for entry in lesson.EXERCISES if entry.difficulty == d) for d in (1, 2, 3)]
        assert listed.pop(lesson.__name__[-2:]) == [*cells, str(sum(entry.minutes for entry in lesson.EXERCISES))]
    assert not listed


def test_the_sections_that_the_teachers_page_names_are_there():
    page = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    named = re.findall(r"sections ([\d, and to]+) of (\d\d)", page)
    assert len(named) >= 3
    for numbers, lesson in named:
        [source] = (ROOT / "notebooks" / "src").glob(f"{lesson}_*.py")
        headings = set(re.findall(r"^# ## (\d+)\. ", source.read_text(encoding="utf-8"), flags=re.MULTILINE))
        assert set(re.findall(r"\d+", numbers)) <= headings, f"{lesson} has no section of {numbers}"


def commands_of_lessons() -> list[tuple[str, str]]:
    """Each line of a lesson's text that is a command of its own, with the lesson's number."""
    sources = sorted((ROOT / "notebooks" / "src").glob("*.py"))
    return [
        (source.stem[:2], line)
        for source in sources
        for line in re.findall(r"^# (mavil-edu .+)$", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    ]


@pytest.mark.parametrize(("lesson", "line"), commands_of_lessons())
def test_a_command_that_a_lesson_tells_is_one_that_the_command_line_knows(lesson, line):
    understood = cli._parsed(shlex.split(line, comments=True)[1:])
    assert callable(understood), lesson


def test_a_command_with_an_option_that_there_is_not_is_noticed():
    assert len(commands_of_lessons()) >= 12
    with pytest.raises(SystemExit):
        cli._parsed("subset --list vggsound.csv --each-class 20 --out small".split())
