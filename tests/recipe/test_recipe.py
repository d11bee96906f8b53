from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from places import ROOT

from emt_core.errors import EmtError
from emt_core.recipe.base import StageConfig
from emt_core.recipe.recipe import apply_overrides, dump_recipe, load_recipe, parse_overrides

MINIMAL = """
base: data
sources:
  - {name: web, role: pool, format: llava, path: web.json}
  - {name: arm, role: robot, format: lerobot, path: arm, camera: observation.images.front}
embed: {encoder: fake}
estimator.learned: {}
select.top: {k: 10}
"""


@pytest.fixture
def recipe_file(tmp_path: Path):
    def write(text: str = MINIMAL, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_recipe_is_read_with_its_base_and_name(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file())
    assert recipe.name == "mine"
    assert recipe.base == tmp_path / "data"
    assert [i.label for i in recipe.instances] == [
        "sources",
        "embed",
        "estimator.learned",
        "select.top",
    ]


def test_overrides_find_named_instances_lists_and_new_stages(recipe_file):
    path = recipe_file()
    changes = ["select.top.k=7", "sources.web.path=other.json", "gap.seed=3", "runtime.workers=0"]
    recipe = load_recipe(path, changes)
    by_label = {i.label: i.config for i in recipe.instances}
    assert by_label["select.top"].k == 7
    assert by_label["sources"].sources[0].path == "other.json"
    assert by_label["gap"].seed == 3
    assert recipe.runtime.workers == 0
    assert load_recipe(path).instances[-1].config.k == 10


def test_a_stage_name_alone_means_its_only_instance(recipe_file):
    recipe = load_recipe(recipe_file(), ["select.k=3", "estimator.short={steps: 5}"])
    assert {i.label: i.config for i in recipe.instances}["select.top"].k == 3
    assert {i.label: i.config for i in recipe.instances}[
        "estimator.short"
    ].steps == 5  # a whole entry makes one
    with pytest.raises(EmtError, match="say which"):
        load_recipe(recipe_file(), ["estimator.short={}", "estimator.seed=1"])


def test_overrides_do_not_change_what_they_are_laid_over():
    raw = {"embed": {"pooling": "mean"}}
    assert apply_overrides(raw, parse_overrides(["embed.pooling=last"])) == {
        "embed": {"pooling": "last"}
    }
    assert raw == {"embed": {"pooling": "mean"}}


def test_dump_and_load_give_the_same_recipe(recipe_file):
    first = load_recipe(recipe_file())
    again = load_recipe(recipe_file(dump_recipe(first.raw), "again.yaml"))
    assert again.instances == first.instances
    assert again.base == first.base


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("embed.poling=last", "embed.poling"),
        ("embed.pooling=median", "embed.pooling"),
        ("selekt.k=1", "selekt"),
        ("midtrain.stepz=1", "stepz"),
        ("sources.nobody.path=x", "nobody"),
        ("sources.web.format=zip", "format"),
        ("select.top.fraction=0.5", "exactly one"),
        ("select.top={strategy: random, threshold: 0.5}", "random"),
        ("name=../escape", "name"),
        ("embed=3", "mapping"),
        ("select.tpo.k=5", "select.tpo (did you mean top?)"),
        ("estimator.laerned.steps=5", "it has estimator.learned"),
        ("embed.mine.pooling=last", "it has embed;"),
        ("select.top.k=[", "line 1"),
        ("select.top.k=0", "--set select.top.k=0"),
        ("estimator.stop_accuracy=2", "> 0.5 and <= 1"),
        ("sources.arm.name=web", "named"),
        ("sources.web.name='a b'", "name"),
        ("sources=[]", "sources"),
    ],
)
def test_a_wrong_setting_is_named_with_a_remedy(recipe_file, change, says):
    with pytest.raises(EmtError) as caught:
        load_recipe(recipe_file(), [change])
    assert says in caught.value.message()


def said_of(path: Path, *changes: str) -> str:
    with pytest.raises(EmtError) as caught:
        load_recipe(path, changes)
    return caught.value.message()


def test_every_mistake_of_an_entry_is_named_in_the_words_of_the_yaml(recipe_file):
    web = "{name: web, role: pool, format: llava, path: web.json}"
    said = said_of(recipe_file(MINIMAL.replace(web, web.replace("path", "pth"))))
    assert "source 'web': unknown key pth (did you mean path?); keys: name, role, path" in said
    assert "missing" not in said and "tag" not in said  # the path is not missing besides
    bad = "{name: web, role: pol, format: llava, limit: many}\n  - {name: b, role: pool, format: zip}\n  - {role: pool}"
    said = said_of(recipe_file(MINIMAL.replace(web, bad)))
    for words in (
        "has 5 mistakes",
        "source 'web': role is 'pol', but should be 'pool' or 'robot'",
        "source 'web': path is missing",
        "source 'web': limit is 'many'",
        "source 'b': unknown format 'zip'; it is one of llava, sharegpt",
        "source #3: format is missing",
    ):
        assert words in said
    many = "".join(f"  - {{name: s{n}, role: pool, format: llava}}\n" for n in range(12))
    said = said_of(recipe_file(f"sources:\n{many}"))
    assert "has 12 mistakes" in said and said.count("path is missing") == 8 and "and 4 more" in said


def test_a_mistake_is_blamed_on_the_setting_that_makes_it(recipe_file):
    said = said_of(recipe_file(), "select.top.k=3", "embed.pooling=median", "gap.seed=1")
    assert "where:  --set embed.pooling=median\n" in said and "'last' or 'mean'" in said
    path = recipe_file(MINIMAL.replace("fake", "fke"))
    assert f"where:  {path}\n" in said_of(path, "select.top.k=3")
    said = said_of(recipe_file(), "evaluate.checkpoints=lst")
    assert "evaluate.checkpoints is 'lst', but should be 'last' or 'all' or be a list" in said


@pytest.mark.parametrize(
    "text", ["- a list", "just words", "a: [unclosed", "a: !!python/object:os.system {}"]
)
def test_a_file_that_is_no_recipe_is_refused(recipe_file, text):
    with pytest.raises(EmtError):
        load_recipe(recipe_file(text))


def test_set_without_a_value_is_explained():
    with pytest.raises(EmtError, match="a\\.b=value"):
        parse_overrides(["embed.pooling"])


def test_a_recipe_extends_another_entry_by_entry(recipe_file, tmp_path):
    below = recipe_file()
    (tmp_path / "deeper").mkdir()
    over = tmp_path / "deeper" / "more.yaml"
    over.write_text(f"extends: {below}\nselect.top: {{k: 7}}\nselect.most: {{fraction: 0.5}}\n")
    plain, found = load_recipe(below), load_recipe(over)
    assert found.name == "more" and found.base == plain.base
    assert found.raw["sources"] == plain.raw["sources"] and "extends" not in found.raw
    configs = {i.label: i.config for i in found.instances}
    assert configs["select.top"].k == 7 and configs["select.most"].fraction == 0.5
    again = tmp_path / "again.yaml"
    again.write_text(dump_recipe(found.raw))
    assert load_recipe(again).instances == found.instances


def test_a_recipe_that_extends_itself_or_nothing_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(EmtError, match="extends itself"):
        load_recipe(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("extends: gone.yaml\n")
    said = said_of(tmp_path / "a.yaml")
    assert "no such recipe" in said and "gone.yaml" in said and f"in {tmp_path / 'b.yaml'}" in said


def test_a_recipe_of_ours_is_extended_from_any_folder(recipe_file):
    for name in ("demo.yaml", "demo"):
        found = load_recipe(recipe_file(f"extends: {name}\nselect.half: {{fraction: 0.5}}\n"))
        assert found.base == load_recipe("demo").base and found.instances[-1].label == "select.half"
    assert "did you mean demo_train.yaml?" in said_of(recipe_file("extends: demo_trian.yaml\n"))


def test_a_recipe_of_ours_goes_by_its_name():
    assert load_recipe("demo").instances == load_recipe(ROOT / "recipes" / "demo.yaml").instances
    said = said_of(Path("demo_trian"))
    assert "did you mean demo_train?" in said and "metaworld_six" in said


@pytest.mark.parametrize(
    ("entry", "old", "new"),
    [
        ("estimator", "max_steps", "steps"),
        ("estimator", "batch_size", "batch"),
        ("measure.m={kind: mlp}", "batch_size", "batch"),
        ("measure.p={kind: perplexity}", "tune_steps", "steps"),
        ("measure.p={kind: perplexity}", "tune_batch", "batch"),
        ("measure.p={kind: perplexity}", "tune_rate", "learning_rate"),
        ("measure.p={kind: perplexity}", "max_text_tokens", "cutoff"),
        ("measure.k={kind: knn}", "neighbours", "neighbors"),
        ("measure.d={kind: distance}", "normalise", "normalize"),
        ("runtime", "batch_size", "batch"),
    ],
)
def test_an_old_word_names_the_new_one(recipe_file, entry: str, old: str, new: str):
    label, _, settings = entry.partition("=")
    body = {**(yaml.safe_load(settings) if settings else {}), old: 3}
    raw = yaml.safe_load(MINIMAL) | {label: body}
    with pytest.raises(EmtError, match=f"{old} is called {new} now"):
        load_recipe(recipe_file(yaml.safe_dump(raw)))


def test_a_field_that_came_later_keeps_old_keys_at_its_default():
    class Earlier(StageConfig):
        seed: int = 0

    class Later(Earlier):
        ADDED = frozenset({"extra"})
        extra: int | None = None

    assert Later().model_dump(mode="json") == Earlier().model_dump(mode="json")
    assert Later(extra=1).model_dump(mode="json") == {"seed": 0, "extra": 1}
    assert Later.model_validate(Later(extra=1).model_dump()) == Later(extra=1)
