"""A sample's images, decoded for a model: by reference, or from a stream without random access."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_core.data.images.decode import ImageProblem, open_images
from emt_core.data.index import Index, SourceRange
from emt_core.data.sample import Sample
from emt_core.errors import EmtError
from emt_core.models.prepared import Refused

if TYPE_CHECKING:
    from PIL import Image


def decoded_images(
    sample: Sample,
    root: Path,
    max_pixels: int,
    max_images: int,
    streamed: Sequence[Image.Image | ImageProblem] | None = None,
) -> list[Image.Image]:
    """The first `max_images` images. Raises Refused where one of them cannot be had.

    root: the source's folder. streamed: the images where the source is a stream (StreamedImages).
    """
    if streamed is None:
        streamed = open_images(sample.images[:max_images], root, max_pixels)
    shown: list[Image.Image] = []
    for image in streamed[:max_images]:
        if isinstance(image, ImageProblem):
            raise Refused(image.reason, image.detail)
        shown.append(image)
    return shown


class StreamedImages:
    """One pass over a source's stream, begun with the first sample asked for."""

    def __init__(self, index: Index, source: SourceRange) -> None:
        self._index = index
        self._source = source
        self._images: Iterator[tuple[int, list[Any]]] | None = None

    def of(self, sample: Sample) -> list[Any] | None:
        """Images or ImageProblems of a sample; ask in row order.

        None where they have random access, or it has none. Raises EmtError where the stream has
        fewer rows than the index.
        """
        if not sample.images or sample.images[0].kind != "stream":
            return None
        if self._images is None:
            from emt_core.data.readers.hf_stream import iter_stream_images
            from emt_core.recipe.sources import HFSource

            config = HFSource.model_validate(self._index.config_of(self._source))
            self._images = iter_stream_images(config, self._source.root)
        for row, images in self._images:
            if row == sample.row:
                return images
        raise EmtError(
            "the stream ends before the row that the index has",
            where=sample.id,
            remedy="the data set changed since `sources` read it: run again with a pinned revision",
        )
