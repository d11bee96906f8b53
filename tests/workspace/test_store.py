"""A Lance table of many appends ends as one of few files: the same rows, in the same order,
whatever was cut off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from emt_core.data.features import Features, feature_table
from emt_core.models.encoders.feature_writer import FeatureWriter
from emt_core.workspace.table import Table


@pytest.fixture
def appended(tmp_path: Path) -> tuple[Table, np.ndarray]:
    table, rng = Table(tmp_path / "features.lance"), np.random.default_rng(0)
    vectors = rng.normal(size=(40, 7, 16)).astype(np.float16)
    for number, part in enumerate(vectors):
        table.append(feature_table(part, [str(number)] * 7))
    return table, vectors.reshape(-1, 16)


def read(table: Table) -> tuple[np.ndarray, list[str]]:
    features = Features(table)
    return np.concatenate([part for _, part in features.batches()]), list(table.column("status"))


def versions(table: Table) -> int:
    return len(list((table.path / "_versions").glob("*.manifest")))


def test_finishing_keeps_rows_and_order_and_drops_the_rest(appended):
    table, vectors = appended
    files = [path for path in table.path.rglob("*") if path.is_file()]
    assert versions(table) == 40 and len(files) >= 80
    table.finish()
    assert (
        versions(table) == 1 and len([path for path in table.path.rglob("*") if path.is_file()]) < 6
    )
    for one in (table, Table(table.path)):
        found, status = read(one)
        assert (found == vectors).all() and status == [str(row // 7) for row in range(280)]
        assert (Features(one).take([279, 0, 100, 0]) == vectors[[279, 0, 100, 0]]).all()
    table.finish()
    assert versions(table) == 1 and (read(table)[0] == vectors).all()


def test_finishing_that_was_cut_off_is_done_again(appended):
    table, vectors = appended
    table._dataset.optimize.compact_files()  # and killed before the old files went
    table.__dict__.pop("_dataset")
    assert versions(table) > 40 and table.rows == 280
    (table.path / "data" / "left-by-a-kill.lance").write_bytes(b"half")
    table.finish()
    assert versions(table) == 1 and (read(table)[0] == vectors).all()
    assert len(list((table.path / "data").iterdir())) == 1


def test_a_table_that_is_not_there_needs_no_finish(tmp_path: Path):
    Table(tmp_path / "none.lance").finish()
    assert not list(tmp_path.iterdir())


def test_in_a_long_run_commits_come_at_a_fiftieth_of_its_time(tmp_path: Path):
    vectors = np.ones((4, 3), np.float16)
    writer = FeatureWriter(tmp_path, commit_rows=10**6, commit_seconds=30)
    writer.clock._begun -= 1_000_000
    writer.clock._since -= 19_000
    writer.add(vectors, [""] * 4)
    assert writer.features.rows == 0
    writer.clock._since -= 2_000
    writer.add(vectors, [""] * 4)
    assert writer.features.rows == 8


def test_folders_of_a_first_commit_that_failed_are_no_table(tmp_path: Path):
    """As a full disk leaves them."""
    path = tmp_path / "map.lance"
    for name in ("_versions", "_transactions", "data"):
        (path / name).mkdir(parents=True)
    (path / "data" / "half.lance").write_bytes(b"x")
    table = Table(path)
    assert not table.exists() and table.rows == 0
    table.append(pa.table({"row": [1, 2]}))
    assert table.column("row").tolist() == [1, 2]
