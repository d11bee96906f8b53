"""What embed does not compute again: rows of earlier artifacts and of a run that was stopped."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest
from embed_runs import run, table
from tiny_index import make_samples, write_sources

from emt_core.models.encoders.fake import FakeEncoder
from emt_core.models.encoders.feature_writer import (
    THUMBS_SCHEMA,
    FeatureWriter,
    ShardWriter,
)
from emt_core.run.shards import Shard, done_shards
from emt_core.stages import embed as stage
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.table import Table


def test_a_stopped_run_resumes_at_its_last_commit(workspace, roots, tmp_path, monkeypatch):
    sources = write_sources(workspace, roots)
    reference = run(workspace, sources, tmp_path)
    other = Workspace.open(tmp_path / "other", create=True)
    sources = write_sources(other, roots)
    encode, calls = FakeEncoder.encode, []

    def stops(self, prepared):
        calls.append(len(prepared))
        if len(calls) == 9:
            raise KeyboardInterrupt
        return encode(self, prepared)

    monkeypatch.setattr(FakeEncoder, "encode", stops)
    with pytest.raises(KeyboardInterrupt):
        run(other, sources, tmp_path)
    assert sum(calls[:8]) == 64
    resumed = run(other, sources, tmp_path)
    assert resumed.metrics["embedded_rows"] == 130 - 64
    np.testing.assert_array_equal(table(resumed)[0], table(reference)[0])


def test_a_run_that_finds_all_rows_done_still_says_which_encoder_made_them(
    workspace, roots, tmp_path, monkeypatch
):
    sources = write_sources(workspace, roots)

    def stops(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stage, "_count", stops)
        run(workspace, sources, tmp_path)
    made = run(workspace, sources, tmp_path)
    assert "embedded_rows" not in made.metrics
    assert made.metrics["encoder"]["encoder"] == "fake"
    assert not (made.data / stage.ENCODER).exists()


def test_a_new_robot_set_embeds_only_its_own_rows(workspace, roots, tmp_path):
    first = run(workspace, write_sources(workspace, roots), tmp_path)
    hand = tmp_path / "hand"
    # the new set comes first, so that every row of the others moves
    more = {"hand": (hand, make_samples("hand", 21, hand, role="robot", seed=5)), **roots}
    second = run(workspace, write_sources(workspace, more), tmp_path)
    assert second.metrics["reused"] == 130 and second.metrics["embedded_rows"] == 21
    assert {name: facts["reused"] for name, facts in second.metrics["sources"].items()} == {
        "hand": 0,
        "pool": 90,
        "arm": 40,
    }
    np.testing.assert_array_equal(table(second)[0][21:], table(first)[0])
    fresh = Workspace.open(tmp_path / "fresh", create=True)
    np.testing.assert_array_equal(
        table(run(fresh, write_sources(fresh, more), tmp_path))[0], table(second)[0]
    )


def test_reuse_copies_statuses_and_problems_at_their_new_rows(workspace, roots, tmp_path):
    pool, samples = roots["pool"]
    (pool / samples[4].images[0].path).write_bytes(b"broken")
    run(workspace, write_sources(workspace, roots), tmp_path)
    again = {"arm": roots["arm"], "pool": roots["pool"]}
    second = run(workspace, write_sources(workspace, again), tmp_path)
    assert second.metrics["reused"] == 130 and "embedded_rows" not in second.metrics
    assert second.metrics["encoder"]["encoder"] == "fake"
    assert table(second)[1][44] == "undecodable_image"
    assert '"row": 44' in (second.data / "problems.jsonl").read_text()


def test_a_setting_of_one_role_leaves_the_other_role_reusable(workspace, roots, tmp_path):
    sources = write_sources(workspace, roots)
    run(workspace, sources, tmp_path)
    other = run(workspace, sources, tmp_path, pool_text="full")
    assert (
        other.metrics["sources"]["pool"]["reused"] == 0
        and other.metrics["sources"]["arm"]["reused"] == 40
    )
    none = run(workspace, sources, tmp_path, max_images=2)
    assert none.metrics["reused"] == 0


def test_changed_content_is_never_reused(workspace, roots, tmp_path):
    run(workspace, write_sources(workspace, roots), tmp_path)
    changed = make_samples("arm", 40, tmp_path / "arm", role="robot", seed=2)
    altered = {"arm": (tmp_path / "arm", changed), "pool": roots["pool"]}
    second = run(workspace, write_sources(workspace, altered), tmp_path)
    assert (
        second.metrics["sources"]["arm"]["reused"] == 0
        and second.metrics["sources"]["pool"]["reused"] == 90
    )


def test_the_same_files_read_in_another_way_are_never_reused(workspace, roots, tmp_path):
    """The digest is of files alone: equal files can still hold other rows.

    `image_root` stands for every setting that chooses rows: a camera, a column, a bound.
    """
    run(workspace, write_sources(workspace, roots), tmp_path)
    for settings in ({"max_pixels": 10**6}, {"image_root": "elsewhere"}):
        assert (
            run(workspace, write_sources(workspace, roots, **settings), tmp_path).metrics["reused"]
            == 0
        )


def test_writer_drops_what_no_feature_row_stands_behind(tmp_path):
    """Killed between thumbnails, problems and features: the next run writes the same rows once."""
    vectors = np.ones((4, 3), np.float16)
    problem = {"row": 1, "source": "s", "status": "missing_image", "detail": ""}
    writer = FeatureWriter(tmp_path, commit_rows=4, commit_seconds=1e9)
    writer.add(vectors, [""] * 4, problems=[problem], thumbs=[(0, b"a"), (3, b"b")])
    later = problem | {"row": 6}
    writer._vectors, writer._status = [vectors], [""] * 4
    writer._problems, writer._thumbs = [later], [(5, b"c")]

    def killed(table):
        raise OSError("killed")

    writer.features.append = killed  # type: ignore[method-assign]
    with pytest.raises(OSError):
        writer.commit()
    with writer.problems.open("a") as file:
        file.write('{"row": 7, "sour')
    again = FeatureWriter(tmp_path, commit_rows=4, commit_seconds=1e9)
    assert again.rows == 4
    again.add(vectors, [""] * 4, problems=[later], thumbs=[(5, b"c"), (7, b"d")])
    assert again.thumbs.column("row").tolist() == [0, 3, 5, 7]
    assert [line.count('"row"') for line in again.problems.read_text().splitlines()] == [1, 1]


def test_what_is_thrown_away_includes_what_workers_made(tmp_path):
    """Else a second run would take over the same shards, whose files went with the table."""
    made = ShardWriter(tmp_path, Shard(0, 3))
    made.add(np.zeros((3, 2), np.float16), ["undecodable_image"] * 3)
    made.finish()
    assert done_shards(tmp_path) == [Shard(0, 3)]
    writer = FeatureWriter(tmp_path, commit_rows=4, commit_seconds=1e9)
    writer.take_over([Shard(0, 3)])
    assert writer.features.rows == writer.rows == 3
    writer.discard()
    assert not done_shards(tmp_path) and not writer.features.exists()


def test_commit_waits_for_rows_or_seconds(tmp_path):
    vectors = np.ones((4, 3), np.float16)
    patient = FeatureWriter(tmp_path / "a", commit_rows=8, commit_seconds=1e9)
    patient.add(vectors, [""] * 4)
    assert patient.features.rows == 0
    patient.add(vectors, [""] * 4)
    assert patient.features.rows == 8
    hasty = FeatureWriter(tmp_path / "b", commit_rows=10**6, commit_seconds=0.0)
    hasty.add(vectors, [""] * 4)
    assert hasty.features.rows == 4


def test_two_runs_at_once_build_one_artifact(workspace, roots, tmp_path):
    """In threads of one process; test_embed_kill.py has two processes."""
    sources = write_sources(workspace, roots)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(run(workspace, sources, tmp_path)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and len(workspace.artifacts("embed")) == 1
    assert found[0].manifest == found[1].manifest


def test_reuse_takes_a_streams_thumbnails_along(workspace, roots, tmp_path):
    first = run(workspace, write_sources(workspace, roots), tmp_path)
    thumbs = pa.table({"row": [1, 95], "webp": [b"a", b"b"]}, schema=THUMBS_SCHEMA)
    Table(first.data / "thumbs.lance").append(thumbs)
    again = run(
        workspace, write_sources(workspace, {"arm": roots["arm"], "pool": roots["pool"]}), tmp_path
    )
    moved = Table(again.data / "thumbs.lance")
    assert moved.column("row").tolist() == [5, 41]
    assert moved.take([0, 1], ["webp"]).column(0).to_pylist() == [b"b", b"a"]
