"""The gap stage on hand-made features: its figures, its map of every row, its resume, its bad
input."""

from __future__ import annotations

import json

import numpy as np
import pytest
from plain_measures import plain_diversity, plain_mmd2
from synthetic import make_workspace, pool, robot, run_stage, stage_context

from emt_core.errors import EmtError
from emt_core.proximity.map import fitted as fitted_module
from emt_core.proximity.reference import Reference
from emt_core.recipe.base import Runtime
from emt_core.recipe.gap import GapConfig
from emt_core.stages import gap
from emt_core.workspace.table import Table

CONFIG = GapConfig(sample_per_source=150, projection_fit=300, seed=2)


SOURCES = [
    pool("web", 700, no_vector=0.1),
    pool("near", 200, mean=2.0),
    pool("broken", 30, no_vector=1.0),
    robot("arm", 120, mean=4.0, spread=0.5),
    robot("hand", 40, mean=4.5, spread=0.5),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_workspace(tmp_path_factory.mktemp("ws"), SOURCES, dim=12, seed=1)


@pytest.fixture(scope="module")
def done(made):
    return run_stage(made, "gap", CONFIG)


def map_of(artifact):
    table = Table(artifact.data / "map.lance")
    return np.stack([table.column("x"), table.column("y")], axis=1), table.column("fitted").astype(
        bool
    )


def test_every_row_with_a_vector_is_on_the_map_and_no_other(made, done):
    xy, fitted = map_of(done)
    ok = made.features.ok()
    assert len(xy) == made.index.rows == done.rows
    np.testing.assert_array_equal(np.isfinite(xy).all(axis=1), ok)
    np.testing.assert_array_equal(np.isnan(xy).all(axis=1), ~ok)
    assert 250 < fitted.sum() <= 300 and not (fitted & ~ok).any()
    assert fitted[930:1050].sum() >= 15 and fitted[1050:].sum() >= 15  # the floor: robots show
    assert done.metrics["map_fitted"] + done.metrics["map_placed"] == ok.sum()


def test_figures_are_those_of_the_plain_functions(made, done):
    facts = json.loads((done.data / "gap.json").read_text())
    assert facts["sources"] == ["web", "near", "arm", "hand"] and facts["left_out"] == ["broken"]
    assert facts["sampled"] == {"web": 150, "near": 150, "arm": 120, "hand": 40}
    arm, hand = (made.features.take(range(s.start, s.stop)) for s in made.index.of_role("robot"))
    assert facts["mmd2"][2][3] == pytest.approx(plain_mmd2(arm, [hand], facts["sigma"]), abs=1e-6)
    assert facts["diversity"]["arm"] == pytest.approx(plain_diversity(arm), rel=1e-5)
    matrix = np.array(facts["mmd2"])
    np.testing.assert_allclose(matrix, matrix.T)
    np.testing.assert_allclose(
        np.array(facts["mmd2_normalized"]), matrix / matrix.max(), atol=1e-12
    )


def test_the_groups_show_the_gap_that_was_built_in(done):
    facts = json.loads((done.data / "gap.json").read_text())
    groups = facts["groups"]
    assert groups["within_robot"] < groups["within_pool"] < groups["across"]
    assert groups["to_robot"]["arm"] < groups["to_robot"]["near"] < groups["to_robot"]["web"]
    assert facts["diversity_groups"]["robot"] < facts["diversity_groups"]["pool"]
    assert done.metrics["pool_to_robot"] == groups["pool_to_robot"] > 0


def test_pool_diversity_is_that_of_the_pool_itself(made):
    everything = GapConfig(sample_per_source=5000, projection_fit=10)
    facts = run_measure(made, everything)
    web, near = (
        made.features.take(np.flatnonzero(made.features.ok()[:700])),
        made.features.take(range(700, 900)),
    )
    assert facts["diversity_groups"]["pool"] == pytest.approx(
        plain_diversity(np.concatenate([web, near])), rel=1e-4
    )


def run_measure(made, config):
    context = stage_context(made, "gap", config)
    reference = Reference(index=made.index, features=made.features, ok=made.features.ok())
    members = [gap.Members(source, reference.rows_of(source)) for source in made.index.sources]
    return gap._measure(context, config, reference, [m for m in members if len(m.rows) > 1])


def test_what_was_sampled_has_an_error_and_what_was_measured_whole_has_none(made, done):
    errors = json.loads((done.data / "gap.json").read_text())["errors"]
    assert np.array(errors["mmd2"])[2, 3] == 0 < np.array(errors["mmd2"])[0, 1]
    assert errors["diversity"]["web"] > 0 == errors["diversity"]["hand"]
    assert errors["groups"]["within_pool"] > 0 == errors["groups"]["within_robot"]
    assert errors["groups"]["pool_to_robot"] == 0 == errors["diversity_groups"]["pool"]
    whole = run_measure(made, GapConfig(sample_per_source=5000, projection_fit=10))
    assert not np.array(whole["errors"]["mmd2"]).any()
    found = run_measure(made, CONFIG)
    apart = np.array(found["mmd2"]) - np.array(whole["mmd2"])
    assert (np.abs(apart) <= 4 * np.array(found["errors"]["mmd2"]) + 1e-6).all()


def test_a_killed_run_goes_on_without_fitting_again_and_ends_in_the_same_map(
    done, monkeypatch, tmp_path
):
    wanted, _ = map_of(done)
    fresh = make_workspace(tmp_path, SOURCES, dim=12, seed=1)
    monkeypatch.setattr(gap, "PLACE_ROWS", 64)
    runtime = Runtime(workers=0, commit_rows=128)
    append, commits = Table.append, []

    def dying_append(self, table):
        if len(commits) == 3:
            raise KeyboardInterrupt
        commits.append(table.num_rows)
        append(self, table)

    monkeypatch.setattr(Table, "append", dying_append)
    with pytest.raises(KeyboardInterrupt):
        run_stage(fresh, "gap", CONFIG, runtime=runtime)
    assert commits == [128, 128, 128]
    monkeypatch.setattr(Table, "append", append)

    def no_fit(*args, **kwargs):
        raise AssertionError("fitted again")

    monkeypatch.setattr(fitted_module, "_project", no_fit)
    resumed, _ = map_of(run_stage(fresh, "gap", CONFIG, runtime=runtime))
    np.testing.assert_allclose(resumed, wanted, atol=1e-4)  # other batches, other rounding


def test_same_seed_same_map_and_figures(done, tmp_path):
    again = run_stage(make_workspace(tmp_path, SOURCES, dim=12, seed=1), "gap", CONFIG)
    np.testing.assert_array_equal(map_of(again)[0], map_of(done)[0])
    assert (again.data / "gap.json").read_text() == (done.data / "gap.json").read_text()


def test_only_a_pool_has_no_gap_but_a_map(tmp_path):
    made = make_workspace(tmp_path, [pool("web", 60)], dim=6)
    artifact = run_stage(made, "gap", GapConfig(projection="tsne"))
    assert artifact.metrics["pool_to_robot"] is None and artifact.metrics["map_fitted"] == 60


def test_nothing_to_compare_ends_in_one_message(tmp_path):
    made = make_workspace(
        tmp_path, [pool("web", 40, no_vector=1.0), robot("arm", 8, no_vector=1.0)], dim=4
    )
    with pytest.raises(EmtError, match="no source has two samples"):
        run_stage(made, "gap", CONFIG)
