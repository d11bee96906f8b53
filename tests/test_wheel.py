"""The wheel carries the product: it is installed in a clean environment and used from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from app_world import Server, free_port, running
from browser_tab import clean_tab, visit
from places import ROOT
from pyarrow import parquet

from emt_core.recipe.recipe import SHIPPED

INSIDE = "emt_core/shipped/"
KEPT_VARIABLES = ("PATH", "PYTHONPYCACHEPREFIX", "OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM")
"""All that an installed command sees of the environment of the tests: no PYTHONPATH, no HOME."""

POOL_ROWS, EPISODES = 12, 4
"""What the thinned demo reads of a pool source and of a robot set."""


def thinned() -> list[str]:
    """Options of `emt run demo` that leave few rows of each source: seconds instead of minutes."""
    raw = yaml.safe_load((SHIPPED / "demo.yaml").read_text(encoding="utf-8"))
    limits = {
        source["name"]: POOL_ROWS if source["role"] == "pool" else EPISODES
        for source in raw["sources"]
    }
    overrides = [f"sources.{name}.limit={limit}" for name, limit in limits.items()]
    overrides.append(
        "gap.projection=tsne"
    )  # UMAP compiles itself for longer than all the rest takes
    return [part for item in overrides for part in ("--set", item)]


@dataclass(frozen=True)
class Installation:
    """A virtual environment that holds the wheel, and a working folder outside the checkout."""

    folder: Path
    elsewhere: Path

    @property
    def packages(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"

    @property
    def environment(self) -> Mapping[str, str]:
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        return kept | {"HOME": str(self.elsewhere), "COLUMNS": "200"}

    def command(self, *arguments: str | Path) -> list[str]:
        return [str(self.folder / "bin" / "emt"), *map(str, arguments)]

    def emt(self, *arguments: str | Path) -> str:
        """What the installed `emt` printed. Fails where it ends with another code than 0."""
        return self._output(self.command(*arguments))

    def python(self, *arguments: str | Path) -> str:
        return self._output([str(self.folder / "bin" / "python"), *map(str, arguments)])

    def files(self) -> dict[str, float]:
        """Path -> time of last change of all that is installed, bytecode aside."""
        return {
            str(path.relative_to(self.packages)): path.stat().st_mtime
            for path in self.packages.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    def _output(self, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=self.elsewhere, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel in a new environment whose dependencies are those of the running interpreter.

    A .pth file points to their folder. Python reads no .pth files in a folder that is added so;
    the editable installation of the checkout is one, and stays out of reach.
    """
    home = tmp_path_factory.mktemp("installed")
    found = Installation(folder=home / "venv", elsewhere=home / "elsewhere")
    found.elsewhere.mkdir()
    venv.create(found.folder, with_pip=False, symlinks=True)
    (found.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(found.folder / "bin" / "python")]
    install = ["install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", str(wheel)]
    subprocess.run([*pip, *install], check=True, cwd=found.elsewhere)
    return found


@dataclass(frozen=True)
class Demo:
    """The demo's workspace, made by the installed command."""

    installation: Installation
    workspace: Path
    options: list[str]
    printed: str
    before: Mapping[str, float]
    """The installed files before anything ran."""


WHOLE = pytest.param("whole", marks=[pytest.mark.slow, pytest.mark.timeout(900)])


@pytest.fixture(scope="module", params=["thinned", WHOLE])
def demo(request: pytest.FixtureRequest, installation: Installation) -> Demo:
    workspace = installation.elsewhere / f"workspace-{request.param}"
    options = thinned() if request.param == "thinned" else []
    before = installation.files()
    if request.param == "whole":
        printed = installation.emt("demo", "--no-app", "--workspace", workspace)
    else:
        printed = installation.emt("run", "demo", "--workspace", workspace, *options)
    return Demo(installation, workspace, options, printed, before)


def test_the_wheel_holds_the_product(names: set[str]):
    shipped = {name.removeprefix(INSIDE) for name in names if name.startswith(INSIDE)}
    tracked = subprocess.run(
        ["git", "ls-files", "app.py", "pages", "recipes", "assets", "examples", ".streamlit"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert set(tracked) <= shipped
    assert {"emt_core/explore/report/page.css", "emt_core/explore/report/page.js"} <= names
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]


def test_the_wheel_holds_nothing_else(names: set[str]):
    tops = {name.split("/")[0] for name in names}
    assert tops - {top for top in tops if top.endswith(".dist-info")} == {"emt_core"}
    shipped = {name.removeprefix(INSIDE).split("/")[0] for name in names if INSIDE in name}
    assert shipped == {".streamlit", "app.py", "assets", "examples", "pages", "recipes"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_environment_is_clean(installation: Installation):
    script = "import emt_core, sys; print(emt_core.__file__); print(*sys.path, sep='\\n')"
    where, *path = installation.python("-c", script).splitlines()
    assert Path(where).is_relative_to(installation.packages)
    assert str(ROOT) not in path


def test_the_example_client_finds_its_messages(installation: Installation):
    client = installation.packages / INSIDE / "examples" / "policy_client.py"
    port = free_port()
    done = subprocess.run(
        [installation.folder / "bin" / "python", client, "127.0.0.1", str(port), "open it"],
        cwd=installation.elsewhere,
        env=installation.environment,
        capture_output=True,
        text=True,
    )
    assert "nothing listens at" in done.stderr


def test_the_demo_runs(demo: Demo):
    listed = json.loads((demo.workspace / "state" / "demo.json").read_text())
    assert {"sources", "embed", "score", "select.quarter"} <= set(listed)
    if not demo.options:
        assert "who gets selected: style x content" in demo.printed


def test_a_second_run_finds_all_done(demo: Demo):
    def made() -> dict[Path, float]:
        return {path: path.stat().st_mtime for path in demo.workspace.glob("*/*/manifest.json")}

    done = made()
    assert len(done) == len(json.loads((demo.workspace / "state" / "demo.json").read_text()))
    demo.installation.emt("run", "demo", "-w", demo.workspace, *demo.options)
    assert made() == done


def test_selections_are_exported(demo: Demo):
    out = demo.installation.elsewhere / f"{demo.workspace.name}-exports"
    common = ["export", "-w", demo.workspace, "--selection", "select.quarter"]
    demo.installation.emt(*common, "--format", "llamafactory", "--out", out / "lf")
    demo.installation.emt(*common, "--format", "parquet", "--images", "embed", "--out", out / "pq")
    known = json.loads((out / "lf" / "dataset_info.json").read_text())
    (described,) = known.values()
    rows = json.loads((out / "lf" / described["file_name"]).read_text())
    tables = [parquet.read_table(file) for file in (out / "pq").rglob("*.parquet")]
    assert len(rows) == sum(table.num_rows for table in tables) > 0


@pytest.fixture
def app(demo: Demo, tmp_path: Path) -> Iterator[Server]:
    """The installed `emt app`, once it answers its health check."""
    port = free_port()
    asked = ["app", "-w", demo.workspace, "--port", str(port), "--no-browser"]
    yield from running(
        demo.installation.command(*asked),
        port,
        demo.workspace,
        tmp_path / "app.log",
        cwd=demo.installation.elsewhere,
        environment=demo.installation.environment,
    )


def test_the_app_answers_and_shows_its_start_page(app: Server, browser):
    window = browser.new_context()
    with clean_tab(window, app.log) as page:
        visit(page, app.address, "Overview")
    window.close()


def test_nothing_is_written_where_the_wheel_lies(demo: Demo):
    """Last of the module: after everything above."""
    assert demo.installation.files() == demo.before
