"""Parquet and HF datasets: every shape an image column comes in."""

from __future__ import annotations

import datasets
import pyarrow as pa
import pytest
from source_files import encoded, picture, save_pictures
from table_files import EMBEDDED, hf_rows, hf_source, parquet_source, shows, write

from emt_core.data.images.decode import ImageProblem, check_image, open_image
from emt_core.data.readers import count, fingerprint, image_root, locate
from emt_core.data.readers.hf_stream import iter_stream_images
from emt_core.errors import EmtError


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", ["struct", "bytes", "path"])
def test_image_columns_of_every_shape(tmp_path, rows_of, kind, nested):
    save_pictures(tmp_path / "tab" / "pics", [f"{n}.png" for n in range(5)])
    values = {
        "struct": [{"bytes": encoded(picture(n)), "path": None} for n in range(5)],
        "bytes": [encoded(picture(n)) for n in range(5)],
        "path": [f"pics/{n}.png" for n in range(5)],
    }[kind]
    type_ = {"struct": EMBEDDED, "bytes": pa.binary(), "path": pa.string()}[kind]
    if nested:
        values, type_ = (
            [[values[0]], [values[1], values[2], values[3]], [], None, [values[4]]],
            pa.list_(type_),
        )
        counts, seeds = [1, 3, 0, 0, 1], [0, 1, None, None, 4]
    else:
        values[2] = None
        counts, seeds = [1, 1, 0, 1, 1], [0, 1, None, 3, 4]
    write(tmp_path / "tab" / "b.parquet", values, type_)
    write(tmp_path / "tab" / "a.parquet", values[:1], type_)
    samples, rejects = rows_of(parquet_source())
    assert rejects == [] and [len(s.images) for s in samples] == [1, *counts]
    assert count(parquet_source(), tmp_path / "tab") == 6
    shows(parquet_source(), tmp_path, samples[0], 0)
    for sample, seed in zip(samples[1:], seeds, strict=True):
        if seed is not None:
            shows(parquet_source(), tmp_path, sample, seed)
    if nested:
        shows(parquet_source(), tmp_path, samples[2], 3, position=2)
    assert samples[2].turns[0].text.endswith("what 1?") and samples[2].turns[1].text == "it 1"
    assert samples[2].turns[0].text.count("<image>") == len(samples[2].images)


def test_struct_with_a_path_instead_of_bytes_and_bad_images(tmp_path, rows_of):
    save_pictures(tmp_path / "tab", ["0.png"])
    values = [
        {"bytes": None, "path": "0.png"},
        {"bytes": b"no image", "path": "x"},
        {"bytes": None, "path": "../0.png"},
        {"bytes": None, "path": None},
        {"bytes": encoded(picture(0, (300, 300))), "path": None},
    ]
    write(tmp_path / "tab" / "a.parquet", values, EMBEDDED)
    source = parquet_source(max_pixels=10_000)
    samples, _ = rows_of(source)
    found = [check_image(s.images[0], tmp_path / "tab", source.max_pixels) for s in samples]
    reasons = [problem and problem[0] for problem in found]
    assert reasons == [None, "undecodable_image", "bad_path", "missing_image", "pixel_bomb"]


def test_conversations_as_objects_json_text_and_captions(tmp_path, rows_of):
    turns = [{"from": "human", "value": "<image>hi"}, {"from": "gpt", "value": "yes"}]
    column = pa.array([turns, turns[:1], None])
    write(
        tmp_path / "tab/a.parquet",
        [encoded()] * 3,
        pa.binary(),
        talk=column,
        cap=["a cup", "", "x"],
        n=[7, 8, 9],
    )
    samples, rejects = rows_of(parquet_source(conversations="talk", own_id="n", meta=("cap",)))
    assert [t.text for t in samples[0].turns] == ["<image>hi", "yes"]
    assert samples[0].own_id == "7" and samples[0].meta == {"cap": "a cup"}
    assert [(r.row, r.reason) for r in rejects] == [(1, "no_answer"), (2, "unreadable_row")]
    samples, rejects = rows_of(parquet_source(text="cap"))
    assert [(t.role, t.text) for t in samples[0].turns] == [
        ("user", "<image>"),
        ("assistant", "a cup"),
    ]
    assert [r.reason for r in rejects] == ["empty_text"]


def test_wrong_column_unreadable_file_and_empty_folder(tmp_path, rows_of):
    write(tmp_path / "tab" / "a.parquet", [encoded()], pa.binary())
    with pytest.raises(EmtError, match=r"no column 'nope'[\s\S]*columns are: q, a, image"):
        rows_of(parquet_source(question="nope"))
    with pytest.raises(EmtError, match="no column 'img'"):
        rows_of(parquet_source(images="img"))
    with pytest.raises(EmtError, match="image column has type"):
        write(tmp_path / "tab" / "a.parquet", [3], pa.int64())
        rows_of(parquet_source())
    write(tmp_path / "tab" / "a.parquet", [encoded()], pa.binary())
    whole = (tmp_path / "tab" / "a.parquet").read_bytes()
    (tmp_path / "tab" / "b.parquet").write_bytes(whole[:-20])
    with pytest.raises(EmtError, match="cannot be read as parquet"):
        rows_of(parquet_source())
    (tmp_path / "none").mkdir()
    with pytest.raises(EmtError, match=r"no \.parquet file"):
        rows_of(parquet_source(path="none"))


def test_saved_set_with_several_shards(tmp_path, rows_of):
    hf_rows(7).save_to_disk(str(tmp_path / "tab"), num_shards=3)
    samples, rejects = rows_of(hf_source())
    assert rejects == [] and len(samples) == 7 == count(hf_source(), tmp_path / "tab")
    assert {s.images[0].path for s in samples} == {f"data-{n:05d}-of-00003.arrow" for n in range(3)}
    for seed, sample in enumerate(samples):
        shows(hf_source(), tmp_path, sample, seed)
    two = hf_source(images="pair", conversations="talk")
    samples, rejects = rows_of(two)
    assert rejects == [] and samples[4].turns[0].text == "<image><image>hm"
    shows(two, tmp_path, samples[4], 5, position=1)


def test_saved_dict_of_splits_and_broken_folders(tmp_path, rows_of):
    datasets.DatasetDict(train=hf_rows(3), test=hf_rows(2)).save_to_disk(str(tmp_path / "tab"))
    assert len(rows_of(hf_source())[0]) == 3 and len(rows_of(hf_source(split="test"))[0]) == 2
    shows(hf_source(split="test"), tmp_path, rows_of(hf_source(split="test"))[0][1], 1)
    with pytest.raises(EmtError, match="its splits are: train, test"):
        rows_of(hf_source(split="val"))
    shard = next((tmp_path / "tab" / "train").glob("*.arrow"))
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(EmtError, match="arrow shard cannot be read"):
        fingerprint(hf_source(), tmp_path / "tab")
    with pytest.raises(EmtError, match="arrow shard cannot be read"):
        rows_of(hf_source())
    shard.unlink()
    with pytest.raises(EmtError, match="arrow shard is missing"):
        rows_of(hf_source())
    (tmp_path / "plain").mkdir()
    with pytest.raises(EmtError, match="not written by save_to_disk"):
        rows_of(hf_source(path="plain"))
    with pytest.raises(EmtError, match="no such folder"):
        locate(hf_source(path="./not/there"), tmp_path)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_stream_of_a_local_folder(tmp_path, rows_of, kind):
    if kind == "parquet":
        (tmp_path / "tab").mkdir()
        hf_rows(6).to_parquet(str(tmp_path / "tab" / "a.parquet"))
    else:
        hf_rows(6).save_to_disk(str(tmp_path / "tab"), num_shards=2)
    source = hf_source(streaming=True, limit=5)
    samples, rejects = rows_of(source)
    assert rejects == [] and len(samples) == 5 and samples[3].turns[1].text == "it 3"
    ref = samples[3].images[0]
    assert (ref.kind, ref.path, ref.member, ref.index) == ("stream", "tab", "image", 3)
    assert check_image(ref, tmp_path, 10) is None  # the reader has checked it
    with pytest.raises(ImageProblem, match="no random access"):
        open_image(ref, tmp_path, 10**6)
    images = dict(iter_stream_images(source, image_root(source, tmp_path / "tab")))
    assert sorted(images) == [0, 1, 2, 3, 4]
    assert all(images[n][0].tobytes() == picture(n).tobytes() for n in images)


def test_stream_rejects_as_it_goes_by(tmp_path, rows_of):
    values = [
        {"bytes": encoded(), "path": None},
        {"bytes": b"no image", "path": None},
        None,
        {"bytes": None, "path": "x"},
    ]
    write(tmp_path / "tab" / "a.parquet", values, EMBEDDED)
    samples, rejects = rows_of(hf_source(streaming=True))
    assert [(s.row, len(s.images)) for s in samples] == [(0, 1), (2, 0)]
    assert [(r.row, r.reason) for r in rejects] == [(1, "undecodable_image"), (3, "missing_image")]
    found = [
        images for _, images in iter_stream_images(hf_source(streaming=True), tmp_path / "tab")
    ]
    assert isinstance(found[1][0], ImageProblem) and found[2] == [] and found[0][0].mode == "RGB"
    assert len(rows_of(hf_source(streaming=True, max_pixels=10))[1]) == 3
    with pytest.raises(EmtError, match="no column 'nope'"):
        rows_of(hf_source(streaming=True, question="nope"))


def test_hub_that_cannot_be_reached_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for streaming in (False, True):
        source = hf_source(path="nobody/nothing", streaming=streaming)
        with pytest.raises(EmtError, match="pin `revision`"):
            fingerprint(source, locate(source, tmp_path))
    pinned = hf_source(path="nobody/nothing", revision="0" * 40)
    assert fingerprint(pinned, locate(pinned, tmp_path))["facts"] == ["0" * 40]
    with pytest.raises(EmtError, match="slice"):
        from emt_core.data.readers import read

        list(read(hf_source(path="nobody/nothing", split="train[:5]"), locate(pinned, tmp_path)))
