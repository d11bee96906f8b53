"""Composes the demo's pool: which question of which image becomes a row of which source.

Style (who drew the pixels) and content (what is asked) are crossed on purpose: every source with
images from a simulator also has rows that only describe, count or read, and two sources without a
simulator have pointing and spatial rows. A proximity estimator that scored by recognising a
renderer would be visible at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from demo.odd_rows import several_images, text_only
from demo.sample import DemoSample
from emt_core.errors import EmtError

if TYPE_CHECKING:
    from PIL import Image

POOL_SEED = 2026
"""The drawn generators' seed for the pool; the tiny VLM's pre-training and probe use others."""

SIMULATOR_SEED = 1
"""The rendered scenes' seed. The tiny VLM never sees a rendered image, so it needs no distance from
anything."""

IMAGE_PLACEHOLDER = "<image>"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One conversation of the pool, before a format is chosen."""

    own_id: str
    images: tuple[tuple[str, Image.Image], ...]
    """(key, RGB image): rows that share a key share the file."""
    turns: tuple[tuple[str, str], ...]
    """(question, answer); the first question has one placeholder per image."""
    kind: str
    style: str
    content: str

    def factors(self) -> dict[str, str]:
        """What every format stores beside the conversation."""
        return {"style": self.style, "content": self.content, "kind": self.kind}


@dataclass(frozen=True, kw_only=True)
class SourcePlan:
    """What one source of the pool holds."""

    name: str
    format: str
    """A key of pool_formats.WRITERS."""
    families: tuple[str, ...]
    """Generators, taking turns; those of a simulator are `tabletop` and `metaworld`."""
    style: str
    quotas: dict[str, int]
    """Rows by kind."""
    per_image: int = 3
    """Rows an image may give."""
    multi_turn: float = 0.0
    """Share of images whose rows of one content become a single conversation."""
    several_images: int = 0
    """Further rows about two or three images."""
    text_only: int = 0
    """Further rows without an image."""
    repeated_ids: int = 0
    """Rows that carry an earlier row's id, as in LLaVA's own files."""


PLANS: tuple[SourcePlan, ...] = (
    SourcePlan(
        name="things",
        format="llava",
        families=("things",),
        style="plain",
        quotas={"caption": 250, "count": 190, "colour": 120, "point": 190, "spatial": 160},
        multi_turn=0.06,
        several_images=24,
        text_only=24,
    ),
    SourcePlan(
        name="scenes",
        format="llava",
        families=("scenes",),
        style="plain",
        quotas={"caption": 120, "count": 170, "colour": 110, "point": 180, "spatial": 190},
        multi_turn=0.08,
        several_images=16,
        repeated_ids=8,
    ),
    SourcePlan(
        name="documents",
        format="sharegpt",
        families=("documents",),
        style="plain",
        quotas={"read": 560, "colour": 40, "caption": 40},
        multi_turn=0.05,
        text_only=12,
    ),
    SourcePlan(
        name="charts",
        format="hf",
        families=("charts",),
        style="plain",
        quotas={"chart": 540, "caption": 60},
        per_image=2,
    ),
    SourcePlan(
        name="sim_points",
        format="webdataset",
        families=("tabletop", "metaworld", "tabletop"),
        style="sim",
        quotas={"point": 430, "colour": 100, "count": 80},
        per_image=2,
    ),
    SourcePlan(
        name="sim_relations",
        format="parquet",
        families=("tabletop", "metaworld", "tabletop"),
        style="sim",
        quotas={"spatial": 430, "caption": 90, "count": 80},
        per_image=2,
    ),
    SourcePlan(
        name="robot_qa",
        format="llava_lines",
        families=("tabletop", "metaworld"),
        style="sim",
        quotas={"robot": 420, "caption": 120, "read": 50},
        multi_turn=0.08,
        repeated_ids=4,
    ),
    SourcePlan(
        name="affordances",
        format="sharegpt_messages",
        families=("tabletop", "tabletop", "metaworld"),
        style="sim",
        quotas={"affordance": 380, "colour": 100, "read": 50},
    ),
)

_SHARED = 4
"""At most so many neighbours in PLANS draw from one family; each takes every fourth index, from a
different one on."""

Draw = Callable[[str, int], list[DemoSample]]


def draw_any(family: str, index: int) -> list[DemoSample]:
    """All questions about image (or scene) `index` of any family. Simulators are imported only when
    asked for."""
    if family in ("tabletop", "metaworld"):
        from demo import simulated

        return simulated.draw(family, seed=SIMULATOR_SEED, index=index)
    from demo import general

    return general.draw(family, POOL_SEED, index)


def compose(
    plan: SourcePlan, number: int, *, scale: float = 1.0, draw: Draw = draw_any
) -> list[Row]:
    """The rows of one source in file order.

    number: the source's place in PLANS; part of its seed, and what keeps its images apart from
    other sources'. scale: fraction of every count (at least one row of each kind), for tests and
    quick builds. Raises EmtError where the generators do not yield the wanted kinds.
    """
    rng = np.random.default_rng([POOL_SEED, 7, number])
    left = Counter({kind: max(1, round(count * scale)) for kind, count in plan.quotas.items()})
    wanted = Counter(left)
    samples: list[DemoSample] = []
    used: list[DemoSample] = []
    for image in _images(plan, number, draw, limit=20 + 20 * sum(wanted.values())):
        chosen = _choose(rng, image, left, wanted, plan.per_image)
        if rng.random() < plan.multi_turn:
            chosen = _joined(rng, image, chosen)
        left.subtract(s.kind for s in chosen)
        samples += chosen
        used += chosen[:1]
        if not +left:
            break
    else:
        raise EmtError(
            f"The generators yield too few questions: {dict(+left)} missing", where=plan.name
        )
    order = rng.permutation(len(samples))
    rows = [_row(rng, plan, n, samples[i]) for n, i in enumerate(order)]
    rows += _odd(rng, plan, len(rows), scale, used)
    return _repeat_ids(plan, [rows[i] for i in rng.permutation(len(rows))], scale)


def _images(plan: SourcePlan, number: int, draw: Draw, limit: int) -> Iterator[list[DemoSample]]:
    """Questions image by image. Sources that share a family take different indices of it."""
    drawn: Counter[str] = Counter()
    for n in range(limit):
        family = plan.families[n % len(plan.families)]
        index = drawn[family] * _SHARED + number % _SHARED
        drawn[family] += 1
        by_image: dict[str, list[DemoSample]] = {}
        for sample in draw(family, index):
            by_image.setdefault(sample.image_key, []).append(sample)
        yield from by_image.values()


def _choose(
    rng: np.random.Generator, image: list[DemoSample], left: Counter, wanted: Counter, limit: int
) -> list[DemoSample]:
    """Up to `limit` samples of the image, kinds that lag most behind their quota first."""
    chosen: list[DemoSample] = []
    room = Counter(left)
    candidates = [image[i] for i in rng.permutation(len(image))]
    while len(chosen) < limit:
        open_ones = [s for s in candidates if room[s.kind] > 0 and s not in chosen]
        if not open_ones:
            break
        best = max(open_ones, key=lambda s: room[s.kind] / wanted[s.kind])
        chosen.append(best)
        room[best.kind] -= 1
    return chosen


def _joined(
    rng: np.random.Generator, image: list[DemoSample], chosen: list[DemoSample]
) -> list[DemoSample]:
    """The first chosen sample with further questions of its content as more turns, in place of all
    chosen ones."""
    if not chosen:
        return chosen
    first = chosen[0]
    rest = [s for s in image if s.content == first.content and s.question != first.question]
    more = [
        [rest[i].question, rest[i].answer]
        for i in rng.permutation(len(rest))[: int(rng.integers(1, 4))]
    ]
    return [replace(first, meta={**first.meta, "more_turns": more})] if more else chosen


def _row(rng: np.random.Generator, plan: SourcePlan, number: int, sample: DemoSample) -> Row:
    (question, answer), *more = sample.turns
    # A fifth has its placeholder behind the question, as real LLaVA rows do.
    shown = (
        f"{question}\n{IMAGE_PLACEHOLDER}"
        if rng.random() < 0.2
        else f"{IMAGE_PLACEHOLDER}\n{question}"
    )
    return Row(
        own_id=f"{plan.name}-{number:05d}",
        images=((sample.image_key, sample.image),),
        turns=((shown, answer), *more),
        kind=sample.kind,
        style=sample.style,
        content=sample.content,
    )


def _odd(
    rng: np.random.Generator, plan: SourcePlan, start: int, scale: float, used: list[DemoSample]
) -> list[Row]:
    """Rows about several images and rows without one."""
    rows = []
    for _ in range(_scaled(plan.several_images, scale)):
        images, question, answer = several_images(rng, used)
        marks = "\n".join([IMAGE_PLACEHOLDER] * len(images))
        rows.append((images, f"{marks}\n{question}", answer, "caption"))
    for _ in range(_scaled(plan.text_only, scale)):
        question, answer = text_only(rng)
        rows.append(((), question, answer, "text"))
    return [
        Row(
            own_id=f"{plan.name}-{start + n:05d}",
            images=images,
            turns=((question, answer),),
            kind=kind,
            style=plan.style,
            content="general",
        )
        for n, (images, question, answer, kind) in enumerate(rows)
    ]


def _scaled(count: int, scale: float) -> int:
    return max(1, round(count * scale)) if count else 0


def _repeat_ids(plan: SourcePlan, rows: list[Row], scale: float) -> list[Row]:
    for n in range(_scaled(plan.repeated_ids, scale)):
        rows[-1 - n] = replace(rows[-1 - n], own_id=rows[n].own_id)
    return rows
