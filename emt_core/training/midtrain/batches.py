"""Samples of a selection as micro-batches, read where they lie: nothing is tokenized beforehand.

A step's samples come from order.py. They are sorted by expected length (less padding), cut
into chunks of at most `micro` samples, the same number for every rank, and worker processes make a
chunk a micro-batch: look rows up in the index, decode images, tokenize. With packing a chunk is
what is expected to fill `micro` rows of `cutoff` tokens. Chunks depend on step, seed, batch, micro
and the number of ranks; the number of workers changes nothing.
"""

from __future__ import annotations

import sys
from collections import deque
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
from emt_core.training.midtrain.packing import collate_packed, rows_of
from emt_core.workspace.artifact import Artifact

CHARACTERS_AN_IMAGE = 1024
"""An image counts as this many characters when samples are sorted by length (256 tokens of 4)."""

PROBED_SAMPLES = 64
"""Samples whose words are tokenized beforehand, where packing has to know how long rows will be."""


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
        packing: bool = False,
    ) -> None:
        """rows: int64 [n] index rows, in any order; 8 bytes a sample are all that is held.
        always_image: passes of text alone get a blank image (`with_unlearned`). packing: samples
        share rows (packing.py)."""
        self.sources = sources
        self.rows = rows
        self.preparer = preparer
        self.max_images = max_images
        self.always_image = always_image
        self.packing = packing
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

    def expected_tokens(self) -> np.ndarray:
        """int32 [n], at most the cutoff: what packing fills rows by.

        From the tokens of an image of 448 px, of a template, and of words a character in
        PROBED_SAMPLES samples of the selection.
        """
        spread = np.linspace(0, len(self) - 1, min(PROBED_SAMPLES, len(self))).astype(np.int64)
        rows = np.sort(self.rows[spread])
        texts = [" ".join(t.text for t in sample.turns) for sample in self.index.samples(rows)]
        found = self.preparer.processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
        of_words = sum(map(len, found)) / max(sum(map(len, texts)), 1)
        empty, of_image = blank_lengths(self.preparer)
        characters = self.index.table.column("text_chars")[self.rows]
        images = np.minimum(self.index.table.column("n_images")[self.rows], self.max_images)
        tokens = empty + of_words * characters + of_image * images
        return np.minimum(tokens, self.preparer.cutoff).astype(np.int32)

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
            batch = with_unlearned(items, self.preparer, image=blank, packing=self.packing)
        else:
            batch = batch_of(items, self.preparer, packing=self.packing)
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
        self.lengths = (
            selection.expected_tokens() if selection.packing else selection.expected_lengths()
        )

    def steps(self, start: int, stop: int, plan: Plan) -> Generator[list[MicroBatch], None, None]:
        """The micro-batches of steps start..stop-1 (steps count from 1), as many on every rank."""
        passes_of: deque[int] = deque()

        def chunks() -> Iterator[list[int]]:
            for step in range(start, stop):
                own = self.places(step, plan)
                passes_of.append(len(own))
                yield from (chunk.tolist() for chunk in own)

        passes: list[MicroBatch] = []
        for micro in in_order(self.selection.micro_batch, chunks(), self.workers, preload=PRELOAD):
            passes.append(micro)
            if len(passes) == passes_of[0]:
                yield passes
                passes_of.popleft()
                passes = []

    def places(self, step: int, plan: Plan) -> list[np.ndarray]:
        """This rank's chunks of a step; an empty one where another rank has one more."""
        chosen = self.stream.step(step, plan.batch)
        if self.selection.packing:
            return self._packed(chosen, plan)
        return plan.chunks(chosen[np.argsort(self.lengths[chosen], kind="stable")])

    def _packed(self, chosen: np.ndarray, plan: Plan) -> list[np.ndarray]:
        """Chunks that are expected to fill at most `plan.micro` rows."""
        rows = rows_of(self.lengths[chosen], self.selection.preparer.cutoff)
        passes = -(-len(rows) // (plan.world * plan.micro))
        parts = np.array_split(np.arange(len(rows)), plan.world * passes)
        own = parts[plan.rank :: plan.world]
        return [chosen[[place for row in part for place in rows[row]]] for part in own]


def blank_lengths(preparer: ConversationPreparer) -> tuple[int, int]:
    """(tokens of a conversation of two full stops, tokens that an image of 448 px adds)."""
    lengths = [_blank(preparer, 448 * image).length for image in (0, 1)]
    return lengths[0], lengths[1] - lengths[0]


def _blank(preparer: ConversationPreparer, side: int) -> TrainingItem:
    """A sample without content, with a blank image where `side` is not 0, beyond any cutoff."""
    from PIL import Image

    turns = (
        Turn(role="user", text="<image>\n." if side else "."),
        Turn(role="assistant", text="."),
    )
    sample = Sample(source="", row=0, role="pool", turns=turns)
    unbound = copy(preparer)
    unbound.cutoff = sys.maxsize
    return unbound.prepare(sample, [Image.new("RGB", (side, side))] if side else [])


def batch_of(
    items: Sequence[TrainingItem], preparer: ConversationPreparer, *, packing: bool
) -> MicroBatch:
    if packing:
        return collate_packed(items, preparer.pad, preparer.cutoff)
    return collate(items, preparer.pad)


def with_unlearned(
    items: Sequence[TrainingItem],
    preparer: ConversationPreparer,
    *,
    image: bool,
    packing: bool = False,
) -> MicroBatch:
    """The items (none, or text alone) and one more that is neither learned from nor counted.

    Every rank has to take part in every pass, so one without items cannot be left out. image: the
    item has a blank one. FSDP gathers the vision encoder's weights on all ranks at once: a rank
    whose pass left it out would be waited for without end. The item's own gradient is zero, because
    no label looks at it.
    """
    # whatever the cutoff: the pass makes up for samples that did not fit
    item = _blank(preparer, 32 if image else 0)
    item.labels.fill(IGNORE)
    batch = batch_of([*items, item], preparer, packing=packing)
    batch.ids.pop()
    batch.tokens -= item.length
    return batch
