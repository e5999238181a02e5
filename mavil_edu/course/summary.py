"""A learner's progress, lesson by lesson."""

from mavil_edu.course.registry import EXERCISES, QUIZZES


def by_lesson(found: dict[str, dict[str, dict]]) -> dict[str, dict[str, int]]:
    """For each lesson, how many exercises and questions there are, were tried, and were passed.

    found: as `record.load` returns it. Names that the course no longer has are left out.
    """
    tries, answers = found["exercises"], found["quizzes"]
    rows = {}
    for lesson in sorted({entry.lesson for entry in EXERCISES.values()}):
        exercises = [name for name, entry in EXERCISES.items() if entry.lesson == lesson]
        questions = [name for name, entry in QUIZZES.items() if entry.lesson == lesson]
        rows[lesson] = {
            "exercises": len(exercises),
            "attempted": sum(name in tries for name in exercises),
            "passed": sum(name in tries and tries[name]["passed"] for name in exercises),
            "questions": len(questions),
            "answered": sum(name in answers for name in questions),
            "right": sum(name in answers and answers[name]["passed"] for name in questions),
        }
    return rows


def next_step(found: dict[str, dict[str, dict]]) -> str:
    """The first exercise that is not passed yet, in a sentence."""
    for name, entry in EXERCISES.items():
        if not found["exercises"].get(name, {"passed": False})["passed"]:
            return f"Next: {name} in lesson {entry.lesson}, {entry.minutes} minutes."
    return "Every exercise is passed."
