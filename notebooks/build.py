"""Builds the course: each lesson's text source in `notebooks/src/` is executed and written as a notebook with its outputs.

    python notebooks/build.py              # build all
    python notebooks/build.py 00_quickstart
    python notebooks/build.py --text 00_quickstart   # only text, or the layout of code, has changed: the outputs stay, nothing is executed
    python notebooks/build.py --check      # say which notebooks no longer match their sources; executes nothing

In a source's text, a line `EXERCISE masked_mse` becomes the exercise's task with its minutes and difficulty, and a line
`SOLUTION masked_mse` its solution, folded; both stand once, in the package. Each built notebook's minutes and memory are printed
beside its declared budget.

Outputs are committed, since nbval compares them. A built notebook holds no timestamps and no widget state, and its cells' ids
follow from their text's place, so that a rebuild without a change gives the same file.
"""

import argparse
import ast
import hashlib
import os
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

from mavil_edu.course.budget import budget_of, peak_megabytes
from mavil_edu.course.registry import find_exercise

HERE = Path(__file__).resolve().parent
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # a terminal's, in which IPython writes tracebacks: hard to read on some pages
SOURCES = HERE / "src"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET = "application/vnd.jupyter.widget-view+json"
CELL_SECONDS = 600  # longest time that one cell may take

INSERTED = re.compile(r"^(EXERCISE|SOLUTION) (\w+)$", flags=re.MULTILINE)


def _insert(text: str) -> str:
    """A lesson's text with its exercises' tasks and solutions; raises ValueError for an unknown name."""

    def inserted(line: re.Match) -> str:
        entry = find_exercise(line[2])
        if line[1] == "EXERCISE":
            return entry.header
        return f"<details><summary>Solution</summary>\n\n```python\n{entry.source}\n```\n\n</details>"

    return INSERTED.sub(inserted, text)


def read_source(source: Path) -> nbformat.NotebookNode:
    """A lesson as an unexecuted notebook, with stable cell ids and our metadata only."""
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _insert(cell.source)
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = f"{digest}-{seen[digest]}"
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
    return notebook


def _tidy(notebook: nbformat.NotebookNode) -> None:
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})  # nbclient adds timestamps
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)  # without a kernel it shows nothing; its picture beside it does
            if "traceback" in output:  # of an error shown on purpose, which names files where they lie on this machine
                output.traceback = [COLOURS.sub("", line.replace(f"{HERE.parent}{os.sep}", "")) for line in output.traceback]


def _measured(target: Path, seconds: float, megabytes: float) -> str:
    """What a lesson took beside what it declares, in a sentence; whether it fits."""
    took = f"{target.name}: {seconds / 60:.1f} minutes, {megabytes:.0f} MB"
    try:
        budget = budget_of(target)
    except ValueError as error:
        return f"{took}. {error}"
    fits = seconds <= 60 * budget.minutes and megabytes <= budget.megabytes
    return f"{took}; declared {budget.minutes:g} minutes, {budget.megabytes:g} MB{'' if fits else ': DECLARE MORE'}"


def build(source: Path) -> Path:
    """Executes a lesson and writes its notebook; raises CellExecutionError where a cell fails without being tagged so."""
    notebook = read_source(source)
    for cell in notebook.cells:
        if "nbval-skip" in cell.metadata.get("tags", []):
            cell.metadata["tags"] = [*cell.metadata["tags"], "skip-execution"]
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": HERE}},
        skip_cells_with_tag="skip-execution",
        coalesce_streams=True,  # what a cell prints is one output, in however many pieces it came
    )
    took = {"seconds": 0.0, "megabytes": 0.0}

    def begun(cell, cell_index):
        took["began"] = time.perf_counter()

    def done(cell, cell_index, execute_reply):
        took["seconds"] += time.perf_counter() - took["began"]
        took["megabytes"] = max(took["megabytes"], peak_megabytes(client.km.provisioner.pid))

    client.on_cell_execute, client.on_cell_executed = begun, done
    os.environ["MAVIL_EDU_PROGRESS"] = ""  # building is no learner's try
    client.execute()
    for cell in notebook.cells:
        if "skip-execution" in cell.metadata.get("tags", []):
            cell.metadata["tags"].remove("skip-execution")
    _tidy(notebook)
    target = HERE / f"{source.stem}.ipynb"
    nbformat.validate(notebook)
    nbformat.write(notebook, target)
    print(_measured(target, took["seconds"], took["megabytes"]), flush=True)
    return target


def _computed(cell: nbformat.NotebookNode) -> str:
    """What a code cell computes: its syntax, without comments, line breaks, docstrings' layout; its text where a traceback shows that.

    A semicolon at its end counts: it hides the last value.
    """
    shows_itself = any(output.output_type == "error" for output in cell.get("outputs", []))
    if shows_itself or cell.source.startswith(("%", "!")):
        return cell.source
    tree = ast.parse(cell.source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and (text := ast.get_docstring(node)):
            node.body[0] = ast.Expr(ast.Constant(" ".join(text.split())))
    return ast.dump(tree) + ";" * cell.source.rstrip().endswith(";")


def retell(source: Path) -> Path:
    """Writes a notebook with its source's text and the outputs that it has; raises ValueError where a code cell computes something else."""
    notebook, target = read_source(source), HERE / f"{source.stem}.ipynb"
    ours = [cell for cell in notebook.cells if cell.cell_type == "code"]
    theirs = [cell for cell in nbformat.read(target, as_version=4).cells if cell.cell_type == "code"]
    for cell, old in zip(ours, theirs, strict=False):
        cell.outputs = old.outputs
    if [(_computed(cell), cell.metadata) for cell in ours] != [(_computed(cell), cell.metadata) for cell in theirs]:
        raise ValueError(f"{source.name} has other code than {target.name}; execute it: python notebooks/build.py {source.stem}")
    for cell, old in zip(ours, theirs, strict=True):
        cell.execution_count = old.execution_count
    _tidy(notebook)
    nbformat.validate(notebook)
    nbformat.write(notebook, target)
    return target


def drift(source: Path) -> list[str]:
    """How a committed notebook differs from its source, in sentences; empty where it does not."""
    target = HERE / f"{source.stem}.ipynb"
    if not target.exists():
        return [f"{target.name} is missing: python notebooks/build.py {source.stem}"]
    wanted, found = read_source(source).cells, nbformat.read(target, as_version=4).cells
    if len(wanted) != len(found):
        return [f"{target.name} has {len(found)} cells, its source {len(wanted)}: python notebooks/build.py {source.stem}"]
    return [
        f"{target.name}, cell {number}: its {part} is not its source's: python notebooks/build.py {source.stem}"
        for number, (ours, theirs) in enumerate(zip(wanted, found, strict=True))
        for part in ("cell_type", "source", "id", "metadata")
        if ours[part] != theirs[part]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Builds the notebooks from their sources.")
    parser.add_argument("lessons", nargs="*", help="names without suffix; all by default")
    parser.add_argument("--check", action="store_true", help="only compare sources with the committed notebooks")
    parser.add_argument("--text", action="store_true", help="keep the outputs: only text, or the layout of code, has changed")
    arguments = parser.parse_args()
    sources = sorted(SOURCES.glob("*.py"))
    if unknown := set(arguments.lessons) - {s.stem for s in sources}:
        parser.error(f"there is no lesson {', '.join(sorted(unknown))} in {SOURCES}")
    chosen = [s for s in sources if not arguments.lessons or s.stem in arguments.lessons]
    if arguments.check:
        found = [sentence for source in chosen for sentence in drift(source)]
        found += [f"{n.name} has no source in src/" for n in HERE.glob("*.ipynb") if not (SOURCES / f"{n.stem}.py").exists()]
        print("\n".join(found) or "Every notebook matches its source.")
        return 1 if found else 0
    for source in chosen:
        (retell if arguments.text else build)(source)
    return 0


if __name__ == "__main__":
    sys.exit(main())
