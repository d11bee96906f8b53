"""Many ids in little text, and back to index rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import make_workspace, pool, robot

from emt_core.errors import EmtError
from emt_core.recipe.ids import format_ids, parse_ids


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    sources = [pool("web:odd", 60), pool("near", 40), robot("arm", 16)]
    return make_workspace(tmp_path_factory.mktemp("ids") / "ws", sources).index


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_rows_survive_the_round_trip(index, data):
    rows = data.draw(st.lists(st.integers(0, index.rows - 1), unique=True))
    entries = index.packed_ids(np.array(rows, np.int64))
    assert len(entries) <= 3
    assert index.rows_of(entries).tolist() == sorted(rows)


def test_neighbors_become_a_range():
    rows = np.array([3, 5, 6, 9])  # 4 was rejected, so 5 directly follows 3
    assert format_ids("web", rows, after=np.array([False, True, True, False])) == "web:3-6,9"
    parsed = parse_ids("web:3-6,9")
    assert (parsed.source, parsed.first.tolist(), parsed.last.tolist()) == ("web", [3, 9], [6, 9])


def test_ids_one_by_one_are_the_plain_case(index):
    assert index.rows_of(["near:3", "web:odd:59"]).tolist() == [59, 63]
    assert index.rows_of([]).tolist() == []


def test_a_range_takes_what_is_there(index):
    assert index.rows_of(["near:38-500"]).tolist() == [98, 99]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("near:99", "no sample 'near:99'"),
        ("far:1", "no source 'far'"),
        ("near", "names no sample"),
        ("near:1,", "names no sample"),
        ("near:9-2", "runs backwards"),
        ("near:-1", "names no sample"),
        ("near:" + "9" * 30, "names no sample"),
    ],
)
def test_nonsense_is_named(index, entry, message):
    with pytest.raises(EmtError, match=message):
        index.rows_of([entry])
