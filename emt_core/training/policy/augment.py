"""Random changes of training frames, whole batches at a time, on the model's device.

Each frame has its own draws; they are made for a whole step at once from its seed, so neither a
resumed run nor one that passes the batch in other parts sees other pictures. What `crop` cuts away
at random in training is cut away round the centre when the policy acts.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from emt_core.recipe.finetune import AugmentConfig


def draws_of(frames: int, seed: int) -> torch.Tensor:
    """float32 [frames, 7] in [-1, 1], on the CPU: what `augment` takes."""
    return torch.rand(frames, 7, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def augment(frames: torch.Tensor, config: AugmentConfig, draws: torch.Tensor) -> torch.Tensor:
    """uint8 [n, 3, s, s] -> the same shape. draws: float32 [n, 7] (`draws_of`)."""
    if config == AugmentConfig():
        return frames
    size = frames.shape[-1]
    draws = draws.to(frames.device)
    pixels = frames.float()
    side = config.crop**0.5
    if config.shift or side < 1:
        # where the view's centre goes, in [-1, 1] image coordinates; border padding repeats edges
        center = draws[:, :2] * (1 - side) + draws[:, 2:4] * (2 * config.shift / size)
        pixels = _view(pixels, center, side)
    brightness, contrast, saturation = (
        (1 + draws[:, 4 + place] * amount).view(-1, 1, 1, 1)
        for place, amount in enumerate((config.brightness, config.contrast, config.saturation))
    )
    if config.brightness:
        pixels = (pixels * brightness).clamp(0, 255)
    if config.contrast:
        mean = _gray(pixels).mean(dim=(2, 3), keepdim=True)
        pixels = (mean + (pixels - mean) * contrast).clamp(0, 255)
    if config.saturation:
        gray = _gray(pixels)
        pixels = (gray + (pixels - gray) * saturation).clamp(0, 255)
    return pixels.round().to(torch.uint8)


def center_crop(frames: torch.Tensor, config: AugmentConfig) -> torch.Tensor:
    """uint8 [n, 3, s, s], the same shape: the part that training showed on average."""
    if config.crop == 1:
        return frames
    middle = torch.zeros(len(frames), 2, device=frames.device)
    return _view(frames.float(), middle, config.crop**0.5).round().to(torch.uint8)


def _view(pixels: torch.Tensor, center: torch.Tensor, side: float) -> torch.Tensor:
    """The square of relative side `side` round `center` [n, 2] in [-1, 1], scaled up."""
    n = len(pixels)
    theta = torch.zeros(n, 2, 3, device=pixels.device)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = center
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    return functional.grid_sample(
        pixels, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def _gray(pixels: torch.Tensor) -> torch.Tensor:
    """[n, 1, s, s], ITU-R BT.601 luma."""
    weights = pixels.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (pixels * weights).sum(dim=1, keepdim=True)
