"""Builds the website: README, docs and the executed lessons as pages, and the package's reference; then looks at every link in it.

    python website/build.py [--out build/site]

Nothing is executed. The pages ask no other host for anything, so that the folder may be copied to a stick or put on any server.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 60_000_000  # bytes of the whole site
REFERENCE = re.compile(r"\]\((?P<up>(?:\.\./)*)mavil_edu/(?P<module>[\w/]+)\.py\)")  # a link to a module of the package
README = re.compile(r"\]\((?P<up>(?:\.\./)*)README\.md(?P<anchor>#[\w-]*)?\)")
FOLDER = re.compile(r"\[(?P<text>[^\]]+)\]\((?!\w+:)[^)#]*/\)")  # a link to a folder, which has no page
TREE = re.compile(r"^(?P<indent> +)(?P<name>[\w]+(?:\.py|/)) +(?P<comment>.+)$")


def modules() -> list[tuple[str, str]]:
    """The package's modules with what README's tree says of each, in its order: from a clip's way to the commands."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").split("\nmavil_edu/ ")[1].split("\nnotebooks/ ")[0].splitlines()
    folders, found = {}, []
    for line in lines:
        if not (entry := TREE.match(line)):
            continue
        depth, name = len(entry["indent"]) // 4, entry["name"]
        folders = {level: folder for level, folder in folders.items() if level < depth}
        if name.endswith("/"):
            folders[depth] = name
        else:
            found.append(
                (".".join(["mavil_edu", *("".join(folders.values())).split("/")[:-1], name.removesuffix(".py")]), entry["comment"])
            )
    return found


def relinked(text: str) -> str:
    """A page's text with links to modules leading to their reference, to README to the first page; links to folders become words."""
    text = REFERENCE.sub(lambda m: f"]({m['up']}api/mavil_edu.{m['module'].replace('/', '.')}.md)", text)
    text = README.sub(lambda m: f"]({m['up']}index.md{m['anchor'] or ''})", text)
    return FOLDER.sub(lambda m: m["text"], text)


def title_of(lesson: Path) -> str:
    """A lesson's number and heading, as the list of lessons names it."""
    first = "".join(json.loads(lesson.read_text(encoding="utf-8"))["cells"][0]["source"])
    return f"{lesson.stem.split('_')[0]} · {first.splitlines()[0].removeprefix('# ')}"


def toctree(caption: str, pages: list[str], depth: int = 1) -> str:
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", f":maxdepth: {depth}", "", *pages, "```", ""])


def gather(into: Path) -> None:
    """All pages' sources in one folder that has the repository's shape, so that links between them stay right."""
    for folder, pattern in (("docs", "*.md"), ("notebooks", "*.ipynb")):
        (into / folder).mkdir(parents=True)
        for path in sorted((ROOT / folder).glob(pattern)):
            text = path.read_text(encoding="utf-8")
            (into / folder / path.name).write_text(relinked(text), encoding="utf-8")
    shutil.copytree(ROOT / "docs" / "images", into / "docs" / "images")
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        (into / name).write_text(relinked((ROOT / name).read_text(encoding="utf-8")), encoding="utf-8")
    for folder in ("docs", "results", "results/benchmark", "results/options/standard"):  # tables that pages link to
        (into / folder).mkdir(parents=True, exist_ok=True)
        for path in (ROOT / folder).glob("*.json"):
            shutil.copy(path, into / folder)
    shutil.copytree(Path(__file__).parent / "_static", into / "_static")

    (into / "api").mkdir()
    table = [
        "# Reference",
        "",
        "In the order of a clip's way: each module imports from those above it.",
        "",
        "| module | |",
        "| --- | --- |",
    ]
    for name, comment in modules():
        page = f"# {name.removeprefix('mavil_edu.')}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n   :show-inheritance:\n```\n"
        (into / "api" / f"{name}.md").write_text(page, encoding="utf-8")
        table.append(f"| [{name.removeprefix('mavil_edu.')}]({name}.md) | {comment} |")
    contents = toctree("Modules", [name for name, _ in modules()])
    (into / "api" / "index.md").write_text("\n".join(table) + "\n" + contents, encoding="utf-8")

    lessons = [f"{title_of(path)} <notebooks/{path.stem}>" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    docs = [f"docs/{path.stem}" for path in sorted((ROOT / "docs").glob("*.md"))]
    first = relinked((ROOT / "README.md").read_text(encoding="utf-8"))
    first += toctree("The course", lessons) + toctree("Pages", docs) + toctree("The package", ["api/index", "CHANGELOG", "CONTRIBUTING"])
    (into / "index.md").write_text(first, encoding="utf-8")


class Page(HTMLParser):
    """What a page links to, what it loads by itself, and the places in it that others may link to."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "alternate"):
            self.loads.append(given.get("href", ""))
        elif "src" in given:
            self.loads.append(given["src"])


def faults(site: Path) -> list[str]:
    """Links that lead nowhere, what a page would ask of another host, and a site that is too large; a sentence each."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site)
        found += [
            f"{name} asks another host for {load}"
            for load in page.loads
            if urlsplit(load).scheme in ("http", "https") or load.startswith("//")
        ]
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith("data:"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                found.append(f"{name} links to {link}, which is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].places:
                found.append(f"{name} links to {link}: that page has no such place")
    for path in site.rglob("*.css"):
        for address in re.findall(r"(?:url\(|@import )['\"]?((?:https?:)?//[^'\")]+)", path.read_text(encoding="utf-8")):
            found.append(f"{path.relative_to(site)} asks another host for {address}")
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    if size > LARGEST:
        found.append(f"the site has {size / 1e6:.0f} MB, more than {LARGEST / 1e6:.0f}")
    return found


def build(out: Path) -> int:
    """Writes the site to a folder, which is made anew; returns Sphinx's exit status: 0 when no page had a warning."""
    from sphinx.cmd.build import main as sphinx

    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        gather(source)
        options = [
            "-b",
            "html",
            "-j",
            "2",
            "-q",
            "-W",
            "--keep-going",
            "-c",
            str(Path(__file__).parent),
            "-d",
            str(Path(folder) / "doctrees"),
        ]
        return sphinx([*options, str(source), str(out)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site")
    out = parser.parse_args().out.resolve()
    if status := build(out):
        return status
    complaints = faults(out)
    print(*complaints or [f"{out / 'index.html'}: {len(list(out.rglob('*.html')))} pages, every link leads somewhere"], sep="\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
