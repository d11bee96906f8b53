"""What the app looks at: columns, chains of artifacts, neighbours, text search, cuts, saved
selections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from synthetic import make_workspace, pool, robot, run_stage

from emt_core.errors import EmtError
from emt_core.explore import reading
from emt_core.explore.tables.measured import Measured
from emt_core.explore.tables.search import find_text
from emt_core.explore.tables.select import (
    LEAST_ROWS,
    Cut,
    at_threshold,
    from_fraction,
    from_threshold,
)
from emt_core.proximity.neighbors import robot_bank
from emt_core.recipe.category import CategoryConfig
from emt_core.recipe.proximity import EstimatorConfig, ScoreConfig
from emt_core.recipe.selection import SelectConfig
from emt_core.run.edits import add_selection
from emt_core.selection import Preview, decide
from emt_core.selection.category import CATEGORIES
from emt_core.selection.report import embodied_share
from emt_core.selection.scored_pool import candidates_of
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.files import write_json
from emt_core.workspace.lineage import (
    Lineage,
    finished,
    labels_of,
    lineage,
    recipe_names,
    selections_of,
)
from emt_core.workspace.table import Table, coded_column

SOURCES = [
    pool("web", 300, text_only=0.1, no_vector=0.05),
    pool("near", 200, mean=2.0),
    robot("arm", 160, mean=3.0),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    found = make_workspace(tmp_path_factory.mktemp("explore") / "ws", SOURCES)
    run_stage(found, "category", CategoryConfig())
    run_stage(found, "estimator", EstimatorConfig(steps=40))
    run_stage(found, "score", ScoreConfig(sweep_sample=100))
    run_stage(found, "select", SelectConfig(k=50))
    return found


@pytest.fixture
def recorded(made, tmp_path):
    """The workspace as the runner leaves it: a recipe and the keys it led to."""
    space = made.workspace
    raw = {
        "name": "r",
        "base": str(tmp_path),
        "sources": [{"name": "web", "role": "pool", "format": "llava", "path": "x.json"}],
        "embed": {"encoder": "fake"},
        "category": {},
        "estimator": {},
        "score.learned": {},
        "score.other": {"seed": 1},
        "select.top": {"k": 50, "parents": {"score": "learned"}},
    }
    (space.path / "recipes").mkdir(exist_ok=True)
    (space.path / "recipes" / "r.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    labels = {"score": "score.learned", "select": "select.top"}
    write_json(
        space.path / "state" / "r.json",
        {labels.get(s, s): a.key for s, a in made.artifacts.items()},
    )
    return space


def test_coded_column_keeps_order_nulls_and_leading_names(tmp_path: Path):
    table = Table(tmp_path / "t.lance")
    table.append(pa.table({"c": pa.array(["b", None, "a"], pa.string())}))
    table.append(pa.table({"c": pa.array(["a", "z"], pa.string())}))
    coded = coded_column(table, "c", first=("a",))
    assert coded.names == ["a", "b", "z"]
    assert coded.codes.tolist() == [1, -1, 0, 0, 2]
    assert coded.codes.dtype == np.int16
    assert coded.code("z") == 2
    assert coded.code("nothing") == -2


def test_rank_order_is_that_of_the_select_stage(made):
    logit = reading.logits(made.artifacts["score"])
    order = reading.rank_order(logit, np.ones(len(logit), bool))
    assert np.isfinite(logit[order]).all()
    assert np.all(np.diff(logit[order]) <= 0)
    selected = pq.read_table(made.artifacts["select"].data / "selected.parquet")["row"].to_numpy()
    picked = [row for row in order if row in set(selected)]
    assert picked == selected.tolist()


def test_candidates_of_agree_with_the_select_stage(made):
    chain = [made.artifacts[stage] for stage in ("sources", "embed", "category", "score")]
    candidates = candidates_of(*chain)
    assert candidates.categories[: len(CATEGORIES)] == tuple(CATEGORIES)
    decision = decide(candidates, SelectConfig(k=50))
    reasons = reading.reasons(made.artifacts["select"])
    names = [decision.reasons[code] for code in decision.code]
    assert names == [reasons.names[code] for code in reasons.codes]
    preview = Preview(candidates)
    assert preview.composition(Cut(k=50).config()).total == 50


def test_lineage_follows_a_selection_to_its_parents(recorded):
    done = finished(recorded, "r")
    assert recipe_names(recorded) == ["r"]
    assert labels_of(done, "select") == ["select.top"]
    assert selections_of(done, "score.learned") == ["select.top"]
    chain = lineage(recorded, done, score="score.learned", select="select.top")
    assert chain.has("sources", "embed", "category", "estimator", "score", "select")
    assert chain.gap is None
    with pytest.raises(EmtError, match="no finished 'score\\.none'"):
        lineage(recorded, done, score="score.none")


def test_lineage_of_a_workspace_half_done(recorded):
    done = finished(recorded, "r")
    half = {label: done[label] for label in ("sources", "embed")}
    chain = lineage(recorded, half)
    assert chain.has("sources", "embed")
    assert not chain.has("score")
    assert finished(recorded, "never ran") == {}


def test_lineage_never_joins_artifacts_of_different_features(recorded, tmp_path):
    other = make_workspace(recorded.path, [pool("web", 10), robot("arm", 16)], seed=9)
    done = finished(recorded, "r") | {"embed.other": other.artifacts["embed"]}
    chain = lineage(recorded, done, select="select.top")
    assert chain.embed.key == done["embed"].key
    lone = lineage(
        recorded, {"embed.other": other.artifacts["embed"], "category": done["category"]}
    )
    assert lone.category is None


def test_a_deleted_parent_is_a_clear_error(tmp_path: Path):
    import shutil

    found = make_workspace(tmp_path / "ws", [pool("web", 20), robot("arm", 16)])
    shutil.rmtree(found.artifacts["sources"].path)
    with pytest.raises(EmtError, match="which is gone"):
        lineage(found.workspace, {"embed": found.artifacts["embed"]})


def test_bank_finds_the_nearest_frames_exactly(made):
    bank = robot_bank(made.index, made.features)
    vectors = made.features.take(bank.rows).astype(np.float32)
    query = made.features.take([3])[0]
    rows, distances = bank.nearest(query, 5)
    exact = np.linalg.norm(vectors - query.astype(np.float32), axis=1)
    assert rows.tolist() == bank.rows[np.argsort(exact)[:5]].tolist()
    assert np.allclose(distances, np.sort(exact)[:5], rtol=1e-5)
    own, zero = bank.nearest(vectors[7], 1)
    assert own[0] == bank.rows[7]
    assert zero[0] == 0.0


def test_bank_is_bounded_and_seeded(made):
    bank = robot_bank(made.index, made.features, limit=40)
    assert len(bank.rows) == 40
    assert bank.total == 160
    assert np.array_equal(bank.rows, robot_bank(made.index, made.features, limit=40).rows)
    assert bank.nearest(bank.vectors[0], 100)[0].shape == (40,)
    assert bank.nearest(bank.vectors[0], 0)[0].shape == (0,)


def test_text_search_finds_every_row_whatever_its_case(made):
    found = find_text(made.index, "HANDLE of the")
    texts = [" ".join(turn.text for turn in s.turns) for _, s in made.index.iterate()]
    assert found.rows.tolist() == [
        i for i, text in enumerate(texts) if "handle of the" in text.lower()
    ]
    assert found.complete
    assert len(find_text(made.index, "   ").rows) == 0
    assert len(find_text(made.index, "(0.412").rows) > 0  # literal, not a pattern


def test_text_search_stops_at_its_bounds(made, monkeypatch):
    monkeypatch.setattr("emt_core.explore.tables.search.BATCH_ROWS", 64)
    found = find_text(made.index, "a", max_matches=10)
    assert not found.complete
    assert found.scanned < made.index.rows


def test_a_text_search_that_stopped_goes_on_to_the_same_answer(made, monkeypatch):
    whole = find_text(made.index, "handle")
    monkeypatch.setattr("emt_core.explore.tables.search.BATCH_ROWS", 64)
    part, answers = None, 0
    while part is None or not part.complete:
        part, answers = find_text(made.index, "handle", after=part, max_seconds=0), answers + 1
    assert part.rows.tolist() == whole.rows.tolist()
    assert answers == sum(-(-source.rows // 64) for source in made.index.sources)


def test_a_text_search_looks_through_the_asked_sources_alone(made, monkeypatch):
    monkeypatch.setattr("emt_core.explore.tables.search.BATCH_ROWS", 64)
    _, near, arm = made.index.sources
    found = find_text(made.index, "a", sources=["arm"], max_seconds=0)
    assert (found.scanned, found.total) == (64, 160)
    assert set(found.rows) <= set(range(arm.start, arm.start + 64))
    whole = find_text(made.index, "handle")
    found = find_text(made.index, "handle", sources=["arm", "web"])
    assert found.rows.tolist() == [row for row in whole.rows if not near.start <= row < near.stop]
    assert found.complete
    assert find_text(made.index, "a", sources=[]).complete


def test_threshold_fraction_and_k_agree(made):
    preview = Preview(
        candidates_of(*(made.artifacts[s] for s in ("sources", "embed", "category", "score")))
    )
    k = from_fraction(preview, 0.25)
    assert k == round(preview.eligible / 4)
    assert from_threshold(preview, preview.threshold_of(k)) == k
    assert from_fraction(preview, 0.0) == 1
    assert from_threshold(preview, 1e9) == 1
    caps = Cut(k=50, caps_source={"near": 10})
    made_cut = preview.composition(caps.config())
    assert made_cut.by_source[1] == 10


def test_measures_at_a_cut_come_from_the_sweep(made):
    sweep = pq.read_table(made.artifacts["score"].data / "sweep.parquet")
    logit = sweep["logit"].to_numpy()
    here = at_threshold(sweep, float(logit[19]))
    for name, found in here.items():
        assert found == (sweep[name][19].as_py(), sweep[f"{name}_error"][19].as_py())
    assert at_threshold(sweep, 1e9)["diversity"].value is None
    assert at_threshold(sweep, float(logit[LEAST_ROWS - 2]))["diversity"].value is None
    assert at_threshold(sweep, -np.inf)["diversity"].value == sweep["diversity"][-1].as_py()


def test_figures_end_where_their_error_begins():
    assert Measured(0.16856, 0.0035).text == "0.169 ± 0.004"
    assert Measured(1.6421, 0.018).text == "1.64 ± 0.02"
    assert Measured(12.4, 3.2).text == "12 ± 3"
    assert Measured(0.16856, 0.00003).text == "0.16856 ± 0.00003"
    assert Measured(0.16856, 0.0).text == Measured(0.16856).text == "0.169"
    assert Measured(None, None).text == "–"
    assert Measured(0.031).change_from(Measured(0.16856, 0.0035)) == "-0.138"
    assert Measured(1.6421).change_from(Measured(2.7908, 0.0225)) == "-1.15"
    assert Measured(None).change_from(Measured(1.0)) is None


def test_embodied_share():
    assert embodied_share({"spatial": 2, "robot": 1, "text": 1, "own": 0}) == 0.75
    assert embodied_share({"spatial": 0, "text": 0}) is None


def test_a_saved_selection_is_an_instance_tied_to_its_score(recorded):
    done = finished(recorded, "r")
    chain = lineage(recorded, done, score="score.learned")
    label = add_selection(recorded, "r", "mine", {"k": 7}, chain, done)
    assert label == "select.mine"
    raw = yaml.safe_load((recorded.path / "recipes" / "r.yaml").read_text())
    assert raw["select.mine"] == {"k": 7, "parents": {"score": "learned"}}
    assert raw["select.top"]["k"] == 50


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("../evil", {"k": 7}, "cannot be a selection's name"),
        ("", {"k": 7}, "cannot be a selection's name"),
        ("top", {"k": 7}, "already a selection"),
        ("zero", {"k": 0}, "select.zero.k"),
    ],
)
def test_bad_selections_are_refused_and_change_nothing(recorded, name, config, message):
    done = finished(recorded, "r")
    path = recorded.path / "recipes" / "r.yaml"
    before = path.read_bytes()
    with pytest.raises(EmtError, match=message):
        add_selection(
            recorded, "r", name, config, lineage(recorded, done, score="score.learned"), done
        )
    assert path.read_bytes() == before


def test_a_score_of_an_experiments_arm_cannot_be_named(recorded):
    done = finished(recorded, "r")
    chain = lineage(recorded, done, score="score.learned")
    arms = {
        label if label != "score.learned" else "score@arm": artifact
        for label, artifact in done.items()
    }
    with pytest.raises(EmtError, match="experiment's arm"):
        add_selection(recorded, "r", "mine", {"k": 7}, chain, arms)


def test_an_empty_workspace_has_nothing(tmp_path: Path):
    space = Workspace.open(tmp_path / "ws", create=True)
    assert recipe_names(space) == []
    assert lineage(space, {}) == Lineage()
