"""Per-episode statistics of a LeRobot set and their aggregate, which policies normalize with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}

Stats = dict[str, np.ndarray]


def vector_stats(values: np.ndarray) -> Stats:
    """Statistics over the rows of (T, D): min, max, mean, std, five quantiles (D,); count (1,)."""
    stats = {name: getattr(values, name)(axis=0) for name in ("min", "max", "mean", "std")}
    stats |= {name: np.quantile(values, q, axis=0) for name, q in _QUANTILES.items()}
    return {name: np.asarray(value, np.float64) for name, value in stats.items()} | {
        "count": np.array([len(values)])
    }


class FrameStats:
    """Channel statistics over frames as they pass: shape (3, 1, 1), pixels scaled to [0, 1].

    A histogram a channel gives exact values for 8-bit pixels, quantiles included, without keeping a
    frame.
    """

    def __init__(self) -> None:
        self._histogram = np.zeros((3, 256), np.int64)
        self._frames = 0

    def add(self, frame: np.ndarray) -> None:
        """frame: (height, width, 3) uint8."""
        for channel in range(3):
            self._histogram[channel] += np.bincount(frame[..., channel].ravel(), minlength=256)
        self._frames += 1

    def result(self) -> Stats:
        levels = np.arange(256) / 255.0
        share = self._histogram / np.maximum(self._histogram.sum(axis=1, keepdims=True), 1)
        mean = share @ levels
        seen = self._histogram > 0
        stats = {
            "min": levels[seen.argmax(axis=1)],
            "max": levels[255 - seen[:, ::-1].argmax(axis=1)],
            "mean": mean,
            "std": np.sqrt(np.maximum(share @ levels**2 - mean**2, 0.0)),
        }
        cumulative = share.cumsum(axis=1)
        stats |= {
            name: levels[(cumulative >= q - 1e-12).argmax(axis=1)] for name, q in _QUANTILES.items()
        }
        return {k: v.reshape(3, 1, 1) for k, v in stats.items()} | {
            "count": np.array([self._frames])
        }


def aggregate_stats(episodes: Sequence[dict[str, Stats]]) -> dict[str, Stats]:
    """Statistics of the whole set from those of its episodes.

    Mean and standard deviation are exact (parallel variance); a quantile is the count-weighted mean
    of the episodes' quantiles, which is LeRobot's approximation.
    """
    return {feature: _aggregate([stats[feature] for stats in episodes]) for feature in episodes[0]}


def _aggregate(parts: Sequence[Stats]) -> Stats:
    counts = np.array([int(part["count"][0]) for part in parts])
    weights = (counts / counts.sum()).reshape(-1, *([1] * parts[0]["mean"].ndim))

    def weighted(name: str) -> np.ndarray:
        return (np.stack([part[name] for part in parts]) * weights).sum(axis=0)

    mean = weighted("mean")
    spread = np.stack([part["std"] ** 2 + (part["mean"] - mean) ** 2 for part in parts])
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt((spread * weights).sum(axis=0)),
        **{name: weighted(name) for name in _QUANTILES},
        "count": np.array([counts.sum()]),
    }
