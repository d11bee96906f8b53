"""Every input byte is hashed, compared later, and an interrupted first pass goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from small_world import small_world

from emt_core.cli.__main__ import main
from emt_core.data.verify import verify
from emt_core.errors import EmtError
from emt_core.recipe.recipe import load_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.progress import Progress

QUIET = Progress(label="verify", quiet=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small_world(tmp_path_factory.mktemp("verify"), pool_rows=24, episodes=4)
    run_plan(
        make_plan(load_recipe(folder / "recipe.yaml")),
        Workspace.open(folder / "ws", create=True),
        until="sources",
        quiet=True,
    )
    return folder


def test_a_change_that_size_and_time_hide_is_found_and_named(
    world: Path, capsys: pytest.CaptureFixture[str]
):
    space = Workspace.open(world / "ws")
    sources = space.artifacts("sources")[0]
    first = verify(space, sources, QUIET)

    images = list((world / "web").rglob("*.png"))
    assert first.recorded and first.files >= len(images) + 2
    assert first.bytes == sum(p.stat().st_size for p in _recorded(first.record))
    again = verify(space, sources, QUIET)
    assert not again.recorded and again.changed == [] and again.files == first.files

    victim = next(p for p in _recorded(first.record) if p.name == "0004.png")
    kept, facts = victim.read_bytes(), victim.stat()
    victim.write_bytes(kept[:-20] + bytes([kept[-20] ^ 1]) + kept[-19:])
    os.utime(victim, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert [line["file"] for line in verify(space, sources, QUIET).changed] == [str(victim)]
    assert main(["verify", "--workspace", str(space.path)]) == 2
    said = capsys.readouterr().err
    assert "0004.png" in said and "1 of" in said
    victim.unlink()
    assert [line["is"] for line in verify(space, sources, QUIET).changed] == [""]
    victim.write_bytes(kept)
    assert main(["verify", "--workspace", str(space.path)]) == 0


def test_a_second_pass_at_the_same_time_is_refused_and_changes_nothing(world: Path):
    space = Workspace.open(world / "ws")
    sources = space.artifacts("sources")[0]
    record = verify(space, sources, QUIET).record
    before = record.read_bytes()
    with space.lock("verified", sources.key), pytest.raises(EmtError, match="another process"):
        verify(space, sources, QUIET)
    assert record.read_bytes() == before


def test_an_interrupted_record_goes_on_and_is_the_same(world: Path):
    space = Workspace.open(world / "ws")
    sources = space.artifacts("sources")[0]
    record = verify(space, sources, QUIET).record
    whole = record.read_bytes()
    record.write_bytes(whole[: len(whole) // 2])  # in the middle of a line
    assert verify(space, sources, QUIET).recorded
    assert record.read_bytes() == whole


def _recorded(record: Path) -> list[Path]:
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    return [Path(line["file"]) for line in lines if "file" in line]
