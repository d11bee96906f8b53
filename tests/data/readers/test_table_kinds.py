"""Tables as people have them: as parquet, as a saved set, as a stream."""

from __future__ import annotations

import base64
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import encoded, picture, save_pictures, write_tar
from table_files import EMBEDDED, hf_rows, hf_source, parquet_source, shows, write

from emt_core.data.images.handles import ParquetHandle, handle
from emt_core.data.readers import images_from, locate
from emt_core.data.readers.hf_stream import iter_stream_images
from emt_core.errors import EmtError
from emt_core.recipe.sources import WebDatasetSource


def as_base64(seed: int) -> str:
    return base64.b64encode(encoded(picture(seed))).decode()


def of_kind(tmp_path, kind: str, table: datasets.Dataset, **more):
    """The same set as parquet, as a saved set, or as a stream: (source, its folder)."""
    if kind == "parquet":
        (tmp_path / "tab").mkdir()
        table.to_parquet(str(tmp_path / "tab" / "train.parquet"))
        return parquet_source(**more)
    table.save_to_disk(str(tmp_path / "tab"))
    return hf_source(streaming=kind == "stream", **more)


KINDS = ["parquet", "arrow", "stream"]
TARS = WebDatasetSource(name="tab", role="pool", format="webdataset", path="tab")
SUFFIX = {"parquet": "parquet", "webdataset": "tar"}


@pytest.mark.parametrize("kind", KINDS)
def test_base64_text_in_an_image_column(tmp_path, rows_of, kind):
    values = [as_base64(0), None, f"data:image/png;base64,{as_base64(2)}"]
    rows = {"q": ["a", "b", "c"], "a": ["x", "y", "z"], "image": values}
    source = of_kind(tmp_path, kind, datasets.Dataset.from_dict(rows))
    samples, rejects = rows_of(source)
    assert rejects == [] and [len(s.images) for s in samples] == [1, 0, 1]
    if kind == "stream":
        images = dict(iter_stream_images(source, tmp_path / "tab"))
        assert images[2][0].tobytes() == picture(2).tobytes()
    else:
        shows(source, tmp_path, samples[2], 2)


@pytest.mark.parametrize("kind", KINDS)
def test_classes_are_read_by_their_names(tmp_path, rows_of, kind):
    label = datasets.ClassLabel(names=["cat", "mug"])
    features = datasets.Features({"q": datasets.Value("string"), "a": label, "kind": label})
    table = datasets.Dataset.from_dict(
        {"q": ["?"] * 3, "a": [1, 0, -1], "kind": [0, 1, 1]}, features=features
    )
    source = of_kind(tmp_path, kind, table, images=None, meta=["kind"])
    samples, (reject,) = rows_of(source)
    assert [(s.turns[1].text, s.meta["kind"]) for s in samples] == [("mug", "cat"), ("cat", "mug")]
    assert reject.reason == "no_answer"  # -1 is no class


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_of_images_that_no_setting_names(tmp_path, rows_of, kind):
    source = of_kind(tmp_path, kind, hf_rows(3), images=None)
    with pytest.raises(EmtError, match="column 'image' holds images and no setting names it"):
        rows_of(source)
    samples, _ = rows_of(source.model_copy(update={"images": ""}))
    assert [s.text_only for s in samples] == [True] * 3


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_absolute_paths_and_the_folder_that_they_lie_in(tmp_path, rows_of, kind):
    save_pictures(tmp_path / "pics", ["0.png", "1.png"])
    paths = [str(tmp_path / "pics" / f"{n}.png") for n in range(2)]
    rows = {"q": ["a", "b"], "a": ["x", "y"], "image": paths}
    source = of_kind(tmp_path, kind, datasets.Dataset.from_dict(rows))
    assert [r.reason for r in rows_of(source)[1]] == ["bad_path"] * 2
    said = images_from(source, locate(source, tmp_path))
    assert "image_root" in said and str(tmp_path / "tab") in said
    source = source.model_copy(update={"image_root": str(tmp_path / "pics")})
    samples, rejects = rows_of(source)
    assert rejects == [] and samples[1].images[0].path == "1.png"
    shows(source, tmp_path, samples[1], 1)
    assert "image_root" not in parquet_source().model_dump()  # the keys of older recipes stand


def test_paths_beside_bytes_and_bytes_out_of_reach(tmp_path, rows_of):
    save_pictures(tmp_path / "pics", ["0.png"])
    values = [{"bytes": None, "path": "0.png"}, {"bytes": encoded(), "path": None}]
    write(tmp_path / "tab" / "a.parquet", values, EMBEDDED)
    source = parquet_source(image_root="../pics")
    (sample, bare), rejects = rows_of(source)
    assert rejects == [] and bare.text_only  # of a struct, only the path is looked at then
    shows(source, tmp_path, sample, 0)
    write(tmp_path / "tab" / "a.parquet", [encoded()] * 2, pa.binary())
    assert [r.reason for r in rows_of(source)[1]] == ["bad_path"] * 2
    (sample, *_), _ = rows_of(parquet_source(image_root=".."))
    shows(parquet_source(image_root=".."), tmp_path, sample, 0)


def test_two_columns_of_one_name(tmp_path, rows_of):
    (tmp_path / "tab").mkdir()
    table = pa.table([["q"], ["a"], ["b"]], names=["q", "a", "a"])
    pq.write_table(table, tmp_path / "tab" / "a.parquet")
    with pytest.raises(EmtError, match="two columns 'a'"):
        rows_of(parquet_source(images=None))
    assert len(rows_of(parquet_source(images=None, answer=None, role="robot"))[0]) == 1


def test_video_columns_and_rejected_answers(tmp_path, rows_of):
    video = pa.array([{"bytes": b"x", "path": None}, None, None], EMBEDDED)
    write(
        tmp_path / "tab" / "a.parquet",
        [encoded()] * 3,
        pa.binary(),
        video=video,
        rejected=["", None, "b"],
    )
    (sample,), rejects = rows_of(parquet_source())
    assert sample.row == 1 and [r.reason for r in rejects] == ["video_not_read", "preference"]


def test_a_null_hides_no_other_column_of_turns(tmp_path, rows_of):
    (tmp_path / "tab").mkdir()
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    columns = {"conversations": [None, talk], "messages": [talk, None]}
    pq.write_table(pa.table(columns), tmp_path / "tab" / "a.parquet")
    more = dict.fromkeys(("question", "answer", "images"))
    samples, rejects = rows_of(parquet_source(**more))
    assert rejects == [] and len(samples) == 2


def test_images_inside_the_turns_of_a_table(tmp_path, rows_of):
    part = {"type": "image", "image": encoded(picture(3)), "text": None}
    words = {"type": "text", "image": None, "text": "what?"}
    talk = [
        {"role": "user", "content": [part, words]},
        {"role": "assistant", "content": [{**words, "text": "a cup"}]},
    ]
    (tmp_path / "tab").mkdir()
    pq.write_table(pa.table({"messages": [talk]}), tmp_path / "tab" / "a.parquet")
    source = parquet_source(question=None, answer=None, images=None)
    (sample,), _ = rows_of(source)
    assert sample.turns[0].text == "<image>\nwhat?"
    shows(source, tmp_path, sample, 3)


def test_a_large_row_group_is_read_in_parts_back_and_forth(tmp_path, rows_of, monkeypatch):
    monkeypatch.setattr("emt_core.data.images.handles.CELLS", 4)
    monkeypatch.setattr("emt_core.data.images.handles.HELD_BYTES", 0)
    (tmp_path / "tab").mkdir()
    columns = {"q": ["?"] * 30, "a": ["x"] * 30}
    table = pa.table({**columns, "image": [encoded(picture(n)) for n in range(30)]})
    pq.write_table(table, tmp_path / "tab" / "a.parquet", row_group_size=20)
    samples, _ = rows_of(parquet_source())
    for n in (0, 3, 4, 19, 20, 29, 5, 1, 21):
        shows(parquet_source(), tmp_path, samples[n], n)
    held = handle(ParquetHandle, tmp_path / "tab" / "a.parquet")
    assert len(held.cells) <= 4


def test_a_row_group_that_fits_is_read_once_in_whatever_order(tmp_path):
    path = tmp_path / "a.parquet"
    images = [{"bytes": bytes([n]) * 1000, "path": f"{n}.png"} for n in range(200)]
    pq.write_table(pa.table({"q": range(200), "image": images}), path)
    opened = ParquetHandle(path)
    assert opened.cell("image", 150)["path"] == "150.png"
    held = opened.cells
    for n in (3, 199, 0, 77, 150):
        assert opened.cell("image", n)["bytes"] == bytes([n]) * 1000
    assert opened.cells is held and len(held) == 200


@pytest.mark.parametrize("split", ["train", "test", "validation", "mine"])
def test_a_streamed_folder_gives_the_split_that_is_asked_for(tmp_path, rows_of, split):
    names = {
        "train": "data/train-00000-of-00001-abc.parquet",
        "test": "data/test-00000-of-00001.parquet",
        "validation": "dev/0.parquet",
        "mine": "mine/0.parquet",
    }
    for n, name in enumerate(names.values()):
        (tmp_path / "tab" / name).parent.mkdir(exist_ok=True, parents=True)
        hf_rows(n + 1).to_parquet(str(tmp_path / "tab" / name))
    samples, _ = rows_of(hf_source(streaming=True, split=split))
    assert len(samples) == list(names).index(split) + 1
    with pytest.raises(EmtError, match=r"split 'nope'[\s\S]*test, train, validation"):
        rows_of(hf_source(streaming=True, split="nope"))


SPLITS = {
    "by name": ("train-00000-of-00001", "test-00000-of-00001", True),
    "by folder": ("train/0", "validation/0", True),
    "beside others": ("pool", "sub/dev_1", True),
    "one alone": ("test-0", "test-1", False),
    "no split": ("contest", "latest", False),
    "train and more": ("train-0", "extra", False),
}


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
@pytest.mark.parametrize(("one", "other", "refused"), SPLITS.values(), ids=SPLITS)
def test_test_files_do_not_enter_a_pool_unseen(tmp_path, rows_of, kind, one, other, refused):
    for name in (one, other):
        path = tmp_path / "tab" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "parquet":
            hf_rows(2).to_parquet(f"{path}.parquet")
        else:
            write_tar(Path(f"{path}.tar"), {"0.png": encoded(), "0.txt": b"a", "1.txt": b"b"})
    source = parquet_source() if kind == "parquet" else TARS
    if refused:
        with pytest.raises(EmtError, match=r"several splits[\s\S]*name in `path` those"):
            rows_of(source)
        alone = source.model_copy(update={"path": f"tab/{one}.{SUFFIX[kind]}"})
        assert rows_of(alone)[0]
    else:
        samples, rejects = rows_of(source)
        assert len(samples) + len(rejects) == 4


@pytest.mark.parametrize("folder", ["set[1]", "set#1", "a*b", "what?"])
def test_a_folders_name_is_no_pattern(tmp_path, rows_of, folder):
    for name in (folder, "set1", "axb"):
        (tmp_path / name).mkdir()
        hf_rows(2 if name == folder else 5).to_parquet(str(tmp_path / name / "a.parquet"))
    assert len(rows_of(hf_source(streaming=True, path=folder))[0]) == 2
    assert len(rows_of(parquet_source(path=folder))[0]) == 2


@pytest.mark.parametrize("kind", ["parquet", "stream", "pattern"])
def test_hidden_copies_are_not_read(tmp_path, rows_of, kind):
    for name in ("a", "._a", ".ipynb_checkpoints/a", "__MACOSX/a", "sub/.cache/a"):
        path = tmp_path / "tab" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        hf_rows(2).to_parquet(str(path))
    path = "tab/*.parquet" if kind == "pattern" else "tab"
    source = hf_source(streaming=True) if kind == "stream" else parquet_source(path=path)
    assert len(rows_of(source)[0]) == 2


def test_a_pointer_in_place_of_a_table(tmp_path, rows_of):
    (tmp_path / "tab").mkdir()
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (tmp_path / "tab" / "a.parquet").write_text(text)
    with pytest.raises(EmtError, match="Git LFS pointer"):
        rows_of(parquet_source())
    (tmp_path / "tab" / "a.parquet").write_bytes(b"")
    with pytest.raises(EmtError, match="it is empty"):
        rows_of(parquet_source())
