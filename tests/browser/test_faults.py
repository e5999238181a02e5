"""The browser tests find what they are there to find: notebooks made here with one fault a cell, and what is said of each."""

import base64
import io
import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from mavil_edu.figures import image_html

OUTSIDE = "http://example.org/picture.png"
CAPTION = "A grey square, four pixels wide and four high"


def png(colour: tuple[int, ...]) -> bytes:
    data = io.BytesIO()
    Image.new("RGBA" if len(colour) == 4 else "RGB", (4, 4), colour).save(data, "PNG")
    return data.getvalue()


def picture(colour: tuple[int, ...] = (200, 200, 200), caption: str = CAPTION) -> str:
    return image_html(png(colour), caption).replace("<img ", '<img width="200" height="200" ')


def player(tag: str, source: str) -> str:
    return f'<figure><{tag} controls title="{CAPTION}" {source}></{tag}><figcaption>{CAPTION}</figcaption></figure>'


NOISE = base64.b64encode(bytes(range(256)) * 8).decode()
UNRUN = {  # fault -> the output that has it, and what is to be said
    "no alt text": (picture().replace(f'alt="{CAPTION}"', 'alt=""'), "has no alt text"),
    "no caption": (picture().partition("<figcaption>")[0] + "</figure>", "a figure has no caption"),
    "outside a figure": (
        f'<img alt="{CAPTION}" width="9" src="data:image/png;base64,{base64.b64encode(png((9, 9, 9))).decode()}">',
        "<figure>",
    ),
    "transparent": (picture((0, 0, 0, 0)), "is transparent"),
    "white": (picture((255, 255, 255)), "100 % white"),
    "broken picture": (picture().replace("base64,", "base64,AAAA"), "does not load"),
    "broken sound": (player("audio", f'src="data:audio/wav;base64,{NOISE}"'), "the audio"),
    "broken film": (player("video", f'src="data:video/mp4;base64,{NOISE}"'), "the video"),
    "<source>, which JupyterLab strips": (
        player("audio", "").replace("></audio>", f'><source src="data:audio/wav;base64,{NOISE}"></audio>'),
        "taken away",
    ),
    "player without a name": (player("audio", "").replace("title", "lang"), "a player has no name"),
    "widget without a picture": ("VBox(children=(IntText(value=1),))", "a widget's name and not its picture"),
    "from outside": (f'<figure><img alt="{CAPTION}" src="{OUTSIDE}"><figcaption>{CAPTION}</figcaption></figure>', "does not load"),
}
DIM = '<p style="color: #888; background-color: #777">Words that nobody can read</p>'
RUN = {
    "a wanted error": ("int('one')", None),
    "a widget that does not come": (
        "from ipywidgets import DOMWidget, VBox\nclass Gone(DOMWidget):\n    _view_name = _model_name = 'Gone'\nGone()",
        "cell 1",
    ),
    "an error, after which no cell is run": ("1 / 0", "fails: ZeroDivisionError"),
}
EXPLORER = """
from ipywidgets import HTML, BoundedIntText, Button, Dropdown, IntSlider, VBox
from mavil_edu.figures import image_html
def explorer(control, watch=True):
    said, picture = HTML(), HTML()
    def show(change=None):
        said.value = f'<p aria-live="polite">Now {{control.value}}</p>'
        colour = "lightgrey" if control.value else "grey"
        drawing = f'<svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"><rect width="99" height="99" fill="{{colour}}"/></svg>'
        page = image_html(drawing.encode(), "A square that follows the number")
        picture.value = page.partition("<figcaption>")[0].replace("image/png", "image/svg+xml") + "</figure>"
    if watch:
        control.observe(show, "value")
    show()
    return VBox([control, picture, said])
explorer({arguments})
"""
NUMBER = "BoundedIntText(value=1, max=1, description='Number')"
LIST = "Dropdown(options=[1, 2], description='Number')"
EXPLORERS = {
    "sound": (EXPLORER.format(arguments=NUMBER), None),
    "does not react": (EXPLORER.format(arguments=NUMBER + ", watch=False"), '"Number" does nothing'),
    "no name": (EXPLORER.format(arguments="BoundedIntText(value=1)"), "a spinbutton has no accessible name"),
    "a slider, which has no name": (EXPLORER.format(arguments="IntSlider(1)"), "a slider has no accessible name"),
    "a list, whose keys JupyterLab takes": (EXPLORER.format(arguments=LIST), 'focus leaves "Number"'),
    "nothing read out": (EXPLORER.format(arguments=NUMBER).replace("aria-live", "class"), "no aria-live line"),
    "out of reach": (EXPLORER.format(arguments="BoundedIntText(value=1, disabled=True)"), "leads to no control"),
}  # fmt: skip


@pytest.fixture(scope="module")
def faults(lab) -> dict[str, dict]:
    """Name of a notebook -> what the browser found in it."""
    outputs = [
        new_output("display_data", data={"text/html": page, "text/plain": "what a page without HTML shows"}) for page, _ in UNRUN.values()
    ]
    books = {"unrun": [new_code_cell(execution_count=1, outputs=[each]) for each in outputs]}
    books["dim"] = [new_code_cell("'dim'", execution_count=1, outputs=[new_output("display_data", data={"text/html": DIM})])]
    books["run"] = [new_code_cell(code) for code, _ in RUN.values()]
    books["run"][0].metadata["tags"] = ["raises-exception"]
    books["keyboard"] = [new_code_cell(code.strip()) for code, _ in EXPLORERS.values()]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for name, cells in books.items():
        nbformat.write(new_notebook(cells=cells, metadata=kernel), lab.course / f"{name}.ipynb")
    steps = {"unrun": ["unrun"], "dim": ["themes"], "run": ["run"], "keyboard": ["run", "keyboard"]}
    found = lab.visit({f"{name}.ipynb": each for name, each in steps.items()}, patience=60)
    return {name: found[f"{name}.ipynb"] for name in books}


def complaints(facts: dict, cell: int) -> str:
    """All that is said of one cell, or of no cell by number."""
    return "\n".join(text for text in facts["complaints"] if text.startswith((f"cell {cell}:", f"cell {cell},", f"cell {cell} ")))


@pytest.mark.parametrize(("cell", "fault"), list(enumerate(UNRUN)))
def test_what_is_wrong_in_an_unrun_notebook_is_found(faults, cell, fault):
    assert UNRUN[fault][1] in complaints(faults["unrun"]["unrun"], cell)


def test_a_request_to_outside_is_found_and_gets_nowhere(faults):
    assert faults["unrun"]["foreign"] == [OUTSIDE]
    assert not [name for name in faults if name != "unrun" and faults[name]["foreign"]]


def test_words_that_nobody_can_read_are_found_in_both_themes(faults):
    said = json.dumps(faults["dim"]["themes"]["complaints"])
    assert "dark theme: " in said and "light theme: " in said and said.count("Words that nobody can read") == 2


@pytest.mark.parametrize(("cell", "fault"), list(enumerate(RUN)))
def test_what_goes_wrong_when_cells_are_run_is_found(faults, cell, fault):
    said, wanted = complaints(faults["run"]["run"], cell), RUN[fault][1]
    assert wanted in said if wanted else not said


@pytest.mark.parametrize(("cell", "fault"), list(enumerate(EXPLORERS)))
def test_an_explorer_that_fails_a_keyboard_is_found(faults, cell, fault):
    said, wanted = complaints(faults["keyboard"]["keyboard"], cell), EXPLORERS[fault][1]
    assert wanted in said if wanted else not said
