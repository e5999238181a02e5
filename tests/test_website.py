"""The website's making: links lead to the package's reference, docstrings say what they said, and a broken page is found."""

import ast
import importlib.util
import re
from pathlib import Path

import docutils.core
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"website_{name}", ROOT / "website" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build, conf, slides = load("build"), load("conf"), load("slides")


def test_every_module_of_the_package_has_a_page_in_the_order_of_readme():
    named = [name for name, _ in build.modules()]
    files = {path.relative_to(ROOT).with_suffix("") for path in (ROOT / "mavil_edu").rglob("*.py") if not path.stem.startswith("__")}
    assert sorted(named) == sorted(".".join(path.parts) for path in files)
    order = ["mavil_edu.config", "mavil_edu.masking", "mavil_edu.mavil", "mavil_edu.data.world", "mavil_edu.course.entry", "mavil_edu.cli"]
    assert sorted(order, key=named.index) == order
    assert dict(build.modules())["mavil_edu.fusion"].startswith("sound and picture meet")


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("[m](../mavil_edu/masking.py)", "[m](../api/mavil_edu.masking.md)"),
        ("[w](mavil_edu/data/world.py)", "[w](api/mavil_edu.data.world.md)"),
        ("[r](../README.md#tests)", "[r](../index.md#tests)"),
        ("[samples](../data_samples/) hold", "samples hold"),
        (
            "[g](glossary.md#token), [p](https://arxiv.org/abs/2212.08071/)",
            "[g](glossary.md#token), [p](https://arxiv.org/abs/2212.08071/)",
        ),
    ],
)
def test_links_are_turned_to_the_sites_pages_and_others_stay(text, page):
    assert build.relinked(text) == page


def test_a_docstring_keeps_its_stars_underscores_and_code():
    rest = "\n".join(
        conf.as_rest(["Scales x * y, as `a_*` and log_mel_ do.", "", "Args:", "    x: (b, n), one *row*.", "        two", "Then | on."])
    )
    text = docutils.core.publish_string(rest, writer="pseudoxml", settings_overrides={"halt_level": 2}).decode()
    for said in ("Scales x * y, as", "a_*", "and log_mel_ do.", "x: (b, n), one *row*.", "Then | on."):
        assert said in text
    assert text.count("<literal_block") == 1 and text.count("<literal>") == 1


def docstrings() -> list:
    found = []
    for path in sorted((ROOT / "mavil_edu").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                found.append((f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'the module')}", text))
    return found


def test_every_docstring_of_the_package_makes_a_page_without_a_warning():
    assert len(docstrings()) > 500
    for name, text in docstrings():
        try:
            docutils.core.publish_doctree(
                "\n".join(conf.as_rest(text.splitlines())), settings_overrides={"halt_level": 2, "report_level": 5}
            )
        except docutils.utils.SystemMessage as message:
            pytest.fail(f"{name}: {message}")


GOOD = '<html><body><h1 id="top">A</h1><a href="#top">up</a><a href="b.html#deep">b</a><img src="data:image/png;base64,"></body></html>'
FAULTS = {
    "a page that is not there": ('<a href="c.html">c</a>', "a.html links to c.html, which is not there"),
    "a place that is not there": ('<a href="b.html#shallow">b</a>', "a.html links to b.html#shallow: that page has no such place"),
    "a picture that is not there": ('<img src="_images/no.png">', "a.html links to _images/no.png, which is not there"),
    "a script of another host": (
        '<script src="https://cdn.example.org/x.js"></script>',
        "a.html asks another host for https://cdn.example.org/x.js",
    ),
    "a style without a scheme": (
        '<link rel="stylesheet" href="//fonts.example.org/x.css">',
        "a.html asks another host for //fonts.example.org/x.css",
    ),
}


@pytest.fixture
def site(tmp_path):
    (tmp_path / "a.html").write_text(GOOD)
    (tmp_path / "b.html").write_text('<p id="deep">b</p><a href="https://arxiv.org">out</a>')
    return tmp_path


def test_a_site_without_faults_has_none(site):
    assert build.faults(site) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told(site, fault):
    text, sentence = FAULTS[fault]
    (site / "a.html").write_text(GOOD.replace("</body>", f"{text}</body>"))
    assert sentence in build.faults(site)


def test_a_style_that_loads_a_font_from_elsewhere_is_told(site):
    (site / "s.css").write_text("@font-face { src: url('https://fonts.example.org/f.woff2') }")
    assert build.faults(site) == ["s.css asks another host for https://fonts.example.org/f.woff2"]


def test_a_site_too_large_for_a_stick_is_told(site, monkeypatch):
    monkeypatch.setattr(build, "LARGEST", 100)
    assert any("more than" in sentence for sentence in build.faults(site))


LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_slides_hold_each_cell_in_order_and_what_it_gave_once(path):
    notebook = nbformat.read(path, as_version=4)
    shown = [cell for cells in slides.parted(notebook) for cell in cells]
    alone = [cell for cell in notebook.cells if cell.get("outputs") or cell.cell_type == "markdown"]
    assert [cell.id for cell in shown if cell.get("outputs") or cell.cell_type == "markdown"] == [cell.id for cell in alone]
    assert {cell.id for cell in shown} == {cell.id for cell in notebook.cells}
    assert all(cells for cells in slides.parted(notebook))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_guess_stands_before_its_answer(path):
    guesses = [cells for cells in slides.parted(nbformat.read(path, as_version=4)) if "**Guess" in cells[0].source]
    assert guesses and all(not cell.get("outputs") for cells in guesses for cell in cells)


def test_a_page_of_slides_travels_alone():
    page = slides.page(nbformat.read(LESSONS[0], as_version=4))
    assert page.count("<section>") == len(slides.parted(nbformat.read(LESSONS[0], as_version=4)))
    assert not re.findall(r'(?:src|href)="(?!data:|https://arxiv)[^"#]', page) and "<link" not in page and "@import" not in page
