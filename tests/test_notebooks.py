"""What the committed notebooks promise, and that strict nbval would notice if they broke it."""

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from mavil_edu import solutions
from mavil_edu.course.registry import EXERCISES

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
BUILT = sorted(NOTEBOOKS.glob("*.ipynb"))
SOURCES = sorted((NOTEBOOKS / "src").glob("*.py"))
SANITIZE = NOTEBOOKS / "nbval_sanitize.cfg"

spec = importlib.util.spec_from_file_location("notebook_build", NOTEBOOKS / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


def tags_of(cell) -> list[str]:
    return cell.metadata.get("tags", [])


@pytest.fixture(params=BUILT, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_of(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_is_a_first_notebook_and_every_source_is_built():
    assert NOTEBOOKS / "00_quickstart.ipynb" in BUILT
    assert [p.stem for p in BUILT] == [p.stem for p in SOURCES]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebooks_have_not_drifted_from_their_sources(source):
    assert build.drift(source) == []


def test_drift_is_noticed_in_text_tags_and_ids(tmp_path, monkeypatch):
    source = tmp_path / "lesson.py"
    source.write_text("# %% [markdown]\n# Hello\n\n# %%\n1 + 1\n")
    monkeypatch.setattr(build, "HERE", tmp_path)
    assert "is missing" in build.drift(source)[0]
    nbformat.write(build.read_source(source), tmp_path / "lesson.ipynb")
    assert build.drift(source) == []
    for text, part in (("1 + 2\n", "source"), ("1 + 1\n", "metadata")):
        tag = ' tags=["raises-exception"]' if part == "metadata" else ""
        source.write_text(f"# %% [markdown]\n# Hello\n\n# %%{tag}\n{text}")
        assert any(f"its {part} is not" in sentence for sentence in build.drift(source))


def test_every_code_cell_was_run_in_order(notebook):
    run = [cell for cell in code_of(notebook) if "nbval-skip" not in tags_of(cell)]
    assert [cell.execution_count for cell in run] == list(range(1, len(run) + 1))


def test_no_cell_holds_an_error_or_a_warning(notebook):
    for cell in code_of(notebook):
        for output in cell.outputs:
            assert output.output_type != "error" or "raises-exception" in tags_of(cell)
            assert output.get("name") != "stderr", output.text


def test_nothing_that_changes_by_itself_is_stored(notebook):
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)


def test_no_output_names_a_folder_of_the_machine_that_built_it(notebook):
    for cell in code_of(notebook):
        for output in cell.outputs:
            said = [*output.get("traceback", []), output.get("text", ""), str(output.get("data", {}).get("text/plain", ""))]
            plain = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(said))  # less the colours
            assert not re.search(r"(?<![\w.])/(?:[\w.-]+/)+\w+\.py", plain)


def test_notebooks_are_small():
    assert all(path.stat().st_size < 1_000_000 for path in BUILT)


def test_every_picture_and_player_has_a_caption_and_a_plain_text_twin(notebook):
    shown = [o for cell in code_of(notebook) for o in cell.outputs if "base64," in str(o.get("data", {}).get("text/html", ""))]
    assert len(shown) >= 8
    for output in shown:
        html, sentence = output.data["text/html"], output.data["text/plain"]
        assert len(sentence) > 20 and "object at 0x" not in sentence
        assert "<figcaption>" in html and re.search(r'(alt|title)="[^"]{20,}"', html)
        assert "<source" not in html


def test_few_outputs_are_left_uncompared(notebook):
    ignored = [cell for cell in code_of(notebook) if "nbval-ignore-output" in tags_of(cell)]
    assert len(ignored) <= 0.05 * len(code_of(notebook))


def test_cells_are_short_and_the_budget_is_said(notebook):
    assert all(len(cell.source.splitlines()) <= 24 for cell in code_of(notebook)), "more than a projector shows at once"
    assert "**Budget:**" in notebook.cells[0].source and "minute" in notebook.cells[0].source


def test_the_first_cell_links_to_the_modules_it_opens_and_to_the_paper(notebook):
    first = notebook.cells[0].source
    opened = re.findall(r"\[`([\w/]+\.py)`\]\(\.\./mavil_edu/\1\)", first[first.index("**Opens:**") :])
    assert opened and all((NOTEBOOKS.parent / "mavil_edu" / name).is_file() for name in opened)
    assert "](https://arxiv.org/abs/2212.08071), section" in first


# Would nbval notice? A small lesson with a picture and a sound is built, and then one thing at a time is changed.

LESSON = """# %%
import math
import torch
from mavil_edu import figures
from mavil_edu.display import player
print("loss", 0.25)

# %%
figures.similarity(torch.eye(4))

# %%
player(torch.sin(2 * math.pi * 440 * torch.arange(16_000) / 16_000), "A tone")
"""


@pytest.fixture(scope="module")
def lesson(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lesson")
    (folder / "lesson.py").write_text(LESSON)
    here, build.HERE = build.HERE, folder
    try:
        return build.build(folder / "lesson.py")
    finally:
        build.HERE = here


def nbval(path: Path, sanitize: bool = True, extra_path: Path | None = None) -> int:
    """The number of cells that nbval finds changed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(path.parent), "-c", os.devnull, str(path)]
    command += ["--nbval", "--nbval-current-env"] + (["--nbval-sanitize-with", str(SANITIZE)] if sanitize else [])
    paths = [str(p) for p in (extra_path, NOTEBOOKS.parent) if p]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=path.parent, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    failed = re.search(r"(\d+) failed", done.stdout)
    assert bool(failed) == (done.returncode == 1), done.stdout
    return int(failed[1]) if failed else 0


def changed(lesson: Path, tmp_path: Path, old: str, new: str) -> Path:
    text = lesson.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "lesson.ipynb"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_an_unchanged_lesson_passes(lesson):
    assert nbval(lesson) == 0


def test_a_changed_printed_output_is_noticed(lesson, tmp_path):
    assert nbval(changed(lesson, tmp_path, "loss 0.25", "loss 0.24")) == 1


def test_a_changed_sentence_of_a_figure_is_noticed(lesson, tmp_path):
    assert nbval(changed(lesson, tmp_path, "4 of 4 sounds", "3 of 4 sounds")) == 1


def test_a_changed_function_of_the_package_is_noticed(lesson, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import mavil_edu.display as d\nold = d.sound_sentence\nd.sound_sentence = lambda w, c: old(w * 0.1, c)\n"
    )
    assert nbval(lesson, extra_path=tmp_path) == 1


def test_the_sanitize_rule_for_inline_media_is_needed_and_enough(lesson, tmp_path):
    other = changed(lesson, tmp_path, "data:audio/wav;base64,UklGR", "data:audio/wav;base64,AAAAA")
    assert nbval(other, sanitize=False) == 1
    assert nbval(other) == 0


# What the builder inserts


def test_a_lesson_shows_an_exercises_task_and_its_folded_solution(tmp_path):
    source = tmp_path / "lesson.py"
    source.write_text("# %% [markdown]\n# Text\n#\n# EXERCISE masked_mse\n#\n# SOLUTION masked_mse\n\n# %%\n# SOLUTION masked_mse\n1 + 1\n")
    text, code = build.read_source(source).cells
    entry = EXERCISES["masked_mse"]
    assert f"\n\n**Exercise `masked_mse`** (10 minutes, difficulty 2 of 3). {entry.task}\n\n" in text.source
    assert (
        f"<details><summary>Solution</summary>\n\n```python\n{inspect.getsource(solutions.masked_mse).rstrip()}\n```\n\n</details>"
        in text.source
    )
    assert "SOLUTION" not in text.source and code.source.startswith("# SOLUTION masked_mse"), "code stays as it is"


def test_an_unknown_exercise_in_a_lesson_stops_the_builder(tmp_path):
    source = tmp_path / "lesson.py"
    source.write_text("# %% [markdown]\n# SOLUTION maskd_mse\n")
    with pytest.raises(ValueError, match="did you mean masked_mse"):
        build.read_source(source)


def test_a_changed_solution_is_drift(tmp_path, monkeypatch):
    source = tmp_path / "lesson.py"
    source.write_text("# %% [markdown]\n# SOLUTION frames_in\n")
    monkeypatch.setattr(build, "HERE", tmp_path)
    nbformat.write(build.read_source(source), tmp_path / "lesson.ipynb")
    assert build.drift(source) == []

    def frames_in(samples: int) -> int:
        return samples // 160

    monkeypatch.setattr(solutions, "frames_in", frames_in)
    assert any("its source is not" in sentence for sentence in build.drift(source))


def test_changed_text_is_written_without_executing_and_changed_code_is_refused(tmp_path, monkeypatch):
    source = tmp_path / "lesson.py"
    source.write_text("# %% [markdown]\n# One\n\n# %%\n1 + 1\n")
    monkeypatch.setattr(build, "HERE", tmp_path)
    executed = build.read_source(source)
    executed.cells[1].update(execution_count=1, outputs=[nbformat.v4.new_output("stream", name="stdout", text="as it was\n")])
    nbformat.write(executed, tmp_path / "lesson.ipynb")
    source.write_text("# %% [markdown]\n# Two\n\n# %% [markdown]\n# Three\n\n# %%\n1 + 1\n")
    assert build.drift(source) != []
    build.retell(source)
    assert build.drift(source) == []
    kept = nbformat.read(tmp_path / "lesson.ipynb", as_version=4).cells[2]
    assert kept.outputs[0].text == "as it was\n" and kept.execution_count == 1
    for other in ("1 + 2", "1 + 1;"):  # a semicolon hides the value
        source.write_text(f"# %%\n{other}\n")
        with pytest.raises(ValueError, match="has other code"):
            build.retell(source)


@pytest.mark.parametrize("layout", ["f(1,\n  2)  # said", 'def g():\n    """One\n    two."""', "f('a'\n  'b', 2)"])
def test_code_of_another_layout_is_written_without_executing(layout, tmp_path, monkeypatch):
    alike = {"def": 'def g():\n    """One two."""', "f('": "f('ab', 2)"}.get(layout[:3], "f(1, 2)")
    (tmp_path / "lesson.py").write_text(f"# %%\n{alike}\n")
    monkeypatch.setattr(build, "HERE", tmp_path)
    nbformat.write(build.read_source(tmp_path / "lesson.py"), tmp_path / "lesson.ipynb")
    (tmp_path / "lesson.py").write_text(f"# %%\n{layout}\n")
    build.retell(tmp_path / "lesson.py")
    assert nbformat.read(tmp_path / "lesson.ipynb", as_version=4).cells[0].source == layout


def test_a_cell_whose_traceback_shows_its_text_is_executed_anew_when_its_layout_changes(tmp_path, monkeypatch):
    (tmp_path / "lesson.py").write_text("# %%\n1 / 0\n")
    monkeypatch.setattr(build, "HERE", tmp_path)
    executed = build.read_source(tmp_path / "lesson.py")
    executed.cells[0].outputs = [nbformat.v4.new_output("error", ename="ZeroDivisionError", evalue="", traceback=["----> 1 1 / 0"])]
    nbformat.write(executed, tmp_path / "lesson.ipynb")
    (tmp_path / "lesson.py").write_text("# %%\n# on purpose\n1 / 0\n")
    with pytest.raises(ValueError, match="has other code"):
        build.retell(tmp_path / "lesson.py")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_code_fits_into_the_width_of_a_projector_or_a_small_laptop(source):
    cells = (cell.source for cell in build.read_source(source).cells if cell.cell_type == "code")
    assert [line for cell in cells for line in cell.splitlines() if len(line) > 100] == []


def test_the_builder_says_what_a_lesson_takes_beside_what_it_declares(tmp_path, monkeypatch, capsys):
    (tmp_path / "lesson.py").write_text(
        "# %% [markdown]\n# **Budget:** 1 minute of computing on two CPU cores, 1 MB of memory\n\n# "
        "%%\nimport time\n\n# %%\ntime.sleep(6)\n"
    )
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setenv("MAVIL_EDU_PROGRESS", "")
    build.build(tmp_path / "lesson.py")
    said = capsys.readouterr().out
    assert re.match(r"lesson\.ipynb: 0\.1 minutes, \d+ MB; declared 1 minutes, 1 MB", said), said
    if sys.platform == "linux":
        assert said.endswith("DECLARE MORE\n")
