"""A learner's notebook or script, taken apart: what defines the answers is run, everything that computes is left out."""

import ast
import json
import linecache
import re
from pathlib import Path

MAGIC = re.compile(r"^(\s*)[%!?].*$", flags=re.MULTILINE)
MARKED = re.compile(r"^\s*@(?:\w+\.)?exercise\(\s*[\"'](\w+)[\"']", flags=re.MULTILINE)


def read_cells(path: Path) -> list[str]:
    """The code cells of an .ipynb file, or of a .py file, which `# %%` lines may divide.

    Raises ValueError where it is neither, or cannot be read.
    """
    if path.suffix not in (".ipynb", ".py"):
        raise ValueError(f"{path} is neither a notebook (.ipynb) nor a Python file (.py).")
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            head, *cells = re.split(r"^# %%.*$", text, flags=re.MULTILINE)
            return [head, *cells] if head.strip() else cells
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        return ["".join(cell["source"]) for cell in cells]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as a {'notebook' if path.suffix == '.ipynb' else 'text'}: {error!r}.") from None


def exercises_in(cells: list[str]) -> list[str]:
    """The exercises whose functions stand in the cells, in order, each once."""
    return list(dict.fromkeys(name for cell in cells for name in MARKED.findall(cell)))


def _parsed(cell: str) -> ast.Module:
    try:
        return ast.parse(cell)
    except SyntaxError:
        return ast.parse(MAGIC.sub(r"\1pass", cell))  # IPython's %magic and !command


def _is_literal(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    if value is None:
        return False
    try:
        ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def define(cells: list[str]) -> tuple[dict[str, str], list[str]]:
    """Runs imports, definitions and assignments of literal values; so a notebook that trains for minutes is read in a moment.

    Returns the exercises that could not be defined, with the reason, and what else went wrong on the way.
    """
    names: dict = {"__name__": "answers"}
    failed: dict[str, str] = {}
    others: list[str] = []
    for number, cell in enumerate(cells, 1):
        place = f"<cell {number}>"
        linecache.cache[place] = (len(cell), None, cell.splitlines(keepends=True), place)
        try:
            body = _parsed(cell).body
        except SyntaxError as error:
            told = f"cell {number} is no Python: {error.msg} (line {error.lineno}: {(error.text or '').strip()})"
            failed |= dict.fromkeys(MARKED.findall(cell), told)
            continue
        for node in body:
            definition = isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom)
            if not definition and not _is_literal(node):
                continue
            try:
                exec(compile(ast.Module([node], type_ignores=[]), place, "exec"), names)
            except (Exception, SystemExit) as error:
                told = f"cell {number}, line {node.lineno}: {type(error).__name__}: {error}"
                marked = MARKED.findall(ast.unparse(node))
                failed |= dict.fromkeys(marked, told)
                others += [] if marked else [told]
    return failed, others
