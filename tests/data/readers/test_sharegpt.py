from __future__ import annotations

import json

import pytest
from source_files import llava_row, save_pictures, write_json

from emt_core.data.images.decode import check_image
from emt_core.data.readers import fingerprint, image_root, locate
from emt_core.errors import EmtError
from emt_core.recipe.sources import ShareGPTSource

COLUMNS = {"messages": "conversations", "images": "images"}


def source(**more) -> ShareGPTSource:
    return ShareGPTSource(
        **{
            "format": "sharegpt",
            "name": "sg",
            "role": "pool",
            "path": "data",
            "dataset": "mine",
            **more,
        }
    )


def write(tmp_path, rows, **entry):
    entry = {"file_name": "mine.json", "formatting": "sharegpt", "columns": COLUMNS, **entry}
    write_json(
        tmp_path / "data" / "dataset_info.json",
        {"mine": {k: v for k, v in entry.items() if v is not None}},
    )
    write_json(tmp_path / "data" / "mine.json", rows)


def row(images=(), **more):
    return llava_row(list(images), **more) | {"images": list(images)} | {"image": None}


def test_reads_an_entry(tmp_path, rows_of):
    save_pictures(tmp_path / "data" / "media", ["a.png", "b.png", "c.png"])
    write(
        tmp_path,
        [row(["a.png"], kind="point"), row([]), row(["a.png", "b.png", "c.png"], turns=20)],
    )
    samples, rejects = rows_of(source(media_dir="media"))
    assert (
        rejects == []
        and [len(s.images) for s in samples] == [1, 0, 3]
        and len(samples[2].turns) == 20
    )
    assert samples[0].meta["kind"] == "point"
    root = image_root(source(media_dir="media"), tmp_path / "data")
    assert check_image(samples[2].images[2], root, 10_000) is None
    assert rows_of(source(path="data/dataset_info.json"))[0][0].images == samples[0].images


def test_custom_columns_tags_and_system(tmp_path, rows_of):
    rows = [
        {
            "talk": [{"who": "Q", "says": "<image>hi"}, {"who": "A", "says": "ho"}],
            "pics": "a.png",
            "sys": "be brief",
        },
        {"talk": [{"who": "human", "says": "hi"}, {"who": "A", "says": "ho"}]},
    ]
    tags = {"role_tag": "who", "content_tag": "says", "user_tag": "Q", "assistant_tag": "A"}
    write(
        tmp_path, rows, columns={"messages": "talk", "images": "pics", "system": "sys"}, tags=tags
    )
    samples, rejects = rows_of(source())
    assert [(t.role, t.text) for t in samples[0].turns] == [
        ("system", "be brief"),
        ("user", "<image>hi"),
        ("assistant", "ho"),
    ]
    assert [(r.row, r.reason) for r in rejects] == [
        (1, "unknown_role")
    ]  # custom tags replace the standard ones


def test_omitted_columns_are_none_and_placeholders_must_match(tmp_path, rows_of):
    write(tmp_path, [row(["a.png"])], columns={"messages": "conversations"})
    assert [r.reason for r in rows_of(source())[1]] == ["image_count_mismatch"]
    bare = row([]) | {"images": ["a.png"]}
    write(tmp_path, [bare, row(["a.png"]) | {"images": []}, row(["../x.png"]), {"no": 1}, "text"])
    reasons = [r.reason for r in rows_of(source())[1]]
    assert reasons == [
        "image_count_mismatch",
        "image_count_mismatch",
        "bad_path",
        "unreadable_row",
        "unreadable_row",
    ]


def test_roles_that_are_not_of_a_conversation_are_rejected(tmp_path, rows_of):
    rows = [row([])]
    rows[0]["conversations"][1]["from"] = "observation"
    write(tmp_path, rows, columns=None)
    assert [r.reason for r in rows_of(source())[1]] == ["unknown_role"]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"formatting": "alpaca"}, "'alpaca' is not read"),
        ({"file_name": "gone.json"}, "data file is missing"),
        ({"file_name": "../mine.json"}, "leaves the source"),
        ({"file_name": None, "hf_hub_url": "x/y"}, "names no local file"),
        ({"ranking": True}, "preference set"),
        ({"columns": {"images": "images"}}, "no 'messages'"),
        ({"columns": {**COLUMNS, "videos": "v"}}, "'videos' is not read"),
    ],
)
def test_an_entry_that_cannot_be_read_is_one_clear_error(tmp_path, rows_of, entry, says):
    write(tmp_path, [row([])], **entry)
    with pytest.raises(EmtError, match=says) as caught:
        rows_of(source())
    assert "data" in caught.value.where


def test_missing_entry_lists_the_entries(tmp_path, rows_of):
    write(tmp_path, [row([])])
    with pytest.raises(EmtError, match="it has: mine"):
        rows_of(source(dataset="other"))
    with pytest.raises(EmtError, match=r"no dataset_info\.json"):
        (tmp_path / "empty").mkdir()
        rows_of(source(path="empty"))


def test_fingerprint_follows_entry_rows_and_images(tmp_path):
    save_pictures(tmp_path / "data", ["a.png"])
    write(tmp_path, [row(["a.png"])])
    data = locate(source(), tmp_path)
    first = fingerprint(source(), data)
    assert first["files"] == 3 and first == fingerprint(source(), data)
    save_pictures(tmp_path / "data", ["b.png", "a.png"])  # another picture under the same name
    second = fingerprint(source(), data)
    assert second["loose"] != first["loose"] and second["index"] == first["index"]
    info = tmp_path / "data" / "dataset_info.json"
    info.write_text(json.dumps({"mine": json.loads(info.read_text())["mine"], "other": {}}))
    assert fingerprint(source(), data)["index"] != first["index"]


def test_marks_of_the_files_beginning_and_null_tags(tmp_path, rows_of):
    write(tmp_path, [row([])], tags={})
    for name in ("dataset_info.json", "mine.json"):
        path = tmp_path / "data" / name
        text = path.read_text().replace('"tags": {}', '"tags": null')
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(rows_of(source())[0]) == 1
    write(tmp_path, [row([])], tags=["human"])
    with pytest.raises(EmtError, match="'tags' is no object, but"):
        rows_of(source())
    (tmp_path / "data" / "dataset_info.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(EmtError, match=r"dataset_info\.json is not valid JSON"):
        rows_of(source())


@pytest.mark.parametrize("more", [{"kto_tag": "label"}, {"chosen": "a", "rejected": "b"}])
def test_an_entry_of_a_preference_set_is_refused(tmp_path, rows_of, more):
    write(tmp_path, [row([])], columns=COLUMNS | more)
    with pytest.raises(EmtError, match="preference set"):
        rows_of(source())


def test_rows_with_video_and_hidden_copies_in_a_folder(tmp_path, rows_of):
    write(tmp_path, [], file_name="parts")
    write_json(tmp_path / "data" / "parts" / "a.json", [row([]), row([], videos=["a.mp4"])])
    write_json(tmp_path / "data" / "parts" / "._a.json", [row([])])
    (kept,), (reject,) = rows_of(source())
    assert kept.row == 0 and reject.reason == "video_not_read"
