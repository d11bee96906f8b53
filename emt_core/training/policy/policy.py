"""A policy on disk, and acting with it.

step-1000/                   a VLM folder: config, model.safetensors, processor, tokenizer, template
         /head.safetensors   `query` [H] and the head's weights
         /policy.json        PolicySpec: prompt, image size, chunk, head widths, action map

Everything that acting needs is in the folder: it can be moved, sent and served (`emt serve`).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.data.robot.actions import ActionMap
from emt_core.data.robot.frames import square_frames
from emt_core.errors import EmtError
from emt_core.models.device import Precision, choose_dtype
from emt_core.models.vlm.load import load_processor, load_vlm, text_width, without_bars
from emt_core.recipe.finetune import AugmentConfig, HeadConfig
from emt_core.run.device import choose_device
from emt_core.training.policy.inputs import PromptBuilder
from emt_core.workspace.files import read_json, write_json

if TYPE_CHECKING:
    import torch

    from emt_core.training.policy.vla import VLA

FORMAT = 3


@dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """policy.json."""

    action_map: ActionMap
    chunk: int
    image_size: int
    """Side of the square that frames are brought to before the VLM's processor, pixels."""
    crop: float
    """Share of its area that is kept, round the centre."""
    system: str
    prompt: str
    cutoff: int
    """Longest prompt in tokens, image included."""
    head: HeadConfig
    step: int
    """Optimiser steps of the fine-tuning."""
    recording: dict[str, Any] = field(default_factory=dict)
    """What an evaluator has to do as the recording did (camera, action repeat, ...), where the data
    say so."""

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "format": FORMAT,
            "head": self.head.model_dump(mode="json"),
            "action_map": self.action_map.to_json(),
        }

    @classmethod
    def read(cls, path: Path) -> PolicySpec:
        """Raises EmtError where the file is missing, of another format or incomplete."""
        check_policy_folder(path.parent)
        found = read_json(path)
        if found.pop("format", None) != FORMAT:
            raise EmtError(
                f"policy.json is not of format {FORMAT}",
                where=path,
                remedy="use the version that wrote it",
            )
        try:
            found |= {
                "action_map": ActionMap.from_json(found["action_map"]),
                "head": HeadConfig.model_validate(found["head"]),
            }
            return cls(**found)
        except (KeyError, TypeError, ValueError) as error:
            raise EmtError(f"policy.json is incomplete: {error}", where=path) from error


class Policy:
    """A VLA with everything round it. `vla`: in eval mode, on `device`."""

    def __init__(
        self, vla: VLA, processor: Any, spec: PolicySpec, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.vla = vla
        self.processor = processor
        self.spec = spec
        self.device = device
        self.dtype = dtype
        self.prompts = prompt_builder(processor, spec)

    @classmethod
    def load(
        cls, folder: str | Path, *, device: str = "auto", precision: Precision = "auto"
    ) -> Policy:
        """device: `auto`, `cpu`, `cuda`, `cuda:1`. Raises EmtError where the folder is not a whole
        policy."""
        folder = Path(folder)
        spec = PolicySpec.read(folder / "policy.json")
        from safetensors.torch import load_file  # brings torch: a mistaken folder is told before

        place = choose_device(device)
        vla = build_vla(load_vlm(folder), spec)
        if not (folder / "head.safetensors").is_file():
            raise EmtError("the policy's head.safetensors is missing", where=folder)
        _load_head(vla, load_file(folder / "head.safetensors"), folder)
        return cls(
            vla.to(place).eval(),
            load_processor(folder),
            spec,
            place,
            choose_dtype(precision, place),
        )

    @property
    def chunk(self) -> int:
        return self.spec.chunk

    @property
    def action_dim(self) -> int:
        """A: dimensions of an executed action."""
        return len(self.spec.action_map.names)

    def act(
        self, images: np.ndarray, instructions: Sequence[str], reference: np.ndarray | None = None
    ) -> np.ndarray:
        """float32 [n, chunk, A] in the data set's units and order.

        images: uint8 [n, H, W, 3] of any size, upright as recorded. reference: float [n, R], the
        robot's present state, only for action kind delta. Raises EmtError where shapes do not fit
        or an instruction is empty.
        """
        import torch

        images = np.asarray(images)
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
            raise EmtError(f"images are {images.dtype} {images.shape}, not uint8 [n, H, W, 3]")
        if len(instructions) != len(images) or not all(text.strip() for text in instructions):
            raise EmtError(f"{len(images)} images need as many instructions, none of them empty")
        self.spec.action_map.check_reference(reference, len(images))
        frames = square_frames(images, self.spec.image_size)
        with torch.inference_mode(), autocast(self.device, self.dtype):
            pixels = (
                torch.from_numpy(np.ascontiguousarray(frames)).to(self.device).permute(0, 3, 1, 2)
            )
            output = self.vla(
                self.prompts.batch(self._crop(pixels), [text.strip() for text in instructions])
            )
            gripper = output.gripper.sigmoid() if self.spec.action_map.binary else output.gripper
        return self.spec.action_map.actions(
            output.arm.cpu().numpy(), gripper.cpu().numpy(), reference
        )

    def _crop(self, pixels: torch.Tensor) -> torch.Tensor:
        from emt_core.training.policy.augment import center_crop

        return center_crop(pixels, AugmentConfig(crop=self.spec.crop))


POLICIES_BELOW = ("policies", "data/policies", "*/data/policies", "finetune/*/data/policies")
"""Where a folder that was named too high up may hold policies. Never all that is below: planning
asks too, and a recipe may have named the folder that holds the data sets."""


def check_policy_folder(folder: Path) -> None:
    """Raises EmtError where it holds no policy.json, naming the policies below. Loads no torch."""
    if (folder / "policy.json").is_file():
        return
    below = sorted(path for place in POLICIES_BELOW for path in folder.glob(f"{place}/step-*"))
    raise EmtError(
        "this is no policy folder: policy.json is missing"
        if folder.is_dir()
        else "there is no such folder",
        where=folder.absolute(),
        remedy=f"name one of {', '.join(map(str, below[-5:]))}"
        if below
        else "name a finetune artifact's policy: WORKSPACE/finetune/KEY/data/policies/step-N",
    )


def save_policy(
    folder: Path,
    vla: VLA,
    processor: Any,
    spec: PolicySpec,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write aside and rename: a folder that exists is complete, and stays as it is.

    weights: by the VLA's names, in place of those that it holds.
    """
    from safetensors.torch import save_file

    weights = vla.state_dict() if weights is None else weights
    vlm = {name.removeprefix("vlm."): v for name, v in weights.items() if name.startswith("vlm.")}

    if folder.exists():
        return
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    with without_bars():
        vla.vlm.save_pretrained(aside, state_dict=vlm)
        processor.save_pretrained(aside)
    save_file(_head_state(weights), aside / "head.safetensors")
    write_json(aside / "policy.json", spec.to_json())
    aside.rename(folder)


def build_vla(vlm: Any, spec: PolicySpec, *, seed: int | None = None) -> VLA:
    """A VLA with a fresh head (the query is zero). seed: of the head's weights."""
    import torch

    from emt_core.training.policy.vla import VLA, ActionHead

    if seed is not None:
        torch.manual_seed(seed)
    head = ActionHead(
        text_width(vlm),
        arm=len(spec.action_map.arm),
        gripper=len(spec.action_map.gripper),
        chunk=spec.chunk,
        latent=spec.head.latent,
        widths=spec.head.widths,
        binary=spec.action_map.binary,
    )
    return VLA(vlm, head)


def prompt_builder(processor: Any, spec: PolicySpec) -> PromptBuilder:
    return PromptBuilder(
        processor,
        system=spec.system,
        prompt=spec.prompt,
        image_size=spec.image_size,
        cutoff=spec.cutoff,
    )


def autocast(device: torch.device, dtype: torch.dtype) -> Any:
    """Arithmetic in `dtype` over float32 weights; nothing at all for float32."""
    import torch

    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def _head_state(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What head.safetensors holds, of a VLA's weights."""
    return {
        name: value.detach().cpu().contiguous()
        for name, value in weights.items()
        if not name.startswith("vlm.")
    }


def _load_head(vla: VLA, state: dict[str, torch.Tensor], folder: Path) -> None:
    expected = _head_state(vla.state_dict())
    differing = [
        name for name in {*expected, *state} if _shape(expected, name) != _shape(state, name)
    ]
    if differing:
        raise EmtError(
            f"head.safetensors does not fit policy.json: {', '.join(sorted(differing)[:4])}",
            where=folder,
            remedy="the folder mixes two policies, or was cut short",
        )
    vla.query.data.copy_(state["query"])
    vla.head.load_state_dict(
        {name[len("head.") :]: value for name, value in state.items() if name != "query"}
    )


def _shape(state: dict[str, torch.Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(state[name].shape) if name in state else None
