"""Fit the classifier of the eight categories: emt_core/selection/category/weights.npz.

    python -m demo.category_weights

From the texts in emt_core/selection/category/texts/, with a seed: half a minute. Another machine
gives the same file but for the last digits of its arithmetic.
"""

from __future__ import annotations

from emt_core.selection.category.classifier import SHIPPED
from emt_core.selection.category.training import fit, training_texts


def main() -> None:
    texts = training_texts({})
    classifier = fit(texts)
    classifier.save(SHIPPED)
    size = SHIPPED.stat().st_size
    print(f"{len(texts):,} texts, {len(classifier.vocabulary):,} n-grams, {size:,} bytes")


if __name__ == "__main__":
    main()
