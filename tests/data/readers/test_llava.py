from __future__ import annotations

import json
import tracemalloc

import pytest
from source_files import llava_row, save_pictures, write_json

from emt_core.data.readers import locate, read
from emt_core.errors import EmtError
from emt_core.recipe.sources import LlavaSource


def source(**more) -> LlavaSource:
    return LlavaSource(
        format="llava",
        name="web",
        role=more.pop("role", "pool"),
        path=more.pop("path", "web.json"),
        **more,
    )


def test_reads_conversations_images_and_meta(tmp_path, rows_of):
    rows = [
        llava_row("a/0.png", id="same", style="plain", meta={"kind": "count"}, boxes=[1, 2]),
        llava_row(None, id="same"),
        llava_row(["0.png", "1.png", "2.png"], turns=4, id=7),
        llava_row("0.png", turns=20),
    ]
    write_json(tmp_path / "web.json", rows)
    samples, rejects = rows_of(source(image_root="pics"))
    assert rejects == []
    assert [s.id for s in samples] == ["web:0", "web:1", "web:2", "web:3"]
    assert [s.own_id for s in samples] == ["same", "same", "7", "x"]  # repeated ids are legal
    assert [len(s.images) for s in samples] == [1, 0, 3, 1]
    assert samples[1].text_only and len(samples[3].turns) == 20
    assert samples[0].images[0].kind == "file" and samples[0].images[0].path == "a/0.png"
    assert samples[0].meta == {"style": "plain", "kind": "count", "boxes": "[1, 2]"}
    assert samples[0].turns[0].text == "<image>\nwhat is this?"


def test_json_lines_and_byte_order_mark(tmp_path, rows_of):
    lines = (
        "\n".join(json.dumps(llava_row(None, id=i)) for i in range(3))
        + "\n\n{broken\n"
        + json.dumps(llava_row(None))
    )
    (tmp_path / "web.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    samples, rejects = rows_of(source(path="web.jsonl"))
    assert [s.row for s in samples] == [0, 1, 2, 4]  # a broken line costs itself only
    assert [(r.row, r.reason) for r in rejects] == [(3, "unreadable_row")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("just text", "unreadable_row"),
        ({"id": "no conversation"}, "unreadable_row"),
        ({"conversations": "not json"}, "unreadable_row"),
        ({"conversations": []}, "unreadable_row"),
        ({"conversations": [{"from": "human", "value": 3}]}, "unreadable_row"),
        ({"conversations": [{"from": "function", "value": "x"}]}, "unknown_role"),
        (
            {"conversations": [{"from": "gpt", "value": "x"}, {"from": "human", "value": "y"}]},
            "bad_turn_order",
        ),
        (
            {"conversations": [{"from": "human", "value": "x"}, {"from": "human", "value": "y"}]},
            "bad_turn_order",
        ),
        ({"conversations": [{"from": "human", "value": "x"}]}, "no_answer"),
        (
            {"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": " "}]},
            "no_answer",
        ),
        ({"conversations": [{"from": "system", "value": "x"}]}, "empty_text"),
        (
            {
                "conversations": [
                    {"from": "human", "value": "<image>"},
                    {"from": "gpt", "value": ""},
                ],
                "image": "a",
            },
            "empty_text",
        ),
        (llava_row(["a.png", "b.png"]) | {"image": "a.png"}, "image_count_mismatch"),
        (llava_row("a.png") | {"image": None}, "image_count_mismatch"),
        (llava_row("../a.png"), "bad_path"),
        (llava_row("x/../../a.png"), "bad_path"),
        (llava_row("/etc/passwd"), "bad_path"),
        (llava_row("a\0.png"), "bad_path"),
        (llava_row("\ud800.png"), "bad_path"),
        (llava_row("..\\..\\etc\\passwd"), "bad_path"),
        (llava_row("a.png") | {"image": {"bytes": 3}}, "unreadable_row"),
    ],
)
def test_rejects_have_their_reason(tmp_path, rows_of, row, reason):
    write_json(tmp_path / "web.json", [llava_row(None), row, llava_row(None)])
    samples, rejects = rows_of(source())
    assert [s.row for s in samples] == [0, 2]
    assert [(r.row, r.reason) for r in rejects] == [(1, reason)]
    assert rejects[0].detail


def test_image_without_placeholder_leads_the_first_user_turn(tmp_path, rows_of):
    row = llava_row(None) | {"image": ["a.png", "b.png"]}
    row["conversations"].insert(0, {"from": "system", "value": "be brief"})
    write_json(tmp_path / "web.json", [row])
    (sample,), _ = rows_of(source())
    assert [t.role for t in sample.turns] == ["system", "user", "assistant"]
    assert sample.turns[1].text == "<image>\n<image>\nwhat is this?"


def test_role_names_messages_and_lone_surrogates(tmp_path, rows_of):
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "hm \ud800 ü"}]},
        {"role": "model", "content": "yes"},
    ]
    (tmp_path / "web.jsonl").write_text(json.dumps({"messages": messages, "images": ["a.png"]}))
    (sample,), _ = rows_of(source(path="web.jsonl"))
    assert [t.role for t in sample.turns] == ["user", "assistant"]
    assert sample.turns[0].text.startswith("<image>\nhm ") and sample.turns[0].text.endswith(" ü")
    assert sample.turns[0].text.encode()  # what cannot be UTF-8 was replaced


def test_path_inside_written_absolutely_is_taken(tmp_path, rows_of):
    write_json(
        tmp_path / "web.json",
        [llava_row(str(tmp_path / "pics" / "a.png")), llava_row("pics/./x/../a.png")],
    )
    samples, _ = rows_of(source())
    assert [s.images[0].path for s in samples] == ["pics/a.png", "pics/a.png"]


def test_limit_takes_the_first_rows(tmp_path, rows_of):
    write_json(tmp_path / "web.json", [llava_row(None) for _ in range(9)])
    samples, _ = rows_of(source(limit=4))
    assert len(samples) == 4


def test_robot_rows_without_episodes_are_episodes_of_their_own(tmp_path, rows_of):
    save_pictures(tmp_path, ["a.png"])
    write_json(
        tmp_path / "web.json",
        [{"image": "a.png", "conversations": [{"from": "human", "value": "<image>open"}]}] * 2,
    )
    samples, rejects = rows_of(source(role="robot"))
    assert rejects == [] and [(s.episode, s.frame) for s in samples] == [(0, 0), (1, 0)]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"hello", "neither"),
        (json.dumps([llava_row(None)] * 50).encode()[:-40], "row 49"),
        (b'[{"a": 1}, {"a": \xff}]', "row 1"),
        (b'[{"a": 1}, {"a": "\xff\xfe"}]', "row 1"),
        (b'[{"a": 1}, {"a": }]', "malformed in row 1"),
        (b'[{"a": 1} {"a": 2}]', "malformed in row 1"),
        (b'[{"a": 1},]', "malformed in row 1"),
        (b'[{"a": 1}', "ends in the middle in row 1"),
        (b'[{"a": 1}, {"a": "no end', "ends in the middle in row 1"),
        (b'[{"a": 1}] {"b": 2}', "malformed in row 1"),
    ],
)
def test_a_broken_file_is_one_clear_error(tmp_path, content, says):
    path = tmp_path / "web.json"
    path.write_bytes(content)
    with pytest.raises(EmtError, match=says) as caught:
        list(read(source(), path))
    assert "web.json" in caught.value.where


def test_rows_before_a_break_are_read_and_named_in_the_remedy(tmp_path):
    path = tmp_path / "web.json"
    path.write_bytes(json.dumps([llava_row(None, id=i) for i in range(5000)]).encode()[:-100])
    seen = []
    with pytest.raises(EmtError, match=r"limit: 499\d") as caught:
        for row in read(source(), path):
            seen.append(row)
    assert len(seen) >= 4990 and "byte" in caught.value.where
    assert len(list(read(source(limit=len(seen)), path))) == len(seen)  # the remedy works


def test_missing_file(tmp_path):
    with pytest.raises(EmtError, match="no such file"):
        locate(source(path="nowhere.json"), tmp_path)


def test_memory_does_not_grow_with_the_file(tmp_path):
    """30 MB of JSON in under 4 MB: rows are streamed, not loaded."""
    path = tmp_path / "web.json"
    row = json.dumps(llava_row("a.png", text_filler="y" * 2000))
    with path.open("w") as file:
        file.write("[" + ",\n".join([row] * 14_000) + "]")
    assert path.stat().st_size > 30e6
    tracemalloc.start()
    try:
        count = sum(1 for _ in read(source(), path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 14_000 and peak < 4e6


def test_rows_are_found_again_by_their_byte(tmp_path):
    """Blanks, letters of several bytes, rows longer than a block, and what pandas writes."""
    from emt_core.data.json_rows import BLOCK_BYTES, row_at
    from emt_core.data.readers.json_stream import stream_rows

    rows = [
        {"a": "Größe \u6c34", "n": n, "x": "y" * (BLOCK_BYTES if n % 7 == 0 else n)}
        for n in range(40)
    ]
    path = tmp_path / "rows.json"
    separators = ((" , ", ": "), (",", ":"))
    for indent, separator, ascii_only in ((2, separators[0], False), (None, separators[1], True)):
        text = json.dumps(rows, indent=indent, separators=separator, ensure_ascii=ascii_only)
        path.write_text("\ufeff " + text + "\n", encoding="utf-8")
        found = list(stream_rows(path))
        assert [row for _, row in found] == rows
        with path.open("rb") as file:
            assert [row_at(file.fileno(), at) for at, _ in found] == rows
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows))
    with path.open("rb") as file:
        assert [row_at(file.fileno(), at) for at, _ in stream_rows(path)] == rows


def test_what_pandas_writes_for_no_image_is_none(tmp_path, rows_of):
    turns = json.dumps(llava_row(None)["conversations"])
    (tmp_path / "web.json").write_text(f'[{{"image": NaN, "conversations": {turns}}}]')
    samples, rejects = rows_of(source())
    assert rejects == [] and samples[0].text_only
