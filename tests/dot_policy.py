"""A fake policy for the rehearsal simulator: it sees two coloured squares and steers one to the other."""

from __future__ import annotations

import numpy as np


class DotPolicy:
    """gain: 1 goes as fast as it can see; 0 stands still. `seen`: every batch of images."""

    action_dim = 2

    def __init__(self, *, gain: float = 0.5, chunk: int = 3) -> None:
        self.gain, self.chunk = gain, chunk
        self.seen: list[np.ndarray] = []

    def act(self, images: np.ndarray, instructions: list[str]) -> np.ndarray:
        assert len(instructions) == len(images)
        self.seen.append(images.copy())
        return np.stack([self._chunk(image) for image in images])

    def _chunk(self, image: np.ndarray) -> np.ndarray:
        goal, place = (np.argwhere(image[..., channel] > 0).mean(0)[::-1] for channel in (1, 0))
        move = (goal - place) / (len(image) - 1) * 10 * self.gain
        return np.repeat(np.clip(move, -1, 1)[None], self.chunk, axis=0).astype(np.float32)
