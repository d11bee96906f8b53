"""category: what each sample asks for, by rules on its conversation and, where asked, by CLIP on
its image.

    category.lance    category: string, rule: string, image_category: string ("" without CLIP or without a vector)

One row for each index row, in its order. Rows are independent, so an interrupted run goes on at the
table's row count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from emt_core.data.features import Features
from emt_core.data.index import Index
from emt_core.data.sample import Turn
from emt_core.recipe.selection import CategoryConfig
from emt_core.run.stage import Context, Outcome
from emt_core.selection.category import CATEGORIES
from emt_core.selection.category.rules import classify
from emt_core.workspace.table import SCAN_ROWS, Table

VERSION = 2
SCHEMA = pa.schema(
    [("category", pa.string()), ("rule", pa.string()), ("image_category", pa.string())]
)
ROBOT_RULE = "robot_source"

ImageLabels = Callable[[int, int], list[str]]
"""(start, stop) -> a category, `unsure`, or "" (no vector) for each of these index rows."""


def run(context: Context) -> Outcome:
    assert isinstance(context.config, CategoryConfig)
    index = Index(context.parents["sources"])
    by_image = _image_labels(context) if context.config.image_labels else None
    table = Table(context.out / "category.lance")
    done = table.rows
    with context.progress.track("naming categories", index.rows, done=done) as tracker:
        while done < index.rows:
            stop = min(done + context.runtime.commit_rows, index.rows)
            block = _block(index, done, stop, by_image, tracker.advance)
            table.append(block)
            done = stop
    return Outcome(rows=table.rows, metrics=_metrics(index, table, with_image=by_image is not None))


def _block(
    index: Index,
    start: int,
    stop: int,
    by_image: ImageLabels | None,
    advance: Callable[[int], None],
) -> pa.Table:
    """The rows [start, stop) of the artifact. Reads only what the rules need: role, turns and
    number of images."""
    category: list[str] = []
    rule: list[str] = []
    for batch in index.table.scan(
        ["role", "turns", "n_images"], start=start, stop=stop, batch_rows=2048
    ):
        for record in batch.to_pylist():
            if record["role"] == "robot":
                category.append("robot")
                rule.append(ROBOT_RULE)
                continue
            verdict = classify(
                [Turn(role=t["role"], text=t["text"]) for t in record["turns"]], record["n_images"]
            )
            category.append(verdict.category)
            rule.append(verdict.rule)
        advance(batch.num_rows)
    image = by_image(start, stop) if by_image else [""] * len(category)
    return pa.table({"category": category, "rule": rule, "image_category": image}, schema=SCHEMA)


def _image_labels(context: Context) -> ImageLabels:
    """Zero-shot labels from the CLIP features of the embed parent; the prompts pass the text tower
    once."""
    from emt_core.selection.category.image import of_embed_artifact

    embed = context.parents["embed"]
    zero_shot = of_embed_artifact(embed, device=context.runtime.device)
    features = Features.at(embed.data / "features.lance")

    def labels(start: int, stop: int) -> list[str]:
        named: list[str] = []
        ok = features.ok(start=start, stop=stop)
        for first, vectors in features.batches(start=start, stop=stop, batch_rows=SCAN_ROWS):
            usable = ok[first - start : first - start + len(vectors)]
            found = zero_shot.label(vectors)
            named += [name if good else "" for name, good in zip(found, usable, strict=True)]
        return named

    return labels


def _metrics(index: Index, table: Table, *, with_image: bool) -> dict[str, Any]:
    """Counts a category in each source, the share of pool rows the rules are unsure of, the rules'
    use."""
    counts: dict[str, dict[str, int]] = {}
    pairs: Counter[tuple[str, str]] = Counter()
    rules: Counter[str] = Counter()
    for source in index.sources:
        seen: Counter[str] = Counter()
        for batch in table.scan(
            SCHEMA.names, start=source.start, stop=source.stop, batch_rows=SCAN_ROWS
        ):
            names, used, image = (batch.column(i).to_pylist() for i in range(3))
            seen.update(names)
            rules.update(used)
            if with_image and source.role == "pool":
                pairs.update(zip(names, image, strict=True))
        counts[source.name] = {name: seen[name] for name in CATEGORIES if seen[name]}
    pool = [source for source in index.sources if source.role == "pool"]
    pool_rows = sum(source.rows for source in pool)
    unsure = sum(counts[source.name].get("unsure", 0) for source in pool)
    metrics: dict[str, Any] = {
        "counts": counts,
        "unsure_share": unsure / pool_rows if pool_rows else 0.0,
        "rules": dict(rules.most_common()),
    }
    if with_image:
        metrics["image"] = _agreement(pairs)
    return metrics


def _agreement(pairs: Counter[tuple[str, str]]) -> dict[str, Any]:
    """How often image and conversation name the same category, over pool rows where neither is
    unsure.

    Low agreement is no error: one asks what the user demands, the other what the picture looks
    like.
    """
    from emt_core.selection.category.image import IMAGE_CATEGORIES

    judged = {p: n for p, n in pairs.items() if p[1] in IMAGE_CATEGORIES and p[0] != "unsure"}
    comparable = {p: n for p, n in judged.items() if p[0] in IMAGE_CATEGORIES}
    total = sum(comparable.values())
    return {
        "rows": sum(pairs.values()),
        "judged": sum(judged.values()),
        "comparable": total,
        "agree": sum(n for (said, seen), n in comparable.items() if said == seen),
        "agreement": sum(n for (said, seen), n in comparable.items() if said == seen) / total
        if total
        else None,
        "table": {f"{said}/{seen}": n for (said, seen), n in sorted(pairs.items())},
    }
