"""Every format, read again by our own readers: the same conversations, the same image bytes."""

from __future__ import annotations

import hashlib
import io

import pytest
from PIL import Image
from pydantic import TypeAdapter

from emt_core.data.images.decode import image_bytes
from emt_core.data.index import Index
from emt_core.data.readers import image_root, locate, read
from emt_core.data.sample import Sample
from emt_core.recipe.sources import SourceConfig
from emt_core.selection.export.export import export_selection

SOURCES = {
    "llamafactory": {"format": "sharegpt", "path": ".", "dataset": "embodied_midtrain"},
    "llava": {"format": "llava", "path": "llava.json"},
    "hf": {
        "format": "hf",
        "path": ".",
        "conversations": "conversations",
        "images": "images",
        "own_id": "id",
    },
    "parquet": {
        "format": "parquet",
        "path": ".",
        "conversations": "conversations",
        "images": "images",
    },
    "webdataset": {"format": "webdataset", "path": "."},
    "swift": {"format": "llava", "path": "swift.jsonl"},
    "starvla": {"format": "llava", "path": "starvla.json"},
    "openai": {"format": "llava", "path": "messages.jsonl"},
}
LEFT_OUT = {name: {"web:11"} for name in ("llamafactory", "swift", "starvla")}
QWEN = "Qwen/Qwen3-VL-2B-Instruct"


def read_back(out, name):
    config = {"name": "again", "role": "pool", **SOURCES[name]}
    if name in ("hf", "parquet"):
        config["own_id"] = "id"
    source = TypeAdapter(SourceConfig).validate_python(config)
    data = locate(source, out)
    rows = list(read(source, data))
    assert all(isinstance(row, Sample) for row in rows), rows
    return rows, image_root(source, data)


def picture_digests(sample, root):
    """Bytes of what has bytes of its own; pixels of what came from a stream and became PNG."""
    found = []
    for ref in sample.images:
        content, _ = image_bytes(ref, root)
        found.append(hashlib.sha256(content).hexdigest())
    return found


@pytest.fixture(scope="module")
def originals(workspace, selection):
    index = Index(workspace.parents(selection)["sources"])
    pool = [s for s in index.sources if s.role == "pool"]
    rows = [sample for s in pool for _, sample in index.iterate(s.start, s.stop)]
    roots = {s.name: s.root for s in pool}
    return {sample.id: sample for sample in rows}, roots


@pytest.mark.parametrize(
    ("name", "images"),
    [*((name, "copy") for name in SOURCES), ("parquet", "embed"), ("openai", "embed")],
)
def test_nothing_is_lost(name, images, workspace, selection, originals, tmp_path):
    samples, roots = originals
    how = {"format": name, "images": images, "backbone": QWEN if name == "starvla" else None}
    report = export_selection(workspace, selection, out=tmp_path / "out", quiet=True, **how)
    again, root = read_back(tmp_path / "out", name)
    wanted = {key: sample for key, sample in samples.items() if key not in LEFT_OUT.get(name, ())}
    assert report.written == len(again) == len(wanted) and sum(report.left_out.values()) == len(
        samples
    ) - len(wanted)
    for sample in again:
        key = sample.own_id
        original = wanted.pop(key)
        turns = [(turn.role, turn.text) for turn in sample.turns]
        expected = [(turn.role, turn.text) for turn in original.turns]
        if name in ("llava", "starvla") and expected[0][0] == "system":
            expected = [("user", f"{expected[0][1]}\n\n{expected[1][1]}"), *expected[2:]]
        if original.images and not any("<image>" in text for _, text in expected):
            expected[0] = ("user", f"<image>\n{expected[0][1]}".strip())
        if name == "openai":  # in parts: where one ends, a reader puts a new line
            turns, expected = (
                [(role, text.replace("<image>", " <image> ").split()) for role, text in told]
                for told in (turns, expected)
            )
        assert turns == expected, key
        assert len(sample.images) == len(original.images)
        if original.source == "live":
            for ref in sample.images:
                with Image.open(io.BytesIO(image_bytes(ref, root)[0])) as image:
                    assert image.format == "PNG" and image.size == (24, 20)
        else:
            assert picture_digests(sample, root) == picture_digests(
                original, roots[original.source]
            )
    assert not wanted


def test_datasets_itself_decodes_the_hf_folder(workspace, selection, tmp_path):
    import datasets

    export_selection(workspace, selection, format="hf", out=tmp_path / "out", quiet=True)
    loaded = datasets.load_from_disk(str(tmp_path / "out"))
    row = next(row for row in loaded if row["id"] == "tars:1")
    assert [image.size for image in row["images"]] == [(24, 20)] * 2
    assert row["conversations"][0] == {"from": "system", "value": "You are brief."}
    assert row["logit"] is None and row["rank"] >= 0 and row["meta"] == '{"lang": "en"}'


def test_tars_are_the_same_bytes_each_time(workspace, selection, tmp_path):
    digests = set()
    for name in ("a", "b"):
        export_selection(workspace, selection, format="webdataset", out=tmp_path / name, quiet=True)
        digests.add(hashlib.sha256((tmp_path / name / "shard-000000.tar").read_bytes()).hexdigest())
    assert len(digests) == 1
