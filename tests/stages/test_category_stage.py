"""The category stage on real artifacts: one row an index row, resumed without a difference, CLIP
labels beside."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from synthetic import make_workspace, pool, put_artifact, robot, run_stage, stage_context
from tiny_models import save_clip

from emt_core.data.features import feature_table
from emt_core.errors import EmtError
from emt_core.explore.reading import category_reason
from emt_core.recipe.base import Runtime
from emt_core.recipe.category import CategoryConfig
from emt_core.selection.category.image import IMAGE_CATEGORIES, PROMPTS, ZeroShot, of_embed_artifact
from emt_core.stages import category as stage
from emt_core.workspace.table import Table

COLORS = ("red", "green", "blue", "white", "gray", "black")


@pytest.fixture
def made(tmp_path):
    return make_workspace(tmp_path, [pool("web", 101, text_only=0.2), robot("arm", 24)])


def test_one_row_for_each_index_row(made):
    artifact = run_stage(made, "category", CategoryConfig())
    table = Table(artifact.data / "category.lance")
    assert table.rows == made.index.rows == artifact.rows
    shown = made.index.table.column("n_images")
    category, evidence = table.column("category"), table.column("evidence")
    expected = np.array(["spatial", "text", "grounding", "caption"], object)[np.arange(101) % 4]
    np.testing.assert_array_equal(category[:101], np.where(shown[:101] == 0, "other", expected))
    assert set(category[101:]) == {"robot"} and set(evidence[101:]) == {stage.ROBOT_SOURCE.evidence}
    assert (table.column("probability") > 0.3).all()
    assert set(table.column("image_category")) == {""}
    metrics = artifact.manifest["metrics"]
    assert metrics["counts"]["arm"] == {"robot": 24}
    assert sum(metrics["counts"]["web"].values()) == 101 and metrics["unsure_share"] == 0


def test_a_rows_reason_names_the_words_and_the_probability(made):
    artifact = run_stage(made, "category", CategoryConfig())
    reasons = [category_reason(artifact, row) for row in range(101)]
    asked = np.flatnonzero(made.index.table.column("n_images")[:101])
    left = [reasons[row] for row in asked if row % 4 == 0]
    assert left and all("left" in reason and reason.endswith("%)") for reason in left)
    rows = pa.table({"category": ["vqa"], "rule": ["question"]})
    older = put_artifact(made, "category", {"category.lance": rows})
    assert category_reason(older, 0) == ""


def test_an_interrupted_run_goes_on_where_it_stopped(made, monkeypatch):
    runtime = Runtime(workers=0, commit_rows=40)
    whole = run_stage(made, "category", CategoryConfig(), runtime=runtime)
    wanted = Table(whole.data / "category.lance").take(range(125)).to_pydict()
    config = CategoryConfig()
    other = {"sources": put_same_sources(made)}
    context = stage_context(made, "category", config, parents=other, runtime=runtime)
    appended = []
    append = Table.append

    def dies_at_third(self, block):
        if len(appended) == 2:
            raise KeyboardInterrupt
        appended.append(block.num_rows)
        append(self, block)

    monkeypatch.setattr(Table, "append", dies_at_third)
    with pytest.raises(KeyboardInterrupt):
        stage.run(context)
    monkeypatch.undo()
    assert appended == [40, 40] and Table(context.out / "category.lance").rows == 80
    outcome = stage.run(context)
    assert Table(context.out / "category.lance").take(range(125)).to_pydict() == wanted
    assert outcome.metrics == whole.manifest["metrics"]


def put_same_sources(made):
    """The same sources artifact under another key, so that the stage's own result is not found."""
    import shutil

    from emt_core.workspace.artifact import Artifact

    path = made.artifacts["sources"].path
    copy = path.with_name("0" * 16)
    shutil.copytree(path, copy)
    manifest = json.loads((copy / "manifest.json").read_text()) | {"key": "0" * 16}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return Artifact(copy)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A random CLIP: it proves the mechanics, never that the labels are right."""
    return save_clip(tmp_path_factory.mktemp("clip") / "tiny")


def clip_embed(made, folder, vectors, status):
    """A hand-made embed artifact that says it comes from this CLIP folder."""
    from emt_core.models.encoders.clip import clip_identity

    artifact = put_artifact(
        made, "embed", {"features.lance": feature_table(vectors.astype(np.float16), status)}
    )
    path = artifact.path / "manifest.json"
    facts = {"config": {"encoder": "clip", "model": str(folder)}, "base": str(folder)}
    facts["identity"] = clip_identity(str(folder), folder)
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    from emt_core.workspace.artifact import Artifact

    return Artifact(artifact.path)


def test_image_labels_name_the_prompts_own_category(made, clip_folder):
    """Features that are the text directions themselves must get their own labels; between two of
    them is unsure."""
    from emt_core.models.encoders.clip import ClipEncoder

    encoder = ClipEncoder(str(clip_folder), clip_folder)
    encoder.load("cpu", "float32")
    zero_shot = ZeroShot.of(encoder)
    assert zero_shot.directions.shape == (len(PROMPTS), 24)
    rows = made.index.rows
    pick = np.arange(rows) % 5
    vectors = np.where(
        (pick < 4)[:, None],
        zero_shot.directions[np.minimum(pick, 3)],
        zero_shot.directions[0] + zero_shot.directions[1],
    )
    status = ["missing_image" if row == 7 else "" for row in range(rows)]
    vectors[7] = 0
    made.artifacts["embed"] = clip_embed(made, clip_folder, vectors, status)
    artifact = run_stage(
        made,
        "category",
        CategoryConfig(image_labels=True),
        runtime=Runtime(workers=0, commit_rows=50),
    )
    found = Table(artifact.data / "category.lance").column("image_category")
    wanted = np.array([*IMAGE_CATEGORIES, "unsure"], object)[pick]
    wanted[7] = ""
    # Random towers put their text directions close together, so ties within the margin are legal,
    # wrong labels are not.
    assert ((found == wanted) | (found == "unsure")).all()
    assert zero_shot.label(np.zeros((1, 24), np.float16)) == ["unsure"]
    metrics = artifact.manifest["metrics"]["image"]
    assert metrics["rows"] == 101 and metrics["judged"] <= metrics["rows"]
    assert metrics["agree"] <= metrics["comparable"]


def test_labels_with_directions_far_apart():
    zero_shot = ZeroShot(np.eye(4, dtype=np.float32))
    vectors = np.array(
        [[9, 0, 0, 0], [0, 0, 0.1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [np.nan, 0, 0, 0]], np.float16
    )
    assert zero_shot.label(vectors) == ["text", "robot", "unsure", "unsure", "unsure"]
    with pytest.raises(EmtError, match="features have 3 numbers"):
        zero_shot.label(np.zeros((1, 3), np.float16))


def test_features_of_another_encoder_or_other_weights_are_one_clear_message(
    made, clip_folder, tmp_path
):
    with pytest.raises(EmtError, match="need CLIP features"):
        of_embed_artifact(made.artifacts["embed"], device="cpu")
    vectors = np.ones((made.index.rows, 24))
    artifact = clip_embed(made, clip_folder, vectors, [""] * made.index.rows)
    path = artifact.path / "manifest.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"identity": {"hash": "of other weights"}})
    )
    from emt_core.workspace.artifact import Artifact

    with pytest.raises(EmtError, match="not those that made the features"):
        of_embed_artifact(Artifact(artifact.path), device="cpu")


def test_schema_is_the_contract():
    types = {field.name: field.type for field in stage.SCHEMA}
    assert types == {
        **dict.fromkeys(("category", "evidence", "image_category"), pa.string()),
        "probability": pa.float32(),
    }


def test_own_categories_are_counted_and_need_examples(made, monkeypatch):
    from emt_core.selection.category import training

    monkeypatch.setattr(training, "SAMPLES", 2)  # the stage's part is tested, not the accuracy
    weather = tuple(f"Is it {word}? => yes" for word in ("raining", "windy", "snowing", "foggy"))
    with pytest.raises(ValidationError, match="weather: give at least 5"):
        CategoryConfig(examples={"weather": weather})
    with pytest.raises(ValidationError, match="cannot name a category"):
        CategoryConfig(examples={"unsure": (*weather, "Is it hot?")})
    assert CategoryConfig().model_dump() == {"image_labels": False}
    cups = [f"What is left of the {color} cup? => A blue plate." for color in COLORS]
    config = CategoryConfig(examples={"cups": tuple(cups)})
    artifact = run_stage(made, "category", config)
    counts = artifact.manifest["metrics"]["counts"]["web"]
    assert counts["cups"] > 0 and sum(counts.values()) == 101
