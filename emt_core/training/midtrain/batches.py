"""Samples of a selection as micro-batches, read where they lie: nothing is tokenized beforehand.

A step's samples come from order.py. They are sorted by expected length (less padding), cut
into chunks of at most `micro` samples, the same number for every rank, and worker processes make a
chunk a micro-batch: look rows up in the index, decode images, tokenize. Chunks depend on step,
seed, batch, micro and the number of ranks; the number of workers changes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Sequence
from copy import copy
from typing import Any

import numpy as np

from emt_core.data.index import Index
from emt_core.data.sample import Sample, Turn
from emt_core.errors import EmtError
from emt_core.models.images import decoded_images
from emt_core.models.prepared import Refused
from emt_core.models.refusals import ProcessorFails
from emt_core.models.vlm.chat import PRELOAD
from emt_core.models.workers import in_order
from emt_core.training.midtrain.conversations import ConversationPreparer
from emt_core.training.midtrain.micro_batch import IGNORE, MicroBatch, Plan, TrainingItem, collate
from emt_core.training.midtrain.order import MixedStream, ShuffledStream
from emt_core.workspace.artifact import Artifact

CHARACTERS_AN_IMAGE = 1024
"""An image counts as this many characters when samples are sorted by length (256 tokens of 4)."""


class Selection:
    """The chosen rows of an index, as training items. A worker process opens the index itself."""

    def __init__(
        self,
        sources: Artifact,
        rows: np.ndarray,
        preparer: ConversationPreparer,
        *,
        max_images: int,
        always_image: bool = False,
    ) -> None:
        """rows: int64 [n] index rows, in any order; 8 bytes a sample are all that is held.
        always_image: passes of text alone get a blank image (`with_unlearned`)."""
        self.sources = sources
        self.rows = rows
        self.preparer = preparer
        self.max_images = max_images
        self.always_image = always_image
        self._index: Index | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def index(self) -> Index:
        if self._index is None:
            self._index = Index(self.sources)
        return self._index

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_index": None}

    def expected_lengths(self) -> np.ndarray:
        """int32 [n]: what a step's samples are sorted by; characters and images, roughly."""
        characters = self.index.table.column("text_chars")[self.rows]
        images = np.minimum(self.index.table.column("n_images")[self.rows], self.max_images)
        return (np.minimum(characters, 1 << 24) + CHARACTERS_AN_IMAGE * images).astype(np.int32)

    def items(
        self, places: Sequence[int] | np.ndarray
    ) -> Iterator[TrainingItem | tuple[str, Refused]]:
        """The samples at these places of `rows`, or (id, why not), in this order."""
        rows = self.rows[np.asarray(places, np.int64)]
        for row, sample in zip(rows.tolist(), self.index.samples(rows), strict=True):
            try:
                images = self._images(row, sample)  # a folder that is gone ends the run
            except Refused as refused:
                yield sample.id, refused
                continue
            try:
                yield self.preparer.prepare(sample, images)
            except Refused as refused:
                yield sample.id, refused
            except ProcessorFails:
                raise
            except EmtError as error:  # one odd sample is no reason to stop; many are (rejects.py)
                yield sample.id, Refused("template_not_understood", error.what)

    def _images(self, row: int, sample: Sample) -> list[Any]:
        if len(sample.images) > self.max_images:
            raise Refused("too_many_images", f"{len(sample.images)} images")
        source = self.index.source_of(row)
        return decoded_images(sample, source.root, source.max_pixels, self.max_images)

    def micro_batch(self, places: Sequence[int]) -> MicroBatch:
        """The samples at these places as one batch, with the ids of those that were left out."""
        items: list[TrainingItem] = []
        rejected: list[dict[str, str]] = []
        for item in self.items(places):
            if isinstance(item, TrainingItem):
                items.append(item)
            else:
                sample_id, refused = item
                rejected.append(
                    {"id": sample_id, "reason": refused.reason, "detail": refused.detail}
                )
        blank = self.always_image and not any(item.vision for item in items)
        if blank or not items:
            batch = with_unlearned(items, self.preparer, image=blank)
        else:
            batch = collate(items, self.preparer.pad)
        batch.rejected = rejected
        return batch


class Feed:
    """The stream of micro-batches from a step on. Use `steps`; workers end with the iterator."""

    def __init__(
        self, selection: Selection, *, seed: int, workers: int, mixed: MixedStream | None = None
    ) -> None:
        """mixed: where the last of the selection's rows are general samples."""
        self.selection = selection
        self.workers = workers
        self.stream = mixed or ShuffledStream(len(selection), seed)
        self.lengths = selection.expected_lengths()

    def steps(self, start: int, stop: int, plan: Plan) -> Generator[list[MicroBatch], None, None]:
        """The micro-batches of steps start..stop-1 (steps count from 1): `plan.passes` a step."""
        chunks = (
            chunk.tolist() for step in range(start, stop) for chunk in self.places(step, plan)
        )
        passes: list[MicroBatch] = []
        for micro in in_order(self.selection.micro_batch, chunks, self.workers, preload=PRELOAD):
            passes.append(micro)
            if len(passes) == plan.passes:
                yield passes
                passes = []

    def places(self, step: int, plan: Plan) -> list[np.ndarray]:
        """This rank's share of a step, sorted by expected length, in `plan.passes` chunks."""
        chosen = self.stream.step(step, plan.batch)
        return plan.chunks(chosen[np.argsort(self.lengths[chosen], kind="stable")])


def with_unlearned(
    items: Sequence[TrainingItem], preparer: ConversationPreparer, *, image: bool
) -> MicroBatch:
    """The items (none, or text alone) and one more row that is neither learned from nor counted.

    Every rank has to take part in every pass, so one without items cannot be left out. image: the
    row has a blank one. FSDP gathers the vision encoder's weights on all ranks at once: a rank
    whose pass left it out would be waited for without end. The row's own gradient is zero, because
    no label looks at it.
    """
    from PIL import Image

    turns = (
        Turn(role="user", text="<image>\n." if image else "."),
        Turn(role="assistant", text="."),
    )
    sample = Sample(source="", row=0, role="pool", turns=turns)
    # a cutoff that every sample exceeds must not stop the pass that makes up for them
    unbound = copy(preparer)
    unbound.cutoff = sys.maxsize
    row = unbound.prepare(sample, [Image.new("RGB", (32, 32))] if image else [])
    row.labels.fill(IGNORE)
    batch = collate([*items, row], preparer.pad)
    batch.ids.pop()
    batch.tokens -= row.length
    return batch
