"""Kinds of damage that mutants found (speed/mutants.py): each is a named reject or one error."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from demonstrations.hdf5_files import libero_file
from source_files import (
    encoded,
    lerobot_folder,
    llava_row,
    ordinary_priority,
    write_json,
    write_tar,
)
from table_files import EMBEDDED, hf_rows, hf_source, parquet_source, write

from emt_core.data.images.decode import check_image
from emt_core.data.index import SCHEMA, to_record
from emt_core.data.preflight import preflight
from emt_core.data.readers import fingerprint, image_root, locate, read
from emt_core.data.sample import ImageRef
from emt_core.errors import EmtError
from emt_core.recipe.sources import (
    HDF5Source,
    LeRobotSource,
    LlavaSource,
    ShareGPTSource,
    SourcesConfig,
    VcrSource,
    WebDatasetSource,
)

WEB = LlavaSource(format="llava", name="web", role="pool", path="web.json")
TARS = WebDatasetSource(format="webdataset", name="w", role="pool", path="w.tar")
ARM = LeRobotSource(
    format="lerobot", name="arm", role="robot", path="set", camera="observation.images.front"
)
DEEP = "[" * 3_000 + "]" * 3_000


def reasons(rejects) -> list[str]:
    return [reject.reason for reject in rejects]


@pytest.mark.parametrize("blocks", [1, 8, 20])
def test_an_archive_without_members_ends(tmp_path, rows_of, blocks):
    (tmp_path / "w.tar").write_bytes(bytes(512 * blocks))
    assert rows_of(TARS) == ([], [])


@pytest.mark.parametrize("pax", [{"GNU.sparse.size": "x"}, {"GNU.sparse.realsize": "9" * 5_000}])
def test_numbers_in_headers_that_are_none_break_an_archive_off(tmp_path, rows_of, pax):
    with tarfile.open(tmp_path / "w.tar", "w") as tar:
        info = tarfile.TarInfo("0.txt")
        info.pax_headers = pax
        tar.addfile(info)
    with pytest.raises(EmtError, match="the archive cannot be read"):
        rows_of(TARS)


def test_a_size_in_a_header_beyond_all_files_breaks_an_archive_off(tmp_path, rows_of):
    path = write_tar(tmp_path / "w.tar", {"0.txt": b"a", "1.txt": b"b"})
    data = bytearray(path.read_bytes())
    data[124:136] = b"\x80" + b"\xff" * 11
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    path.write_bytes(bytes(data))
    with pytest.raises(EmtError, match="the archive cannot be read"):
        rows_of(TARS)


@pytest.mark.parametrize("depth", [700, 900, 3_000])
def test_rows_that_are_nested_too_deep_cost_themselves(tmp_path, rows_of, depth):
    deep = "[" * depth + "]" * depth
    plain = json.dumps(llava_row(None))
    as_text = json.dumps(llava_row(None) | {"image": deep})
    as_value = f'{{"image": {deep}, "conversations": []}}'
    (tmp_path / "web.json").write_text("\n".join([plain, as_text, as_value, plain]))
    samples, rejects = rows_of(WEB)
    assert {0, 3} <= {s.row for s in samples} and len(samples + rejects) == 4


def test_files_beside_the_rows_that_are_nested_too_deep_are_named(tmp_path, rows_of):
    (tmp_path / "dataset_info.json").write_text(DEEP)
    with pytest.raises(EmtError, match=r"dataset_info\.json is not valid JSON"):
        rows_of(ShareGPTSource(format="sharegpt", name="s", role="pool", path=".", dataset="a"))


def shared(tmp_path: Path, entry: dict, rows: list) -> ShareGPTSource:
    write_json(tmp_path / "dataset_info.json", {"a": {"formatting": "sharegpt", **entry}})
    write_json(tmp_path / "a.json", rows)
    return ShareGPTSource(format="sharegpt", name="s", role="pool", path=".", dataset="a")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"file_name": "x" * 300}, "too long"),
        ({"file_name": "/".join(["x"] * 3_000)}, "too long"),
        (
            {"file_name": "a.json", "tags": {"role_tag": ["from"]}},
            "'role_tag' of 'tags' is no text",
        ),
        ({"file_name": "a.json", "columns": {"messages": {}, "images": 3}}, "is no text"),
    ],
)
def test_entries_that_no_file_or_column_can_have(tmp_path, rows_of, entry, says):
    source = shared(tmp_path, entry, [])
    for attempt in (rows_of, lambda s: fingerprint(s, locate(s, tmp_path))):
        with pytest.raises(EmtError, match=says):
            attempt(source)


def test_a_system_text_that_utf8_cannot_hold_is_written_all_the_same(tmp_path, rows_of):
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    entry = {"file_name": "a.json", "columns": {"messages": "m", "system": "s"}}
    (sample,), _ = rows_of(shared(tmp_path, entry, [{"m": turns, "s": "\ud800"}]))
    assert pa.RecordBatch.from_pylist([to_record(sample)], schema=SCHEMA).num_rows == 1


def test_an_image_name_that_no_disk_takes_is_a_reject_of_emt_sources_too(tmp_path):
    write_json(tmp_path / "web.json", [llava_row("x" * 300), llava_row(None)])
    (report,) = preflight(SourcesConfig(sources=(WEB,)), tmp_path)
    assert report.rejects == {"missing_image": 1} and not report.error


def test_the_first_of_spread_objects_broken_is_an_error_and_no_row_is_made_of_lines(
    tmp_path, rows_of
):
    text = "\n".join(json.dumps(llava_row(None), indent=1) for _ in range(3))
    (tmp_path / "web.json").write_text(text.replace("{", "{,", 1))
    with pytest.raises(EmtError, match="malformed in row 0"):
        rows_of(WEB)
    lines = [json.dumps(llava_row(None))] * 4  # the first two lines broken: the others are fine
    (tmp_path / "web.json").write_text("\n".join([lines[0][:20], lines[0][:30], *lines]))
    assert len(rows_of(WEB)[0]) == 4


@pytest.mark.parametrize("place", ["pipe", "device", "loop", "nowhere"])
def test_what_is_no_file_is_one_error_and_never_read(tmp_path, rows_of, place):
    (tmp_path / "tab").mkdir()
    write(tmp_path / "tab" / "a.parquet", [None] * 2, EMBEDDED)
    for path in (tmp_path / "web.json", tmp_path / "tab" / "b.parquet", tmp_path / "w.tar"):
        if place == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to({"device": "/dev/zero", "loop": path.name}.get(place, "nowhere"))
    for source in (WEB, TARS, parquet_source(), hf_source(streaming=True)):
        with pytest.raises(EmtError, match=r"no such file|link to nothing|missing"):
            rows_of(source)


def test_a_pipe_with_the_boxes_of_vcr_costs_its_rows(tmp_path, rows_of):
    facts = {"img_fn": "a.jpg", "metadata_fn": "a.json", "objects": ["person"]}
    row = {**facts, "question": [[0], "?"], "answer_choices": [["a"]], "answer_label": 0}
    write_json(tmp_path / "train.jsonl", row)
    (tmp_path / "vcr1images").mkdir()
    os.mkfifo(tmp_path / "vcr1images" / "a.json")
    _, (reject,) = rows_of(VcrSource(format="vcr", name="v", role="pool", path="train.jsonl"))
    assert reject.reason == "unreadable_row" and "no boxes" in reject.detail


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_an_image_file_larger_than_its_pixels_can_need_is_not_read(tmp_path, form):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(format=form))
    os.truncate(path, 2**30)
    ref = ImageRef(kind="file", path="a.png")
    assert check_image(ref, tmp_path, 50_000_000)[0] == "pixel_bomb"
    os.truncate(path, 2**20)
    assert check_image(ref, tmp_path, 50_000_000) is None


def broken_texts(offsets: list[int]) -> pa.Array:
    """Text whose offsets may lead anywhere, or whose bytes are no UTF-8."""
    data = pa.py_buffer(b"fine\xff!!!fine")
    return pa.Array.from_buffers(
        pa.string(), len(offsets) - 1, [None, pa.py_buffer(np.array(offsets, np.int32)), data]
    )


@pytest.mark.parametrize("kind", ["parquet", "hf", "stream of parquet", "stream of arrow"])
def test_a_text_that_is_no_utf8_costs_its_row(tmp_path, rows_of, kind):
    (tmp_path / "tab").mkdir()
    table = pa.table({"q": broken_texts([0, 4, 8, 12]), "a": ["x"] * 3})
    save(table, tmp_path / "tab", "parquet" if "parquet" in kind else "arrow", kind == "hf")
    make = parquet_source if kind == "parquet" else hf_source
    more = {"streaming": True} if "stream" in kind else {}
    samples, (reject,) = rows_of(make(images="", **more))
    assert [s.row for s in samples] == [0, 2] and reject.reason == "unreadable_row"


def save(table: pa.Table, folder: Path, suffix: str, saved: bool = False) -> None:
    path = folder / f"data.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    if saved:
        write_json(folder / "state.json", {"_data_files": [{"filename": path.name}]})


@pytest.mark.parametrize("offsets", [[0, 4, 2**30, 12], [0, -8, 8, 12], [0, 12, -(2**31), 12]])
@pytest.mark.parametrize("streaming", [False, True])
def test_offsets_that_lead_out_of_an_arrow_file_are_never_followed(
    tmp_path, rows_of, offsets, streaming
):
    (tmp_path / "tab").mkdir()
    table = pa.table({"q": broken_texts(offsets), "a": ["x"] * 3})
    save(table, tmp_path / "tab", "arrow", saved=not streaming)
    samples, rejects = rows_of(hf_source(images="", streaming=streaming))
    assert len(samples) + len(rejects) == 3 and set(reasons(rejects)) == {"unreadable_row"}


def test_a_day_beyond_the_calendar_costs_its_row(tmp_path, rows_of):
    (tmp_path / "tab").mkdir()
    days = pa.array([1, 2**31 - 1], pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"q": ["a", "b"], "a": days}), tmp_path / "tab" / "a.parquet")
    _, rejects = rows_of(parquet_source(images=""))
    assert reasons(rejects) == ["unreadable_row"] * 2 and "cannot be read" in rejects[1].detail


@pytest.mark.parametrize("make", [parquet_source, hf_source])
def test_an_image_column_that_is_there_twice_is_named_by_fingerprint_too(tmp_path, make):
    (tmp_path / "tab").mkdir()
    table = pa.table([["a"], ["b"], ["0.png"], ["1.png"]], ["q", "a", "image", "image"])
    save(table, tmp_path / "tab", "parquet" if make is parquet_source else "arrow", True)
    source = make()
    fingerprint(source, locate(source, tmp_path))
    with pytest.raises(EmtError, match="two columns 'image'"):
        list(read(source, locate(source, tmp_path)))


@pytest.mark.parametrize("kind", ["parquet", "hf", "stream"])
def test_names_of_columns_that_are_no_utf8_are_told(tmp_path, rows_of, kind):
    (tmp_path / "tab").mkdir()
    table = pa.table({"q": ["a"], "a": ["b"], "other": ["c"]})
    save(table, tmp_path / "tab", "parquet" if kind == "parquet" else "arrow", kind == "hf")
    path = next((tmp_path / "tab").glob("data.*"))
    path.write_bytes(path.read_bytes().replace(b"other", b"\xff\xfeher"))
    make = parquet_source if kind == "parquet" else hf_source
    with pytest.raises(EmtError, match="cannot be read"):
        rows_of(make(images="", **({"streaming": True} if kind == "stream" else {})))


def test_files_of_a_stream_that_do_not_fit_are_named(tmp_path, rows_of):
    hf_rows(2).to_parquet(str(tmp_path / "tab" / "a.parquet"))
    table = pq.read_table(tmp_path / "tab" / "a.parquet")
    pq.write_table(table.drop_columns(["image"]), tmp_path / "tab" / "b.parquet")
    with pytest.raises(EmtError, match=r"no column 'image'[\s\S]*b\.parquet"):
        rows_of(hf_source(streaming=True))


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with ordinary_priority():
        return lerobot_folder(tmp_path_factory.mktemp("arm") / "set", episodes=2, version="v2.1")


@pytest.fixture
def robot(arm: Path, tmp_path: Path) -> Path:
    import shutil

    shutil.copytree(arm, tmp_path / "set")
    return tmp_path / "set"


def test_a_video_whose_codec_nobody_knows_costs_its_frames(robot, rows_of):
    video = next(robot.rglob("episode_000000.mp4"))
    video.write_bytes(video.read_bytes().replace(b"stsd", b"stsx"))
    (episode,) = {s.episode for s in readable(robot, rows_of(ARM)[0])}
    assert episode == 1


def readable(robot: Path, samples):
    root = image_root(ARM, robot)
    return [s for s in samples if check_image(s.images[0], root, ARM.max_pixels) is None]


def test_damaged_pages_and_a_column_that_is_there_twice_cost_their_episode(robot, rows_of):
    first, second = sorted(robot.rglob("data/**/*.parquet"))
    data = bytearray(first.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    first.write_bytes(bytes(data))
    table = pq.read_table(second)
    pq.write_table(table.append_column("task_index", table["task_index"]), second)
    samples, rejects = rows_of(ARM)
    assert samples == [] and set(reasons(rejects)) == {"unreadable_row"} and len(rejects) == 16


@pytest.mark.parametrize(
    "template",
    [
        "{episode_index:99999999d}.parquet",
        "{episode_index.__class__}",
        "{episode_index!r}.parquet",
        "x" * 300,
        "{0}",
    ],
)
def test_templates_of_paths_fill_in_numbers_and_nothing_else(robot, rows_of, template):
    info = json.loads((robot / "meta" / "info.json").read_text())
    write_json(robot / "meta" / "info.json", info | {"data_path": template})
    with pytest.raises(EmtError, match="data_path"):
        rows_of(ARM)


def test_a_damaged_group_of_hdf5_is_told(tmp_path, rows_of):
    path = libero_file(tmp_path / "set" / "a_demo.hdf5")
    path.write_bytes(path.read_bytes().replace(b"SNOD", b"SNOX"))
    facts = {"format": "hdf5", "name": "arm", "role": "robot", "path": "set"}
    with pytest.raises(EmtError, match="no file of 'arm' can be read"):
        rows_of(HDF5Source(**facts, camera="agentview_rgb"))
