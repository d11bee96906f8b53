"""Load a VLM and its processor: safetensors only, never remote code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_core.errors import EmtError
from emt_core.recipe.base import Attention
from emt_core.run.requirements import require

if TYPE_CHECKING:
    import torch


def load_processor(model: str | Path, revision: str | None = None) -> Any:
    """The model's processor. Raises EmtError where there is none or it has no chat template."""
    processor = _load("AutoProcessor", "processor", model, revision)
    if not getattr(processor, "chat_template", None):
        raise EmtError(
            "the model's processor has no chat template",
            where=model,
            remedy="use a chat (instruct) model",
        )
    return processor


def load_vlm(
    model: str | Path,
    revision: str | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    attention: Attention = "auto",
) -> Any:
    """The whole VLM, its head included; dtype None: float32. attention: its kernel.

    Raises EmtError where model or kernel cannot be loaded.
    """
    import torch

    options: dict[str, Any] = {"dtype": dtype or torch.float32, "use_safetensors": True}
    if attention != "auto":
        # asked first: transformers would take a missing kernel from the hub
        gpu = torch.cuda.is_available()
        require(attention, where=f"attn_implementation: {attention}", gpu=gpu)
        options["attn_implementation"] = attention
    return _load("AutoModelForImageTextToText", "model", model, revision, **options).to(device)


def load_config(model: str | Path, revision: str | None = None) -> Any:
    """transformers' config of a model. Raises EmtError where there is none."""
    return _load("AutoConfig", "config", model, revision)


def stored_dtype(model: str | Path, revision: str | None = None) -> torch.dtype | None:
    """The precision that a model's weights are stored in, as its config says."""
    return getattr(load_config(model, revision), "dtype", None)


def shapes_of(config: Any, attention: Attention = "auto") -> Any:
    """The VLM of a config in float32 on PyTorch's meta device: shapes, and no memory.

    attention: `eager` keeps whole score matrices; of all other kernels `sdpa` stands
    here. Raises EmtError where the config is of no such model.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    options = {"attn_implementation": "eager" if attention == "eager" else "sdpa"}
    try:
        with torch.device("meta"):
            return AutoModelForImageTextToText.from_config(
                deepcopy(config), dtype=torch.float32, **options
            )
    except (ValueError, KeyError) as error:
        raise EmtError(
            f"the model cannot be built: {str(error).splitlines()[0]}",
            where=getattr(config, "name_or_path", "") or type(config).__name__,
            remedy="supported are InternVL- and Qwen3-VL-class models",
        ) from error


def decoder_of(vlm: Any) -> Any:
    """The decoder stack with its vision tower, without the language head: it makes no logits."""
    return getattr(vlm, "model", None) or vlm.base_model


def text_width(vlm: Any) -> int:
    """Width H of the language model."""
    return (getattr(vlm.config, "text_config", None) or vlm.config).hidden_size


def _load(kind: str, what: str, model: str | Path, revision: str | None, **options: Any) -> Any:
    import transformers

    local = Path(model).is_dir()
    options |= {
        "trust_remote_code": False,
        "local_files_only": local,
        "revision": None if local else revision,
    }
    try:
        with without_bars():
            return getattr(transformers, kind).from_pretrained(str(model), **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EmtError(
            f"the {what} cannot be loaded: {first}",
            where=model,
            remedy="give a folder with config, processor and safetensors files,"
            " or a hub name within reach",
        ) from error


@contextmanager
def without_bars() -> Iterator[None]:
    """transformers' progress bars off: they would run into the stage's own."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()
