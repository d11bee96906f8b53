"""The closed loop: a policy and simulators in processes of their own, and their faults."""

from __future__ import annotations

import signal
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from dot_policy import DotPolicy, delta_map
from rehearsals import made, played, rehearsal

from emt_core.errors import EmtError
from emt_core.evaluation.benchmarks.base import FAILURES, FAULTS, Benchmark, episodes_of
from emt_core.evaluation.closed_loop.launching import Worker
from emt_core.evaluation.closed_loop.rollout import Played, Simulators


def outcome(found: list[Played]) -> dict[tuple[str, int], tuple]:
    return {
        (p.episode.task, p.episode.number): (p.success, p.steps, p.completed, p.failure)
        for p in found
    }


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


def test_faults_are_counted_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch):
    send, begun = Worker.send, []

    def counted(self, kind, *more, **arrays):
        if kind == "begin":
            begun.append(more[0]["task"])
        send(self, kind, *more, **arrays)

    monkeypatch.setattr(Worker, "send", counted)
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
    assert Counter(begun) == {"crash": 4, "hang": 4, "raise": 4, "reach": 2}  # tried once more
    assert {p.failure for p in found} <= {*FAILURES, *FAULTS}
    assert {p.detail for p in found if p.failure == "error"} == {
        "RuntimeError: the dot fell off the table"
    }


@pytest.mark.parametrize("trouble", [signal.SIGKILL, signal.SIGSTOP], ids=["crash", "hang"])
def test_an_episode_whose_simulator_fails_once_is_played_all_the_same(trouble: signal.Signals):
    benchmark = rehearsal("reach", "chain", timeout_s=3)
    undisturbed = played(benchmark, DotPolicy(), count=2)
    found: list[Played] = []

    class Troubled(DotPolicy):
        def act(self, images, instructions):
            if len(self.seen) == 2:
                for worker in simulators.workers:
                    worker.process.send_signal(trouble)
            return super().act(images, instructions)

    with Simulators(benchmark, environments=2) as simulators:
        simulators.play(episodes_of(benchmark, 2, 0), Troubled(), on_end=found.append)
    assert outcome(found) == outcome(undisturbed)
    assert len(found) == 4 and not any(p.failure for p in found)


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
