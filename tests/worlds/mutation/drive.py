"""Everything that the product does with a source, done to a mutant; and the rules that hold.

1. Nothing but an EmtError comes out: not of the stage `sources`, nor of `emt sources`, nor of
   verify, nor of the readers and image functions that later stages call.
2. An EmtError names a place (`where`), and what is printed steers no terminal.
3. Rows are numbered 0, 1, 2, ... without a gap; each is a sample or a reject with a named reason;
   the reader's own count, the stage, its index and its rejects file agree on how many there are.
4. A mutant that says how many rows it has (Mutant.rows) shows exactly so many.
5. Rows that a mutant did not touch are what they are in the clean file: text, id, meta and pixels.
6. A mutant that costs rows only (`fails: never`) raises nothing, one that cannot be read
   (`must`) raises.
"""

from __future__ import annotations

import hashlib
import io
import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import bidirectional, category

from pydantic import TypeAdapter
from rich.console import Console

from emt_core.data.images.decode import ImageProblem, check_image, image_bytes, open_images
from emt_core.data.index import Index
from emt_core.data.preflight import preflight, render
from emt_core.data.readers import count, fingerprint, image_root, locate, read, robot_set
from emt_core.data.readers.conversation import RowProblem
from emt_core.data.readers.hf_stream import iter_stream_images
from emt_core.data.robot.episodes import read_episodes
from emt_core.data.sample import Reject, Sample
from emt_core.data.verify import verify
from emt_core.errors import EmtError
from emt_core.recipe.recipe import build_recipe
from emt_core.recipe.sources import EpisodeSource, SourceConfig, SourcesConfig
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.workspace.artifact import Workspace
from emt_core.workspace.progress import Progress
from mutation.variant import Mutant

TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
"""Characters that turn the direction of text."""

DECODED_ROWS = 24
"""Of a source: the first rows whose images are decoded."""


@dataclass
class Found:
    """What came of a source: a digest for each row, and what went against the rules."""

    rows: list[str] = field(default_factory=list)
    kept: int = 0
    error: str = ""
    """The message of the EmtError that ended the reading."""

    faults: list[tuple[str, str]] = field(default_factory=list)
    """(traceback, rows, changed, place or terminal; what happened)."""

    def fault(self, kind: str, detail: str) -> None:
        self.faults.append((kind, detail))


def drive(source: dict[str, Any], base: Path) -> Found:
    """Do everything with a source once; rules 1 to 3."""
    config = TypeAdapter(SourceConfig).validate_python(source)
    found = Found()
    seen: list[Sample | Reject] = []
    with _told(found, "read") as errors:
        _read(config, base, found, seen)
    found.error = "".join(errors)
    if [row.row for row in seen] != list(range(len(seen))):
        found.fault("rows", f"rows are numbered {[row.row for row in seen][:50]}")
    if isinstance(config, EpisodeSource):
        _robot(config, base, found, seen)
    if config.format == "hf" and config.streaming:
        with _told(found, "stream images"):
            for _ in iter_stream_images(config, locate(config, base)):
                pass
    with _told(found, "preflight"):
        _preflight(config, base, found)
    with _told(found, "stage") as errors:
        _stage(source, base, found)
    nothing_left = any("survives" in error or "is empty" in error for error in errors)
    if errors and not found.error and not nothing_left:
        found.fault("rows", f"the stage fails and the reader does not: {errors[0]}")
    return found


@contextmanager
def _told(found: Found, what: str) -> Iterator[list[str]]:
    """Passes EmtErrors on as messages in the list; any other exception is a fault."""
    errors: list[str] = []
    try:
        yield errors
    except EmtError as error:
        errors.append(error.message())
        if "where:" not in error.message():
            found.fault("place", f"{what}: {error.message()}")
        _check_text(error.message(), found)
    except Exception as error:
        text = "".join(traceback.format_exception(error, limit=-6))
        found.fault("traceback", f"{what}: {text}")


def _check_text(text: str, found: Found) -> None:
    steering = [
        char
        for char in text
        if (category(char) == "Cc" and char != "\n") or bidirectional(char) in TURNING
    ]
    if steering:
        found.fault("terminal", f"{steering[:3]} in {text[:200]!r}")


def _read(config: SourceConfig, base: Path, found: Found, seen: list[Sample | Reject]) -> None:
    data = locate(config, base)
    fingerprint(config, data)
    root = image_root(config, data)
    promised = count(config, data)
    for row in read(config, data):
        seen.append(row)
        found.rows.append(_digest(row, root, config.max_pixels))
        found.kept += isinstance(row, Sample)
    if promised is not None and promised != len(seen):
        found.fault("rows", f"{promised} rows were promised, {len(seen)} came")


def _digest(row: Sample | Reject, root: Path, max_pixels: int) -> str:
    if isinstance(row, Reject):
        return f"reject {row.reason}"
    facts = (row.role, row.turns, row.own_id, sorted(row.meta.items()), row.episode, row.frame)
    digest = hashlib.sha256(ascii(facts).encode())
    for ref in row.images:
        problem = check_image(ref, root, max_pixels)
        if problem:
            digest.update(problem[0].encode())
        elif ref.kind != "stream" and row.row < DECODED_ROWS:
            with suppress(ImageProblem):
                image_bytes(ref, root)
    if row.row < DECODED_ROWS and not any(ref.kind == "stream" for ref in row.images):
        for image in open_images(row.images[:8], root, max_pixels):
            digest.update(
                image.reason.encode() if isinstance(image, ImageProblem) else _pixels(image)
            )
    return digest.hexdigest()[:16]


def _pixels(image: Any) -> bytes:
    assert image.mode == "RGB" and min(image.size) > 0
    return image.tobytes()


def _robot(config: Any, base: Path, found: Found, seen: list[Sample | Reject]) -> None:
    """What browsing and training read of a robot set."""
    robot = robot_set(config, base / config.path)
    for number in sorted({row.episode for row in seen if isinstance(row, Sample)})[:2]:
        with _told(found, "frames and columns"), suppress(RowProblem):
            episode = robot.find(number)
            assert len(robot.frames(episode, config.camera)) == episode.length
            steps = robot.open(episode)
            for column in robot.columns:
                steps.values(column)
    with _told(found, "read_episodes"):
        for episode in read_episodes(robot, robot.actions):
            assert len(episode.actions) == len(episode.instruction)


def _preflight(config: Any, base: Path, found: Found) -> None:
    (report,) = preflight(SourcesConfig(sources=(config,)), base, thumbnails=base / ".sheets")
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    console.print(render([report]))
    _check_text(console.file.getvalue(), found)  # type: ignore[attr-defined]
    if report.seen != len(found.rows) and not found.error:
        found.fault("rows", f"preflight saw {report.seen} rows, the reader {len(found.rows)}")
    if report.seen != report.kept + report.rejects.total():
        found.fault("rows", f"{report.seen} rows, {report.kept} kept, {report.rejects}")
    if bool(report.error) != bool(found.error):
        found.fault("rows", f"preflight says {report.error!r}, the reader {found.error!r}")


def _stage(source: dict[str, Any], base: Path, found: Found) -> None:
    """The stage `sources` in a workspace of its own, its index, and verify."""
    raw = {"name": "m", "base": str(base), "runtime": {"workers": 0}, "sources": [source]}
    workspace = Workspace.open(base / ".workspace", create=True)
    plan = make_plan(build_recipe(raw, where=base / "recipe.yaml"))
    run_plan(plan, workspace, until="sources", quiet=True)
    (artifact,) = workspace.artifacts("sources")
    verify(workspace, artifact, Progress(label="verify", quiet=True))
    index = Index(artifact)
    kept = len(index.samples(range(index.rows)))
    rejects = [json.loads(line) for line in _lines(artifact.data / "rejects.jsonl")]
    (facts,) = [part.facts for part in index.sources]
    if kept != facts["kept"] or len(rejects) != sum(facts["rejects"].values()):
        found.fault("rows", f"{kept} in the index, {len(rejects)} rejects, said: {facts}")
    if kept + len(rejects) != len(found.rows):
        found.fault("rows", f"{kept} in the index, {len(rejects)} rejects, {len(found.rows)} read")


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from file


def judge(mutant: Mutant, found: Found, clean: Found) -> list[tuple[str, str]]:
    """What went wrong, by all rules."""
    faults = list(found.faults)
    failed = bool(found.error)
    if mutant.rows is not None and not failed and len(found.rows) != mutant.rows:
        faults.append(("rows", f"{len(found.rows)} rows came, {mutant.rows} are in the file"))
    if mutant.fails == "must" and not failed:
        faults.append(("rows", "no error came of a source that cannot be read"))
    if mutant.fails == "never" and failed:
        faults.append(("rows", f"rows were lost to an error: {found.error}"))
    if mutant.touched is not None:
        pairs = zip(found.rows, clean.rows, strict=False)
        changed = [n for n, (is_, was) in enumerate(pairs) if is_ != was]
        astray = [n for n in changed if n not in mutant.touched]
        if astray:
            faults.append(
                ("changed", f"rows {astray[:8]} differ, {sorted(mutant.touched)} were touched")
            )
    return faults
