"""README, CONTRIBUTING, docs and the measured figures: short lines, and what they name exists."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import tomllib
from itertools import product
from pathlib import Path

import pytest
import typer
from places import ROOT

FOLDERS = (".", "docs", "docs/adding", "speed/results", "assets/demo")
PAGES = sorted(page for folder in FOLDERS for page in (ROOT / folder).glob("*.md"))
LONGEST_LINE = 160
OURS = ("emt_core", "pages", "demo", "speed", "recipes", "assets", "examples", "tests", "docs")
"""Folders whose files are named from the top of the checkout."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)
each_page_of_today = pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of
)
"""The changelog also names what is gone."""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


def spans(text: str) -> list[str]:
    """What stands in `backquotes`, outside of ``` blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def commands(text: str) -> list[str]:
    """Code spans, and lines of blocks that are indented or fenced by ``` alone."""
    fenced = re.findall(r"^```(?:bash|sh)?\n(.*?)^```", text, re.M | re.S)
    return [*spans(text), *re.findall(r"^ {4}(.*)", text, re.M), *"\n".join(fenced).splitlines()]


def alternatives(path: str) -> list[str]:
    """a/{b,c}.py -> a/b.py, a/c.py."""
    parts = re.split(r"\{([^}]*)\}", path)
    choices = [part.split(",") if at % 2 else [part] for at, part in enumerate(parts)]
    return ["".join(choice) for choice in product(*choices)]


def is_there(path: str) -> bool:
    return (ROOT / path).exists() or ("*" in path and any(ROOT.glob(path)))


def module_file(name: str) -> Path | None:
    path = ROOT / name.replace(".", "/")
    found = [path.with_suffix(".py"), path / "__main__.py", path / "__init__.py"]
    return next((file for file in found if file.is_file()), None)


def names_in(file: Path | None) -> set[str]:
    """Functions, classes and constants that a module itself defines, and modules beside it."""
    if file is None:
        return set()
    found = {path.stem for path in file.parent.glob("*.py")} if file.stem == "__init__" else set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def added_by(text: str) -> set[str]:
    """Files that a page has the reader write: `path`: and then a block of Python."""
    return set(re.findall(r"`(\S+\.py)`:\n\n```python", text))


@each_page
def test_no_line_is_long(page: Path):
    long = {
        number: len(line)
        for number, line in enumerate(text_of(page).splitlines(), start=1)
        if len(line) > LONGEST_LINE
    }
    assert not long


@each_page
def test_relative_links_lead_to_files(page: Path):
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(page))
    files = [link.partition("#")[0] for link in links if "://" not in link]
    assert not [file for file in files if not (page.parent / file).exists()]


@each_page_of_today
def test_every_path_that_is_named_exists(page: Path):
    text = text_of(page)
    paths = [
        path
        for span in spans(text)
        for named in re.findall(r"^[\w.{},*-]+/[\w./{},*-]*", span)
        if named.split("/")[0] in OURS or named.endswith(".py")
        for path in alternatives(named.removeprefix("emt_core/shipped/"))
    ]
    missing = {path for path in paths if "<" not in path and not is_there(path)}
    assert not missing - added_by(text)


def test_every_file_that_a_docstring_names_exists():
    """As in "data/paths.py says how links are treated"; other projects' files are listed here."""
    files = [path for room in ("emt_core", "pages", "demo") for path in (ROOT / room).rglob("*.py")]
    others = {"data/parser.py", "callbacks/rollout/tasks/new_playtable_tasks.yaml"}
    others |= {"annotations/new_playtable_validation.yaml"}
    missing = set()
    for file in files:
        for named in re.findall(
            r"(?<![\w/.{}-])[\w-]+(?:/[\w-]+)*/\w+\.(?:py|yaml|md)\b", text_of(file)
        ):
            roots = (ROOT, ROOT / "emt_core", file.parent, *file.parent.parents[:2])
            if named not in others and not any((root / named).exists() for root in roots):
                missing.add((file.name, named))
    assert not missing


@pytest.fixture(scope="module")
def verbs() -> set[str]:
    """What may stand after `emt`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, _ = project["scripts"]["emt"].partition(":")
    command = typer.main.get_command(importlib.import_module(module).app)
    return set(command.commands)  # type: ignore[attr-defined]


@each_page_of_today
def test_every_command_that_is_named_exists(page: Path, verbs: set[str]):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    added = {Path(path).stem for path in added_by(text_of(page)) if "/stages/" in path}
    for command in commands(text_of(page)):
        for module in re.findall(r"python -m ([\w.]+)", command):
            ours = module.split(".")[0] in OURS
            assert module_file(module) if ours else importlib.util.find_spec(module), command
        for verb in re.findall(r"^(?:\.venv/bin/)?emt ([a-z][a-z-]*)", command):
            assert verb in verbs or verb in added, command
        for target in re.findall(r"^make ([a-z-]+)", command):
            assert target in targets, command


@each_page
def test_python_examples_import_what_exists(page: Path):
    """Names that a block of the same page defines need not exist."""
    trees = [ast.parse(block) for block in python_blocks(text_of(page))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    defined = {node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("emt_core."):
            file = module_file(node.module or "")
            lacking = {name.name for name in node.names} - defined - names_in(file)
            assert not lacking, f"{node.module} has no {lacking}"
