"""category: what each sample asks for, by a classifier of its words or by CLIP on its image.

category.lance    category string, evidence string, probability float32, image_category string;
                  row i = index row i. evidence: the words that decided, strongest first.
                  image_category is "" without CLIP (`image_labels`) or without a vector

Without `examples` the shipped classifier judges, else one that is trained here, with a seed.

Rows are independent, so an interrupted run goes on at the table's row count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from emt_core.data.features import Features
from emt_core.data.index import Index
from emt_core.data.sample import Turn
from emt_core.recipe.category import CategoryConfig
from emt_core.run.stage import Context, Outcome
from emt_core.selection.category import CATEGORIES
from emt_core.selection.category.classifier import Classifier, Judgment, shipped_classifier
from emt_core.selection.category.conversation import classify
from emt_core.workspace.table import SCAN_ROWS, Table

VERSION = 4
SCHEMA = pa.schema(
    {
        "category": pa.string(),
        "evidence": pa.string(),
        "probability": pa.float32(),
        "image_category": pa.string(),
    }
)
ROBOT_SOURCE = Judgment("robot", 1.0, "robot source")
BATCH_ROWS = 2048

ImageLabels = Callable[[int, int], list[str]]
"""(start, stop) -> a category, `unsure`, or "" (no vector) for each of these index rows."""


def run(context: Context) -> Outcome:
    assert isinstance(context.config, CategoryConfig)
    index = Index(context.parents["sources"])
    by_image = _image_labels(context) if context.config.image_labels else None
    classifier = _classifier(context.config)
    table = Table(context.out / "category.lance")
    done = table.rows
    with context.progress.track("naming categories", index.rows, done=done) as tracker:
        while done < index.rows:
            stop = min(done + context.runtime.commit_rows, index.rows)
            table.append(_block(index, done, stop, classifier, by_image, tracker.advance))
            done = stop
    return Outcome(rows=table.rows, metrics=_metrics(index, table, with_image=by_image is not None))


def _classifier(config: CategoryConfig) -> Classifier:
    """The shipped classifier, or one trained with the recipe's examples as well (half a minute)."""
    if not config.examples:
        return shipped_classifier()
    from emt_core.selection.category.training import fit, training_texts

    return fit(training_texts(config.examples))


def _block(
    index: Index,
    start: int,
    stop: int,
    classifier: Classifier,
    by_image: ImageLabels | None,
    advance: Callable[[int], None],
) -> pa.Table:
    """The rows [start, stop) of the artifact; reads only the columns that are needed."""
    judged: list[Judgment] = []
    columns = ["role", "turns", "n_images"]
    for batch in index.table.scan(columns, start=start, stop=stop, batch_rows=BATCH_ROWS):
        records = batch.to_pylist()
        pool = [record for record in records if record["role"] != "robot"]
        conversations = [
            ([Turn(**turn) for turn in record["turns"]], record["n_images"]) for record in pool
        ]
        of_pool = iter(classify(conversations, classifier))
        judged += [
            ROBOT_SOURCE if record["role"] == "robot" else next(of_pool) for record in records
        ]
        advance(batch.num_rows)
    columns = [
        [judgment.category for judgment in judged],
        [judgment.evidence for judgment in judged],
        [judgment.probability for judgment in judged],
        by_image(start, stop) if by_image else [""] * len(judged),
    ]
    return pa.table(columns, schema=SCHEMA)


def _image_labels(context: Context) -> ImageLabels:
    """Zero-shot labels from the CLIP features of the embed parent.

    The prompts pass the text tower once, here.
    """
    from emt_core.selection.category.image import of_embed_artifact

    embed = context.parents["embed"]
    zero_shot = of_embed_artifact(embed, device=context.runtime.device)
    features = Features.at(embed.data / "features.lance")

    def labels(start: int, stop: int) -> list[str]:
        names: list[str] = []
        ok = features.ok(start=start, stop=stop)
        for first, vectors in features.batches(start=start, stop=stop, batch_rows=SCAN_ROWS):
            usable = ok[first - start : first - start + len(vectors)]
            named = zip(zero_shot.label(vectors), usable, strict=True)
            names += [name if good else "" for name, good in named]
        return names

    return labels


def _metrics(index: Index, table: Table, *, with_image: bool) -> dict[str, Any]:
    """Counts of each category by source, and the share of unsure pool rows."""
    counts: dict[str, dict[str, int]] = {}
    pairs: Counter[tuple[str, str]] = Counter()
    for source in index.sources:
        seen: Counter[str] = Counter()
        columns = ["category", "image_category"]
        for batch in table.scan(columns, start=source.start, stop=source.stop):
            names, image = (column.to_pylist() for column in batch.columns)
            seen.update(names)
            if with_image and source.role == "pool":
                pairs.update(zip(names, image, strict=True))
        counts[source.name] = {
            name: seen[name] for name in dict.fromkeys([*CATEGORIES, *sorted(seen)]) if seen[name]
        }
    pool = index.of_role("pool")
    pool_rows = sum(source.rows for source in pool)
    unsure = sum(counts[source.name].get("unsure", 0) for source in pool)
    metrics: dict[str, Any] = {
        "counts": counts,
        "unsure_share": unsure / pool_rows if pool_rows else 0.0,
    }
    if with_image:
        metrics["image"] = _agreement(pairs)
    return metrics


def _agreement(pairs: Counter[tuple[str, str]]) -> dict[str, Any]:
    """How often image and conversation name the same category.

    Over pool rows where neither is unsure. Low agreement is no error: one asks what the user
    demands, the other what the picture looks like.
    """
    from emt_core.selection.category.image import IMAGE_CATEGORIES

    judged = {p: n for p, n in pairs.items() if p[1] in IMAGE_CATEGORIES and p[0] != "unsure"}
    comparable = {p: n for p, n in judged.items() if p[0] in IMAGE_CATEGORIES}
    total = sum(comparable.values())
    agree = sum(n for (said, seen), n in comparable.items() if said == seen)
    return {
        "rows": sum(pairs.values()),
        "judged": sum(judged.values()),
        "comparable": total,
        "agree": agree,
        "agreement": agree / total if total else None,
        "table": {f"{said}/{seen}": n for (said, seen), n in sorted(pairs.items())},
    }
