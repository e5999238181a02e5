"""All exercises and quiz questions of the course, by name."""

from difflib import get_close_matches

from mavil_edu.course import (
    lesson_00,
    lesson_01,
    lesson_02,
    lesson_03,
    lesson_04,
    lesson_05,
    lesson_06,
    lesson_07,
    lesson_08,
    lesson_09,
    lesson_11,
    lesson_99,
)
from mavil_edu.course.entry import Exercise, Quiz

LESSONS = (
    lesson_00,
    lesson_01,
    lesson_02,
    lesson_03,
    lesson_04,
    lesson_05,
    lesson_06,
    lesson_07,
    lesson_08,
    lesson_09,
    lesson_11,
    lesson_99,
)
EXERCISES: dict[str, Exercise] = {entry.name: entry for lesson in LESSONS for entry in lesson.EXERCISES}
QUIZZES: dict[str, Quiz] = {entry.name: entry for lesson in LESSONS for entry in lesson.QUIZZES}


def find(name: str, among: dict, what: str):
    """The entry of that name; raises ValueError, with the nearest names, where there is none."""
    if name in among:
        return among[name]
    near = get_close_matches(str(name), among) or list(among)
    raise ValueError(f"There is no {what} {name!r}; did you mean {', '.join(near)}?")


def find_exercise(name: str) -> Exercise:
    return find(name, EXERCISES, "exercise")


def find_quiz(name: str) -> Quiz:
    return find(name, QUIZZES, "quiz question")
