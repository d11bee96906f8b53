"""Rows as other projects write them; rows that are refused by name."""

from __future__ import annotations

import base64
import json

import pytest
from source_files import encoded, llava_row, picture, save_pictures, write_json

from emt_core.data.images.decode import open_image
from emt_core.data.readers import fingerprint, image_root, locate
from emt_core.errors import EmtError
from emt_core.recipe.sources import LlavaSource

B64 = base64.b64encode(encoded(picture(0))).decode()
ASK = {"role": "user", "content": "<image>What is it?"}
SAY = {"role": "assistant", "content": "A box."}


def source(**more) -> LlavaSource:
    facts = {"format": "llava", "name": "web", "role": "pool", "path": "web.json", **more}
    return LlavaSource(**facts)


def shown(tmp_path, sample) -> list[bytes]:
    root = image_root(source(), locate(source(), tmp_path))
    return [open_image(ref, root, 10_000).tobytes() for ref in sample.images]


def of_parts(*parts) -> dict:
    text = {"type": "text", "text": "What is it?"}
    return {"messages": [{"role": "user", "content": [*parts, text]}, SAY]}


def asked(text: str, **more) -> dict:
    return {
        "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "Yes."}],
        **more,
    }


READ = {
    "openai": of_parts({"type": "image_url", "image_url": {"url": "0.png"}}),
    "openai, data URI": of_parts(
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{B64}"}}
    ),
    "openai, responses": of_parts({"type": "input_image", "image_url": "0.png"}),
    "qwen": of_parts({"type": "image", "image": "0.png"}),
    "anthropic": of_parts(
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64}}
    ),
    "parts, images beside": of_parts({"type": "image"}) | {"images": ["0.png"]},
    "parts in JSON text": {
        "messages": json.dumps(of_parts({"type": "image", "image": B64})["messages"])
    },
    "swift, path": {"messages": [ASK, SAY], "images": [{"path": "0.png"}]},
    "swift, bytes": {"messages": [ASK, SAY], "images": [{"bytes": B64, "path": None}]},
    "swift, query": {"query": "<image>What?", "response": "A box.", "images": ["0.png"]},
    "swift, conversation": {
        "conversation": [{"human": "<image>What?", "assistant": "A box."}],
        "images": ["0.png"],
    },
    "alpaca": {"instruction": "<image>What?", "input": "", "output": "A box.", "images": "0.png"},
    "cauldron": {
        "images": ["0.png"],
        "texts": [{"user": "What?", "assistant": "A box.", "source": "x.png"}],
    },
    "null first": asked("What?", image=None, images=["0.png"], messages=None),
    "NaN first": asked("What?", image=float("nan"), images=["0.png"]),
    "second name": {"conversations": None, "messages": [ASK, SAY], "image": "0.png"},
    "backslashes": asked("What?", image="sub\\0.png"),
    "qwen-vl": asked("Picture 1: <img>0.png</img>\nWhat?"),
    "ImageHere": asked("<ImageHere>What?", image="0.png"),
    "numbered": asked("<|image_1|>What?", image="0.png"),
}


@pytest.mark.parametrize("name", READ)
def test_rows_of_other_projects_are_read_with_their_image(tmp_path, rows_of, name):
    save_pictures(tmp_path, ["0.png", "sub/1.png"])
    (tmp_path / "sub" / "0.png").write_bytes((tmp_path / "0.png").read_bytes())
    write_json(tmp_path / "web.json", [READ[name], READ[name]])
    samples, rejects = rows_of(source())
    assert rejects == [] and len(samples) == 2
    for sample in samples:
        assert shown(tmp_path, sample) == [picture(0).tobytes()]
        assert [t.role for t in sample.turns] == ["user", "assistant"]
        assert sample.turns[0].text.count("<image>") == 1 and "What" in sample.turns[0].text


def test_earlier_pairs_and_the_words_of_the_system(tmp_path, rows_of):
    row = {"query": "c", "response": "d", "history": [["a", "b"]], "system": "be brief"}
    write_json(tmp_path / "web.json", [row, row | {"history": "x"}, {"query": "c"}])
    (sample,), rejects = rows_of(source())
    assert [t.text for t in sample.turns] == ["be brief", "a", "b", "c", "d"]
    assert [r.reason for r in rejects] == ["unreadable_row", "no_answer"]


def test_an_instruction_with_what_it_is_about_and_words_of_the_system_beside_turns(
    tmp_path, rows_of
):
    asked = {"instruction": "Translate.", "input": "Haus", "output": "house", "system": "be brief"}
    beside = {"conversation": [{"human": "a", "assistant": "b"}], "system": "be brief"}
    inside = {"messages": [{"role": "system", "content": "x"}, ASK, SAY], "system": "be brief"}
    inside |= {"image": "0.png"}
    save_pictures(tmp_path, ["0.png"])
    write_json(tmp_path / "web.json", [asked, beside, inside, beside | {"system": None}])
    samples, rejects = rows_of(source())
    assert rejects == []
    assert [[t.text for t in s.turns][:2] for s in samples] == [
        ["be brief", "Translate.\nHaus"],
        ["be brief", "a"],
        ["x", "<image>What is it?"],
        ["a", "b"],
    ]


def test_pairs_of_a_turn_and_their_missing_half(tmp_path, rows_of):
    pairs = [{"user": "a", "assistant": "b"}, {"user": "c", "assistant": None}]
    write_json(tmp_path / "web.json", [{"texts": pairs[:1]}, {"texts": pairs}])
    (sample,), (reject,) = rows_of(source())
    assert [t.text for t in sample.turns] == ["a", "b"] and reject.reason == "no_answer"


@pytest.mark.parametrize(
    "row",
    [
        asked("<video>\nWhat?", video="a.mp4"),
        asked("<image>\nWhat?", image="0.png", videos=["a.mp4"]),
        asked("What?", audio="a.wav"),
        asked("<video>\nWhat?"),
        of_parts({"type": "video", "video": "a.mp4"}),
        of_parts({"type": "video_url", "video_url": {"url": "a.mp4"}}),
        of_parts({"type": "input_audio", "input_audio": {"data": ""}}),
    ],
)
def test_rows_with_video_or_audio_are_named_and_never_kept_as_text(tmp_path, rows_of, row):
    save_pictures(tmp_path, ["0.png"])
    plain = asked("How do I play a film?", videos=[], audio=None)
    plain["conversations"][1]["value"] = "With <video>."
    write_json(tmp_path / "web.json", [row, plain])
    (kept,), (reject,) = rows_of(source())
    assert kept.row == 1 and reject.reason == "video_not_read"


@pytest.mark.parametrize(
    "more",
    [
        {"chosen": {"value": "a"}, "rejected": {"value": "b"}},
        {"rejected_response": "b"},
        {"kto_tag": False},
        {"label": False},
    ],
)
def test_rows_of_preference_sets_are_refused(tmp_path, rows_of, more):
    write_json(tmp_path / "web.json", [asked("a", **more), asked("a", label="cat", rejected=None)])
    (kept,), (reject,) = rows_of(source())
    assert kept.row == 1 and kept.meta["label"] == "cat" and reject.reason == "preference"
    name = next(name for name in more if f"`meta: [{name}]`" in reject.detail)
    assert len(rows_of(source(meta=(name,)))[0]) == 2  # a field that the source names is no mark


def test_a_file_of_internvl_leads_to_its_rows(tmp_path, rows_of):
    save_pictures(tmp_path, ["one/0.png", "two/1.png"])
    rows = [asked("<image>What?", image="0.png"), asked("<image>And?", image=B64)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_json(tmp_path / "b.json", [asked("<image>What?", image="1.png")])
    entries = {
        "a": {"root": "one", "annotation": "a.jsonl", "repeat_time": 2, "length": 2},
        "b": {"root": "two/", "annotation": "b.json"},
    }
    write_json(tmp_path / "web.json", entries)
    samples, rejects = rows_of(source())
    assert rejects == [] and [s.images[0].path for s in samples] == [
        "one/0.png",
        "a.jsonl",
        "two/1.png",
    ]
    assert [shown(tmp_path, s)[0] for s in samples] == [picture(n).tobytes() for n in (0, 0, 1)]
    data = locate(source(), tmp_path)
    before = fingerprint(source(), data)["index"]
    (tmp_path / "a.jsonl").write_text(json.dumps(rows[0]))
    assert fingerprint(source(), data)["index"] != before
    (tmp_path / "b.json").unlink()
    with pytest.raises(EmtError, match="annotation file of 'b' is missing"):
        rows_of(source())


def test_marks_in_another_order_and_two_images(tmp_path, rows_of):
    save_pictures(tmp_path, ["0.png", "1.png"])
    both = ["0.png", "1.png"]
    rows = [
        asked("<|image_2|> or <|image_1|>?", image=both),
        asked("<image 1> or <image 2>?", image=both),
        asked("<ImageHere>What?"),
    ]
    write_json(tmp_path / "web.json", rows)
    (sample,), rejects = rows_of(source())
    assert sample.turns[0].text == "<image> or <image>?"
    assert [(r.row, r.reason) for r in rejects] == [(n, "image_count_mismatch") for n in (0, 2)]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"id": 1, "question_id": 2, "caption": "x"}, "it has id, question_id, caption; say which"),
        ({"data": [{"conversations": []}]}, "'data'"),
        (asked("What?", image_path="a/b.jpg"), "`images: image_path`"),
        (asked("What?", image="http://x.org/a.jpg"), "is an address"),
        (asked("What?", image={"kind": 3, "path": 3}), "an image is a path"),
        ({"messages": [{"who": "me", "says": "x"}]}, "the turn has ['who', 'says']"),
    ],
)
def test_a_reject_says_what_was_looked_for_and_what_to_set(tmp_path, rows_of, row, said):
    write_json(tmp_path / "web.json", [row, asked("a")])
    _, (reject,) = rows_of(source())
    assert said in reject.detail


def test_a_detail_is_one_bounded_line(tmp_path, rows_of):
    rows = [asked("a", image="../\x1b[2J\nx" + "y" * 9000), asked("b")]
    write_json(tmp_path / "web.json", rows)
    _, (reject,) = rows_of(source())
    assert reject.reason == "bad_path" and len(reject.detail) <= 400
    assert reject.detail.isprintable()


def test_objects_over_several_lines_one_after_another(tmp_path, rows_of):
    rows = [llava_row(None, id=n) for n in range(3)]
    text = "\n".join(json.dumps(row, indent=1) for row in rows)
    (tmp_path / "web.json").write_text(text)
    samples, rejects = rows_of(source())
    assert rejects == [] and [s.own_id for s in samples] == ["0", "1", "2"]
    (tmp_path / "web.json").write_text(text[:-20])
    with pytest.raises(EmtError, match=r"ends in the middle in row 2 [\s\S]*limit: 2"):
        rows_of(source())
    (tmp_path / "web.json").write_text(json.dumps(rows[0], indent=1))
    assert len(rows_of(source())[0]) == 1


@pytest.mark.parametrize("indent", [None, 1])
def test_one_object_with_the_rows_inside_is_one_error(tmp_path, rows_of, indent, monkeypatch):
    whole = {"info": {"year": 2026}, "data": [llava_row(None)] * 3}
    (tmp_path / "web.json").write_text(json.dumps(whole, indent=indent))
    with pytest.raises(EmtError, match=r"rows lie under 'data'[\s\S]*info, data"):
        rows_of(source())
    monkeypatch.setattr("emt_core.data.json_rows.MAX_ROW_BYTES", 60)  # too long to be held
    monkeypatch.setattr("emt_core.data.json_rows.BLOCK_BYTES", 16)
    with pytest.raises(EmtError, match="rows lie under 'data'"):
        rows_of(source())


def test_a_broken_first_line_costs_itself_only(tmp_path, rows_of):
    good = json.dumps(llava_row(None))
    (tmp_path / "web.json").write_text(f"{good[:-9]}\n{good}\n")
    (sample,), (reject,) = rows_of(source())
    assert sample.row == 1 and reject.reason == "unreadable_row"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        ("[]".encode("utf-16"), "UTF-16"),
        (b"\n <!DOCTYPE html><html>", "web page"),
    ],
)
def test_another_kind_of_file_is_told_by_its_name(tmp_path, rows_of, content, said):
    (tmp_path / "web.json").write_bytes(content)
    with pytest.raises(EmtError, match=said):
        rows_of(source())
