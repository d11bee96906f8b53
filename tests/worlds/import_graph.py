"""The project's import graph: which module imports which, how high each stands, where imports run
in circles."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from places import ROOT

Graph = Mapping[str, set[str]]


def python_files(*folders: str) -> list[Path]:
    """The tracked and the not yet tracked Python files whose path begins with one of `folders`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [
        ROOT / name
        for name in listed.splitlines()
        if name.startswith(folders) and (ROOT / name).exists()
    ]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Full names that a file imports, wherever the import stands; `a.b` and `a.b.c` of `from a.b
    import c`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def import_graph(files: Iterable[Path]) -> dict[str, set[str]]:
    """Module -> modules among `files` that it imports: at any depth, inside functions and for type
    checking as well.

    `from a.b import c` is an import of `a.b.c` where that is a module, else of `a.b`.
    """
    modules = {module_name(path): path for path in files}
    graph = {}
    for module, path in modules.items():
        names = imported(path)
        submodules = {name for name in names if name in modules}
        parents = {name.rpartition(".")[0] for name in submodules}
        only_for_submodules = {
            parent for parent in parents if parent in names and not _names_of(path, parent, modules)
        }
        graph[module] = submodules - only_for_submodules - {module}
    return graph


def _names_of(path: Path, package: str, modules: Mapping[str, Path]) -> list[str]:
    """What a file imports from a package that is not a submodule of it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == package
        for alias in node.names
        if f"{package}.{alias.name}" not in modules
    ]


def circles(graph: Graph) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others (Tarjan's strongly
    connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in graph[module]:
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in graph:
        if module not in index:
            visit(module)
    return found


def floors(graph: Graph) -> dict[str, int]:
    """Module -> its floor: 1 where it imports nothing of the project, else one above the highest
    that it imports.

    The graph must have no circles.
    """
    found: dict[str, int] = {}

    def floor(module: str) -> int:
        if module not in found:
            found[module] = 1 + max((floor(other) for other in graph[module]), default=0)
        return found[module]

    for module in graph:
        floor(module)
    return found
