"""Damaged inputs of every reader, a few of each; `python speed/mutants.py` makes thousands."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from mutation.pool import Pool
from mutation.targets import TARGETS

SEED = 5
MUTANTS = 25


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory):
    with Pool(tmp_path_factory.mktemp("mutants") / "log") as started:
        yield started


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_files_end_in_rows_rejects_or_one_error(pool: Pool, target: str):
    failed = [result for result in pool.run(target, SEED, range(MUTANTS)) if result.faults]
    assert not failed


def test_a_mutant_is_made_again_from_its_number(tmp_path: Path):
    def files(folder: Path) -> dict[str, bytes]:
        variant = TARGETS["llava-array"][0]
        variant.write(folder)
        variant.damage(folder, Random("llava-array 5 1"))
        paths = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    one = tmp_path / "one"
    two = tmp_path / "two"
    one.mkdir()
    two.mkdir()
    assert files(one) == files(two)
