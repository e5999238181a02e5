"""Sphinx's settings for the website; `build.py` beside this file gathers the pages and calls Sphinx."""

import re

from sphinx.application import Sphinx

from mavil_edu import __version__

project, author, copyright = "mavil_edu", "mavil_edu contributors", "mavil_edu contributors, MIT licence"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = []
myst_heading_anchors = 4  # links such as page.md#a-heading
suppress_warnings = [
    "myst.xref_missing_anchor",
    "misc.highlighting_failure",
]  # build.py looks for every anchor itself, in the pages written

nb_execution_mode = "off"  # the lessons' outputs are committed
nb_ipywidgets_js = {}  # widgets need a kernel; their pages show what stands without one, and ask no other host for scripts
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False  # what torch says of every module
python_display_short_literal_types = True
python_maximum_signature_line_length = 100
default_role = "code"

html_theme = "furo"
html_title = "mavil_edu"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}

_sidebars: dict[tuple, str] = {}  # by folder depth and options, see `_share_sidebar`
_LIST = re.compile(r"^\s*(- |\d+\. )")


def as_rest(lines: list[str]) -> list[str]:
    """A docstring of ours as reStructuredText: paragraphs and lists as they are, indented lines as code, and no sign that means more there.

    Our docstrings are plain text with words in single backticks: a star or a trailing underscore in them is just that.
    """
    made, inside = [], False
    for line in lines:
        if not line.strip():
            made.append("")
            continue
        code = line.startswith("    ") and not _LIST.match(line)
        if code and not inside:
            made += ["", "::", ""]
        if inside and not code:
            made.append("")
        inside = code
        made.append(line if code else _plain(line))
    return [*made, ""]


def _plain(line: str) -> str:
    """Everything outside backticks escaped, everything within them as code."""
    parts = line.split("`")
    if len(parts) % 2 == 0:  # a backtick without its other half
        return re.sub(r"([\\*|_`])", r"\\\1", line)
    return "".join(f"``{part}``" if number % 2 else re.sub(r"([\\*|_])", r"\\\1", part) for number, part in enumerate(parts))


def _tell(app, what, name, obj, options, lines: list[str]) -> None:
    lines[:] = as_rest(lines)


def _leave_out(app, what, name, obj, skip: bool, options) -> bool | None:
    """The fields of a named tuple stand in its signature already."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def _share_sidebar(app, page: str, template: str, context: dict, doctree) -> None:
    """Pages of source code stand in no list: those of one folder depth get one sidebar. Making it for each took a tenth of the build."""
    if not page.startswith("_modules/"):
        return
    make, depth = context["toctree"], page.count("/")

    def made_once(**options) -> str:
        wanted = depth, *sorted(options.items())
        if wanted not in _sidebars:
            _sidebars[wanted] = make(**options)
        return _sidebars[wanted]

    context["toctree"] = made_once


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", _share_sidebar, priority=400)  # before furo, which asks for the sidebar
    app.connect("autodoc-process-docstring", _tell)
    app.connect("autodoc-skip-member", _leave_out)
