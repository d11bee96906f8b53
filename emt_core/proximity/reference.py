"""What every set of samples is measured against: the robot data, with one kernel width.

The stages gap, score and select all measure here, so that a set has one diversity and one squared
MMD to the robot data wherever they are shown:

- the pool is every pool sample that may be selected: with an image and a vector
- "the robot data" are the robot sets in equal parts, as in the estimator's positives (method
  section 4)
- sigma is the median distance of a sample with equally many rows of every source (method section 3)
- a set of more than SAMPLE_ROWS rows is measured on that many, drawn by seed 0 whatever the
  recipe's seeds are: they draw what is trained, not what is measured
- estimates are unbiased, with the standard error of having measured a sample (metrics/kernel.py)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from emt_core.data.draws import Purpose, ordered_rows, random_keys
from emt_core.data.features import Features, take_finite
from emt_core.data.index import Index, SourceRange
from emt_core.errors import EmtError
from emt_core.proximity.metrics.diversity import diversity, similarity_means
from emt_core.proximity.metrics.kernel import Estimate, GroupMeans, median_distance
from emt_core.proximity.metrics.mmd import mmd2, mmd_means

SAMPLE_ROWS = 2000
"""Rows of a set, and rows of all robot sets together."""

SIGMA_ROWS = 2048
"""2 M distances: the median's own error is far below what the choice of heuristic leaves open."""


@dataclass(frozen=True)
class Drawn:
    """A seeded sample of a set of index rows."""

    vectors: np.ndarray
    """float32 [n, dim]."""

    total: int
    """Rows of the set."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    index: Index
    features: Features
    ok: np.ndarray = field(repr=False)
    """bool [rows]: rows with a vector."""

    def draw(self, rows: np.ndarray, most: int | None = None) -> Drawn:
        """A sample of at most `most` rows, by default SAMPLE_ROWS. rows: int64, ascending."""
        drawn = sampled(rows, SAMPLE_ROWS if most is None else most)
        return Drawn(take_finite(self.features, drawn), len(rows))

    @cached_property
    def pool(self) -> np.ndarray:
        """int64: the pool samples that may be selected."""
        images = self.index.table.column("n_images")
        return np.flatnonzero(self.index.is_pool() & self.ok & (images > 0))

    @cached_property
    def sigma(self) -> float:
        """The kernel's width by the median heuristic (Gretton 2012).

        Raises EmtError where all features are equal.
        """
        share = max(SIGMA_ROWS // len(self.index.sources), 2)
        parts = [self.draw(self.rows_of(source), share) for source in self.index.sources]
        return median_distance(np.concatenate([part.vectors for part in parts]))

    @cached_property
    def robots(self) -> dict[str, Drawn]:
        """Each robot set with at least two vectors, equally many rows of each."""
        sets = self.index.of_role("robot")
        share = max(SAMPLE_ROWS // max(len(sets), 1), 2)
        rows = {source.name: self.rows_of(source) for source in sets}
        return {name: self.draw(found, share) for name, found in rows.items() if len(found) >= 2}

    @property
    def robot_rows(self) -> int:
        """Rows that the robot data are measured on."""
        return sum(len(robot.vectors) for robot in self.robots.values())

    @cached_property
    def among_robots(self) -> GroupMeans | None:
        """Kernel means between the robot sets; None where there is nothing to compare."""
        if not self.robots:
            return None
        try:
            return self._means({})
        except EmtError:  # all features are equal: there is no scale to measure on
            return None

    def measured(self, sets: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """JSON: each set's diversity and its squared MMD to the robot data, with errors.

        sets: name -> int64 index rows, ascending. `mmd2_to_robot` has `all` robot sets in equal
        parts and each by itself; it is empty where there is nothing to compare with. `errors` has
        the standard errors under the same names; 0 where a set was measured whole.
        """
        drawn = {name: self.draw(rows) for name, rows in sets.items()}
        big = {name: sample for name, sample in drawn.items() if len(sample.vectors) >= 2}
        varied = {
            name: own_diversity({name: sample}) if name in big else None
            for name, sample in drawn.items()
        }
        near: dict[str, dict[str, Estimate | None]] = {}
        if big and self.among_robots is not None:
            means = self._means(big)
            one = np.eye(len(means.rows))
            robots = one[len(big) :]
            targets = {"all": robots.mean(axis=0), **dict(zip(self.robots, robots, strict=True))}
            places = {name: one[place] for place, name in enumerate(big)}
            near = {
                target: {
                    name: mmd2(means, places[name], mixture) if name in big else None
                    for name in drawn
                }
                for target, mixture in targets.items()
            }
        return {
            "diversity": values(varied),
            "mmd2_to_robot": {target: values(found) for target, found in near.items()},
            "errors": {
                "diversity": errors(varied),
                "mmd2_to_robot": {target: errors(found) for target, found in near.items()},
            },
            "sigma": self.sigma if near else None,
            "measured_on": {
                **{name: len(sample.vectors) for name, sample in drawn.items()},
                "robot": self.robot_rows,
            },
        }

    def rows_of(self, source: SourceRange) -> np.ndarray:
        """int64: the source's rows that have a vector."""
        return source.start + np.flatnonzero(self.ok[source.start : source.stop])

    def _means(self, sets: Mapping[str, Drawn]) -> GroupMeans:
        """Kernel means between sets and robot sets, in this order."""
        samples = [*sets.values(), *self.robots.values()]
        vectors = [sample.vectors for sample in samples]
        return mmd_means(vectors, self.sigma, [sample.total for sample in samples])


def sampled(rows: np.ndarray, most: int) -> np.ndarray:
    """int64, ascending: at most so many of these rows, the same for every stage and recipe."""
    return np.sort(ordered_rows(random_keys(0, rows, Purpose.REPORT), most))


def own_diversity(samples: Mapping[str, Drawn]) -> Estimate:
    """S(D) of these sets in equal parts."""
    vectors = [sample.vectors for sample in samples.values()]
    alike = similarity_means(vectors, [sample.total for sample in samples.values()])
    return diversity(alike, np.full(len(samples), 1 / len(samples)))


def values(found: Mapping[str, Estimate | None]) -> dict[str, float | None]:
    return {name: None if one is None else one.value for name, one in found.items()}


def errors(found: Mapping[str, Estimate | None]) -> dict[str, float | None]:
    return {name: None if one is None else one.error for name, one in found.items()}
