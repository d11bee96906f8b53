"""Benchmarks: layouts, episodes, the closed loop with simulators in processes of their own, and their faults."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dot_policy import DotPolicy, delta_map
from pydantic import TypeAdapter, ValidationError

from emt_core.errors import EmtError
from emt_core.evaluation.benchmarks.base import (
    FAILURES,
    MOST_EPISODES,
    Benchmark,
    Task,
    episodes_of,
    layout_seed,
)
from emt_core.evaluation.benchmarks.registry import resolve
from emt_core.evaluation.closed_loop.launching import Worker
from emt_core.evaluation.closed_loop.rollout import Played, Simulators
from emt_core.evaluation.recording.tasks import DEMONSTRATION_SEEDS
from emt_core.evaluation.seeds import EVAL_SEEDS, TRAIN_SEEDS
from emt_core.recipe.demos import DemosConfig
from emt_core.recipe.evaluate import BenchmarkConfig, RehearsalConfig


def made(base: Path = Path(), demos: dict | None = None, **fields) -> Benchmark:
    return resolve(TypeAdapter(BenchmarkConfig).validate_python(fields), base=base, demos=demos)


def rehearsal(*tasks: str, timeout_s: float = 60.0, **fields) -> Benchmark:
    return resolve(
        RehearsalConfig(name="rehearsal", tasks=tasks or ("reach",), timeout_s=timeout_s, **fields),
        base=Path(),
    )


def played(
    benchmark: Benchmark, policy, *, count: int = 2, environments: int = 1, **more
) -> list[Played]:
    found: list[Played] = []
    with Simulators(
        benchmark, environments=environments, python=more.pop("python", "")
    ) as simulators:
        simulators.play(episodes_of(benchmark, count, 0), policy, on_end=found.append, **more)
    return found


def outcome(found: list[Played]) -> dict[tuple[str, int], tuple]:
    return {
        (p.episode.task, p.episode.number): (p.success, p.steps, p.completed, p.failure)
        for p in found
    }


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


def test_the_loop_plays_every_episode_once_however_many_play_side_by_side():
    benchmark = rehearsal("reach", "chain")
    alone = played(benchmark, DotPolicy(), count=4)
    beside = played(benchmark, DotPolicy(), count=4, environments=3)
    assert len(alone) == len(beside) == 8
    assert outcome(alone) == outcome(beside)
    assert all(p.success for p in alone)
    chains = [p for p in alone if p.episode.task == "chain"]
    assert {p.completed for p in chains} == {3}
    assert {p.instruction for p in chains} == {"bring the red dot to the green one (0)"}


def test_a_policy_that_stands_still_runs_into_the_cap_and_frames_are_what_it_saw():
    policy = DotPolicy(gain=0.0, chunk=7)
    found = played(
        rehearsal(max_steps=20), policy, count=1, execute=5, wants_frames=lambda episode: True
    )
    assert [(p.success, p.steps, p.failure, len(p.frames)) for p in found] == [
        (False, 20, "step_cap", 4)
    ]
    assert len(policy.seen) == 4
    np.testing.assert_array_equal(np.stack(found[0].frames), np.concatenate(policy.seen))


def test_faults_are_counted_and_the_rest_goes_on():
    found = played(
        rehearsal("crash", "hang", "raise", "reach", timeout_s=6),
        DotPolicy(gain=0.02),  # too slow to arrive before the trouble
        count=2,
        environments=2,
    )
    kinds = {(p.episode.task, p.failure) for p in found}
    assert kinds == {
        ("crash", "crashed"),
        ("hang", "hung"),
        ("raise", "error"),
        ("reach", "step_cap"),
    }
    assert len(found) == 8
    assert {p.failure for p in found} <= set(FAILURES)
    assert {p.detail for p in found if p.failure == "error"} == {
        "RuntimeError: the dot fell off the table"
    }


def test_an_action_that_is_not_finite_ends_its_episode_alone():
    class Poisoned(DotPolicy):
        def act(self, images, instructions):
            actions = super().act(images, instructions)
            if len(self.seen) == 2:
                actions[0, 0, 0] = np.nan
            return actions

    found = played(rehearsal(), Poisoned(gain=0.02), count=3)
    assert [p.failure for p in found].count("bad_action") == 1
    assert len(found) == 3


def killed(simulators: Simulators) -> None:
    for worker in simulators.workers:
        worker.process.kill()
        worker.process.wait()


def test_a_simulator_that_dies_while_idle_costs_no_episode():
    benchmark = rehearsal()
    found: list[Played] = []
    with Simulators(benchmark, environments=2) as simulators:
        for _ in range(2):
            simulators.play(episodes_of(benchmark, 3, 0), DotPolicy(), on_end=found.append)
            killed(simulators)
    assert [p.failure for p in found] == [""] * 6
    assert outcome(found[:3]) == outcome(found[3:])


def test_a_simulator_that_never_takes_an_episode_ends(monkeypatch: pytest.MonkeyPatch):
    """Its second death in a row counts as a crash: no endless loop of restarts."""
    send = Worker.send

    def dead(self, kind, *more):
        if kind == "begin":
            raise BrokenPipeError
        send(self, kind, *more)

    monkeypatch.setattr(Worker, "send", dead)
    assert [p.failure for p in played(rehearsal(), DotPolicy(), count=2)] == ["crashed"] * 2


def test_a_simulator_that_dies_before_it_is_told_to_abandon():
    benchmark = rehearsal()
    found: list[Played] = []

    class Poisoned(DotPolicy):
        def act(self, images, instructions):
            actions = super().act(images, instructions)
            if len(self.seen) == 1:
                killed(simulators)
                actions[0] = np.nan
            return actions

    with Simulators(benchmark, environments=1) as simulators:
        simulators.play(episodes_of(benchmark, 3, 0), Poisoned(), on_end=found.append)
    assert sorted(p.failure for p in found) == ["", "", "bad_action"]


def test_actions_of_another_robot_are_refused():
    class Arm:
        def act(self, images, instructions):
            return np.zeros((len(images), 4, 7), np.float32)

    with pytest.raises(EmtError, match=r"shape \(1, 4, 7\), Rehearsal takes \(1, chunk, 2\)"):
        played(rehearsal(), Arm())
    with pytest.raises(EmtError, match="more than the policy's chunk of 3"):
        played(rehearsal(), DotPolicy(), execute=4)


class DeltaPolicy(DotPolicy):
    """Its actions are places: where the dot is, and how far to go from there."""

    def __init__(self, **changes) -> None:
        super().__init__()
        self.spec = SimpleNamespace(action_map=delta_map(**changes))
        self.states: list[np.ndarray] = []

    def act(self, images, instructions, reference=None):
        assert reference is not None
        self.spec.action_map.check_reference(reference, len(images))
        self.states.append(reference)
        places = self.spec.action_map.actions(
            super().act(images, instructions) / 2, np.zeros((len(images), 3, 0)), reference
        )
        return (places - reference[:, None, [2, 1]]) * 2


def test_actions_that_are_measured_from_the_state_are_given_it():
    policy = DeltaPolicy()
    found = played(rehearsal(), policy, count=3, environments=2)
    assert [p.success for p in found] == [True] * 3
    states, images = np.concatenate(policy.states), np.concatenate(policy.seen)
    shown = np.stack([np.argwhere(image[..., 0] > 0).mean(0) for image in images]) / (
        images.shape[1] - 1
    )
    np.testing.assert_allclose(
        states[:, 1:], shown, atol=0.06
    )  # y, x as the frame shows them, in the set's order
    assert (states[:, 0] == 0).all()  # nobody tells what `pad` is, and nothing uses it


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"reference": (0, 1)},
            r"'observation.state' \(pad, dot_y\), which Rehearsal does not tell",
        ),
        ({"reference_column": "observation.tool"}, "'observation.tool'"),
        ({"reference_names": ()}, "dimension 2, dimension 1"),
    ],
)
def test_a_state_that_the_simulator_does_not_tell_is_refused_before_it_starts(changes, words):
    with pytest.raises(EmtError, match=words) as error:
        played(rehearsal(), DeltaPolicy(**changes), python="/no/such/python")
    assert "dot_x, dot_y" in error.value.remedy


def test_a_simulator_that_is_missing_says_how_to_have_it():
    missing = made(name="simpler_bridge")
    with pytest.raises(EmtError, match="not installed") as error:
        played(missing, DotPolicy(), count=1)
    assert "clone" in error.value.remedy
    with pytest.raises(EmtError, match="interpreter cannot be started"):
        played(rehearsal(), DotPolicy(), python="/no/such/python")
    with pytest.raises(EmtError, match="does not come up"):
        played(rehearsal(), DotPolicy(), python="false")


def test_graphics_fall_back_to_osmesa(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    benchmark = rehearsal()
    without_egl = {**benchmark.settings, "without_graphics": ["egl"]}
    assert len(played(_with(benchmark, without_egl), DotPolicy(), environments=2)) == 2
    with pytest.raises(EmtError, match="no off-screen GL") as error:
        played(
            _with(benchmark, {**benchmark.settings, "without_graphics": ["egl", "osmesa"]}),
            DotPolicy(),
        )
    assert "apt-get install" in error.value.remedy


def _with(benchmark: Benchmark, settings: dict) -> Benchmark:
    from dataclasses import replace

    return replace(benchmark, settings=settings)


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
