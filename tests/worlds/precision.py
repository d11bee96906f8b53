"""Another machine, as far as `precision: auto` goes."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from emt_core.models import device


def auto_is(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    """From here on `auto` means this precision, in every module that is loaded."""
    real = device.choose_dtype

    def chosen(precision: Any, where: torch.device, parameters: int = 0) -> torch.dtype:
        return dtype if precision == "auto" else real(precision, where, parameters)

    for name, module in list(sys.modules.items()):
        if name.startswith("emt_core.") and getattr(module, "choose_dtype", None) is real:
            monkeypatch.setattr(module, "choose_dtype", chosen)
