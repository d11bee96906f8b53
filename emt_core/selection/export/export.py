"""Write a selection in a trainer's format, with a file beside it that says where it comes from.

<out>/provenance.json      selection, recipe, config, everything it was made from, counts, versions,
                           command, date
<out>/left_out.jsonl       selected rows that could not be written, each with its reason; only where
                           there are any
<out>/...                  the format's own files (its module in this folder)

Everything is written into a folder beside `out` and renamed at the end, so `out` is either complete
or not there.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from emt_core.data.images.decode import ImageProblem, check_folder
from emt_core.data.index import Index
from emt_core.errors import EmtError
from emt_core.recipe.sources import HFSource
from emt_core.selection.export import open_exporter
from emt_core.selection.export.base import Exporter, Row
from emt_core.selection.export.pictures import Pictures
from emt_core.selection.export.provenance import (
    backbone_of,
    label_of,
    provenance_of,
    trackers_of,
)
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.files import read_json, write_json
from emt_core.workspace.machine_faults import machine_faults_told
from emt_core.workspace.progress import Progress, Tracker

READ_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    out: Path
    format: str
    written: int
    left_out: dict[str, int]
    """Reason -> rows that were selected but could not be written."""
    sources: dict[str, int]
    categories: dict[str, int]
    images: dict[str, int]
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        lines = [f"wrote {self.written:,} samples as {self.format} to {self.out}"]
        if self.left_out:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.left_out.items())
            lines.append(f"left out: {reasons} (see left_out.jsonl)")
        if self.images.get("copied_instead"):
            lines.append(
                f"{self.images['copied_instead']:,} images have no file of their own: copied, not "
                "linked"
            )
        return "\n".join(lines + self.notes)


def find_selection(workspace: Workspace, name: str | None = None) -> Artifact:
    """A finished selection by label (`select.top`, `top`), key or start of a key.

    The only one where `name` is None. Raises EmtError where it names none or several.
    """
    selections = workspace.artifacts("select")
    labels: dict[str, set[str]] = {}
    for state in sorted((workspace.path / "state").glob("*.json")):
        for label, key in read_json(state).items():
            if workspace.find("select", key) is not None:
                labels.setdefault(label, set()).add(key)
    if not selections:
        raise EmtError(
            "this workspace has no selection yet",
            where=workspace.path,
            remedy="emt run RECIPE, or emt select",
        )
    if name is None:
        keys = {artifact.key for artifact in selections}
    else:
        by_key = {artifact.key for artifact in selections if artifact.key.startswith(name)}
        keys = labels.get(name) or labels.get(f"select.{name}") or by_key
    if len(keys) == 1:
        found = workspace.find("select", keys.pop())
        assert found is not None
        return found
    known = []
    for artifact in selections:
        names = [label for label, of_label in labels.items() if artifact.key in of_label]
        known.append(f"{artifact.key} ({', '.join(names) or 'no label'})")
    problem = f"{name!r} names {len(keys)} selections"
    if name is None:
        problem = "there are several selections"
    raise EmtError(problem, where=workspace.path, remedy=f"name one of: {'; '.join(known)}")


def export_selection(
    workspace: Workspace,
    selection: Artifact,
    *,
    format: str = "llamafactory",
    out: Path,
    images: str = "copy",
    backbone: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> ExportReport:
    """Stream a selection into `out`, rows in index order: archives and videos are read once.

    images: `copy`, `link` (symbolic links to plain files, copies of what lies inside an archive) or
    `embed`. backbone: model of the training file; None: the recipe's. overwrite: replace an earlier
    export in `out`. Raises EmtError where `out` is not empty, the format or backbone is unknown, or
    nothing could be written.
    """
    out = Path(out).expanduser().absolute()
    _check_out(out, overwrite)
    backbone = backbone if backbone is not None else backbone_of(workspace, selection)
    with machine_faults_told(out, again="run the same command again"), _aside(out) as aside:
        facts: dict[str, Any] = {
            "backbone": backbone,
            "name": label_of(selection),
            "key": selection.key,
            "report_to": trackers_of(workspace, selection),
        }
        facts["out"] = out
        exporter = open_exporter(format, aside, images=images, facts=facts)
        pictures = Pictures(aside, inside=exporter.inside, link=images == "link")
        report = _write(
            workspace, selection, exporter, pictures, format=format, out=out, quiet=quiet
        )
        provenance = provenance_of(workspace, selection)
        provenance["images"] = {"asked": images, **report.images}
        provenance["backbone"] = backbone
        for name in ("format", "written", "left_out", "sources", "categories"):
            provenance[name] = getattr(report, name)
        write_json(aside / "provenance.json", provenance)
        _put_in_place(aside, out)
    return report


@contextmanager
def _aside(out: Path) -> Iterator[Path]:
    """A folder beside `out`, removed at the end. What killed exports left there is removed first.

    Held by a lock that the kernel frees when the process dies: an export under way is left alone.
    """
    for left in out.parent.glob(f".{glob.escape(out.name)}.*.*"):
        if re.fullmatch(r"\.\d+\.(partial|old)", left.name.removeprefix(f".{out.name}")):
            with suppress(OSError), _locked(left):
                shutil.rmtree(left)
    aside = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        aside.mkdir(parents=True)
        with _locked(aside):
            yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raises BlockingIOError where another process has it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _check_out(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise EmtError("the export folder is a file", where=out, remedy="name a folder")
    if not any(out.iterdir()):
        return
    if not overwrite:
        raise EmtError(
            "the export folder is not empty",
            where=out,
            remedy="name another one, or pass --overwrite",
        )
    if not (out / "provenance.json").is_file():
        raise EmtError(
            "the folder holds something that is not an export, so it is not overwritten",
            where=out,
            remedy="name another folder, or empty this one yourself",
        )


def _put_in_place(aside: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    if out.exists():
        out.rename(old)
    aside.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _write(
    workspace: Workspace,
    selection: Artifact,
    exporter: Exporter,
    pictures: Pictures,
    *,
    format: str,
    out: Path,
    quiet: bool,
) -> ExportReport:
    index = Index(workspace.parents(selection)["sources"])
    columns = ["row", "rank", "logit", "category"]
    selected = pq.read_table(selection.data / "selected.parquet", columns=columns)
    left_out: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    categories: Counter[str] = Counter()
    rejects = exporter.folder / "left_out.jsonl"
    with (
        Progress(label="export", quiet=quiet).track(format, selected.num_rows) as tracker,
        rejects.open("w", encoding="utf-8") as kept,
    ):
        for row in _rows(index, selected, pictures, tracker):
            reason = detail = exporter.problem(row.sample)
            if reason is None:
                try:
                    exporter.write(row, pictures.of(row))
                except ImageProblem as problem:
                    root = index.source_of(row.sample.row).root
                    for ref in row.sample.images:
                        check_folder(ref, root, problem)
                    reason = problem.reason
                    detail = problem.detail
            if reason is None:
                sources[row.sample.source] += 1
                categories[row.category] += 1
            else:
                left_out[reason] += 1
                line = {"id": row.sample.id, "reason": reason, "detail": detail}
                kept.write(json.dumps(line, ensure_ascii=False) + "\n")
    if not left_out:
        rejects.unlink()
    if not sources:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in left_out.items())
        raise EmtError(f"no selected sample could be written: {reasons}", where="export")
    notes = exporter.close()
    return ExportReport(
        out=out,
        format=format,
        written=sum(sources.values()),
        left_out=dict(left_out.most_common()),
        sources=dict(sources.most_common()),
        categories=dict(categories.most_common()),
        images={name: count for name, count in pictures.counts.items() if count},
        notes=notes,
    )


def _rows(index: Index, selected: Any, pictures: Pictures, tracker: Tracker) -> Iterator[Row]:
    """Selected rows in index order, READ_ROWS samples in memory at a time."""
    row = selected.column("row").to_numpy()
    rank = selected.column("rank").to_numpy()
    logit = selected.column("logit").to_numpy()
    category = selected.column("category").combine_chunks()
    order = np.argsort(row)
    configs = index.artifact.config.get("sources", [])
    streams = {c["name"]: HFSource(**c) for c in configs if c.get("streaming")}
    for source in index.sources:
        first, last = np.searchsorted(row[order], [source.start, source.stop])
        pictures.begin(source, streams.get(source.name))
        for start in range(first, last, READ_ROWS):
            block = order[start : min(start + READ_ROWS, last)]
            for place, sample in zip(block.tolist(), index.samples(row[block]), strict=True):
                yield Row(
                    sample=sample,
                    index_row=int(row[place]),
                    rank=int(rank[place]),
                    logit=float(logit[place]) if np.isfinite(logit[place]) else None,
                    category=category[place].as_py(),
                )
                tracker.advance()
