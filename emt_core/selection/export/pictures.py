"""The images of exported rows: their original bytes, beside the data or inside it.

Bytes are never recompressed. What has no encoded form of its own (a video frame, cameras in one
picture, an image of a stream) becomes PNG.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from emt_core.data.images.decode import DRAWN, ImageProblem, image_bytes
from emt_core.data.index import SourceRange
from emt_core.data.paths import inside, relative_path
from emt_core.data.readers.hf_stream import iter_stream_images
from emt_core.data.sample import ImageRef
from emt_core.errors import EmtError
from emt_core.recipe.sources import HFSource
from emt_core.selection.export.base import Picture, Row

MAX_PER_FOLDER = 1000


class Pictures:
    """One source at a time, rows in index order (a stream and a video are read forwards once)."""

    def __init__(self, folder: Path, *, inside: bool, link: bool) -> None:
        self.folder = folder
        self.inside = inside
        self.link = link
        self.counts: Counter[str] = Counter()
        """`files`, `links`, `copied_instead` (asked for a link, but the image has no file of its
        own), `png`."""
        self._stream: Iterator[tuple[int, list[Image.Image | ImageProblem]]] | None = None

    def begin(self, source: SourceRange, config: HFSource | None) -> None:
        """config: of a stream source, else None."""
        self.source = source
        self._stream = iter_stream_images(config, source.root) if config is not None else None

    def of(self, row: Row) -> list[Picture]:
        """Raises ImageProblem where one of them cannot be had."""
        streamed = self._streamed(row) if self._stream is not None and row.sample.images else None
        pictures = []
        for place, ref in enumerate(row.sample.images):
            if streamed is not None:
                self.counts["png"] += 1
                pictures.append(self._keep(row, place, streamed[place], ".png"))
            elif self.inside or ref.kind != "file":
                content, suffix = image_bytes(ref, self.source.root)
                self.counts["png"] += ref.kind in DRAWN
                pictures.append(self._keep(row, place, content, suffix))
            else:
                pictures.append(self._file(ref))
        return pictures

    def _keep(self, row: Row, place: int, content: bytes, suffix: str) -> Picture:
        if self.inside:
            return Picture(suffix=suffix, content=content)
        number = row.sample.row
        name = f"{number:09d}{f'-{place}' if len(row.sample.images) > 1 else ''}{suffix}"
        path = Path("images") / self.source.name / f"{number // MAX_PER_FOLDER:06d}" / name
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        self.counts["files"] += 1
        self.counts["copied_instead"] += self.link
        return Picture(suffix=suffix, path=path.as_posix())

    def _file(self, ref: ImageRef) -> Picture:
        """A plain image file keeps its path below its source's root; rows share one copy of it."""
        path = Path("images") / self.source.name / relative_path(ref.path, self.source.root)
        target = self.folder / path
        origin = inside(self.source.root, ref.path)
        if not target.is_symlink() and not target.exists():
            content, _ = image_bytes(ref, self.source.root)  # also the check that it is an image
            target.parent.mkdir(parents=True, exist_ok=True)
            if self.link:
                target.symlink_to(origin.resolve())
                self.counts["links"] += 1
            else:
                target.write_bytes(content)
                self.counts["files"] += 1
        return Picture(suffix=target.suffix, path=path.as_posix())

    def _streamed(self, row: Row) -> list[bytes]:
        assert self._stream is not None
        for number, images in self._stream:
            if number == row.sample.row:
                return [_png(image) for image in images]
        raise EmtError(
            f"the stream of source {self.source.name!r} ends before row {row.sample.row:,}",
            where="export",
            remedy="it has changed since sources ran: run sources again",
        )


def _png(image: Image.Image | ImageProblem) -> bytes:
    if isinstance(image, ImageProblem):
        raise image
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return encoded.getvalue()
