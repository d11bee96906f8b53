"""Images of a source without random access, met in step with its samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from emt_core.data.index import Index, SourceRange
from emt_core.data.sample import Sample
from emt_core.errors import EmtError
from emt_core.models.encoders.reuse import source_config


class StreamedImages:
    """One pass over a source's stream, begun with the first sample asked for."""

    def __init__(self, index: Index, source: SourceRange) -> None:
        self._index, self._source = index, source
        self._images: Iterator[tuple[int, list[Any]]] | None = None

    def of(self, sample: Sample) -> list[Any] | None:
        """Images or ImageProblems of a sample; ask in row order. None where they have random access, or it has none.

        Raises EmtError where the stream has fewer rows than the index.
        """
        if not sample.images or sample.images[0].kind != "stream":
            return None
        if self._images is None:
            from emt_core.data.readers.hf_stream import iter_stream_images
            from emt_core.recipe.sources import HFSource

            config = HFSource.model_validate(source_config(self._index, self._source))
            self._images = iter_stream_images(config, self._source.root)
        for row, images in self._images:
            if row == sample.row:
                return images
        raise EmtError(
            "the stream ends before the row that the index has",
            where=sample.id,
            remedy="the data set changed since `sources` read it: run again with a pinned revision",
        )
