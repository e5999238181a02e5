"""The files around the code agree with the code and with each other."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mavil_edu

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mavil_edu"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MEGABYTE = 2**20


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def files() -> tuple[Path, ...]:
    """Every file that is in git, or would be after `git add`."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return tuple(path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file())


def requirements(*extras: str) -> dict[str, Requirement]:
    """What pip is told to install, by canonical name: the runtime dependencies and those of the extras, which may name each other."""
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    found = {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}
    own = found.pop(canonicalize_name(PROJECT["name"]), None)
    return found | (requirements(*own.extras) if own else {})


def pins() -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in text_of("constraints.txt").splitlines())
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines if line)}


@cache
def installed_homes() -> dict[str, list[str]]:
    """Which distributions an import's first word belongs to."""
    return packages_distributions()


@cache
def imported(path: Path) -> set[str]:
    """Distributions that a file imports, at its top or inside a function, by canonical name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    found = {name for name in names if name.startswith("torch.utils.tensorboard")} and {"tensorboard"}  # torch asks for it there
    homes = installed_homes()
    for top in {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"mavil_edu"}:
        found |= {canonicalize_name(home) for home in homes.get(top, [top])}
    return found


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


# Dependencies


def test_every_import_of_the_package_is_a_declared_dependency():
    explorers = {path for path in modules() if path.parent.name == "explorers"}  # of use in notebooks only
    extras = {path: ["notebooks"] for path in explorers} | {PACKAGE / "benchmarks" / "peers.py": ["bench"]}
    allowed = {path: requirements(*extras.get(path, [])) for path in modules()}
    undeclared = {str(path.relative_to(ROOT)): missing for path in modules() if (missing := imported(path) - set(allowed[path]))}
    assert not undeclared


def test_every_declared_dependency_is_imported_somewhere():
    unused = set(requirements()) - set().union(*map(imported, modules()))
    assert not unused, f"declared in pyproject.toml, imported nowhere in mavil_edu/: {sorted(unused)}"


def test_tests_and_notebooks_import_only_what_the_dev_extra_installs():
    allowed = set(requirements("dev"))
    neighbours = {path.stem for path in files() if path.suffix == ".py" and path.parent.name in ("tests", "browser", "notebooks")}
    neighbours |= {"tests", "notebooks"} | {name.replace("_", "-") for name in neighbours}
    for path in files():
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in ("tests", "notebooks"):
            assert not imported(path) - allowed - neighbours, path.name


def test_the_tested_versions_lie_in_the_declared_ranges():
    tested = pins()
    for name, requirement in requirements("dev").items():
        assert name in tested, f"{name} is not in constraints.txt: make constraints"
        assert requirement.specifier.contains(tested[name]), f"{requirement} excludes the tested {tested[name]}"


def test_constraints_fit_any_build_of_torch():
    lines = [line for line in text_of("constraints.txt").splitlines() if line and not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.]+", line), f"{line!r}: an exact version, without a local build, path or address"
        assert not line.startswith(("nvidia", "cuda", "triton")), f"{line!r} belongs to a CUDA build of torch"
    assert lines == sorted(set(lines))


def test_conda_and_pip_install_the_same():
    conda = yaml.safe_load(text_of("environment.yml"))
    pip = next(entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict))
    assert [entry for entry in conda["dependencies"] if isinstance(entry, str)] == [f"python{PROJECT['requires-python']}", "pip"]
    assert pip == ["--constraint constraints.txt", "--editable .[dev]"], "pyproject.toml is the only list of dependencies"
    assert set(requirements("notebooks")) <= set(requirements("dev"))


def test_pre_commit_runs_the_tested_tools():
    config = yaml.safe_load(text_of(".pre-commit-config.yaml"))
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert {"ruff-check", "ruff-format", "codespell", "check-added-large-files"} <= {hook["id"] for hook in hooks}
    for tool in (Requirement(line) for hook in hooks for line in hook["additional_dependencies"]):
        tested = pins().get(tool.name)
        assert tested is None or str(tool.specifier) == f"=={tested}", f"{tool}, but constraints.txt has {tested}"


# What is said about the project


def tree_in_readme() -> list[Path]:
    """Paths named by the README's tree: the fenced block with a line that begins with `mavil_edu/`, indented by levels.

    One file or folder a line, then at least two spaces or a `#`, then its comment; tree characters count as indentation.
    """
    blocks = re.findall(r"^```\w*\n(.*?)^```", text_of("README.md"), flags=re.MULTILINE | re.DOTALL)
    block = next((block for block in blocks if re.search(r"^(\W* )?mavil_edu/", block, flags=re.MULTILINE)), None)
    assert block is not None, "the README has no fenced block with the tree"
    paths, parents = [], []  # parents: (column, path) of the folders around the line
    for line in block.splitlines():
        entry = re.match(r"[\s│├└─|`+-]*", line).end()
        name = re.split(r"\s+#|\s{2,}|\s*$", line[entry:])[0]
        if not name or name in (".", "./"):
            continue
        parents = [(column, path) for column, path in parents if column < entry]
        path = (parents[-1][1] if parents else Path()) / name
        paths.append(path)
        if name.endswith("/"):
            parents.append((entry, path))
    return paths


def test_the_tree_in_the_readme_names_only_what_exists():
    missing = [str(path) for path in tree_in_readme() if not any(ROOT.glob(str(path)))]
    assert not missing


def test_the_tree_in_the_readme_names_every_module():
    named = [str(path) for path in tree_in_readme()]
    unnamed = [
        str(module)
        for module in (path.relative_to(ROOT) for path in modules())
        if module.name not in ("__init__.py", "__main__.py") and not any(fnmatch(str(module), pattern) for pattern in named)
    ]
    assert not unnamed


def test_imports_at_a_modules_top_point_upwards_in_the_tree():
    """As the README says above the tree, and the site above its reference."""
    order = {str(path): place for place, path in enumerate(tree_in_readme())}
    starts_by_itself = PACKAGE / "course" / "worker.py"  # a process of its own, whose words stand below it
    downwards = []
    for path in set(modules()) - {starts_by_itself}:
        own = order.get(str(path.relative_to(ROOT)))
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if own is not None and isinstance(node, ast.ImportFrom) and node.module.startswith("mavil_edu"):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                others = {name for name in names if order.get(name.replace(".", "/") + ".py", -1) > own}
                downwards += [f"{path.relative_to(ROOT)} imports {name}" for name in sorted(others)]
    assert not downwards


def test_the_readme_says_how_to_begin():
    readme = text_of("README.md")
    for words in ("make demo", "make test", "make lab", "INDEX=", "SYSTEM_TORCH=1", "environment.yml", "MIT"):
        assert words in readme, f"the README does not mention {words}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_and_make_targets_in_a_text_exist(name):
    text = text_of(name)
    for target in re.findall(r"\]\((?!\w+:|#)([^)\s#]+)", text) + re.findall(r"<img[^>]* src=[\"'](?!\w+:)([^\"']+)", text):
        assert (ROOT / target).exists(), f"{name} links to {target}, which does not exist"
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), flags=re.MULTILINE))
    code = "\n".join(re.findall(r"^```.*?^```|`[^`\n]+`", text, flags=re.MULTILINE | re.DOTALL))
    for target in re.findall(r"(?:^|[`&;]\s*)make ([a-z][a-z-]*)\b(?!=)", code, flags=re.MULTILINE):
        assert target in targets, f"{name} mentions make {target}, which the Makefile does not know"


def test_one_version_everywhere():
    citation = yaml.safe_load(text_of("CITATION.cff"))
    assert str(citation["version"]) == mavil_edu.__version__
    assert re.search(rf"^## {re.escape(mavil_edu.__version__)}\b", text_of("CHANGELOG.md"), flags=re.MULTILINE)


def test_the_paper_is_cited_with_all_its_authors():
    (paper,) = yaml.safe_load(text_of("CITATION.cff"))["references"]
    names = [author["family-names"] for author in paper["authors"]]
    assert names == ["Huang", "Sharma", "Xu", "Ryali", "Fan", "Li", "Li", "Ghosh", "Malik", "Feichtenhofer"]
    assert paper["identifiers"][0]["value"] == "arXiv:2212.08071"


# What lies in the repository


def test_no_module_is_named_like_one_of_the_standard_library():
    assert not {path.stem for path in modules()} & set(sys.stdlib_module_names)


def test_files_stay_small():
    weights = sum(path.stat().st_size for path in files() if path.is_relative_to(PACKAGE / "weights"))
    samples = sum(path.stat().st_size for path in files() if path.is_relative_to(ROOT / "data_samples"))
    assert weights <= 8 * MEGABYTE
    assert samples <= 4 * MEGABYTE
    for path in files():
        if not path.is_relative_to(PACKAGE / "weights"):
            assert path.stat().st_size <= MEGABYTE, f"{path.relative_to(ROOT)} is larger than 1 MB"


FOREIGN = {
    "the address of a package index": r"(pypi|pythonhosted|registry\.npmjs|conda\.anaconda)\.org|download\.pytorch\.org|/simple/?\"",
    "somebody's home folder": r"(?<![\w.~-])/(root|home/\w+|Users/\w+)/\w",
    "a folder for what does not stay": r"(?<![\w.~-])/tmp/\w",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_no_file_depends_on_one_machine(what):
    for path in files():
        if b"\0" in (content := path.read_bytes()):
            continue
        found = re.search(FOREIGN[what], content.decode("utf-8", errors="replace"))
        assert found is None, f"{path.relative_to(ROOT)} holds {what}: {found[0]}"


def test_no_pickle_is_loaded_without_weights_only():
    """torch.load with the word, everywhere; and no other way to run what a file holds. Tests may, to show that a trap is one."""
    for path in files():
        if path.suffix != ".py" or path.relative_to(ROOT).parts[0] == "tests":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
                owner, name = node.func.value.id, node.func.attr
                words = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                assert owner not in ("pickle", "dill", "joblib", "cloudpickle", "marshal"), where
                assert (owner, name) != ("torch", "load") or words.get("weights_only") is True, where
                assert (owner, name) not in (("np", "load"), ("numpy", "load")) or not words.get("allow_pickle"), where


def test_scripts_can_be_run_and_stop_at_the_first_error():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()


# The Makefile, with a Python that only writes down what it is asked


STUB = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
    *version_info*) exit {too_old} ;;
    "--version") echo "Python 3.9.2" ;;
    *"import torch"*) exit {torch_missing} ;;
    "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    *pip*failing*) exit 1 ;;
esac
"""


class Clone:
    """A folder with the files that the Makefile reads, in a path with spaces."""

    def __init__(self, folder: Path, too_old: int = 0, torch_missing: int = 0):
        self.folder, self.log = folder / "a clone", folder / "log"
        self.folder.mkdir()
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.folder)
        self.python = folder / "python"
        self.python.write_text(STUB.format(log=self.log, too_old=too_old, torch_missing=torch_missing))
        self.python.chmod(0o755)
        lock, npm = self.folder / "tests" / "browser" / "package-lock.json", folder / "bin" / "npm"
        for path in (lock, npm):
            path.parent.mkdir(parents=True)
        lock.write_text("{}")
        npm.write_text(
            f'#!/bin/sh\necho npm "$@" >> "{self.log}"\n[ -e "{folder}/offline" ] && exit 1\nmkdir -p tests/browser/node_modules\n'
        )
        npm.chmod(0o755)
        shutil.copy(npm, npm.with_name("chromium"))

    def make(self, *arguments: str) -> subprocess.CompletedProcess:
        self.log.write_text("")
        environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
        environment |= {name: "" for name in ("INDEX", "SYSTEM_TORCH", "PYTEST_ARGS")}
        environment["PATH"] = f"{self.folder.parent / 'bin'}{os.pathsep}{environment['PATH']}"
        return subprocess.run(
            ["make", f"PYTHON={self.python}", *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )

    def asked(self, words: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if words in line]


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@needs_make
def test_make_alone_says_what_there_is(tmp_path):
    said = Clone(tmp_path).make().stdout
    for target in re.findall(r"^\.PHONY: ([a-z-]+)", text_of("Makefile"), flags=re.MULTILINE):
        assert re.search(rf"^  {target} ", said, flags=re.MULTILINE) or target == "same-torch"


@needs_make
def test_a_second_install_starts_at_once_and_a_changed_dependency_does_not(tmp_path):
    clone = Clone(tmp_path)
    first = clone.make("install")
    assert first.returncode == 0, first.stderr
    assert clone.asked("pip install") and clone.asked("-m venv .venv")
    assert clone.make("install").returncode == 0 and not clone.asked("")
    for name in ("pyproject.toml", "constraints.txt"):
        later = (clone.folder / ".venv" / ".installed").stat().st_mtime + 2
        os.utime(clone.folder / name, (later, later))
        clone.make("install")
        assert clone.asked("pip install") and not clone.asked("-m venv"), name


@needs_make
def test_install_touches_nothing_but_its_own_folder(tmp_path):
    clone = Clone(tmp_path)
    before = sorted(path.name for path in clone.folder.iterdir())
    clone.make("install")
    assert sorted(path.name for path in clone.folder.iterdir()) == sorted([*before, ".venv"])


@needs_make
def test_what_the_tests_need_is_also_enough_for_the_demo(tmp_path):
    clone = Clone(tmp_path)
    clone.make("test")
    assert clone.asked("pip install")[0].endswith("--editable .[dev]") and clone.asked("-m pytest")
    clone.make("install")
    assert not clone.asked("pip install")


@needs_make
def test_the_browsers_driver_is_installed_once_and_a_machine_without_a_network_runs_the_other_tests(tmp_path):
    clone = Clone(tmp_path)
    (tmp_path / "offline").touch()
    said = clone.make("test")
    assert said.returncode == 0 and clone.asked("npm ci") and clone.asked("-m pytest")
    assert "the browser tests are skipped" in said.stdout
    assert clone.make("browser").returncode != 0 and not clone.asked("-m pytest")
    (tmp_path / "offline").unlink()
    assert clone.make("test").returncode == 0 and clone.asked("npm ci")
    assert clone.make("browser").returncode == 0 and not clone.asked("npm ci") and clone.asked("pytest tests/browser -m")


@needs_make
def test_an_install_that_failed_is_tried_again(tmp_path):
    clone = Clone(tmp_path)
    (clone.folder / "Makefile").write_text(text_of("Makefile").replace("--editable", "--failing"))
    assert clone.make("install").returncode != 0
    assert clone.make("install").returncode != 0 and clone.asked("pip install")


@needs_make
def test_an_old_python_is_refused_with_a_sentence(tmp_path):
    clone = Clone(tmp_path, too_old=1)
    refused = clone.make("install")
    assert refused.returncode != 0 and not (clone.folder / ".venv").exists()
    assert "Python 3.11 or newer is needed" in refused.stderr and "Python 3.9.2" in refused.stderr


@needs_make
def test_torch_comes_from_the_index_that_is_named(tmp_path):
    clone = Clone(tmp_path)
    assert clone.make("install", "INDEX=https://index.example/cpu").returncode == 0
    torch, rest = clone.asked("pip install")
    assert "--no-deps --index-url https://index.example/cpu" in torch and f"torch=={pins()['torch']}" in torch
    assert "index-url" not in rest, "everything else comes from where pip is set up to look"
    assert clone.make("install").returncode == 0, "the index is remembered"
    refused = clone.make("install", "INDEX=https://other.example")
    assert refused.returncode != 0 and "rm -r .venv" in refused.stderr


@needs_make
def test_a_torch_that_is_already_there_is_kept(tmp_path):
    clone = Clone(tmp_path)
    assert clone.make("install", "SYSTEM_TORCH=1").returncode == 0
    kept = (clone.folder / ".venv" / "constraints.txt").read_text()
    assert not re.search(r"^torch(|audio|vision)==", kept, flags=re.MULTILINE) and "einops==" in kept
    assert len(clone.asked("pip install")) == 1


@needs_make
def test_a_torch_that_is_not_there_is_refused_with_a_sentence(tmp_path):
    refused = Clone(tmp_path, torch_missing=1).make("install", "SYSTEM_TORCH=1")
    assert refused.returncode != 0 and "SYSTEM_TORCH=1 needs a PYTHON that has torch" in refused.stderr
