"""Which samples a step trains on: a seeded permutation that is computed, never stored.

Position p of the endless stream of samples belongs to epoch p // n; inside an epoch every sample
comes once, in an order that seed and epoch fix. A Feistel network permutes [0, 2^bits); places
beyond n walk on until they fall inside. So a run resumes at any step at once, and a selection of
10^8 samples takes no memory for its order.
"""

from __future__ import annotations

import math

import numpy as np

from emt_core.data.draws import GAMMA, mix64
from emt_core.training.schedule import seed_of

ROUNDS = 6


class ShuffledStream:
    """n samples, over and over, each epoch in an order of its own."""

    def __init__(self, n: int, seed: int) -> None:
        if n < 1:
            raise ValueError("there is no sample to shuffle")
        self.n = n
        self.seed = seed
        self._half = max((max(n - 1, 1).bit_length() + 1) // 2, 1)
        self._mask = np.uint64((1 << self._half) - 1)

    def at(self, positions: np.ndarray) -> np.ndarray:
        """int64 [k] positions of the stream -> int64 [k] places in 0..n-1."""
        positions = np.asarray(positions, np.int64)
        epochs = positions // self.n
        found = np.empty(positions.shape, np.int64)
        for epoch in np.unique(epochs):
            mine = epochs == epoch
            found[mine] = self._permute((positions[mine] % self.n).astype(np.uint64), int(epoch))
        return found

    def step(self, step: int, batch: int) -> np.ndarray:
        """int64 [batch]: the places that step 1, 2, ... trains on."""
        return self.at(np.arange((step - 1) * batch, step * batch))

    def _permute(self, places: np.ndarray, epoch: int) -> np.ndarray:
        keys = [np.uint64(seed_of(self.seed, "order", epoch, turn)) for turn in range(ROUNDS)]
        out = self._feistel(places, keys)
        outside = out >= self.n
        while outside.any():  # fewer than 4 n places in all, so this ends after a few rounds
            out[outside] = self._feistel(out[outside], keys)
            outside = out >= self.n
        return out.astype(np.int64)

    def _feistel(self, places: np.ndarray, keys: list[np.uint64]) -> np.ndarray:
        left = places >> np.uint64(self._half)
        right = places & self._mask
        with np.errstate(over="ignore"):
            for key in keys:
                left, right = right, left ^ (mix64((right + key) * GAMMA) & self._mask)
        return (left << np.uint64(self._half)) | right


def general_until(step: int, batch: int, share: float) -> int:
    """How many general samples all steps up to this one have together."""
    return math.floor(step * batch * share + 1e-9)


class MixedStream:
    """A selection's samples with general ones mixed in: so many of each step's batch.

    Places 0..selected-1 are the selection's, those from there on the general samples'. Each kind
    goes through epochs of its own. How many of a step are general is a function of the step.
    """

    def __init__(self, selected: int, general: int, share: float, seed: int) -> None:
        self.selected = ShuffledStream(selected, seed)
        self.general = ShuffledStream(general, seed_of(seed, "replay"))
        self.share = share

    def step(self, step: int, batch: int) -> np.ndarray:
        """int64 [batch]: the places that step 1, 2, ... trains on."""
        before = general_until(step - 1, batch, self.share)
        after = general_until(step, batch, self.share)
        general = self.general.at(np.arange(before, after))
        own = self.selected.at(np.arange((step - 1) * batch - before, step * batch - after))
        return np.concatenate([own, self.selected.n + general])
