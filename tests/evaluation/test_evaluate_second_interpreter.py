"""Meta-World in a virtual environment of its own, without torch and our package: what
`evaluate.python` is for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from emt_core.evaluation.benchmarks.base import episodes_of
from emt_core.evaluation.benchmarks.registry import resolve
from emt_core.evaluation.closed_loop.rollout import Played, Simulators
from emt_core.recipe.evaluate import BenchmarkConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("venv") / "simulator"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "metaworld==3.1.1", "packaging"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"Meta-World cannot be installed here: {done.stderr[-300:]}")
    for absent in ("torch", "emt_core"):
        assert subprocess.run(
            [str(python), "-c", f"import {absent}"], capture_output=True, cwd="/"
        ).returncode
    return str(python)


class Recorder:
    """Stands still and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def act(self, images, instructions):
        self.seen += list(images)
        return np.zeros((len(images), 5, 4), np.float32)


def play(python: str, policy: Recorder | None, tasks: tuple[str, ...]) -> list[Played]:
    config = {"name": "metaworld", "tasks": tasks, "max_steps": 60}
    chosen = resolve(TypeAdapter(BenchmarkConfig).validate_python(config), base=Path())
    found: list[Played] = []
    with Simulators(chosen, environments=1, python=python) as simulators:
        simulators.play(episodes_of(chosen, 2, 0), policy, on_end=found.append)
    return found


def test_the_expert_succeeds_there(interpreter: str):
    found = play(interpreter, None, ("reach-v3", "drawer-open-v3"))
    assert sum(played.success for played in found) >= 3


def test_it_shows_the_same_pictures_as_our_own_interpreter(interpreter: str):
    there, here = Recorder(), Recorder()
    play(interpreter, there, ("push-v3",))
    play("", here, ("push-v3",))
    assert len(there.seen) == len(here.seen) == 24
    np.testing.assert_array_equal(np.stack(there.seen), np.stack(here.seen))
