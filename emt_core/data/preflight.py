"""A look at all sources before any model is loaded: counts, rejects, sizes, a few thumbnails.

Reads what the `sources` stage would read, with the same readers and checks, and writes nothing but
the contact sheets that are asked for.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from emt_core.data.images.decode import ImageProblem, image_size, open_image
from emt_core.data.readers import image_root, images_from, locate, read
from emt_core.data.sample import ImageRef, Reject, Sample
from emt_core.errors import EmtError, printable
from emt_core.recipe.sources import SourceConfig, SourcesConfig

if TYPE_CHECKING:
    from rich.console import RenderableType

EXAMPLES = 3
SHEET_IMAGES = 8
SHEET_PX = 160
TEXT_ONLY_RULE = (
    "{source}: {count:,} text-only rows get a score, but train no estimator and are not selected "
    "unless `include_text_only: true` stands at both"
)


@dataclass(kw_only=True)
class SourceReport:
    """What one source holds. Sizes: (width, height) in pixels; text: characters over all turns."""

    name: str
    role: str
    format: str
    seen: int = 0
    kept: int = 0
    complete: bool = True
    """False where `limit` stopped the look before the source's end."""

    text_only: int = 0
    multi_image: int = 0
    images: int = 0
    episodes: int = 0
    turns_most: int = 0
    text_chars: int = 0
    text_most: int = 0
    smallest: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None
    rejects: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> `row N: detail` of the first rows."""

    error: str = ""
    """Why the source cannot be read (on), where it cannot: what and what to do."""

    images_from: str = ""
    """Where image paths are taken from, and the option that says so."""

    tried: Path | None = None
    """The first image file that is not there."""

    sheet: Path | None = None
    """Contact sheet of the first images, one an episode."""


def preflight(
    config: SourcesConfig, base: Path, *, thumbnails: Path | None = None, limit: int | None = None
) -> list[SourceReport]:
    """One report per source, in order. A source that cannot be read has its error in its report.

    thumbnails: folder for one contact sheet a source (`NAME.webp`). limit: look at the first rows
    only.
    """
    return [_look(source, base, thumbnails, limit) for source in config.sources]


def _look(
    source: SourceConfig, base: Path, thumbnails: Path | None, limit: int | None
) -> SourceReport:
    report = SourceReport(name=source.name, role=source.role, format=source.format)
    shown: list[ImageRef] = []
    episodes: set[int] = set()
    try:
        data = locate(source, base)
        root = image_root(source, data)
        report.images_from = images_from(source, data)
        rows = iter(read(source, data))
        for row in islice(rows, limit):
            report.seen += 1
            found = _checked(row, root, source.max_pixels, report)
            if isinstance(found, Reject):
                _count_reject(found, report)
                continue
            _count_sample(found, report)
            first = found.images[0] if found.images and found.images[0].kind != "stream" else None
            new = first not in shown and (found.episode < 0 or found.episode not in episodes)
            if first is not None and new and len(shown) < SHEET_IMAGES:
                shown.append(first)
            if found.episode >= 0:
                episodes.add(found.episode)
        report.complete = limit is None or report.seen < limit or next(rows, None) is None
        if thumbnails is not None and shown:
            report.sheet = _contact_sheet(shown, root, source, thumbnails)
    except EmtError as error:
        report.error = error.message()
    report.episodes = len(episodes)
    return report


def _checked(
    row: Sample | Reject, root: Path, max_pixels: int, report: SourceReport
) -> Sample | Reject:
    """The sample, its images' sizes noted; or the Reject that the stage would make of it."""
    if isinstance(row, Reject):
        return row
    sizes = []
    at = root
    try:
        for ref in row.images:
            if ref.kind != "stream":
                at = root / ref.path
                sizes.append(image_size(ref, root, max_pixels))
    except ImageProblem as problem:
        if problem.reason == "missing_image" and not os.access(at, os.F_OK):
            report.tried = report.tried or at
        return Reject(
            source=row.source,
            row=row.row,
            reason=problem.reason,
            detail=problem.detail,
            own_id=row.own_id,
        )
    for size in sizes:
        area = size[0] * size[1]
        if report.smallest is None or area < report.smallest[0] * report.smallest[1]:
            report.smallest = size
        if report.largest is None or area > report.largest[0] * report.largest[1]:
            report.largest = size
    return row


def _count_sample(sample: Sample, report: SourceReport) -> None:
    chars = sum(len(turn.text) for turn in sample.turns)
    report.kept += 1
    report.text_only += sample.text_only
    report.multi_image += len(sample.images) > 1
    report.images += len(sample.images)
    report.turns_most = max(report.turns_most, len(sample.turns))
    report.text_chars += chars
    report.text_most = max(report.text_most, chars)


def _count_reject(reject: Reject, report: SourceReport) -> None:
    report.rejects[reject.reason] += 1
    examples = report.examples.setdefault(reject.reason, [])
    if len(examples) < EXAMPLES:
        examples.append(f"row {reject.row}: {reject.detail}")


def _contact_sheet(refs: list[ImageRef], root: Path, source: SourceConfig, folder: Path) -> Path:
    sheet = Image.new("RGB", (SHEET_PX * len(refs), SHEET_PX), "white")
    for place, ref in enumerate(refs):
        try:
            image = open_image(ref, root, source.max_pixels, at_least=SHEET_PX)
        except ImageProblem:  # the header was fine, the rest is not: its place stays white
            continue
        image.thumbnail((SHEET_PX, SHEET_PX))
        sheet.paste(image, (place * SHEET_PX, 0))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{source.name}.webp"
    sheet.save(path, "WEBP", quality=80)
    return path


def check(reports: Sequence[SourceReport], base: Path) -> None:
    """Raises EmtError where the sources stage would: an unreadable source, or no row left."""
    bad = [r.name for r in reports if r.error or (r.complete and not r.kept)]
    if bad:
        raise EmtError(
            f"{len(bad)} of {len(reports)} sources cannot be used as they are: {', '.join(bad)}",
            where=f"the list above; paths start from the recipe's base, {base}",
            remedy="mend each as the list says (a path: `base` or `path` in the recipe); --set "
            "sources.NAME.path=... tries another value",
        )


def render(reports: list[SourceReport]) -> RenderableType:
    """The reports as a table and notes for a terminal. Text from data is never read as markup."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("source", no_wrap=True)
    table.add_column("role, format")
    for name in ("rows", "rejected"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("holds", "text, characters", "images, pixels"):
        table.add_column(name)
    for report in reports:
        table.add_row(report.name, f"{report.role} {report.format}", *_numbers(report))
    notes: list[RenderableType] = [table]
    for report in reports:
        if report.role == "pool" and report.text_only:
            notes.append(Text(TEXT_ONLY_RULE.format(source=report.name, count=report.text_only)))
        for reason, count in report.rejects.most_common():
            notes.append(Text(f"{report.name}: {count:,} x {reason}", style="yellow"))
            notes.extend(Text(f"    {example}") for example in report.examples[reason])
        notes.extend(Text(f"    {line}") for line in _image_places(report))
        if report.error:
            notes.append(Text(f"{report.name}: {report.error}", style="red"))
        elif report.kept == 0:
            notes.append(
                Text(
                    f"{report.name}: no row survives; the sources stage will refuse it", style="red"
                )
            )
    folders = {report.sheet.parent for report in reports if report.sheet is not None}
    notes.extend(Text(f"first images of each source: {folder}") for folder in folders)
    return Group(*notes)


def _image_places(report: SourceReport) -> list[str]:
    """What helps where images are missing or lie outside their folder."""
    if not report.images_from or not {"missing_image", "bad_path"} & set(report.rejects):
        return []
    tried = [f"tried {printable(str(report.tried))}"] if report.tried else []
    return [*tried, report.images_from]


def _numbers(report: SourceReport) -> list[str]:
    rejected = report.rejects.total()
    sizes = [f"{size[0]}x{size[1]}" for size in (report.smallest, report.largest) if size]
    holds = {
        "episodes": report.episodes,
        "text only": report.text_only,
        "multi-image": report.multi_image,
        f"{'turn' if report.turns_most == 1 else 'turns'} at most": report.turns_most,
    }
    return [
        f"{report.seen:,}" + ("" if report.complete else "+"),
        f"{rejected:,} ({rejected / report.seen:.1%})" if rejected else "0",
        ", ".join(f"{count:,} {what}" for what, count in holds.items() if count),
        f"mean {report.text_chars / report.kept:,.0f}, max {report.text_most:,}"
        if report.kept
        else "",
        " to ".join(dict.fromkeys(sizes)),
    ]
