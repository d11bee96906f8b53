"""The estimator on features as separable as a real VLM's: does it rank by planted nearness, and
would another seed rank alike?

    python speed/separability.py [--seeds 3]
    python speed/separability.py --workspace workspace-demo

Synthetic features of 1,024 dimensions. A pool sample is moved a share of the way (its nearness, a
Beta(.5, 4) draw) from its own cluster to one of three robot clusters. `overlap`: both are seen
through noise, so that no classifier is sure. `apart 0`, `apart 0.3`, `apart 1`: the robot clusters
are tight, and shifted so many deviations away from the pool in every dimension.

For each way to stop: steps, accuracy at the first and last look, rank correlation of 20,000 unseen
pool samples with their nearness, and the share of the best fifth that two seeds have in common
(least of all pairs): seeds of the batches alone, on one split, and seeds of everything, where two
trainings share 64 % of their rows. Beside it scikit-learn's logistic regression, which has no
batches: with its default C, and with the C of the least held-out loss.

With a finished workspace (the demo's: content is planted there), how its ranking goes on changing
with the steps: what a stop by held-out loss or by agreement with earlier looks would wait for.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np

from emt_core.data.features import Features
from emt_core.data.index import Index
from emt_core.proximity.batches import Draws
from emt_core.proximity.classifier import Examples, halves_agree, scaling
from emt_core.proximity.measures.linear import LinearEstimator, train
from emt_core.proximity.metrics.rank_agreement import best, overlap_at, spearman
from emt_core.proximity.prepared import prepare
from emt_core.proximity.trust.planted import NEAR, planted_truth
from emt_core.recipe.proximity import EstimatorConfig
from emt_core.recipe.trust import TrustConfig
from emt_core.workspace.artifact import Workspace

DIM = 1024
POOL = 40_000
ROBOTS = 8_000
FRESH = 20_000
HELD_OUT = 0.1
TOP_SHARE = 0.2
MOST_STEPS = 400
"""Instead of the default 2,000, which only trainings that reach no stop would use."""

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""scikit-learn's C."""

STEPS = (5, 25, 50, 100, 200, 400, 800, 1600)

WAYS = {
    "plain reading (accuracy, 1 seed)": {"stop": "accuracy", "seeds": 1},
    "accuracy, 8 seeds": {"stop": "accuracy"},
    "settled, 1 seed": {"seeds": 1},
    "settled, 8 seeds (default)": {},
    "all 400 steps, 8 seeds": {"stop": "accuracy", "stop_accuracy": 1.0},
}


class Tight:
    """Robot clusters of a quarter of the pool's deviation, `shift` deviations away from it."""

    def __init__(self, shift: float) -> None:
        self.rng = np.random.default_rng(0)
        self.scale = np.exp(0.7 * self.rng.normal(size=DIM))
        self.clusters = self.rng.normal(size=(40, DIM)) * self.scale
        toward = self.rng.normal(size=DIM) * self.scale
        self.robots = 0.3 * self.rng.normal(size=(3, DIM)) * self.scale + shift * toward

    def pool(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        noise = 0.8 * self.rng.normal(size=(rows, DIM)) * self.scale
        x = self.clusters[self.rng.integers(40, size=rows)] + noise
        near = self.rng.beta(0.5, 4, size=rows)[:, None]
        return x * (1 - near) + near * self.robots[self.rng.integers(3, size=rows)], near[:, 0]

    def robot(self, rows: int) -> np.ndarray:
        noise = 0.25 * self.rng.normal(size=(rows, DIM)) * self.scale
        return self.robots[self.rng.integers(3, size=rows)] + noise


class Overlap:
    """Everything lives in 32 dimensions and is seen through noise in 1,024."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.scale = np.exp(0.7 * self.rng.normal(size=DIM))
        self.seen_as = self.rng.normal(size=(32, DIM)) / np.sqrt(32)
        self.clusters = self.rng.normal(size=(40, 32))
        self.robots = 0.7 * self.rng.normal(size=(3, 32))

    def seen(self, hidden: np.ndarray) -> np.ndarray:
        noise = 3 * self.rng.normal(size=(len(hidden), DIM))
        return (hidden @ self.seen_as + noise) * self.scale

    def pool(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        noise = 0.8 * self.rng.normal(size=(rows, 32))
        hidden = self.clusters[self.rng.integers(40, size=rows)] + noise
        near = self.rng.beta(0.5, 4, size=rows)[:, None]
        moved = hidden * (1 - near) + near * self.robots[self.rng.integers(3, size=rows)]
        return self.seen(moved), near[:, 0]

    def robot(self, rows: int) -> np.ndarray:
        noise = 0.8 * self.rng.normal(size=(rows, 32))
        return self.seen(self.robots[self.rng.integers(3, size=rows)] + noise)


class Stored:
    """What training takes from a feature store, in memory."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.x[rows]


class Data:
    """Pool rows, then robot rows; a seed splits them and draws the batches, as the stage does."""

    def __init__(self, world: Tight | Overlap) -> None:
        pool, _ = world.pool(POOL)
        self.stored = Stored(np.concatenate([pool, world.robot(ROBOTS)]))
        self.fresh, self.nearness = world.pool(FRESH)

    def parts(self, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Pool and robot rows to train on, pool and robot rows to validate on."""
        rng = np.random.default_rng([seed, 9])
        pool = rng.permutation(POOL)
        robot = POOL + rng.permutation(ROBOTS)
        held = [int(POOL * HELD_OUT), int(ROBOTS * HELD_OUT)]
        return pool[2 * held[0] :], robot[2 * held[1] :], pool[: held[0]], robot[: held[1]]

    def examples(self, pool: np.ndarray, robot: np.ndarray) -> Examples:
        rows = np.concatenate([pool, robot])
        is_robot = rows >= POOL
        return Examples(
            x=self.stored.x[rows], robot=is_robot, stratum=is_robot.astype(int), rows=rows
        )

    def estimator(self, config: EstimatorConfig, split: int) -> LinearEstimator:
        """Trained with the batches of config.seed on the split of the seed `split`."""
        pool, robot, held_pool, held_robot = self.parts(split)
        sample = self.examples(pool[:4096], robot)
        mean, scale = scaling(sample.x, sample.weights, standardize=True)
        draws = Draws(self.stored, pool, [robot], config.seed)  # type: ignore[arg-type]
        batches = draws.batches(config.batch, config.steps, members=config.seeds)
        validation = self.examples(held_pool, held_robot)
        return train(config, batches, validation, mean=mean, scale=scale)

    def logistic_regression(self, seed: int, penalty: float) -> tuple[np.ndarray, float]:
        """(scores of the fresh pool, held-out loss) by scikit-learn, on the same training rows."""
        from sklearn.linear_model import LogisticRegression

        pool, robot, held_pool, held_robot = self.parts(seed)
        train_on = self.examples(pool, robot)
        held = self.examples(held_pool, held_robot)
        mean, scale = scaling(train_on.x, train_on.weights, standardize=True)
        model = LogisticRegression(C=penalty, class_weight="balanced", max_iter=1000)
        model.fit((train_on.x - mean) * scale, train_on.robot)
        logits = model.decision_function((held.x - mean) * scale)
        loss = np.logaddexp(0, np.where(held.robot, -logits, logits)) @ held.weights
        return model.decision_function((self.fresh - mean) * scale), float(loss)


def least_common(scores: list[np.ndarray]) -> float:
    """The least share of the best fifth that two of these scores have in common."""
    k = round(TOP_SHARE * FRESH)
    return min(overlap_at(a, b, k) for a, b in combinations(scores, 2))


def measure(name: str, data: Data, seeds: int) -> None:
    by_penalty = [
        [data.logistic_regression(seed, penalty) for seed in range(seeds)] for penalty in PENALTIES
    ]
    losses = [np.mean([loss for _, loss in fits]) for fits in by_penalty]
    best = int(np.argmin(losses))
    for way, place in (("C 1", len(PENALTIES) - 1), (f"C {PENALTIES[best]:g}, the best", best)):
        scores = [score for score, _ in by_penalty[place]]
        correlation = np.mean([spearman(score, data.nearness) for score in scores])
        print(
            f"| {name} | scikit-learn, {way} | | | | {correlation:.3f} | | "
            f"{least_common(scores):.3f} |",
            flush=True,
        )
    for way, settings in WAYS.items():
        settings = {"steps": MOST_STEPS, **settings}
        configs = [EstimatorConfig(seed=seed, **settings) for seed in range(seeds)]
        same_split = [data.estimator(config, split=0) for config in configs]
        others = [data.estimator(config, split=config.seed) for config in configs[1:]]
        fits = [same_split[0], *others]
        steps = sorted(fit.history.step[-1] for fit in fits)
        looks = np.array(same_split[0].history.val_accuracy)
        looks = looks[~np.isnan(looks)]
        scores = [fit.logits(data.fresh) for fit in fits]
        correlation = np.mean([spearman(score, data.nearness) for score in scores])
        by_batches = least_common([fit.logits(data.fresh) for fit in same_split])
        print(
            f"| {name} | {way} | {steps[0]} to {steps[-1]} | {looks[0]:.3f} | {looks[-1]:.3f} "
            f"| {correlation:.3f} | {by_batches:.3f} | {least_common(scores):.3f} |",
            flush=True,
        )


def by_steps(folder: Path) -> None:
    """A row a number of steps: figures of the eight seeds' mean on the pool of a workspace."""
    workspace = Workspace.open(folder)
    index = Index(workspace.artifacts("sources")[-1])
    features = Features.at(workspace.artifacts("embed")[-1].data / "features.lance")
    rows = np.flatnonzero(features.ok() & index.is_pool() & (index.table.column("n_images") > 0))
    truth, _ = planted_truth(index, rows, TrustConfig())
    x = features.take(rows).astype(np.float64)
    print(
        "| steps | accuracy | held-out loss | halves of the seeds share | rank correlation with "
        "half the steps | planted content in the best quarter |\n|---|---|---|---|---|---|"
    )
    scores: dict[int, np.ndarray] = {}
    for steps in STEPS:
        config = EstimatorConfig(steps=steps, stop="accuracy", stop_accuracy=1.0, eval_every=steps)
        data = prepare(index, features, config)
        batches = data.draws.batches(config.batch, steps, members=config.seeds)
        fit = train(config, batches, data.validation, mean=data.mean, scale=data.scale)
        scores[steps] = fit.logits(x)
        before = scores.get(steps // 2)
        settled = "" if before is None else f"{spearman(scores[steps], before):.3f}"
        near = truth[best(scores[steps], len(rows) // 4)] == NEAR
        print(
            f"| {steps} | {fit.history.val_accuracy[-1]:.3f} | {fit.history.val_loss[-1]:.3f} "
            f"| {halves_agree((x @ fit.members.T).T):.3f} | {settled} | {near.mean():.3f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workspace", type=Path)
    options = parser.parse_args()
    if options.workspace is not None:
        by_steps(options.workspace)
        return
    print(
        "| features | training | steps | first look | last look | rank correlation "
        "| common, batches | common, all |\n|---|---|---|---|---|---|---|---|"
    )
    worlds = {"overlap": Overlap(), **{f"apart {s:g}": Tight(s) for s in (0.0, 0.3, 1.0)}}
    for name, world in worlds.items():
        measure(name, Data(world), options.seeds)


if __name__ == "__main__":
    main()
