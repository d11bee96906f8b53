"""The embed stage through the real runner, on hand-written indexes and real image files."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embed_runs import RUNTIME, run, table
from PIL import Image
from tiny_index import make_samples, write_sources
from tiny_models import save_internvl

from emt_core.data.index import SourceRange
from emt_core.data.sample import Turn
from emt_core.errors import EmtError
from emt_core.models.encoders import embedding
from emt_core.models.encoders.batches import BATCHES_PER_WINDOW, windows
from emt_core.models.encoders.fake import FakeEncoder
from emt_core.models.encoders.vlm import VlmEncoder
from emt_core.recipe.recipe import build_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.stages import embed as stage
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.table import Table


def test_one_row_for_each_index_row_in_its_order(workspace, roots, tmp_path):
    artifact = run(workspace, write_sources(workspace, roots), tmp_path)
    vectors, status = table(artifact)
    assert artifact.rows == len(vectors) == 130 and (status == "").all()
    encoder = FakeEncoder()
    from emt_core.data.images.decode import open_image

    for row in (0, 2, 3, 89, 90, 129):
        root, samples = roots["pool"] if row < 90 else roots["arm"]
        sample = samples[row if row < 90 else row - 90]
        images = [open_image(ref, root, 10**6) for ref in sample.images]
        text = "user" if row < 90 else "instruction"
        expected = encoder.encode([encoder.prepare(sample, images, text)])[0].astype(np.float16)
        np.testing.assert_array_equal(vectors[row], expected)
    assert artifact.metrics["dim"] == encoder.dim
    assert artifact.metrics["sources"]["pool"]["rows"] == 90
    assert 0 <= artifact.metrics["model_share"] <= 1 and artifact.metrics["embedded_rows"] == 130


def test_bad_images_keep_their_row_with_a_named_status(workspace, roots, tmp_path):
    pool, samples = roots["pool"]
    (pool / samples[0].images[0].path).unlink()
    (pool / samples[1].images[0].path).write_bytes(b"no image at all")
    second = pool / samples[2].images[1].path  # one of three: the row has no vector
    second.write_bytes(second.read_bytes()[:60])
    artifact = run(workspace, write_sources(workspace, roots), tmp_path)
    vectors, status = table(artifact)
    assert list(status[:4]) == ["missing_image", "undecodable_image", "undecodable_image", ""]
    assert not vectors[:3].any() and vectors[3].any()
    assert artifact.metrics["statuses"] == {"missing_image": 1, "undecodable_image": 2}
    lines = (artifact.data / "problems.jsonl").read_text().splitlines()
    assert len(lines) == 3 and '"row": 0' in lines[0] and "missing_image" in lines[0]


def test_images_beyond_the_bound_are_counted_and_left_out(workspace, roots, tmp_path):
    sources = write_sources(workspace, roots)
    bounded, free = (
        run(workspace, sources, tmp_path, max_images=1),
        run(workspace, sources, tmp_path),
    )
    three = [row for row, sample in enumerate(roots["pool"][1]) if len(sample.images) == 3]
    assert (
        bounded.metrics["images_beyond_bound"] == 2 * len(three)
        and free.metrics["images_beyond_bound"] == 0
    )
    a, b = table(bounded)[0], table(free)[0]
    differs = np.abs(a - b).max(axis=1) > 0
    assert set(np.flatnonzero(differs)) == set(three)


def test_pool_text_none_leaves_text_only_rows_without_a_vector(workspace, roots, tmp_path):
    artifact = run(workspace, write_sources(workspace, roots), tmp_path, pool_text="none")
    _, status = table(artifact)
    text_only = [row for row, sample in enumerate(roots["pool"][1]) if not sample.images]
    assert [row for row in range(130) if status[row] == "text_only"] == text_only
    assert not (artifact.data / "problems.jsonl").exists()


def test_workers_and_batch_size_change_no_value(workspace, roots, tmp_path, monkeypatch):
    """Runtime enters no key and no result: two workspaces, one value."""
    monkeypatch.setattr(stage, "INLINE_ROWS", 1)
    sources = write_sources(workspace, roots)
    first = run(workspace, sources, tmp_path)
    other = Workspace.open(tmp_path / "other", create=True)
    runtime = {"workers": 2, "batch": 5, "commit_rows": 1000}
    second = run(other, write_sources(other, roots), tmp_path, runtime=runtime)
    assert first.key == second.key and second.metrics["workers"] == 2
    for a, b in zip(table(first), table(second), strict=True):
        np.testing.assert_array_equal(a, b)


def test_workers_are_for_groups_that_are_worth_them_and_import_while_the_model_loads(
    workspace, roots, tmp_path, monkeypatch
):
    """The pool and the arm are parted by rows that are copied: each is a group of its own."""
    middle = tmp_path / "middle"
    copied = {"middle": (middle, make_samples("middle", 9, middle, seed=3))}
    run(workspace, write_sources(workspace, copied), tmp_path)
    happened: list[object] = []
    prepare, load = embedding.prepared_batches, FakeEncoder.load

    def prepared_here(encoder, batches, workers):
        happened.append(workers)
        return prepare(encoder, batches, 0)

    def loaded(self, device, precision):
        happened.append("load")
        load(self, device, precision)

    monkeypatch.setattr(stage, "INLINE_ROWS", 41)
    monkeypatch.setattr(stage, "start_server", lambda _preload: happened.append("server"))
    monkeypatch.setattr(embedding, "prepared_batches", prepared_here)
    monkeypatch.setattr(FakeEncoder, "load", loaded)
    sources = write_sources(workspace, {"pool": roots["pool"], **copied, "arm": roots["arm"]})
    artifact = run(workspace, sources, tmp_path, RUNTIME | {"workers": 2})
    assert happened == ["server", "load", 2, 0]
    assert artifact.metrics["workers"] == 2 and artifact.metrics["reused"] == 9
    happened.clear()
    monkeypatch.setattr(stage, "INLINE_ROWS", 140)
    artifact = run(workspace, sources, tmp_path, RUNTIME | {"workers": 2}, max_images=2)
    assert happened == ["load", 0] and artifact.metrics["workers"] == 0


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 GB")]
)
def test_batch_is_halved_when_memory_runs_out(workspace, roots, tmp_path, monkeypatch, error):
    encode = FakeEncoder.encode

    def small_memory(self, prepared):
        if len(prepared) > 3:
            raise error
        return encode(self, prepared)

    sources = write_sources(workspace, roots)
    reference = run(workspace, sources, tmp_path)
    monkeypatch.setattr(FakeEncoder, "encode", small_memory)
    other = Workspace.open(tmp_path / "other", create=True)
    artifact = run(other, write_sources(other, roots), tmp_path)
    assert artifact.metrics["batch_halvings"] == 2 and artifact.metrics["batch_size"] == 2
    np.testing.assert_array_equal(table(artifact)[0], table(reference)[0])


def test_no_memory_for_one_sample_is_one_clear_message(workspace, roots, tmp_path, monkeypatch):
    def none(self, prepared):
        raise MemoryError

    monkeypatch.setattr(FakeEncoder, "encode", none)
    with pytest.raises(EmtError, match="single sample"):
        run(workspace, write_sources(workspace, roots), tmp_path)


def test_other_runtime_errors_are_not_taken_for_memory(workspace, roots, tmp_path, monkeypatch):
    def broken(self, prepared):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(FakeEncoder, "encode", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        run(workspace, write_sources(workspace, roots), tmp_path)


def test_non_finite_rows_get_a_status_and_all_non_finite_is_an_error(
    workspace, roots, tmp_path, monkeypatch
):
    encode = FakeEncoder.encode
    bad = {"every": False}

    def sick(self, prepared):
        vectors = encode(self, prepared)
        if bad["every"]:
            vectors[:] = np.nan
        else:
            vectors[0, 0] = 70_000  # finite in float32, infinite in float16
        return vectors

    monkeypatch.setattr(FakeEncoder, "encode", sick)
    sources = write_sources(workspace, roots)
    artifact = run(workspace, sources, tmp_path)
    vectors, status = table(artifact)
    assert artifact.metrics["statuses"] == {
        "non_finite_feature": (status == "non_finite_feature").sum()
    }
    assert np.isfinite(vectors).all() and not vectors[status != ""].any()
    bad["every"] = True
    with pytest.raises(EmtError, match="NaN or infinity"):
        run(workspace, sources, tmp_path, max_images=2)
    assert embedding.NON_FINITE_ROWS < 130


def test_no_row_with_a_vector_is_an_error_and_the_next_run_begins_anew(workspace, tmp_path):
    root = tmp_path / "pool"
    samples = [s for s in make_samples("pool", 30, root) if s.images]
    files = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    sources = write_sources(workspace, {"pool": (root, samples)})
    for path in files:
        path.write_bytes(b"?")
    with pytest.raises(EmtError, match=r"not one of 26 rows .*undecodable_image 26"):
        run(workspace, sources, tmp_path)
    for path, content in files.items():
        path.write_bytes(content)
    assert run(workspace, sources, tmp_path).metrics["ok"] == len(samples)


def test_windows_depend_on_the_source_alone():
    source = SourceRange(name="a", role="pool", start=1000, stop=1100, facts={})
    rows = BATCHES_PER_WINDOW * 8
    whole = [(w.start, w.stop) for w in windows(source, 0, 8)]
    assert whole == [(1000, 1032), (1032, 1064), (1064, 1096), (1096, 1100)] and rows == 32
    assert [(w.start, w.stop) for w in windows(source, 1064, 8)] == whole[2:]
    assert [(w.start, w.stop) for w in windows(source, 1040, 8)] == [(1040, 1064), *whole[2:]]
    assert list(windows(source, 1100, 8)) == []


def test_a_real_vlm_through_the_stage(workspace, roots, tmp_path):
    save_internvl(tmp_path / "model")
    artifact = run(
        workspace, write_sources(workspace, roots), tmp_path, encoder="vlm", model="model"
    )
    vectors, status = table(artifact)
    assert (status == "").all() and vectors.shape == (130, 48)
    assert artifact.metrics["encoder"]["class"] == "InternVLForConditionalGeneration"
    assert set(artifact.manifest["identity"]["files"]) >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    moved = (tmp_path / "model").rename(tmp_path / "elsewhere")
    assert (
        run(
            workspace, write_sources(workspace, roots), tmp_path, encoder="vlm", model=str(moved)
        ).path
        == artifact.path
    )


def test_a_template_that_fails_stops_the_stage_at_once(workspace, roots, tmp_path, monkeypatch):
    model = save_internvl(tmp_path / "model")
    template = "{{ raise_exception('only one turn is known here') }}"
    (model / "chat_template.jinja").write_text(template)
    encoded = []
    monkeypatch.setattr(VlmEncoder, "encode", lambda _self, items: encoded.append(items))
    with pytest.raises(EmtError, match=r"chat template fails .*only one turn is known here"):
        run(workspace, write_sources(workspace, roots), tmp_path, encoder="vlm", model="model")
    assert not encoded


def test_a_row_without_image_and_words_of_the_user_ends_no_stage(workspace, roots, tmp_path):
    save_internvl(tmp_path / "model")
    root, samples = roots["pool"]
    silent = (Turn(role="user", text=" "), Turn(role="assistant", text="an answer"))
    samples[3] = replace(samples[3], turns=silent, images=())
    roots["pool"] = (root, samples[:8])
    artifact = run(
        workspace, write_sources(workspace, roots), tmp_path, encoder="vlm", model="model"
    )
    vectors, status = table(artifact)
    assert status[3] == "empty_text" and not vectors[3].any()
    assert (status == "").sum() == len(status) - 1


@pytest.mark.slow
def test_a_real_vlm_prepared_by_a_worker(workspace, roots, tmp_path, monkeypatch):
    """Slow: the fork server imports torch and transformers."""
    save_internvl(tmp_path / "model")
    inline = run(workspace, write_sources(workspace, roots), tmp_path, encoder="vlm", model="model")
    monkeypatch.setattr(stage, "INLINE_ROWS_CPU", 1)
    other = Workspace.open(tmp_path / "other", create=True)
    runtime = RUNTIME | {"workers": 1}
    helped = run(
        other, write_sources(other, roots), tmp_path, runtime, encoder="vlm", model="model"
    )
    assert (inline.metrics["workers"], helped.metrics["workers"]) == (0, 1)
    np.testing.assert_array_equal(table(helped)[0], table(inline)[0])


def test_a_stream_is_embedded_in_step_and_leaves_thumbnails(workspace, tmp_path, monkeypatch):
    """The same rows with and without random access, with and without workers: the same vectors.

    Only the stream stores thumbnails.
    """
    data = tmp_path / "rows"
    data.mkdir()
    cells = []
    for row in range(70):
        encoded = io.BytesIO()
        Image.fromarray(np.full((30, 200, 3), row * 3, np.uint8)).save(encoded, "PNG")
        content = encoded.getvalue()
        cells.append({"bytes": content if row != 8 else content[:-40], "path": None})
    cells[5] = None  # text only
    table_ = {
        "image": cells,
        "question": [f"row {row}?" for row in range(70)],
        "answer": ["yes"] * 70,
    }
    pq.write_table(pa.table(table_), data / "part.parquet")
    columns = {
        "role": "pool",
        "path": "rows",
        "images": "image",
        "question": "question",
        "answer": "answer",
    }
    made = {}
    for form, more in {"parquet": {}, "hf": {"streaming": True}}.items():
        for workers in (0, 2):
            monkeypatch.setattr(stage, "INLINE_ROWS", 1)
            recipe = {
                "name": f"{form}{workers}",
                "base": str(tmp_path),
                "runtime": RUNTIME | {"workers": workers},
                "sources": [{"name": f"{form}{workers}", "format": form} | columns | more],
                "embed": {"encoder": "fake"},
            }
            made[form, workers] = run_plan(make_plan(build_recipe(recipe)), workspace, quiet=True)[
                "embed"
            ]
    vectors, status = table(made["parquet", 0])
    assert list(np.flatnonzero(status != "")) == [8] and status[8] == "undecodable_image"
    for artifact in made.values():
        np.testing.assert_array_equal(table(artifact)[0], vectors)
        assert artifact.metrics["reused"] == 0
    assert not (made["parquet", 0].data / "thumbs.lance").exists()
    for workers in (0, 2):
        thumbs = Table(made["hf", workers].data / "thumbs.lance")
        assert thumbs.column("row").tolist() == [row for row in range(70) if row not in (5, 8)]
        first = Image.open(io.BytesIO(thumbs.take([20], ["webp"]).column(0)[0].as_py()))
        assert first.format == "WEBP" and max(first.size) == 160
