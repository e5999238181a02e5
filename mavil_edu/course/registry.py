"""All exercises and quiz questions of the course, by name."""

from difflib import get_close_matches
from importlib import import_module

from mavil_edu.course.entry import Exercise, Quiz

LESSONS = tuple(import_module(f"mavil_edu.course.lesson_{number}") for number in "00 01 02 03 04 05 06 07 08 09 10 11 99".split())
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
