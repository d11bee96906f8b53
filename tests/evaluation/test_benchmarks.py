"""Benchmarks: their settings, tasks, layouts and episodes; Meta-World's frames and expert."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dot_policy import delta_map
from pydantic import ValidationError
from rehearsals import made, played

from emt_core.errors import EmtError
from emt_core.evaluation.benchmarks.base import (
    MOST_EPISODES,
    Benchmark,
    Task,
    episodes_of,
    layout_seed,
)
from emt_core.evaluation.recording.tasks import DEMONSTRATION_SEEDS
from emt_core.evaluation.seeds import EVAL_SEEDS, TRAIN_SEEDS
from emt_core.recipe.demos import DemosConfig


def test_layouts_of_training_and_evaluation_never_meet():
    seeds = {
        layout_seed(seed, number) for seed in (0, 1, 989) for number in (0, 1, MOST_EPISODES - 1)
    }
    assert len(seeds) == 9
    assert seeds <= set(EVAL_SEEDS)
    assert not set(TRAIN_SEEDS) & set(EVAL_SEEDS)
    assert set(DEMONSTRATION_SEEDS) <= set(TRAIN_SEEDS)
    with pytest.raises(EmtError, match="not one of evaluation"):
        layout_seed(990, 0)
    with pytest.raises(EmtError, match="at most 1000"):
        layout_seed(0, 1000)


def test_meta_world_sees_what_the_demonstrations_saw():
    camera = {"position": (0.5, 0.1, 0.5), "target": (0, 0.6, 0.1), "fovy": 50.0}
    facts = {
        "benchmark": "metaworld",
        "camera": camera,
        "size": 96,
        "action_repeat": 4,
        "show_goal": {"push-v3": True},
        "instructions": {"push-v3": ["go on"], "soccer-v3": ["kick it"]},
    }
    found = made(name="metaworld", demos=facts, max_steps=125)
    assert found.settings["size"] == 96
    assert found.settings["camera"]["fovy"] == 50.0
    assert found.fps == 20
    assert [(t.name, t.instructions, t.facts["show_goal"]) for t in found.tasks] == [
        ("push-v3", ("go on",), True),
        ("soccer-v3", ("kick it",), False),
    ]
    more = {"tasks": ["soccer-v3"], "size": 64, "instructions": {"soccer-v3": ["score"]}}
    asked = made(name="metaworld", demos=facts, max_steps=125, **more)
    assert (asked.settings["size"], asked.tasks[0].instructions) == (64, ("score",))
    with pytest.raises(EmtError, match="no instruction for 'hammer-v3'"):
        made(name="metaworld", tasks=["hammer-v3"])


def test_protocols_of_the_published_benchmarks():
    libero = made(name="libero")
    assert (
        len(libero.tasks),
        libero.tasks[0].max_steps,
        libero.episodes,
        libero.settings["waits"],
    ) == (
        10,
        520,
        50,
        10,
    )
    assert [t.name for t in made(name="libero", suite="libero_object", tasks=[3]).tasks] == [
        "pick_up_the_bbq_sauce_and_place_it_in_the_basket"
    ]
    with pytest.raises(EmtError, match="has no task 10"):
        made(name="libero", tasks=[10])
    simpler = made(name="simpler_bridge")
    assert {t.name: t.max_steps for t in simpler.tasks} == {
        "widowx_carrot_on_plate": 60,
        "widowx_put_eggplant_in_basket": 120,
        "widowx_spoon_on_towel": 60,
        "widowx_stack_cube": 60,
    }
    assert simpler.episodes == 24
    with pytest.raises(EmtError, match="24 layouts"):
        episodes_of(simpler, 25, 0)


def test_calvin_wants_its_data_set_and_counts_chains(tmp_path: Path):
    with pytest.raises(EmtError, match="data set is not there"):
        made(name="calvin_abcd", dataset="nowhere", base=tmp_path)
    (tmp_path / "task_ABC_D" / "validation").mkdir(parents=True)
    calvin = made(name="calvin_abcd", dataset="task_ABC_D", base=tmp_path)
    assert (calvin.goals, calvin.episodes, calvin.tasks[0].max_steps) == (5, 1000, 360)
    assert [e.seed for e in episodes_of(calvin, 3, 7)] == [
        0,
        1,
        2,
    ]  # its own chains, whatever the seed


def test_meta_world_is_not_asked_for_more_than_an_episode_holds():
    assert (
        made(name="metaworld", max_steps=250).tasks[0].max_steps == 250
    )  # of two control steps each
    with pytest.raises(EmtError, match="251 actions of 2 control steps each are 502") as error:
        made(name="metaworld", max_steps=251)
    assert error.value.where == "evaluate.benchmark"
    with pytest.raises(EmtError, match="at most 125 actions"):
        made(name="metaworld", demos={"action_repeat": 4})
    with pytest.raises(ValidationError, match="at most 100 actions"):
        made(name="metaworld", action_repeat=5)
    with pytest.raises(ValidationError, match="max_actions: 120 actions of 5"):
        DemosConfig(action_repeat=5)
    # how long was recorded does not matter here
    for recorded in (
        {"action_repeat": 2, "max_actions": 400},
        {"action_repeat": 5, "max_actions": 100},
    ):
        found = made(name="metaworld", demos=recorded, max_steps=100)
        assert found.settings["action_repeat"] == recorded["action_repeat"]


def test_instructions_take_turns():
    benchmark = Benchmark(
        name="b",
        title="B",
        settings={},
        tasks=(Task(name="t", max_steps=5, instructions=("one", "two")),),
        episodes=3,
        layouts="drawn",
    )
    assert [e.begin["instruction"] for e in episodes_of(benchmark, None, 0)] == [
        "one",
        "two",
        "one",
    ]


def test_meta_world_renders_as_it_was_recorded_and_its_expert_succeeds():
    from emt_core.evaluation.recording.mujoco_scene import (
        CameraPose,
        SceneRenderer,
        use_headless_gl,
    )

    use_headless_gl()
    pytest.importorskip("metaworld")
    from emt_core.evaluation.recording.demonstrations import make_env
    from emt_core.evaluation.recording.tasks import RobotSet, RobotTask

    class Camera:
        spec = SimpleNamespace(
            action_map=delta_map(
                reference=(0, 1), reference_names=("hand_x", "hand_y", "hand_z", "gripper_opening")
            )
        )

        def act(self, images, instructions, reference):
            self.images, self.reference = images, reference
            return np.zeros((1, 200, 4), np.float32)

    benchmark = made(name="metaworld", tasks=["drawer-open-v3"], max_steps=100)
    camera = Camera()
    found = played(benchmark, camera, count=1)
    assert found[0].failure == "step_cap"
    pose = CameraPose(**benchmark.settings["camera"])
    task = RobotTask(env="drawer-open-v3", instructions=("open the drawer",))
    robots = RobotSet(
        name="r", version="v3.0", camera=pose, tasks=(task,), episodes_per_task=1, first_seed=0
    )
    env, observation, camera_id = make_env(task, robots, found[0].episode.seed)
    np.testing.assert_allclose(
        camera.reference[0, :2], observation[:2], rtol=1e-6
    )  # as record_episode keeps it
    with SceneRenderer(env.model, size=112) as renderer:
        np.testing.assert_array_equal(camera.images[0], renderer.rgb(env.data, camera_id))
    env.close()
    assert [p.success for p in played(benchmark, None, count=1)] == [True]
