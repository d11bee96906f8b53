"""The tiny VLM's pre-training run: its settings, and the batches that each process draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo.gaze import answer_gaze
from demo.grounding_loss import cell_targets
from demo.packing import Batch, Packer
from demo.pretrain_data import read_shard

KIND_WEIGHT = {
    "point": 1.6,
    "spatial": 1.2,
    "read": 1.6,
    "chart": 1.0,
    "count": 1.0,
    "colour": 0.6,
    "caption": 0.5,
}
"""How often a question of a kind is drawn, relative to the others of its image."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run is made of; everything but the folders changes the result."""

    out: str
    """Model folder that the run (over)writes at each checkpoint."""
    work: str
    """Scratch folder: shards, tokenizer, state, log."""
    seed: int = 0
    minutes: float = 70.0
    """Training time over which the cosine runs; drawing is not counted."""
    shards: int = 40
    batch: int = 16
    """Images a step and process."""
    questions: int = 5
    """Questions an image and visit, at most."""
    chained: float = 0.1
    """Share of images whose questions form one conversation instead of independent ones."""
    vision_share: float = 0.28
    """First share of the training time: vision tower and projector alone learn from the grounding
    loss. A step costs half of a joint one, and the language model learns little before the visual
    tokens say what is where."""
    peak_lr: float = 2.5e-3
    warmup_steps: int = 100
    """At the start of each of the two phases."""
    weight_decay: float = 0.05
    clip: float = 1.0
    grounding: float = 0.3
    """Weight of the auxiliary loss on the visual tokens (grounding_loss.py)."""
    gaze: float = 0.3
    """Weight of the auxiliary loss on the attention of answer tokens (gaze.py)."""
    processes: int = 2
    checkpoint_seconds: float = 240.0


def batches(
    root: Path, packer: Packer, settings: Settings, rank: int, visit: int
) -> Iterator[tuple[int, Batch]]:
    """Endless (visit, batch): this process's shards in order, then again with other questions
    chosen."""
    while True:
        own = sorted(root.glob("shard-*"))[rank :: settings.processes]
        rng = np.random.default_rng([settings.seed, rank, visit])
        images, records = read_shard(own[visit % len(own)])
        order = rng.permutation(len(images))
        for at in range(0, len(order) - settings.batch + 1, settings.batch):
            rows = np.sort(order[at : at + settings.batch])
            groups = [_choose(rng, records[i]["questions"], settings.questions) for i in rows]
            segments = [[packer.segment(q, a) for _, q, a in group] for group in groups]
            packed = packer.pack(segments, (rng.random(len(rows)) < settings.chained).tolist())
            kinds = [
                k
                for group, parts in zip(groups, segments, strict=True)
                for (k, _, _), (ids, start) in zip(group, parts, strict=True)
                for _ in range(len(ids) - start)
            ]
            gaze = [
                answer_gaze(k, q, a, records[i]["marks"], len(ids) - start)
                for i, group, parts in zip(rows, groups, segments, strict=True)
                for (k, q, a), (ids, start) in zip(group, parts, strict=True)
            ]
            cells = [cell_targets(records[i]["marks"]) for i in rows]
            yield (
                visit,
                Batch(
                    images=images[rows],
                    packed=packed,
                    cells=cells,
                    kinds=kinds,
                    gaze=np.concatenate(gaze),
                ),
            )
        visit += 1


def _choose(rng: np.random.Generator, questions: list[list[str]], limit: int) -> list[list[str]]:
    weights = np.array([KIND_WEIGHT[k] for k, _, _ in questions])
    n = min(limit, len(questions))
    return [
        questions[i]
        for i in rng.choice(len(questions), size=n, replace=False, p=weights / weights.sum())
    ]
