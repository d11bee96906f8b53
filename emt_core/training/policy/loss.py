"""Huber (delta 1) on the arm plus weighted cross-entropy on the gripper (method section 9)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from emt_core.training.policy.vla import HeadOutput


@dataclass(frozen=True, kw_only=True)
class ActionTargets:
    """arm: float32 [n, chunk, D]; gripper: float32 [n, chunk, G]; valid: bool [n, chunk], False
    behind an episode's end."""

    arm: torch.Tensor
    gripper: torch.Tensor
    valid: torch.Tensor

    def __getitem__(self, rows: slice) -> ActionTargets:
        return ActionTargets(arm=self.arm[rows], gripper=self.gripper[rows], valid=self.valid[rows])

    def to(self, device: torch.device) -> ActionTargets:
        return ActionTargets(
            arm=self.arm.to(device), gripper=self.gripper.to(device), valid=self.valid.to(device)
        )


@dataclass(frozen=True, kw_only=True)
class ActionLoss:
    total: torch.Tensor
    arm: torch.Tensor
    gripper: torch.Tensor


def action_loss(
    output: HeadOutput, targets: ActionTargets, *, steps: float, binary: bool, gripper_weight: float
) -> ActionLoss:
    """Losses summed over valid steps, averaged over dimensions, divided by `steps`.

    steps: valid steps of the whole batch, so that the parts of an accumulated batch add up to its
    mean.
    """
    valid = targets.valid.float()
    arm = functional.huber_loss(output.arm, targets.arm, reduction="none").mean(dim=-1)
    arm = (arm * valid).sum() / steps
    if not targets.gripper.shape[-1]:
        return ActionLoss(total=arm, arm=arm, gripper=arm.new_zeros(()))
    if binary:
        each = functional.binary_cross_entropy_with_logits(
            output.gripper, targets.gripper, reduction="none"
        )
    else:
        each = functional.huber_loss(output.gripper, targets.gripper, reduction="none")
        gripper_weight = 1.0
    gripper = (each.mean(dim=-1) * valid).sum() / steps
    return ActionLoss(total=arm + gripper_weight * gripper, arm=arm, gripper=gripper)
