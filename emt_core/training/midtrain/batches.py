"""Samples of a selection, read where they lie, as micro-batches: nothing is tokenised or copied beforehand.

A step's samples come from ShuffledStream. They are sorted by expected length (less padding), cut into chunks of at
most `micro` samples, the same number for every rank, and each chunk is one item of a torch DataLoader: its workers
look rows up in the index, decode images and tokenise. Chunks depend on step, seed, batch, micro and the number of
ranks; the number of workers changes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.data.images.decode import ImageProblem, open_images
from emt_core.data.index import Index
from emt_core.errors import EmtError
from emt_core.training.midtrain.conversations import (
    IGNORE,
    ConversationPreparer,
    Refused,
    TrainingItem,
)
from emt_core.training.midtrain.order import ShuffledStream

if TYPE_CHECKING:
    import torch

    from emt_core.data.sample import Sample
    from emt_core.workspace.artifact import Artifact

CHARACTERS_AN_IMAGE = 1024
"""An image counts as this many characters when a step's samples are sorted by length (256 tokens of 4)."""

DEFAULT_MAX_PIXELS = 50_000_000


@dataclass(kw_only=True)
class MicroBatch:
    """Padded on the right. inputs: arguments of the decoder stack, `attention_mask` among them; labels int64 [n, t]."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    ids: list[str]
    tokens: int
    """Without padding."""

    supervised: int
    """Labels that are learned (the first token of a sequence cannot be)."""

    rejected: list[dict[str, str]] = field(default_factory=list)
    """{"id", "reason", "detail"} of samples that were left out."""


class Selection:
    """The chosen rows of an index, as training items. Goes to worker processes: it opens the index there."""

    def __init__(
        self,
        sources: Artifact,
        rows: np.ndarray,
        preparer: ConversationPreparer,
        *,
        max_images: int,
        always_image: bool = False,
    ) -> None:
        """rows: int64 [n] index rows, in any order; 8 bytes a sample are all that is held. always_image: passes of
        text alone get a blank image (`with_unlearned`)."""
        self.sources, self.rows, self.preparer, self.max_images = (
            sources,
            rows,
            preparer,
            max_images,
        )
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
                yield self.preparer.prepare(sample, self._images(row, sample))
            except Refused as refused:
                yield sample.id, refused
            except ImageProblem as problem:
                yield sample.id, Refused(problem.reason, problem.detail)
            except EmtError as error:  # one odd sample is no reason to stop; many are (rejects.py)
                yield sample.id, Refused("template_not_understood", error.what)

    def _images(self, row: int, sample: Sample) -> list[Any]:
        if len(sample.images) > self.max_images:
            raise Refused("too_many_images", f"{len(sample.images)} images")
        source = self.index.source_of(row)
        bound = source.facts.get("max_pixels", DEFAULT_MAX_PIXELS)
        found = open_images(sample.images, source.root, bound) if sample.images else []
        for image in found:
            if isinstance(image, ImageProblem):
                raise image
        return found


def collate(items: Sequence[TrainingItem], pad: int) -> MicroBatch:
    """One padded batch. pad: id that fills `input_ids`; it is masked and unlabelled, so any will do."""
    import torch

    longest = max(item.length for item in items)
    mask = torch.zeros(len(items), longest, dtype=torch.long)
    labels = torch.full((len(items), longest), IGNORE, dtype=torch.long)
    inputs: dict[str, torch.Tensor] = {
        name: torch.full((len(items), longest), pad if name == "input_ids" else 0, dtype=torch.long)
        for name in items[0].tokens
    }
    for row, item in enumerate(items):
        mask[row, : item.length] = 1
        labels[row, : item.length] = torch.from_numpy(item.labels)
        for name, value in item.tokens.items():
            inputs[name][row, : item.length] = torch.from_numpy(value)
    for name in sorted({name for item in items for name in item.vision}):
        inputs[name] = torch.from_numpy(
            np.concatenate([item.vision[name] for item in items if name in item.vision])
        )
    return MicroBatch(
        inputs={**inputs, "attention_mask": mask},
        labels=labels,
        ids=[item.id for item in items],
        tokens=int(mask.sum()),
        supervised=int((labels[:, 1:] != IGNORE).sum()),
    )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a global batch is cut up. micro: samples a pass at the most; world, rank: of the processes."""

    batch: int
    micro: int
    world: int = 1
    rank: int = 0

    @property
    def passes(self) -> int:
        """Accumulated passes a step, the same on every rank."""
        return -(-self.batch // (self.world * self.micro))

    def chunks(self, places: np.ndarray) -> list[np.ndarray]:
        """This rank's share of a step's places, `passes` chunks; some are empty where the batch is small."""
        return np.array_split(places, self.world * self.passes)[self.rank :: self.world]


class Feed:
    """The stream of micro-batches from a step on. Use `steps`; workers end with the iterator."""

    def __init__(self, selection: Selection, *, seed: int, workers: int) -> None:
        self.selection, self.workers = selection, workers
        self.stream = ShuffledStream(len(selection), seed)
        self.lengths = selection.expected_lengths()

    def steps(self, start: int, stop: int, plan: Plan) -> Iterator[list[MicroBatch]]:
        """The micro-batches of steps start..stop-1 (steps count from 1), a list of `plan.passes` a step."""
        from torch.utils.data import DataLoader

        loader = DataLoader(
            _Chunks(self.selection),  # pyright: ignore[reportArgumentType]
            sampler=_Keys(self, start, stop, plan),  # pyright: ignore[reportArgumentType]
            batch_size=None,
            num_workers=self.workers,
            # Lance and OpenMP threads do not survive a plain fork
            multiprocessing_context="forkserver" if self.workers else None,
            prefetch_factor=2 if self.workers else None,
        )
        passes: list[MicroBatch] = []
        for micro in loader:
            passes.append(micro)
            if len(passes) == plan.passes:
                yield passes
                passes = []

    def places(self, step: int, plan: Plan) -> list[np.ndarray]:
        chosen = self.stream.step(step, plan.batch)
        return plan.chunks(chosen[np.argsort(self.lengths[chosen], kind="stable")])


@dataclass
class _Keys:
    """The DataLoader's sampler: the places of each chunk to come."""

    feed: Feed
    start: int
    stop: int
    plan: Plan

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.stop):
            for chunk in self.feed.places(step, self.plan):
                yield chunk.tolist()

    def __len__(self) -> int:
        return max(self.stop - self.start, 0) * self.plan.passes


class _Chunks:
    """The DataLoader's dataset: places -> a micro-batch."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection

    def __getitem__(self, places: list[int]) -> MicroBatch:
        items: list[TrainingItem] = []
        rejected: list[dict[str, str]] = []
        for found in self.selection.items(places):
            if isinstance(found, TrainingItem):
                items.append(found)
            else:
                sample_id, refused = found
                rejected.append(
                    {"id": sample_id, "reason": refused.reason, "detail": refused.detail}
                )
        preparer = self.selection.preparer
        pad = preparer.tokenizer.pad_token_id or 0
        blank = self.selection.always_image and not any(item.vision for item in items)
        batch = (
            with_unlearned(items, preparer, pad, image=blank)
            if blank or not items
            else collate(items, pad)
        )
        batch.rejected = rejected
        return batch


def with_unlearned(
    items: Sequence[TrainingItem], preparer: ConversationPreparer, pad: int, *, image: bool
) -> MicroBatch:
    """The items (none, or text alone) and one more row that is neither learned from nor counted.

    Every rank has to take part in every pass, so one without items cannot be left out. image: the row has a blank one.
    FSDP gathers the vision encoder's weights on all ranks at once: a rank whose pass left it out would be waited for
    without end. The row's own gradient is zero, because no label looks at it.
    """
    from PIL import Image

    from emt_core.data.sample import Sample, Turn

    turns = (
        Turn(role="user", text="<image>\n." if image else "."),
        Turn(role="assistant", text="."),
    )
    sample = Sample(source="", row=0, role="pool", turns=turns)
    unbound = copy(preparer)
    unbound.cutoff = (
        sys.maxsize
    )  # a cutoff that every sample exceeds must not stop the pass that makes up for them
    row = unbound.prepare(sample, [Image.new("RGB", (32, 32))] if image else [])
    row.labels.fill(IGNORE)
    batch = collate([*items, row], pad)
    batch.ids.pop()
    batch.tokens -= row.length
    return batch
