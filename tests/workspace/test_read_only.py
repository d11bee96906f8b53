"""A workspace opened for viewing: every function that writes refuses, and none can be added that
does not ask."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from places import ROOT
from snapshot import snapshot
from synthetic import make_workspace, pool, robot

from emt_core.data.images.thumbnails import thumbnail
from emt_core.errors import EmtError
from emt_core.explore.curation.flags import FlagBook
from emt_core.explore.curation.views import ViewBook
from emt_core.explore.reading import open_reading
from emt_core.explore.report.report import first_story, save_report
from emt_core.explore.report.story import Story, delete_story, save_story
from emt_core.run import jobs
from emt_core.run.edits import add_selection, add_stage, change_settings, remove_source
from emt_core.run.recipes import add_recipe
from emt_core.workspace.artifact import VIEW_ONLY, Workspace
from emt_core.workspace.files import write_json

CORE = ROOT / "emt_core"


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources and features, a recipe, a finished job, a lock file."""
    made = make_workspace(
        tmp_path_factory.mktemp("view") / "w",
        [pool("web", 24, images=True), robot("arm", 16, mean=2.0)],
    )
    folder = made.workspace.path
    recipe = "name: synthetic\nsources: [{name: web, role: pool, format: llava, path: x.json}]\nembed: {encoder: fake}\n"
    (folder / "recipes").mkdir()
    (folder / "recipes" / "synthetic.yaml").write_text(recipe)
    write_json(folder / "state" / "synthetic.json", {s: a.key for s, a in made.artifacts.items()})
    asked = {"title": "t", "command": ["run", "x"], "until": None, "launched": 1.0}
    write_json(folder / "jobs" / "20260101-000000-abcdef" / "job.json", asked)
    with made.workspace.lock("embed", made.artifacts["embed"].key):
        pass
    return folder


Act = Callable[[Workspace], object]
WRITERS: dict[str, Act] = {
    "launch": lambda w: jobs.launch(w, w.path / "recipes" / "synthetic.yaml"),
    "launch_command": lambda w: jobs.launch_command(w, ["export"], title="x"),
    "cancel": lambda w: jobs.list_jobs(w)[0].cancel(),
    "kill": lambda w: jobs.list_jobs(w)[0].cancel(hard=True),
    "run_again": lambda w: jobs.run_again(jobs.list_jobs(w)[0]),
    "remove": lambda w: jobs.remove(jobs.list_jobs(w)[0]),
    "remove_finished": jobs.remove_finished,
    "lock": lambda w: w.lock("embed", "new").__enter__(),
    "commit": lambda w: w.commit("embed", "k", {}),
    "discard": lambda w: w.discard_building("embed", "k"),
    "flag": lambda w: FlagBook(w, open_reading(w).chain.sources).set([1], "keep"),
    "note": lambda w: FlagBook(w, open_reading(w).chain.sources).note(1, "x"),
    "undo": lambda w: FlagBook(w, open_reading(w).chain.sources).undo(1),
    "view": lambda w: ViewBook(w, open_reading(w).chain.sources).remove("x"),
    "selection": lambda w: add_selection(
        w, "synthetic", "x", {"k": 1}, open_reading(w).chain, open_reading(w).done
    ),
    "source": lambda w: remove_source(w, "synthetic", "web"),
    "recipe": lambda w: add_recipe(w, ROOT / "recipes" / "demo.yaml"),
    "settings": lambda w: change_settings(w, "synthetic", "embed", {"encoder": "fake"}, beside="y"),
    "stage": lambda w: add_stage(w, "synthetic", "gap"),
    "story": lambda w: save_story(w, "synthetic", "x", Story()),
    "no story": lambda w: delete_story(w, "synthetic", "x"),
    "report": lambda w: save_report(first_story(), open_reading(w), "x"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_refuses_a_viewer(held: Path, name: str):
    before = snapshot(held)
    with pytest.raises(EmtError, match="viewing only"):
        WRITERS[name](Workspace.open(held, read_only=True))
    assert snapshot(held) == before


def test_the_stages_refuse_a_viewer(held: Path):
    from emt_core.recipe.recipe import build_recipe
    from emt_core.run.plan import Plan
    from emt_core.run.runner import run_plan

    plan = Plan(build_recipe({"name": "synthetic", "base": str(held)}), ())
    before = snapshot(held)
    with pytest.raises(EmtError, match="viewing only"):
        run_plan(plan, Workspace.open(held, read_only=True))
    assert snapshot(held) == before


def test_looking_changes_nothing(held: Path):
    """Thumbnails go to a temporary folder; a lock is looked at without being made or taken."""
    viewer = Workspace.open(held, read_only=True)
    material = open_reading(viewer)
    before = snapshot(held)
    sample = material.index.samples([3])[0]
    made = thumbnail(viewer, material.index.source_of(3), sample.images[0])
    assert made == thumbnail(viewer, material.index.source_of(3), sample.images[0])
    assert list(viewer.cache("thumbs").rglob("*.webp"))
    assert not viewer.cache("thumbs").is_relative_to(held)
    assert not viewer.is_locked("embed", material.chain.embed.key)
    assert not viewer.is_locked("gap", "none")
    assert snapshot(held) == before


def test_a_lock_that_is_held_is_seen_by_a_viewer(held: Path):
    with Workspace.open(held).lock("embed", "k" * 16):
        assert Workspace.open(held, read_only=True).is_locked("embed", "k" * 16)
        assert not Workspace.open(held, read_only=True).is_locked("embed", "other")


def test_a_viewer_never_makes_a_workspace(tmp_path: Path):
    with pytest.raises(EmtError, match="not a workspace"):
        Workspace.open(tmp_path / "new", create=True, read_only=True)
    assert not (tmp_path / "new").exists()


GUARDED = """
import os, pathlib, shutil, sqlite3, sys, tempfile
from emt_core.workspace.artifact import Workspace
from emt_core.errors import EmtError
home = pathlib.Path(sys.argv[1])
assert Workspace.open(home, create=True).read_only
link = pathlib.Path(sys.argv[2]) / "link"
link.symlink_to(home)
os.chdir("/")  # a name that starts from an open folder must not be taken from here
fd = os.open(home, os.O_RDONLY)
acts = [
    lambda: (home / "new").write_text("x"), lambda: (home / "workspace.json").open("a"),
    lambda: os.open(home / "workspace.json", os.O_RDWR), lambda: (home / "d").mkdir(),
    lambda: (home / "workspace.json").unlink(), lambda: (home / "recipes").rename(home / "r"),
    lambda: shutil.move(home / "recipes", sys.argv[2]), lambda: shutil.rmtree(home / "recipes"),
    lambda: os.utime(home / "workspace.json"), lambda: os.chmod(home / "workspace.json", 0o777),
    lambda: os.link(home / "workspace.json", home / "w"), lambda: os.symlink("/", home / "w"),
    lambda: (link / "new").write_text("x"), lambda: sqlite3.connect(home / "x.db"),
    lambda: tempfile.NamedTemporaryFile(dir=home), lambda: (home.parent / home.name / "recipes" / ".." / "n").touch(),
    lambda: shutil.rmtree("recipes", dir_fd=fd), lambda: shutil.rmtree(home / "embed", ignore_errors=True),
    lambda: os.remove("workspace.json", dir_fd=fd), lambda: os.rmdir("recipes", dir_fd=fd),
    lambda: os.mkdir("d", dir_fd=fd), lambda: os.rename("recipes", "/tmp/r", src_dir_fd=fd),
    lambda: os.rename(sys.argv[2], "r", dst_dir_fd=fd), lambda: os.link("workspace.json", "/tmp/w", src_dir_fd=fd),
    lambda: os.symlink("/", "w", dir_fd=fd), lambda: os.utime("workspace.json", dir_fd=fd),
    lambda: os.chmod("workspace.json", 0o777, dir_fd=fd), lambda: os.chown("workspace.json", 0, 0, dir_fd=fd),
    lambda: os.chdir(home) or open("new", "w"), lambda: open(b"new", "wb"), lambda: os.truncate("workspace.json", 0),
]
refused = 0
for act in acts:
    try:
        act()
    except EmtError:
        refused += 1
(home / "workspace.json").read_text()
(pathlib.Path(sys.argv[2]) / "elsewhere").write_text("x")
print(refused, len(acts))
"""


def test_the_interpreter_refuses_what_no_function_asked_for(held: Path, tmp_path: Path):
    """In a server for viewers, Python itself changes nothing below the workspace, whatever the code
    does."""
    import os

    before = snapshot(held)
    command = [sys.executable, "-c", GUARDED, str(held), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {VIEW_ONLY: "1"}
    )
    assert done.returncode == 0, done.stderr
    refused, acts = map(int, done.stdout.split())
    assert refused == acts
    assert snapshot(held) == before
    assert (tmp_path / "elsewhere").exists()


# structure: what takes a workspace and reaches a write asks first

WRITES = {
    "write_json",
    "write_text",
    "write_bytes",
    "mkdir",
    "unlink",
    "rename",
    "rmtree",
    "touch",
    "Popen",
    "ftruncate",
}
ASKS = {"check_writable", "lock"}
ELSEWHERE = {
    "workspace.artifact.Workspace.open": "makes the mark of a new workspace, and not for viewers",
    "selection.export": "writes into the folder that the user names",
    "explore.report.report.write_report": "writes the file that the user names",
    "data.images.thumbnails.thumbnail": "through Workspace.cache, which lies elsewhere for viewers",
    "explore.tables.episodes": "through Workspace.cache",
    "cli": "verbs of the command line open the workspace themselves",
}


class Function:
    """A function's own calls, by their last name, and whether it takes or holds a workspace."""

    def __init__(self, module: str, owner: str, node: ast.FunctionDef, holds: bool) -> None:
        self.name = ".".join(part for part in (module, owner, node.name) if part)
        self.short = node.name
        arguments = [*node.args.args, *node.args.kwonlyargs]
        annotated = {ast.unparse(a.annotation) for a in arguments if a.annotation is not None}
        self.entry = holds or bool(annotated & {"Workspace", "Job", "Material"})
        self.all_calls: set[str] = set()
        self.own_calls: set[str] = set()
        """Of functions of the same module, and of methods of the same object."""
        self.writes = False
        for call in (n for n in ast.walk(node) if isinstance(n, ast.Call)):
            named = call.func
            name = named.attr if isinstance(named, ast.Attribute) else getattr(named, "id", "")
            self.all_calls.add(name)
            if not isinstance(named, ast.Attribute) or ast.unparse(named.value) in ("self", "cls"):
                self.own_calls.add(name)
            modes = [
                a.value
                for a in call.args[:2]
                if isinstance(a, ast.Constant) and isinstance(a.value, str)
            ]
            opens = name == "open" and any(
                set(mode) & set("wax+") and len(mode) <= 3 for mode in modes
            )
            renames = (
                name == "replace"
                and isinstance(named, ast.Attribute)
                and len(call.args) == 1
                and not call.keywords
            )
            self.writes |= name in WRITES or opens or renames
        self.asks = bool(self.all_calls & ASKS)


def functions() -> Iterator[tuple[str, Function]]:
    for path in sorted(CORE.rglob("*.py")):
        module = ".".join(path.relative_to(CORE).with_suffix("").parts)
        if module.split(".")[0] == "stages":
            continue  # stages run under the runner's lock, in the folder that it gives them
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                yield module, Function(module, "", node, holds=False)
            if isinstance(node, ast.ClassDef):
                fields = {
                    ast.unparse(n.annotation) for n in node.body if isinstance(n, ast.AnnAssign)
                }
                for method in (n for n in node.body if isinstance(n, ast.FunctionDef)):
                    holds = node.name == "Workspace" or "Workspace" in fields
                    yield module, Function(module, node.name, method, holds)


def reached(function: Function, among: list[Function]) -> Iterator[Function]:
    """The function and what it calls in its module, as far as nobody on the way asks."""
    asking = {other.short for other in among if other.asks}
    seen, todo = {function.name}, [function]
    while todo:
        here = todo.pop()
        if here.asks or here.own_calls & asking:
            continue
        yield here
        for other in among:
            if other.short in here.own_calls and other.name not in seen:
                seen.add(other.name)
                todo.append(other)


def test_whatever_takes_a_workspace_and_writes_asks_first():
    modules: dict[str, list[Function]] = {}
    for module, function in functions():
        modules.setdefault(module, []).append(function)
    entries = [
        (f, among)
        for among in modules.values()
        for f in among
        if f.entry and not f.short.startswith("_")
    ]
    assert len([f for f, _ in entries if f.asks]) > 10  # the scan sees what is there
    unasked = [
        function.name
        for function, among in entries
        if not function.name.startswith(tuple(ELSEWHERE))
        and any(here.writes for here in reached(function, among))
    ]
    assert unasked == []


def test_the_scan_finds_a_writer_that_does_not_ask():
    text = (
        "def bad(workspace: Workspace): _put(workspace)\n"
        "def _put(w): (w.path / 'x').write_text('')\n"
        "def good(workspace: Workspace):\n    workspace.check_writable()\n    _put(workspace)\n"
    )
    among = [
        Function("m", "", node, holds=False)
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef)
    ]
    found = [f.name for f in among if f.entry and any(here.writes for here in reached(f, among))]
    assert found == ["m.bad"]
