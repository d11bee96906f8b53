"""What was gained, kept and lost, from planted probes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from probed import probed, retained, rolled_out

from emt_core.explore.tables.probe import advice, agreement, gains, kept, newest_group
from emt_core.workspace.artifact import Workspace


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "w", create=True)


def test_arms_are_held_against_the_origin_on_the_same_episodes(space: Workspace):
    done = {
        "probe.origin": probed(space, "o" * 16, 0.5),
        "probe@good/0": probed(space, "a" * 16, 0.38, midtrain="m1"),
        "probe@good/1": probed(space, "b" * 16, 0.42, midtrain="m2"),
        "probe@bad/0": probed(space, "c" * 16, 0.6, midtrain="m3"),
        "probe@same/0": probed(space, "d" * 16, 0.5, midtrain="m4"),
        "probe@mixed/0": probed(space, "e" * 16, 0.4, midtrain="m5", task=0.4),
        "probe@older/0": probed(space, "f" * 16, 0.1, midtrain="m6", asked="other"),
    }
    done["probe@mixed/0"].manifest["finished"] += 10
    runs = newest_group(done)
    assert [run.arm for run in runs] == ["origin", "good", "good", "bad", "same", "mixed"]
    found = {(g.arm, g.probe, g.head, g.seen): g for g in gains(runs)}
    assert len(found) == 4 * 6
    good = found["good", "action", "linear", True]
    assert good.models == 2 and good.verdict == "gained"
    assert good.gain.score == pytest.approx(0.1, rel=0.05)
    assert good.gain.low < good.gain.score < good.gain.high
    # what is hard for both leaves the difference alone
    assert good.gain.high - good.gain.low < 0.5 * (good.score.high - good.score.low)
    assert found["bad", "action", "linear", True].verdict == "lost"
    assert found["same", "action", "linear", True].verdict == "open"

    def told(arm: str) -> str:
        return advice(gain for gain in found.values() if gain.arm == arm)

    assert told("good").startswith("Rollouts are worth their price")
    assert told("bad").startswith("Rollouts are hardly worth their price")
    assert told("same").startswith("The probe does not tell")
    assert "worse is which task it is" in told("mixed")
    assert not gains([run for run in runs if not run.origin])


def test_what_questions_say_stands_beside_the_arm_that_was_asked(space: Workspace):
    done = {
        "probe@full/0": probed(space, "a" * 16, 0.4, midtrain="m1"),
        "probe@half/0": probed(space, "b" * 16, 0.4, midtrain="m1", alpha=0.5),
        "retain@full/0": retained(space, "r" * 16, "m1", lost=30),
        "retain@other/0": retained(space, "s" * 16, "m9", lost=5),
    }
    (row,) = kept(done, newest_group(done))
    assert (row.arm, row.before, row.after) == ("full", 0.8, 0.5)
    assert row.change.difference == pytest.approx(-0.3) and row.change.high < -0.2


def test_agreement_with_rollouts_is_told_from_five_models_on(space: Workspace):
    errors = [0.6, 0.5, 0.45, 0.4, 0.3, 0.2]
    for number, error in enumerate(errors):
        key = f"m{number}" if number else ""
        probed(space, f"{number}" * 16, error, midtrain=key)
        if number < 4:
            rolled_out(space, f"{number}" * 16, key, success=1 - error)
    few = agreement(space, "asked")
    assert few.models == 4 and np.isnan(few.correlation)
    rolled_out(space, "4" * 16, "m4", success=0.45)  # one out of order
    rolled_out(space, "5" * 16, "m5", success=0.9)
    found = agreement(space, "asked")
    assert found.models == 6 and 0.5 < found.correlation < 1
    assert found.low < found.correlation <= found.high
    assert agreement(space, "something else").models == 0
