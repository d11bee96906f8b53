"""The rules of the architecture (docs/architecture.md), held against the code as it stands."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from import_graph import circles, floors, import_graph, imported, module_name, python_files
from places import ROOT

from emt_core.flow import FLOW, STAGES
from emt_core.recipe.recipe import CONFIGS

CORE = ROOT / "emt_core"
HEAVY = {
    "torch",
    "transformers",
    "open_clip",
    "umap",
    "pacmap",
    "sklearn",
    "lance",
    "datasets",
    "streamlit",
}
FOR_VERBS = {"numpy", "pyarrow", "pydantic"}

ROOMS = (
    "cli",
    "stages",
    "explore",
    "selection",
    "proximity",
    "training",
    "evaluation",
    "models",
    "data",
    "run",
    "recipe",
    "workspace",
    "flow",
    "errors",
)
"""The rooms of emt_core, top first: each imports only what stands below it
(docs/architecture.md)."""

MOST_FLOORS = 9


def room(module: str) -> str:
    return module.split(".")[1]


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    files = [path for path in python_files("emt_core/") if path != CORE / "__init__.py"]
    return import_graph(files)


def test_emt_core_holds_its_rooms_and_nothing_else():
    names = {
        path.relative_to(CORE).parts[0].removesuffix(".py") for path in python_files("emt_core/")
    }
    assert names - {"__init__"} == set(ROOMS)


def test_no_import_runs_up(graph: dict[str, set[str]]):
    order = {name: place for place, name in enumerate(ROOMS)}
    up = [f"{m} imports {n}" for m in graph for n in graph[m] if order[room(n)] < order[room(m)]]
    assert not up


def test_no_import_runs_in_a_circle():
    assert not circles(import_graph(python_files("emt_core/", "pages/", "demo/", "app.py")))


def test_emt_core_has_few_floors(graph: dict[str, set[str]]):
    high = {module: floor for module, floor in floors(graph).items() if floor > MOST_FLOORS}
    assert not high


def test_circles_and_floors_are_found_where_they_are():
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set(), "d": {"e"}, "e": {"f"}, "f": {"d"}}
    assert circles(graph) == [["d", "e", "f"]]
    assert floors({m: graph[m] for m in "abc"}) == {"a": 3, "b": 2, "c": 1}


def test_builders_stay_outside_of_the_product():
    for path in python_files("emt_core/", "pages/", "app.py"):
        outside = {
            name for name in imported(path) if name.split(".")[0] in ("demo", "speed", "tests")
        }
        assert not outside, f"{path.relative_to(ROOT)} imports {outside}"


def test_core_never_imports_streamlit_or_the_pages():
    for path in python_files("emt_core/"):
        for name in imported(path):
            assert name.split(".")[0] not in ("streamlit", "pages", "app"), (
                f"{path.relative_to(ROOT)} imports {name}"
            )


def test_stages_never_import_each_other():
    for path in python_files("emt_core/stages/"):
        others = [
            n
            for n in imported(path)
            if n.startswith("emt_core.stages.") and path.stem != "__init__"
        ]
        names = {name.split(".")[2] for name in others}
        assert not names & set(STAGES), f"{path.name} imports stage(s) {names & set(STAGES)}"


def test_figures_are_pure():
    for path in python_files("emt_core/explore/figures/"):
        for name in imported(path):
            assert not name.startswith(
                ("emt_core.workspace.artifact", "emt_core.workspace.table", "emt_core.data.index")
            ), f"{path.name}: {name}"


def test_every_stage_has_its_file_config_and_version():
    files = {path.stem for path in (CORE / "stages").glob("*.py")} - {"__init__"}
    assert files == {stage.name for stage in FLOW} == set(CONFIGS)
    for name in files:
        text = (CORE / "stages" / f"{name}.py").read_text(encoding="utf-8")
        assert re.search(r"^VERSION(: int)? = \d+$", text, re.M), f"stages/{name}.py has no VERSION"
        assert re.search(r"^def run\(context: Context\) -> Outcome:", text, re.M), (
            f"stages/{name}.py has no run()"
        )


def test_flow_is_a_dag_in_order():
    seen: set[str] = set()
    for stage in FLOW:
        fed_by = set(stage.feeders)
        assert fed_by <= seen, f"{stage.name} is fed by a stage that comes after it"
        seen.add(stage.name)


def test_every_stage_module_is_light_at_the_top():
    for path in python_files("emt_core/stages/"):
        heavy = {name.split(".")[0] for name in imported(path, top_level_only=True)} & HEAVY
        assert not heavy, f"{path.name} imports {heavy} when it is imported"


def test_import_help_and_planning_load_nothing_heavy(tmp_path: Path):
    script = (
        "import sys, emt_core, emt_core.cli.__main__, emt_core.run.plan, emt_core.run.status, emt_core.run.jobs\n"
        "from emt_core.run.plan import stage_module\n"
        "from emt_core.flow import FLOW\n"
        "[stage_module(s.name) for s in FLOW]\n"
        "sys.argv = ['emt', '--help']\n"
        "code = emt_core.cli.__main__.main(['--help'])\n"
        f"print('HEAVY', sorted(set(sys.modules) & {HEAVY!r}), code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "HEAVY [] 0"


def test_the_command_starts_without_what_only_a_verb_needs(tmp_path: Path):
    script = (
        "import sys, emt_core.cli.__main__\n"
        "code = emt_core.cli.__main__.main(['--help'])\n"
        f"print('HEAVY', sorted(set(sys.modules) & {HEAVY | FOR_VERBS!r}), code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "HEAVY [] 0"


def test_no_file_outgrows_a_reader():
    long = {
        str(p.relative_to(ROOT)): n
        for p in python_files("")
        if (n := len(p.read_text().splitlines())) > 400
    }
    assert not long


def test_no_dumping_ground_modules():
    assert not [
        p for p in python_files("") if p.stem in ("utils", "util", "helpers", "misc", "common")
    ]


def test_no_pickle_and_no_remote_code():
    for path in python_files("emt_core/", "pages/", "app.py"):
        text = path.read_text(encoding="utf-8")
        names = {name.split(".")[0] for name in imported(path)}
        assert not names & {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve"}, path
        assert "trust_remote_code=True" not in text, path
        assert "unsafe_allow_html=True" not in text, path
        assert "allow_pickle=True" not in text, path
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, f"{path}: {call}"


def test_config_fields_are_documented_below_themselves():
    from emt_core.recipe.base import Frozen

    obvious = {
        "seed",
        "stage",
        "name",
        "config",
        "instances",
        "caps",
        "quotas",
        "weight_decay",
        "conversations",
    }
    for path in python_files("emt_core/recipe/"):
        module = importlib.import_module(module_name(path))
        for name, model in vars(module).items():
            if (
                isinstance(model, type)
                and issubclass(model, Frozen)
                and model.__module__ == module.__name__
            ):
                for field, info in model.model_fields.items():
                    assert info.description or field in obvious, f"{name}.{field} has no docstring"


def test_recipes_in_the_repository_are_valid():
    from emt_core.recipe.recipe import load_recipe

    found = sorted((ROOT / "recipes").glob("*.yaml"))
    assert found
    for path in found:
        load_recipe(path)


def test_lock_holds_versions_and_hashes_only():
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    for line in text.splitlines():
        assert (
            re.match(r"(\s+--hash=sha256:[0-9a-f]{64}|[A-Za-z0-9._-]+==\S+)", line)
            or not line.strip()
        ), line


def test_workflow_files_agree():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert all(repo["repo"] == "local" for repo in hooks["repos"])


def test_no_two_test_files_have_one_name():
    """Folders of tests are no packages: pytest collects but one of two files of the same name."""
    names = [path.name for path in python_files("tests/") if path.name.startswith("test_")]
    assert sorted(set(names)) == sorted(names)
