"""The frames of each step, read while the step before is computed; a rank reads its own share."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from emt_core.data.robot.training_frames import FrameOrder, TrainingFrames
from emt_core.recipe.finetune import FinetuneConfig
from emt_core.training.policy.augment import draws_of
from emt_core.training.policy.loss import ActionTargets
from emt_core.training.policy.policy import PolicySpec
from emt_core.training.schedule import seed_of


@dataclass(frozen=True, kw_only=True)
class Batch:
    """This rank's frames of one step, on the CPU.

    rows: int64 [n]; frames: uint8 [n, 3, s, s]; draws: float32 [n, 7] of `augment`.
    """

    rows: np.ndarray
    frames: torch.Tensor
    texts: list[str]
    targets: ActionTargets
    draws: torch.Tensor
    steps: float
    """Actions that the step learns from, over all ranks."""

    own: int
    """Leading rows that count; the one behind them, if any, is there to keep ranks in step."""


class BatchReader:
    """Batches of one rank."""

    def __init__(
        self,
        config: FinetuneConfig,
        spec: PolicySpec,
        frames: TrainingFrames,
        *,
        rank: int = 0,
        ranks: int = 1,
        even: bool = False,
    ) -> None:
        """even: all ranks get equally many rows, because all have to make the same passes."""
        self.config = config
        self.spec = spec
        self.frames = frames
        self.rank = rank
        self.ranks = ranks
        self.even = even
        self.order = FrameOrder(len(frames), config.batch, config.seed)

    def batches(self, first: int) -> Iterator[tuple[int, Batch]]:
        """(step, batch) to the last step; the next is read while this one is computed."""
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self.read, first)
            for step in range(first, self.config.steps + 1):
                batch = ahead.result()
                if step < self.config.steps:
                    ahead = reader.submit(self.read, step + 1)
                yield step, batch

    def read(self, step: int) -> Batch:
        config = self.config
        everyone = self.order.rows(step - 1)
        draws = draws_of(len(everyone), seed_of(config.seed, "augment", step))
        mine = np.arange(self.rank, len(everyone), self.ranks)
        own = len(mine)
        if self.even and own < -(-len(everyone) // self.ranks):
            mine = np.append(mine, mine[-1])
        rows = everyone[mine]
        actions, valid, reference = self.frames.chunks(rows, config.chunk)
        valid[own:] = False
        arm, gripper = self.spec.action_map.targets(actions, reference)
        return Batch(
            rows=rows,
            frames=torch.from_numpy(self.frames.pixels(rows)).permute(0, 3, 1, 2),
            texts=[self.frames.texts[place] for place in self.frames.instruction[rows]],
            targets=ActionTargets(
                arm=torch.from_numpy(arm),
                gripper=torch.from_numpy(gripper),
                valid=torch.from_numpy(valid),
            ),
            draws=draws[torch.from_numpy(mine)],
            steps=float(self.frames.valid_steps(everyone, config.chunk)),
            own=own,
        )

    def names(self, batch: Batch) -> list[str]:
        """Where its frames come from, in words."""
        return [self._name(row) for row in batch.rows[: batch.own].tolist()]

    def _name(self, row: int) -> str:
        """Data set, episode, and the frame's place in it (from 0)."""
        place = int(self.frames.place[row])
        at = int(self.frames.cache_row[row])
        begun = [(f, e) for e, f in self.frames.caches[place].first.items() if f <= at]
        first, episode = max(begun)
        name = self.config.data[place].name if self.config.data else "demos"
        return f"{name} episode {episode} frame {at - first}"
