"""Exact nearest neighbors by blocked matrix products: nothing to build, the same on every run."""

from __future__ import annotations

import numpy as np

GROUP = 128
QUERY_ROWS = 1024  # a tile of 1024 x 20,000 distances is 80 MB


class Nearest:
    """Nearest rows of a reference set. reference: float32 [n, dim]."""

    def __init__(self, reference: np.ndarray) -> None:
        import torch

        self.n = len(reference)
        self.center = reference.mean(axis=0)  # distances do not change, float32 loses less
        padded = np.zeros((-(-self.n // GROUP) * GROUP, reference.shape[1]), np.float32)
        padded[: self.n] = reference - self.center
        self.reference = torch.from_numpy(padded)
        self.norms = self.reference.square().sum(dim=1)
        self.norms[self.n :] = float("inf")

    def query(
        self, rows: np.ndarray, k: int, *, own: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(float32 [m, k] distances, rising; int64 [m, k] places in the reference). k <= n.

        own: int [m], the place of each row where it is part of the reference: it then comes
        first, at distance 0.
        """
        parts = [
            self._tile(
                rows[at : at + QUERY_ROWS], k, None if own is None else own[at : at + QUERY_ROWS]
            )
            for at in range(0, len(rows), QUERY_ROWS)
        ]
        return np.concatenate([d for d, _ in parts]), np.concatenate([i for _, i in parts])

    def _tile(
        self, rows: np.ndarray, k: int, own: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        import torch

        x = torch.from_numpy(np.asarray(rows - self.center, np.float32))
        squared = torch.addmm(
            self.norms, x, self.reference.T, alpha=-2
        )  # |x|^2 is the same along a row: added below
        if own is not None:
            squared[torch.arange(len(x)), torch.from_numpy(own)] = -float("inf")
        # The k nearest lie in the k groups with the smallest minima: one pass over the tile, then a
        # short list. torch.topk over whole rows of 20,000 took most of the time.
        grouped = squared.view(len(x), -1, GROUP)
        groups = grouped.amin(dim=2).topk(min(k, grouped.shape[1]), dim=1, largest=False).indices
        short = grouped.gather(1, groups[:, :, None].expand(-1, -1, GROUP)).flatten(1)
        found, place = short.topk(k, dim=1, largest=False, sorted=True)
        index = groups.gather(1, place // GROUP) * GROUP + place % GROUP
        distance = (found + x.square().sum(dim=1, keepdim=True)).clamp_(min=0).sqrt()
        return distance.numpy(), index.numpy()
