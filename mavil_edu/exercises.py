"""The learner's three words: `@exercise` on a stub, `check` on an answer, `quiz` for a question.

    @exercise("masked_mse")
    def masked_mse(prediction, target, mask):
        raise NotImplementedError

    check("masked_mse")              # not attempted, and a first hint; later: right, or what differs and why
    check("masked_mse", hint=2)      # the next hint
    quiz("why_ratio")                # the question
    quiz("why_ratio", "b")           # an answer

All three print the same text for the same answer, so that a notebook's stored outputs can be compared.
"""

import inspect
import sys
from collections.abc import Callable
from functools import wraps

from mavil_edu.course import record
from mavil_edu.course.entry import Exercise
from mavil_edu.course.grading import grade, is_stub
from mavil_edu.course.registry import find_exercise, find_quiz
from mavil_edu.memory import give_back

attempts: dict[str, Callable] = {}  # the learner's newest function for each exercise
_told: set[str] = set()  # why progress is not kept, said once


def _shell() -> object:
    """The notebook's IPython; None outside notebooks."""
    return getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()


if _shell():  # a notebook lives for an hour, and what each of its cells freed would stay counted as its own
    _shell().events.register("post_run_cell", lambda _: give_back())


def _cell() -> object:
    """What names the notebook cell that runs; None outside notebooks.

    It is the message that asked the kernel to run it, since the cell's number stands still where no history is kept, as under nbval.
    """
    shell = _shell()
    asked = getattr(shell, "parent_header", None) or {}
    return asked.get("header", {}).get("msg_id") or getattr(shell, "execution_count", None)


def exercise(name: str) -> Callable[[Callable], Callable]:
    """Marks the learner's function for an exercise.

    The function stays what it is; but while it is a stub, which raises NotImplementedError, the solution answers in its place, and a
    printed line says so, once in each cell. So a notebook runs through unsolved. Raises ValueError for an unknown name.
    """
    entry = find_exercise(name)

    def mark(function: Callable) -> Callable:
        attempts[name] = function
        said = set()

        @wraps(function)
        def answer(*arguments, **options):
            try:
                return function(*arguments, **options)
            except NotImplementedError as error:
                if not is_stub(error, function):
                    raise
            if (cell := _cell()) not in said:
                said.add(cell)
                print(f"{name} is still a stub: the solution stands in for it here.")
            return entry.reference(*arguments, **options)

        return answer

    return mark


def _hint(entry: Exercise, number: int) -> str:
    last = len(entry.hints)
    if number not in range(1, last + 1):
        return f"{entry.name} has hints 1 to {last}; there is no hint {number!r}."
    onwards = f'next: check("{entry.name}", hint={number + 1})' if number < last else "the last; the solution stands folded below the task"
    return f"Hint {number} of {last}: {entry.hints[number - 1]} ({onwards})"


def _note(kind: str, name: str, passed: bool) -> None:
    if (sentence := record.note(kind, name, passed)) and sentence not in _told:
        _told.add(sentence)
        print(sentence)


def _newest(name: str) -> Callable | None:
    """The learner's newest function of that name: the one marked, or one written since without the mark, of which a printed line tells."""
    here = getattr(_shell(), "user_ns", {}).get(name)
    if not inspect.isfunction(here) or hasattr(here, "__wrapped__"):
        return attempts.get(name)
    print(f'{name}: your newest function of that name has no @exercise("{name}") above it; it is graded all the same.')
    return here


def check(name: str, hint: int | None = None) -> None:
    """Prints how the learner's answer does, or one of the hints. Raises ValueError for an unknown name."""
    entry = find_exercise(name)
    if hint is not None:
        print(_hint(entry, hint))
        return
    if (answer := _newest(name)) is None:
        print(f'{name}: there is no answer yet. Run the cell with @exercise("{name}") first.')
        return
    verdict = grade(entry, answer)
    print(verdict.message)
    if verdict.status == "not attempted":
        print(_hint(entry, 1))
    else:
        _note("exercises", name, verdict.status == "passed")


def quiz(name: str, answer: str | None = None) -> None:
    """Prints a question with its choices; with an answer, whether it is right and why. Raises ValueError for an unknown name."""
    entry = find_quiz(name)
    if answer is None:
        choices = [f"  {letter}) {text}" for letter, (text, _) in zip(entry.letters, entry.choices, strict=True)]
        print("\n".join([entry.question, *choices, f'Answer with its letter: quiz("{name}", "…")']))
        return
    letter = str(answer).strip().strip("().").lower()
    if len(letter) != 1 or letter not in entry.letters:
        print(f"There is no answer {answer!r}; choose {', '.join(entry.letters[:-1])} or {entry.letters[-1]}.")
        return
    right = letter == entry.right
    print(f"{letter}) is {'right' if right else 'not right'}. {entry.choices[entry.letters.index(letter)][1]}")
    _note("quizzes", name, right)
