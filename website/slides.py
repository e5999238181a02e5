"""Makes slides of lessons: one page a lesson, everything inside, to be shown by arrow keys or printed to PDF by any browser.

    python website/slides.py 03_masking [00_quickstart …] [--out build/slides]     # all lessons where none is named

Nothing is executed: text, code, pictures and players are those of the committed notebook. A slide begins with each text, and with each
further cell after one that shows something; where the text asks for a guess, the answer waits for the next slide.
"""

import argparse
import html
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).resolve().parent.parent
LOCAL = re.compile(r"\[([^\]]+)\]\((?!\w+:)[^)]+\)")
LOOKS, KEYS = (Path(__file__).parent / name for name in ("slides.css", "slides.js"))


def parted(notebook: nbformat.NotebookNode) -> list[list[nbformat.NotebookNode]]:
    """The cells of each slide, in the lesson's order.

    Every cell stands on one, with what it gave; after a "Guess" its code stands alone first, and again on the next slide with the answer.
    """
    slides: list[list[nbformat.NotebookNode]] = []
    shown = asked = False  # does the slide show what its code gave, does it ask for a guess?
    for cell in notebook.cells:
        if cell.cell_type == "markdown" or shown or not slides:
            slides.append([])
            shown, asked = False, cell.cell_type == "markdown" and "**Guess" in cell.source
        if asked and cell.get("outputs"):
            slides[-1].append(nbformat.from_dict(cell | {"outputs": []}))
            slides.append([])
        slides[-1].append(cell)
        shown = shown or bool(cell.get("outputs"))
    return slides


def _unlinked(cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A text whose links into the repository are words: a page of slides travels alone."""
    return cell if cell.cell_type == "code" else nbformat.from_dict(cell | {"source": LOCAL.sub(r"\1", cell.source)})


def page(notebook: nbformat.NotebookNode) -> str:
    """A lesson's slides as one HTML page that loads nothing."""
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True, exclude_anchor_links=True)
    title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    sections = []
    for cells in parted(notebook):
        body, _ = exporter.from_notebook_node(
            nbformat.v4.new_notebook(cells=[_unlinked(cell) for cell in cells], metadata=notebook.metadata)
        )
        sections.append(f"<section>\n{body}\n</section>")
    style = f"{HtmlFormatter(style='friendly').get_style_defs('.highlight')}\n{LOOKS.read_text(encoding='utf-8')}"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width">\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n'
        + "\n".join(sections)
        + '\n</main>\n<nav><button id="before">◀ before</button> <span id="place" aria-live="polite"></span> '
        f'<button id="next">next ▶</button></nav>\n<script>\n{KEYS.read_text(encoding="utf-8")}</script>\n</body>\n</html>\n'
    )


def main() -> int:
    lessons = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help=f"of {', '.join(lessons)}; by default all")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "slides")
    asked = parser.parse_args()
    if unknown := [name for name in asked.lessons if name not in lessons]:
        parser.error(f"there is no lesson {unknown[0]!r}; choose of {', '.join(lessons)}")
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in asked.lessons or lessons:
        notebook = nbformat.read(lessons[name], as_version=4)
        target = asked.out / f"{name}.html"
        target.write_text(page(notebook), encoding="utf-8")
        print(f"{target}: {len(parted(notebook))} slides")
    return 0


if __name__ == "__main__":
    sys.exit(main())
