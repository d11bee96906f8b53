from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from emt_core.data.readers import locate, read
from emt_core.data.sample import Reject, Sample
from emt_core.recipe.sources import SourceConfig

Rows = tuple[list[Sample], list[Reject]]


@pytest.fixture
def rows_of(tmp_path: Path) -> Callable[[SourceConfig], Rows]:
    """Everything a source yields, samples and rejects apart; paths start from tmp_path."""

    def read_all(source: SourceConfig) -> Rows:
        rows = list(read(source, locate(source, tmp_path)))
        assert [row.row for row in rows] == list(
            range(len(rows))
        )  # every row shows up once, in order
        return [r for r in rows if isinstance(r, Sample)], [
            r for r in rows if isinstance(r, Reject)
        ]

    return read_all
