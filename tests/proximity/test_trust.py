"""The trust stage as it runs: its report, repeated trainings, and cheats planted in its inputs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from app_world import emt
from measure_inputs import measure_inputs
from small_world import small_world

from emt_core.errors import EmtError
from emt_core.proximity.base import Inputs
from emt_core.proximity.batches import Draws
from emt_core.proximity.classifier import Examples, scaling
from emt_core.proximity.groups import groups_of
from emt_core.proximity.measures import dsir, imported
from emt_core.proximity.measures.linear import train
from emt_core.proximity.metrics.rank_agreement import overlap_at, spearman
from emt_core.proximity.metrics.ranking import balanced_weights
from emt_core.proximity.split import TRAIN, VALIDATION, seeded_hash, split_rows
from emt_core.proximity.trust.audit_sections import Variants
from emt_core.proximity.trust.modality import audits, cross_fitted, even_folds
from emt_core.proximity.trust.refit import FewerSets
from emt_core.proximity.trust.stability import NOT_BY_SEED, NOT_IN_STEPS, stability
from emt_core.recipe.proximity import EstimatorConfig, measure_config
from emt_core.recipe.trust import TrustConfig
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.progress import Progress
from emt_core.workspace.table import Table

MORE = """
measure.knn: {kind: knn, neighbors: 3}
measure.random: {kind: random}
score.learned: {parents: {estimator: ""}}
score.knn: {}
score.random: {}
select.top: {k: 20, parents: {score: learned}}
trust.learned: {compare: [knn, random], pool_rows: 40, robot_rows: 24, seeds: 2,
  stop_points: [5, 10], folds: 2, near_ids: ["web:0,2,4,6,8-40"]}
trust.knn: {pool_rows: 24, robot_rows: 24, seeds: 2, near_ids: ["web:0"], compare: [random]}
trust.random: {pool_rows: 0}
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("trust")
    small_world(base / "world")
    recipe = base / "world" / "recipe.yaml"
    text = (
        recipe.read_text()
        .replace("score: {sweep_sample: 50}\n", "")
        .replace("select.top: {k: 20}\n", "")
    )
    recipe.write_text(
        "\n".join(line for line in text.splitlines() if not line.startswith("gap")) + MORE
    )
    emt("run", recipe, "--workspace", base / "ws")
    return base / "ws"


def report_of(workspace: Path, name: str) -> tuple[dict, Path]:
    key = json.loads((workspace / "state" / "small.json").read_text())[f"trust.{name}"]
    data = workspace / "trust" / key / "data"
    return json.loads((data / "trust.json").read_text()), data


def test_the_report_has_every_section_and_no_number_without_its_sentence(workspace):
    report, data = report_of(workspace, "learned")
    assert list(report["sections"]) == [
        "modality",
        "style",
        "stability",
        "calibration",
        "agreement",
        "planted",
    ]
    assert report["score"] == "learned" and report["measure"] == "linear"
    for section in report["sections"].values():
        assert section["title"] and section["question"].endswith("?")
        for number in section["numbers"]:
            assert len(number["sentence"]) > 40 and number["verdict"] in (
                "good",
                "look",
                "bad",
                "unknown",
            )
    modality = report["sections"]["modality"]
    assert set(modality["variants"]) == {"joint", "image", "text"}
    between = np.array(modality["between"]["spearman"])
    assert (
        between.shape == (3, 3)
        and np.allclose(between, between.T)
        and np.allclose(np.diag(between), 1)
    )
    style = report["sections"]["style"]["variants"]
    # grey takes the small world's only difference (red against blue):
    # the score's own ranking has to suffer
    assert style["grey"]["fixed_spearman"] < style["jpeg"]["fixed_spearman"] <= 1
    assert sorted(p.name for p in (data / "variants").iterdir()) == sorted(
        f"{name}.safetensors" for name in ("joint", "image", "text", "one_size", "jpeg", "grey")
    )
    table = pq.read_table(data / "stability.parquet").to_pandas()
    assert table.kind.value_counts().to_dict() == {
        "seed": 2,
        "steps": 2,
        "without robot set": 2,
        "out of fold": 1,
    }
    stays = next(
        n
        for n in report["sections"]["stability"]["numbers"]
        if n["label"] == "Selection that stays"
    )
    assert stays["value"] == pytest.approx(table.overlap.min())


def inputs_of(workspace: Path, report: Path) -> tuple[Inputs, Artifact]:
    """What the stage gave the measures, and the score that the report is about."""
    space = Workspace.open(workspace)
    parents = json.loads((report.parent / "manifest.json").read_text())["parents"]
    found = {name: space.find(name, parents[name]) for name in ("sources", "embed", "score")}
    return measure_inputs(found, workspace), found["score"]


def test_stability_against_trainings_written_plainly(workspace):
    """Each repetition again, by the estimator's parts and an index that lacks the rows."""
    _, data = report_of(workspace, "learned")
    inputs, score = inputs_of(workspace, data)
    logit = Table(score.data / "scores.lance").column("logit")
    index = inputs.index
    features = inputs.features
    config = EstimatorConfig(steps=60, eval_every=5)
    ok, pool = features.ok(), index.is_pool()
    rows = np.flatnonzero(ok & pool & np.isfinite(logit))
    table = pq.read_table(data / "stability.parquet").to_pandas().set_index(["kind", "name"])

    def plain(shown, config=config, without=""):
        """The training as the estimator's stage does it, with sets and rows deleted by hand."""
        part = split_rows(index, shown, validation=0.1, test=0.1, seed=config.seed)
        groups = {}
        for name, value in (("train", TRAIN), ("validation", VALIDATION)):
            robots = [s for s in index.sources if s.role == "robot" and s.name != without]
            there = [[r for r in range(s.start, s.stop) if part[r] == value] for s in robots]
            groups[name] = [np.flatnonzero(pool & (part == value)), *map(np.array, there)]
        x = {
            name: features.take(np.concatenate(parts)).astype(float)
            for name, parts in groups.items()
        }
        stratum = {
            name: np.repeat(np.arange(len(g)), [len(p) for p in g]) for name, g in groups.items()
        }
        weights = balanced_weights(stratum["train"] > 0, stratum["train"])
        mean, scale = scaling(x["train"], weights, standardize=True)
        draws = Draws(features, groups["train"][0], groups["train"][1:], config.seed)
        stop = Examples(
            x=x["validation"],
            robot=stratum["validation"] > 0,
            stratum=stratum["validation"],
            rows=np.concatenate(groups["validation"]),
        )
        batches = draws.batches(128, config.steps, members=config.seeds)
        return train(config, batches, stop, mean=mean, scale=scale)

    seed = plain(ok, EstimatorConfig(steps=60, eval_every=5, seed=1)).logits(features.take(rows))
    assert table.loc[("seed", "1")].spearman == pytest.approx(spearman(logit[rows], seed))
    less = plain(ok, without="arm").logits(features.take(rows))
    assert table.loc[("without robot set", "arm")].spearman == pytest.approx(
        spearman(logit[rows], less)
    )
    fold = [
        int(seeded_hash(np.array([group]), "trust folds:0")[0] % np.uint64(2))
        for group in groups_of(index)
    ]
    assert 0.35 < np.mean(fold) < 0.65
    expected = {}
    for held in (0, 1):
        shown = np.array([ok[r] and not (pool[r] and fold[r] == held) for r in range(index.rows)])
        mine = [r for r in range(index.rows) if ok[r] and fold[r] == held]
        expected |= dict(zip(mine, plain(shown).logits(features.take(mine)).tolist(), strict=True))
    written = pq.read_table(data / "out_of_fold.parquet").to_pylist()
    assert [row["id"] for row in written] == [s.id for s in index.samples(sorted(expected))]
    assert [row["score"] for row in written] == pytest.approx(
        [expected[r] for r in sorted(expected)], abs=1e-5
    )
    negatives = rows[split_rows(index, ok, validation=0.1, test=0.1, seed=0)[rows] == TRAIN]
    out = np.array([expected[r] for r in negatives])
    assert table.loc[("out of fold", "2 folds")].spearman == pytest.approx(
        spearman(logit[negatives], out), abs=1e-6
    )
    # and it is what `measure: {kind: imported}` reads
    read = imported.fit(
        measure_config(kind="imported", path=str(data / "out_of_fold.parquet")),
        inputs,
        workspace.parent,
    )
    assert read == {"scored": int(ok.sum()), "unknown_ids": 0}


def test_a_distance_is_repeated_by_itself_and_says_what_it_does_not_have(workspace):
    report, data = report_of(workspace, "knn")
    sections = report["sections"]
    assert report["measure"] == "knn" and not any(
        "linear estimator" in n for n in sections["style"]["notes"]
    )
    assert (
        sections["agreement"]["measures"] == ["knn", "random"]
        and not (data / "out_of_fold.parquet").exists()
    )
    assert any("learns from no negatives" in note for note in sections["stability"]["notes"])
    table = pq.read_table(data / "stability.parquet").to_pandas()
    assert table.kind.value_counts().to_dict() == {"seed": 2, "without robot set": 2}
    inputs, score = inputs_of(workspace, data)
    logit = Table(score.data / "scores.lance").column("logit")
    ok = inputs.features.ok()
    part = split_rows(inputs.index, ok, validation=0.1, test=0.1, seed=0)
    arm = next(s for s in inputs.index.sources if s.name == "arm")
    bank = inputs.features.take([r for r in range(arm.start, arm.stop) if part[r] == TRAIN]).astype(
        float
    )
    rows = np.flatnonzero(ok & inputs.index.is_pool())
    third = [
        -np.sort(np.sqrt(((bank - x) ** 2).sum(axis=1)))[2]
        for x in inputs.features.take(rows).astype(float)
    ]
    without_hand = table.set_index("name").loc["hand"].spearman
    assert without_hand == pytest.approx(spearman(logit[rows], np.array(third)), abs=1e-3)


def test_words_are_counted_again_without_each_robot_set(workspace, tmp_path):
    """DSIR reads texts, not features: each repetition against its own scores of the whole index."""
    inputs, _ = inputs_of(workspace, report_of(workspace, "learned")[1])
    inputs = replace(inputs, progress=Progress(label="test", folder=tmp_path, quiet=True))
    index, measure = inputs.index, measure_config(kind="dsir", buckets=50, text="full")
    rows = np.flatnonzero(index.is_pool() & inputs.features.ok())[::3]
    score = np.random.default_rng(0).random(len(rows))
    section, table, out = stability(measure, inputs, rows, score, TrustConfig(top_share=0.2))
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert progress["done"] == progress["total"] == 2
    assert out is None and section["notes"] == [NOT_BY_SEED, NOT_IN_STEPS]
    assert table["kind"] == ["without robot set"] * 2 and table["name"] == ["arm", "hand"]
    for place, name in enumerate(table["name"]):
        dsir.fit(measure, replace(inputs, index=FewerSets(index, (name,))), tmp_path)
        whole = np.concatenate([part for _, part in dsir.scores(measure, inputs, tmp_path, 0)])
        assert table["spearman"][place] == spearman(score, whole[rows])
        assert table["overlap"][place] == overlap_at(score, whole[rows], round(0.2 * len(rows)))


def test_a_score_without_training_says_so(workspace):
    report, data = report_of(workspace, "random")
    assert list(report["sections"]) == ["stability", "calibration", "agreement", "planted"]
    assert "learns nothing" in report["sections"]["stability"]["skipped"]
    assert (
        "skipped" in report["sections"]["calibration"] and not (data / "stability.parquet").exists()
    )


def variants_of(inputs: Inputs, *, text: np.ndarray, image: np.ndarray, **more) -> Variants:
    """Variants as if embedded: columns of text and image side by side."""
    rows = np.arange(inputs.index.rows)
    blank_text, blank_image = np.zeros_like(text), np.zeros_like(image)
    vectors = {
        "joint": np.hstack([image, text]),
        "image": np.hstack([image, blank_text]),
        "text": np.hstack([blank_image, text]),
        "grey": np.hstack([image, text]),
    }
    found = {name: (rows, x.astype(np.float32)) for name, x in vectors.items()}
    return Variants(vectors=found, **{"left_out": {}, "side": 56, "own_side": 112} | more)


@pytest.mark.parametrize("kind", ["linear", "mlp", "distance"])
def test_text_that_gives_the_robots_away_is_told_apart_from_the_image(workspace, kind):
    inputs, _ = inputs_of(workspace, report_of(workspace, "learned")[1])
    rng, robot = np.random.default_rng(0), ~inputs.index.is_pool()
    text = 3 * robot[:, None] + rng.normal(size=(len(robot), 4))
    variants = variants_of(inputs, text=text, image=rng.normal(size=(len(robot), 4)))
    measure = EstimatorConfig(steps=60) if kind == "linear" else measure_config(kind=kind)
    modality, _ = audits(variants, measure, inputs, TrustConfig(), shipped=None, notes=[])
    found = modality["variants"]
    assert (
        found["text"]["auroc"] > 0.95
        and found["joint"]["auroc"] > 0.9
        and 0.3 < found["image"]["auroc"] < 0.7
    )
    assert {n["label"]: n["verdict"] for n in modality["numbers"]}["AUROC of the text alone"] in (
        "look",
        "bad",
    )
    names = modality["between"]["names"]
    between = modality["between"]["spearman"]
    image, joint, text = (
        names.index(name) for name in ("image only", "image and text", "text only")
    )
    assert between[joint][text] > 0.3 > abs(between[image][text])


def test_cross_fitting_against_a_plain_distance(workspace):
    inputs, _ = inputs_of(workspace, report_of(workspace, "learned")[1])
    index, rng = inputs.index, np.random.default_rng(3)
    rows = np.arange(index.rows)
    x = rng.normal(size=(len(rows), 3)).astype(np.float32)
    robot = ~index.is_pool()
    group = np.where(robot, 1 + index.codes().astype(np.int64), 0)
    episode = index.table.column("episode")
    fold = even_folds(group, np.where(robot, episode, rows), 4, "any")
    for source in index.of_role("robot"):  # 12 episodes of a set: three a fold, none torn apart
        mine = np.arange(source.start, source.stop)
        assert [len(np.unique(episode[mine[fold[mine] == f]])) for f in range(4)] == [3, 3, 3, 3]
    found = cross_fitted(rows, x, fold, measure_config(kind="distance"), inputs)
    for row in (0, 7, 50):
        part = split_rows(index, fold != fold[row], validation=0.25, test=1e-6, seed=0)
        sets = [np.flatnonzero((part == TRAIN) & (group == g)) for g in np.unique(group[robot])]
        assert not any(fold[r] == fold[row] for mine in sets for r in mine)
        plain = np.mean(
            [np.mean([np.linalg.norm(x[row].astype(float) - x[r]) for r in mine]) for mine in sets]
        )
        assert found[row] == pytest.approx(-plain, rel=1e-5)


def test_a_variant_that_lacks_the_robots_is_left_out_with_a_sentence(workspace):
    inputs, _ = inputs_of(workspace, report_of(workspace, "learned")[1])
    rng = np.random.default_rng(0)
    variants = variants_of(
        inputs,
        text=rng.normal(size=(inputs.index.rows, 2)),
        image=rng.normal(size=(inputs.index.rows, 2)),
    )
    rows, x = variants.vectors["text"]
    pool = inputs.index.is_pool()
    variants.vectors["text"] = (rows[pool], x[pool])
    vacuous = replace(variants, side=112)
    modality, style = audits(
        vacuous, EstimatorConfig(steps=20), inputs, TrustConfig(), shipped=None, notes=["first"]
    )
    assert set(modality["variants"]) == {"joint", "image"} and any(
        "Text only is left out" in n for n in modality["notes"]
    )
    assert style["notes"][0] == "first" and any(
        "One size says nothing here" in note for note in style["notes"]
    )
    variants.vectors.clear()
    variants.vectors["joint"] = (rows[pool], x[pool])
    modality, style = audits(
        variants, EstimatorConfig(), inputs, TrustConfig(), shipped=None, notes=[]
    )
    assert "at least 4 episodes" in modality["skipped"] and style["skipped"] == modality["skipped"]


def test_keys_name_every_score_compared(workspace):
    manifest = json.loads((report_of(workspace, "learned")[1].parent / "manifest.json").read_text())
    assert set(manifest["parents"]) == {"sources", "embed", "score", "score.knn", "score.random"}
    with pytest.raises(EmtError, match=r"asks for 'score.nowhere'[\s\S]*score.learned"):
        from emt_core.recipe.recipe import load_recipe
        from emt_core.run.plan import make_plan

        make_plan(
            load_recipe(
                workspace.parent / "world" / "recipe.yaml", ["trust.learned.compare=[nowhere]"]
            )
        )
