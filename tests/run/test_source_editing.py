"""Sources edited from a page: fields come from the models, edits are atomic, a look is bounded,
rejects are paged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from small_world import small_world

from emt_core.errors import EmtError
from emt_core.explore.tables.rejects import read_rejects
from emt_core.explore.tables.source_look import look
from emt_core.explore.tables.source_suggestions import suggestions
from emt_core.recipe.form import build_source, formats, parse_source, source_entry, source_settings
from emt_core.recipe.recipe import build_recipe
from emt_core.recipe.sources import LeRobotSource, LlavaSource
from emt_core.run.edits import changes, put_source, recipe_sources, remove_source
from emt_core.workspace.artifact import Workspace

CAMERA = "observation.images.front"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return small_world(tmp_path_factory.mktemp("editing"), pool_rows=12, episodes=2)


@pytest.fixture
def space(world, tmp_path) -> Workspace:
    found = Workspace.open(tmp_path / "ws", create=True)
    (found.path / "recipes").mkdir()
    raw = yaml.safe_load((world / "recipe.yaml").read_text()) | {"base": str(world)}
    (found.path / "recipes" / "small.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return found


def kept(space: Workspace) -> dict:
    return yaml.safe_load((space.path / "recipes" / "small.yaml").read_text())


def names(space: Workspace) -> list[str]:
    return [entry["name"] for entry in kept(space)["sources"]]


def hand(**more) -> LlavaSource:
    return build_source(
        "llava",
        {"name": "more", "role": "pool", "path": "web/web.json", "image_root": "images", **more},
    )


def test_every_format_has_all_its_fields_with_their_own_words():
    assert set(formats()) == {
        "llava",
        "sharegpt",
        "hf",
        "webdataset",
        "parquet",
        "vcr",
        "lerobot",
        "hdf5",
        "rlds",
    }
    for format_, model in formats().items():
        fields = {field.name: field for field in source_settings(format_)}
        assert set(fields) == set(model.model_fields) - {"format"}
        for name, field in fields.items():
            assert field.help == " ".join(model.model_fields[name].description.split())
            assert field.required == model.model_fields[name].is_required()
        assert list(fields)[:3] == ["name", "role", "path"]
        assert list(fields)[-2:] == ["limit", "max_pixels"]
    kinds = {field.name: field.kind for field in source_settings("hf")}
    assert (kinds["streaming"], kinds["meta"], kinds["role"], kinds["limit"]) == (
        "flag",
        "list",
        "choice",
        "whole",
    )


def test_a_form_becomes_settings_and_empty_fields_their_defaults():
    found = build_source(
        "parquet",
        {
            "name": " p ",
            "role": "pool",
            "path": "x",
            "question": "",
            "answer": None,
            "meta": "a, b,",
            "limit": None,
        },
    )
    assert (found.name, found.meta, found.question, found.limit) == ("p", ("a", "b"), None, None)
    assert source_entry(found) == {
        "name": "p",
        "role": "pool",
        "format": "parquet",
        "path": "x",
        "meta": ["a", "b"],
    }
    assert parse_source(source_entry(found)) == found


@pytest.mark.parametrize(
    ("format_", "values", "says"),
    [
        ("llava", {"role": "pool", "path": "x"}, "Name is needed"),
        ("llava", {"name": "a b", "role": "pool", "path": "x"}, "name: a source's name is"),
        ("lerobot", {"name": "a", "role": "robot", "path": "x"}, "give `camera` or"),
        (
            "llava",
            {"name": "a", "role": "pool", "path": "x", "limit": 0},
            "limit: Input should be greater",
        ),
        (
            "parquet",
            {"name": "a", "role": "pool", "path": "x", "text": "t", "question": "q"},
            "give one of",
        ),
    ],
)
def test_what_is_wrong_is_said_by_field(format_, values, says):
    with pytest.raises(EmtError, match=says):
        build_source(format_, values)


def test_sources_are_added_replaced_and_removed(space):
    put_source(space, "small", hand())
    assert names(space) == ["web", "arm", "hand", "more"]
    put_source(space, "small", hand(name="web", limit=3), replaces="web")
    assert names(space) == ["web", "arm", "hand", "more"]
    assert kept(space)["sources"][0]["limit"] == 3
    remove_source(space, "small", "arm")
    assert names(space) == ["web", "hand", "more"]
    recipe = build_recipe(kept(space))
    assert [s.name for s in recipe_sources(recipe, "sources")] == names(space)
    assert recipe_sources(recipe, "sources.other") == ()


def test_refusals_change_nothing(space):
    before = (space.path / "recipes" / "small.yaml").read_bytes()
    with pytest.raises(EmtError, match="already a source named 'web'"):
        put_source(space, "small", hand(name="web"))
    with pytest.raises(EmtError, match="already a source named 'arm'"):
        put_source(space, "small", hand(name="arm"), replaces="web")
    with pytest.raises(EmtError, match="no source named 'gone'"):
        remove_source(space, "small", "gone")
    with pytest.raises(EmtError, match="no source named 'gone'"):
        put_source(space, "small", hand(), replaces="gone")
    with pytest.raises(EmtError, match="no list of sources"):
        put_source(space, "small", hand(), label="sources.other")
    viewing = Workspace(space.path, read_only=True)
    for refused in (
        lambda: put_source(viewing, "small", hand()),
        lambda: remove_source(viewing, "small", "web"),
    ):
        with pytest.raises(EmtError, match="viewing only"):
            refused()
    assert (space.path / "recipes" / "small.yaml").read_bytes() == before


def test_the_last_source_stays_and_an_arm_keeps_its_source(space):
    path = space.path / "recipes" / "small.yaml"
    path.write_text(
        yaml.safe_dump(
            kept(space) | {"arms": {"short": {"sources.hand.limit": 1}}}, sort_keys=False
        )
    )
    with pytest.raises(EmtError, match="no entry named 'hand'"):
        remove_source(space, "small", "hand")
    remove_source(space, "small", "arm")
    remove_source(space, "small", "web")
    with pytest.raises(EmtError, match="at least one source"):
        remove_source(space, "small", "hand")


def test_changes_are_told_apart(space):
    read = [s.model_dump(mode="json") for s in recipe_sources(build_recipe(kept(space)), "sources")]
    assert not changes(recipe_sources(build_recipe(kept(space)), "sources"), read)
    remove_source(space, "small", "arm")
    put_source(space, "small", hand())
    put_source(space, "small", hand(name="web", limit=2), replaces="web")
    found = changes(recipe_sources(build_recipe(kept(space)), "sources"), read)
    assert (found.added, found.changed, found.removed) == (("more",), ("web",), ("arm",))
    assert found.sentence == "1 added (more), 1 changed (web), 1 removed (arm)"
    assert changes(
        [parse_source(read[1]), parse_source(read[0]), parse_source(read[2])], read
    ).reordered


def test_a_look_counts_the_first_rows_in_a_process_of_its_own(world):
    found = look(hand(), world, rows=8)
    assert (found.report.seen, found.report.kept, found.report.complete) == (8, 8, False)
    assert found.report.text_only == 1
    assert found.sheet[:4] == b"RIFF"
    wrong = look(hand(path="gone.json"), world)
    assert "no such file or folder" in wrong.report.error
    with pytest.raises(EmtError, match="took longer than"):
        look(hand(), world, seconds=0.01)


def test_suggestions_come_from_the_files(world, tmp_path):
    assert suggestions("lerobot", world / "arm") == {"camera": [CAMERA], "cameras": [CAMERA]}
    assert suggestions("lerobot", tmp_path) == {}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"mine": {}}))
    assert suggestions("sharegpt", tmp_path) == {"dataset": ["mine"]}
    parquet = next((world / "arm" / "data").rglob("*.parquet"))
    assert "action" in suggestions("parquet", parquet)["question"]
    assert suggestions("parquet", tmp_path / "none.parquet") == {}
    assert suggestions("llava", world) == {}


def test_rejects_are_read_by_the_page(tmp_path):
    path = tmp_path / "rejects.jsonl"
    entries = [
        {"id": f"{s}:{n}", "source": s, "row": n, "own_id": "", "reason": r, "detail": f"ü {n}"}
        for s, r, n in [
            ("a", "no_answer", 1),
            ("a", "missing_image", 4),
            ("b", "no_answer", 0),
            ("a", "no_answer", 9),
        ]
    ]
    path.write_text(
        "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries), encoding="utf-8"
    )
    log = read_rejects(path)
    assert log.complete
    assert [e["row"] for e in log.read(log.matching("a"))] == [1, 4, 9]
    assert [e["detail"] for e in log.read(log.matching("a", "no_answer")[1:])] == ["ü 9"]
    assert not len(log.matching("c"))
    assert not len(log.matching("b", "missing_image"))
    short = read_rejects(path, max_lines=2)
    assert not short.complete
    assert len(short.offsets) == 2
    assert not len(read_rejects(tmp_path / "none.jsonl").offsets)


def test_robot_settings_survive_the_round_trip():
    found = build_source(
        "lerobot",
        {"name": "r", "role": "robot", "path": "r", "camera": CAMERA, "frames_per_episode": 3},
    )
    assert isinstance(found, LeRobotSource)
    assert source_entry(found)["frames_per_episode"] == 3
