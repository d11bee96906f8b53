"""What holds for every format: where it writes, what it refuses, links, provenance, nothing
half-done left."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest

from emt_core.errors import EmtError
from emt_core.selection.export import FORMATS, base, exporter_class
from emt_core.selection.export.export import export_selection, find_selection
from emt_core.selection.export.parquet import ParquetExporter


def export(workspace, selection, out, **settings):
    return export_selection(workspace, selection, out=out, quiet=True, **settings)


def test_links_point_to_plain_files_and_the_rest_is_copied_and_counted(
    workspace, selection, world, tmp_path
):
    report = export(workspace, selection, tmp_path / "out", images="link")
    assert report.images == {"links": 31, "copied_instead": 36, "files": 36, "png": 3}
    assert "no file of their own" in report.summary()
    for path in (tmp_path / "out" / "images" / "web").iterdir():
        assert path.is_symlink() and path.resolve() == (world / "web" / "images" / path.name)
    assert not any(p.is_symlink() for p in (tmp_path / "out" / "images" / "tars").rglob("*"))


def test_an_image_that_several_rows_share_is_written_once(workspace, selection, tmp_path):
    export(workspace, selection, tmp_path / "out", format="llava")
    rows = json.loads((tmp_path / "out" / "llava.json").read_text())
    paths = [
        path
        for row in rows
        for path in ([row["image"]] if isinstance(row.get("image"), str) else row.get("image", []))
    ]
    files = [path for path in (tmp_path / "out" / "images").rglob("*") if path.is_file()]
    assert len(set(paths)) == len(files) < len(paths)


def test_provenance_names_everything_the_selection_came_from(workspace, selection, tmp_path):
    report = export(workspace, selection, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert (
        found["selection"] == selection.key
        and found["recipe"] == "exported"
        and found["label"] == "select.all"
    )
    assert (
        found["config"]["strategy"] == "all" and found["parents"] == selection.manifest["parents"]
    )
    assert {name.split("/")[0] for name in found["lineage"]} == {
        "sources",
        "embed",
        "category",
        "select",
    }
    assert all(workspace.find(*name.split("/")) is not None for name in found["lineage"])
    assert (
        found["written"]
        == report.written
        == sum(found["sources"].values())
        == sum(found["categories"].values())
    )
    assert found["left_out"] == {"reserved_placeholder": 1}
    assert found["command"] and found["date"] and found["versions"]["python"]


def test_a_folder_with_something_in_it_is_refused(workspace, selection, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(EmtError, match="not empty"):
        export(workspace, selection, out)
    with pytest.raises(EmtError, match="not an export, so it is not overwritten"):
        export(workspace, selection, out, overwrite=True)
    assert (out / "thesis.tex").read_text() == "years of work"
    (out / "thesis.tex").unlink()
    export(workspace, selection, out)
    with pytest.raises(EmtError, match="pass --overwrite"):
        export(workspace, selection, out)
    export(workspace, selection, out, format="parquet", overwrite=True)
    assert sorted(p.name for p in out.iterdir()) == ["data", "images", "provenance.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("format", "images"), [("llamafactory", "embed"), ("hf", "link"), ("webdataset", "link")]
)
def test_images_a_format_cannot_hold_that_way(workspace, selection, tmp_path, format, images):
    with pytest.raises(
        EmtError, match=rf"format '{format}' cannot hold images by '{images}'[\s\S]*--images"
    ):
        export(workspace, selection, tmp_path / "out", format=format, images=images)
    assert not list(tmp_path.iterdir())


def test_an_unknown_format_lists_the_known(workspace, selection, tmp_path):
    with pytest.raises(EmtError, match="formats: llamafactory, swift, starvla, llava, openai, hf"):
        export(workspace, selection, tmp_path / "out", format="arrow")


def test_an_image_that_is_gone_leaves_its_row_out_by_name(workspace, selection, world, tmp_path):
    lost = world / "web" / "images" / "0012.png"
    kept = lost.read_bytes()
    lost.unlink()
    try:
        report = export(workspace, selection, tmp_path / "out", format="llava")
    finally:
        lost.write_bytes(kept)
    assert report.left_out == {"missing_image": 1}
    entry = json.loads((tmp_path / "out" / "left_out.jsonl").read_text())
    assert entry["id"] == "web:12" and "0012.png" in entry["detail"]


def test_nothing_is_left_of_an_export_that_fails(workspace, selection, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ParquetExporter, "_flush", full)
    with pytest.raises(EmtError, match="disk is full"):
        export(workspace, selection, tmp_path / "out", format="parquet")
    assert not list(tmp_path.iterdir())


def test_memory_is_bounded_by_the_buffer(workspace, selection, tmp_path, monkeypatch):
    monkeypatch.setattr(base.TableExporter, "BYTES", 4000)
    monkeypatch.setattr(base.TableExporter, "SHARD_BYTES", 8000)
    for name, pattern in (("parquet", "data/part-*.parquet"), ("hf", "data-*.arrow")):
        report = export(workspace, selection, tmp_path / name, format=name, images="embed")
        assert len(list((tmp_path / name).glob(pattern))) > 3
    import datasets
    import pyarrow.parquet as pq

    assert pq.read_table(tmp_path / "parquet" / "data").num_rows == report.written
    assert len(datasets.load_from_disk(str(tmp_path / "hf"))) == report.written


def test_selections_are_found_by_label_and_key(workspace, selection, tmp_path):
    for name in (None, "select.all", "all", selection.key, selection.key[:6]):
        assert find_selection(workspace, name).key == selection.key
    with pytest.raises(
        EmtError, match=rf"'top' names 0 selections[\s\S]*{selection.key} \(select.all\)"
    ):
        find_selection(workspace, "top")
    twin = tmp_path / "w"
    shutil.copytree(workspace.path, twin)
    copied = twin / "select" / selection.key
    other = twin / "select" / "0123456789abcdef"
    shutil.copytree(copied, other)
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "key": "0123456789abcdef"}))
    from emt_core.workspace.artifact import Workspace

    with pytest.raises(EmtError, match=r"several selections[\s\S]*0123456789abcdef \(no label\)"):
        find_selection(Workspace.open(twin))


def test_every_format_has_a_name_for_readers():
    titles = [exporter_class(name).title for name in FORMATS]
    assert all(titles) and len(set(titles)) == len(titles)
