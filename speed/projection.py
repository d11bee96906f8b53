"""What the map's defaults stand on: PCA or not before UMAP, and how rows outside the fit are
placed.

    python speed/projection.py [--fit 10000 --new 4000 --dim 256]

Data: 60 clusters, each a curved 8-dimensional sheet in `dim` dimensions, with noise. CPU seconds,
one thread. Trustworthiness (15 neighbours) is measured in the raw features, never in the reduced
ones: on fitted rows, and on new rows together with as many fitted ones.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.manifold import trustworthiness

from emt_core.proximity.map.fitted import FittedMap
from emt_core.proximity.map.nearest import Nearest
from emt_core.proximity.map.pca import Pca

warnings.filterwarnings("ignore")


def curved_clusters(rows: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    wide = rng.normal(size=(60, 64)) * 1.2
    mix = rng.normal(size=(8, 64))
    out = rng.normal(size=(64, dim)) / 8
    sheet = rng.normal(size=(rows, 8)) * 0.6
    hidden = np.tanh(sheet @ mix + wide[rng.integers(60, size=rows)])
    return (hidden @ out + 0.15 * rng.normal(size=(rows, dim))).astype(np.float32)


def timed(name: str, work: Callable[[], Any]) -> Any:
    cpu = time.process_time()
    out = work()
    print(f"{name:<44} {time.process_time() - cpu:6.1f} s CPU", flush=True)
    return out


def trust(x: np.ndarray, xy: np.ndarray, most: int = 3000) -> float:
    picked = np.random.default_rng(1).permutation(len(x))[:most]
    return trustworthiness(x[picked], xy[picked], n_neighbors=15)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("fit", 10_000), ("new", 4_000), ("dim", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    x = curved_clusters(args.fit + args.new, args.dim, np.random.default_rng(0))
    fit = x[: args.fit]
    new = x[args.fit :]
    half = min(args.new, args.fit)
    both = np.concatenate([fit[:half], new[:half]])

    import umap

    def plain(rows: np.ndarray) -> Any:
        return umap.UMAP(n_neighbors=15, min_dist=0.1, random_state=0, n_jobs=1).fit(rows)

    model = timed("first fit in the process, 4,200 rows (compiles)", lambda: plain(fit[:4200]))
    timed("first transform in the process (compiles)", lambda: model.transform(new[:50]))
    pca = Pca.fit(fit)
    print(f"PCA to {pca.components.shape[1]} dimensions keeps {pca.explained:.1%} of the variance")
    for name, a, b in (("raw", fit, new), ("PCA", pca.apply(fit), pca.apply(new))):
        model = timed(f"{name}: UMAP fit, {len(fit):,} rows", lambda a=a: plain(a))
        placed = timed(
            f"{name}: UMAP transform, {len(new):,} rows", lambda m=model, b=b: m.transform(b)
        )
        xy = np.asarray(model.embedding_)
        print(f"   trustworthiness: fitted {trust(fit, xy):.4f}, ", end="")
        print(f"transformed {trust(both, np.concatenate([xy[:half], placed[:half]])):.4f}")
        for k in (1, 3, 5, 15):
            distance, index = Nearest(a).query(b, k)
            beyond = distance - distance[:, :1]
            weight = np.exp(-beyond / np.maximum(beyond.mean(axis=1, keepdims=True), 1e-12))
            mean = np.einsum("mk,mkd->md", weight / weight.sum(axis=1, keepdims=True), xy[index])
            for kind, near in (("weighted mean", mean), ("median", np.median(xy[index], axis=1))):
                print(
                    f"   {k:>2} neighbours, {kind} "
                    f"{trust(both, np.concatenate([xy[:half], near[:half]])):.4f}"
                )
    chosen = FittedMap(np.arange(len(fit)), pca, pca.apply(fit), xy.astype(np.float32))
    timed(
        f"ours: PCA, median of 3 neighbours, {10 * len(new):,} rows",
        lambda: chosen.place(np.tile(new, (10, 1))),
    )


if __name__ == "__main__":
    main()
