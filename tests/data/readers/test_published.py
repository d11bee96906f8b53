"""The paper's public sources, as published: every row and picture is read, words are right."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from published import ROWS, img2dataset_parquet, publish

from emt_core.data.images.decode import image_bytes, open_image
from emt_core.data.readers import image_root, locate, read
from emt_core.data.sample import Reject, Sample
from emt_core.recipe.recipe import load_recipe
from emt_core.recipe.sources import (
    LlavaSource,
    ParquetSource,
    SourceConfig,
    SourcesConfig,
    VcrSource,
    WebDatasetSource,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("published"))


def sources() -> dict[str, SourceConfig]:
    (instance,) = [i for i in load_recipe("paper_selection").instances if i.stage == "sources"]
    assert isinstance(instance.config, SourcesConfig)
    return {source.name: source for source in instance.config.sources}


def rows_of(source: SourceConfig, base: Path) -> tuple[list[Sample], Counter[str]]:
    rows = list(read(source, locate(source, base)))
    rejects = Counter(row.reason for row in rows if isinstance(row, Reject))
    return [row for row in rows if isinstance(row, Sample)], rejects


def texts(sample: Sample) -> list[str]:
    return [turn.text for turn in sample.turns]


@pytest.mark.parametrize("name", sources())
def test_every_row_is_read_and_every_picture_opens(name: str, base: Path):
    source = sources()[name]
    samples, rejects = rows_of(source, base)
    assert len(samples) >= ROWS and not rejects
    root = image_root(source, locate(source, base))
    for sample in samples:
        for ref in sample.images:
            assert open_image(ref, root, source.max_pixels).size in ((24, 16), (32, 32))
            assert len(image_bytes(ref, root)[0]) > 50


EXPECTED = {
    "llava_instruct": [
        "<image>\nWhat colour is it?\nAnswer the question using a single word or phrase.",
        "Grey",
        "Sure?",
        "Yes",
    ],
    "laion": ["<image>", "laion caption 0: a grey wall"],
    "cc12m": ["<image>", "blip caption 0: a grey wall"],
    "vcr": [
        "<image>\nWhy don't person1 and person2 take bottle3?\n(person1: [0.00, 0.00, 0.50, 1.00]; "
        "person2: [0.50, 0.25, 1.00, 1.00]; bottle3: [0.10, 0.50, 0.25, 1.00])",
        "person2's not thirsty.",
    ],
    "refspatial_3d_choice": ["<image>\nWhich cup is nearer?", "The left one.", "Why?", "Size."],
    "refspatial_3d_views": [
        "<image>\n<image>\nWhich cup is nearer?",
        "The left one.",
        "Why?",
        "Size.",
    ],
    "embspatial": [
        "<image>\nWhich object is the closest in the scene?\nChoices:\n- shelf\n- table\n- chair\n- lamp",
        "shelf",
    ],
    "robo2vlm": [
        "<image>\nIs the robot's grasp of the block stable?\nChoices:\n- Yes\n- No\n- It doesn't hold",
        "Yes",
    ],
    "robopoint": [
        "<image>\nPoint at the free space left of the cup, as a list of tuples.",
        "[(0.461, 0.527)]",
    ],
    "bridge": ["put the cup on the plate"],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_first_row_reads_as_its_publisher_means_it(name: str, base: Path):
    samples, _ = rows_of(sources()[name], base)
    assert texts(samples[0]) == EXPECTED[name]


def test_answers_are_the_right_choices(base: Path):
    answers = {
        name: [texts(sample)[1] for sample in rows_of(sources()[name], base)[0]]
        for name in ("embspatial", "robo2vlm")
    }
    assert answers["embspatial"] == ["shelf", "table", "chair", "lamp"]
    assert answers["robo2vlm"] == ["Yes", "No", "It doesn't hold", "Yes"]  # no row of test files
    samples, _ = rows_of(sources()["embspatial"], base)
    assert samples[1].own_id == "mp3d_1" and samples[1].meta["relation"] == "close"
    assert not any("image" in str(name) for name in samples[1].meta)


def test_rows_without_a_picture(base: Path, tmp_path: Path):
    samples, _ = rows_of(sources()["llava_instruct"], base)
    assert [sample.text_only for sample in samples] == [False] * 6 + [True]
    img2dataset_parquet(tmp_path / "laion")
    laion = ParquetSource(
        name="laion", role="pool", format="parquet", path="laion", text="txt", images="jpg"
    )
    for text in ("txt", "caption"):  # `caption` is there though the download failed
        samples, rejects = rows_of(laion.model_copy(update={"text": text}), tmp_path)
        assert len(samples) == ROWS - 1 and rejects == {"missing_image": 1}


def test_a_caption_beside_the_first_one_is_asked_for_by_name(tmp_path: Path):
    """A recaptioned copy keeps the words of the web in key.txt."""
    import json

    from source_files import encoded, write_tar

    members = {}
    for key, facts in (("0", {"blip": "a grey wall"}), ("1", {"blip": None})):
        members[f"{key}.jpg"] = encoded(format="JPEG")
        members[f"{key}.txt"] = b"IMG_0041 for sale"
        members[f"{key}.json"] = json.dumps(facts).encode()
    write_tar(tmp_path / "0.tar", members)
    tar = WebDatasetSource(name="w", role="pool", format="webdataset", path="0.tar")
    assert [texts(s)[1] for s in rows_of(tar, tmp_path)[0]] == ["IMG_0041 for sale"] * 2
    samples, rejects = rows_of(tar.model_copy(update={"caption": "blip"}), tmp_path)
    assert [texts(s)[1] for s in samples] == ["a grey wall"] and rejects == {"no_answer": 1}


def test_vcrs_options_and_what_it_leaves_out(base: Path):
    def vcr(**settings) -> VcrSource:
        settings = {"path": "vcr1/train.jsonl", **settings}
        return VcrSource(name="vcr", role="pool", format="vcr", **settings)

    samples, _ = rows_of(vcr(boxes=False, rationale=True), base)
    assert texts(samples[0]) == [
        "<image>\nWhy don't person1 and person2 take bottle3?",
        "person2's not thirsty.",
        "Why is that so?",
        "person2 looks away.",
    ]
    assert rows_of(vcr(path="vcr1/test.jsonl"), base) == ([], {"no_answer": 1})
    rows = list(read(vcr(image_root="elsewhere"), base / "vcr1" / "train.jsonl"))
    assert all(isinstance(row, Reject) and "`boxes: false`" in row.detail for row in rows)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["Is", "n't", [0], "late", "?"], "Isn't person1 late?"),
        (["He", "'", "s", "not", ",", [1, 0], "are", "."], "He's not, dog2 and person1 are."),
        ([[1], "'s", "bowl", "(", "blue", ")"], "dog2's bowl (blue)"),
        (["Don", "'", "t", "the", "boys", "'", "toys", "fly", "!"], "Don't the boys' toys fly!"),
    ],
)
def test_vcrs_tokens_become_a_sentence(tokens, text):
    from emt_core.data.readers.vcr import _text

    assert _text(tokens, ["person", "dog"]) == text


@pytest.mark.parametrize(
    ("choices", "answer", "found"),
    [
        (["left", "right"], 1, "right"),
        ('["left", "right"]', "0", "left"),
        (["left", "right"], "B", "right"),
        (["left", "right"], "left", "left"),
        ([1, 2], 0, "1"),
        (["left", "right"], 2, None),
        (["left", "right"], -1, None),
        (["left", "right"], 1.0, "right"),
        (["left", "right"], True, None),
        ("left or right", 0, None),
        ("__import__('os')", 0, None),
        ([], 0, None),
    ],
)
def test_choices_and_answers_in_all_their_forms(tmp_path: Path, choices, answer, found):
    from source_files import write_json

    write_json(tmp_path / "q.json", [{"q": "Which side?", "c": choices, "a": answer}])
    source = LlavaSource(
        name="q", role="pool", format="llava", path="q.json", question="q", choices="c", answer="a"
    )
    samples, rejects = rows_of(source, tmp_path)
    assert [texts(sample)[1] for sample in samples] == ([found] if found else [])
    assert rejects == ({} if found else {"unreadable_row": 1})


def test_a_picture_in_a_row_that_is_none_is_a_named_reject(tmp_path: Path):
    from source_files import llava_row, write_json

    from emt_core.data.images.decode import ImageProblem

    write_json(tmp_path / "web.json", [llava_row("/9j/" + "A" * 200)])
    source = LlavaSource(name="web", role="pool", format="llava", path="web.json")
    samples, _ = rows_of(source, tmp_path)
    with pytest.raises(ImageProblem, match="no image format") as caught:
        open_image(samples[0].images[0], tmp_path, source.max_pixels)
    assert len(caught.value.detail) < 300
    outside = source.model_copy(update={"image_root": "images"})
    assert rows_of(outside, tmp_path)[1] == {"bad_path": 1}


def test_a_text_column_may_hold_pictures(tmp_path: Path):
    """As base64, with the line ends that Python's encodebytes writes."""
    import base64

    import pyarrow as pa
    import pyarrow.parquet as pq
    from source_files import encoded, picture

    text = base64.encodebytes(encoded(picture(3))).decode()
    pq.write_table(
        pa.table({"image": [text, "a.png"], "q": ["?", "?"], "a": ["!", "!"]}), tmp_path / "t"
    )
    table = ParquetSource(
        name="t", role="pool", format="parquet", path="t", question="q", answer="a", images="image"
    )
    samples, rejects = rows_of(table, tmp_path)
    assert not rejects and [sample.images[0].kind for sample in samples] == ["parquet", "file"]
    assert open_image(samples[0].images[0], tmp_path, table.max_pixels).size == (24, 16)


def test_a_row_with_other_names_says_which_setting_maps_them(tmp_path: Path):
    from source_files import write_json

    write_json(tmp_path / "web.json", [{"text": "What?", "category": "x"}])
    source = LlavaSource(name="web", role="pool", format="llava", path="web.json")
    (row,) = read(source, tmp_path / "web.json")
    assert isinstance(row, Reject) and "it has text, category; say which field" in row.detail


def test_fields_that_came_later_change_no_key():
    old = LlavaSource(name="web", role="pool", format="llava", path="web.json")
    assert set(old.model_dump()) == {
        "name",
        "role",
        "path",
        "limit",
        "max_pixels",
        "format",
        "image_root",
    }
    asked = ParquetSource(name="t", role="pool", format="parquet", path="t", question="q")
    assert "choices" not in asked.model_dump()
