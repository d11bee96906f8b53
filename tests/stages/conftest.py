"""A fresh workspace and two sources for the tests of single stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from embed_runs import pool_and_arm

from emt_core.workspace.artifact import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "ws", create=True)


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Any]:
    """Sources for `write_sources`, see embed_runs.pool_and_arm."""
    return pool_and_arm(tmp_path)
