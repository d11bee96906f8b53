"""Two features of a robot frame from a frozen VLM, both from one pass and one last hidden state.

query   [H] the place that the policy's head reads, before any fine-tuning: prompt, picture and
        instruction lie before it, and the query itself is zero, as at the first step of `finetune`
image   [H] mean over the picture's tokens. In both kinds of model that we know a token sees only
        what lies before it, and the instruction comes after the picture: it cannot give away the
        task
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from emt_core.data.images.decode import open_images
from emt_core.data.images.handles import ImageProblem
from emt_core.data.robot.frames import square_frame
from emt_core.errors import EmtError
from emt_core.models.halving import Halving
from emt_core.models.vlm.load import load_processor, load_vlm, text_width
from emt_core.recipe.probe import ProbeConfig
from emt_core.training.policy.inputs import PromptBuilder
from emt_core.training.policy.vla import hidden_states
from emt_core.training.probe.frames import AskedEpisode

FEATURES = ("query", "image")


class FrozenVlm:
    """A VLM that looks at frames as the policy would."""

    def __init__(
        self,
        model: str | Path,
        revision: str | None,
        config: ProbeConfig,
        *,
        device: torch.device,
        dtype: torch.dtype,
        batch: int,
        say: Callable[[str], None],
    ) -> None:
        """batch: frames a pass at the most. Raises EmtError for a model whose image token is not
        known."""
        self.vlm = load_vlm(model, revision, device=device, dtype=dtype).eval()
        self.vlm.requires_grad_(False)
        self.prompts = PromptBuilder(
            load_processor(model, revision),
            system=config.system,
            prompt=config.prompt,
            image_size=config.image_size,
            cutoff=config.cutoff,
        )
        self.device = device
        self.dtype = dtype
        self.image_token = getattr(self.vlm.config, "image_token_id", None)
        if self.image_token is None:
            raise EmtError(
                "the model's config names no image token",
                where=model,
                remedy="probes take InternVL- and Qwen3-VL-class models",
            )
        self.passes = Halving(
            self._encode, say, batch, what="the VLM", remedy="use a device with more memory"
        )

    @property
    def width(self) -> int:
        return text_width(self.vlm)

    def features(self, frames: np.ndarray, instructions: Sequence[str]) -> np.ndarray:
        """float32 [n, 2, H], the second axis as FEATURES. frames: uint8 [n, size, size, 3]."""
        return np.concatenate(self.passes.parts(list(zip(frames, instructions, strict=True))))

    def _encode(self, items: Sequence[tuple[np.ndarray, str]]) -> np.ndarray:
        pixels = torch.from_numpy(np.stack([frame for frame, _ in items])).to(self.device)
        inputs = self.prompts.batch(pixels.permute(0, 3, 1, 2), [text for _, text in items])
        for name, value in inputs.model.items():
            if value.is_floating_point():
                inputs.model[name] = value.to(self.dtype)
        query = torch.zeros(self.width, device=self.device)
        with torch.inference_mode():
            hidden = hidden_states(self.vlm, query, inputs).float()
            rows = torch.arange(len(hidden), device=self.device)
            shown = (inputs.model["input_ids"] == self.image_token).unsqueeze(-1)
            image = (hidden * shown).sum(1) / shown.sum(1).clamp(min=1)
            return torch.stack([hidden[rows, inputs.query_at], image], 1).cpu().numpy()


def decoded(
    episode: AskedEpisode, size: int
) -> tuple[np.ndarray, np.ndarray, tuple[str, str] | None]:
    """(frames uint8 [T, size, size, 3], readable bool [T], what is wrong with the first that is
    not). A frame that cannot be read is black."""
    source = episode.set.source
    found = open_images(episode.images, episode.set.root, source.max_pixels)
    frames = np.zeros((len(found), size, size, 3), np.uint8)
    problem = None
    readable = np.ones(len(found), bool)
    for place, image in enumerate(found):
        if isinstance(image, ImageProblem):
            readable[place] = False
            problem = problem or (image.reason, image.detail)
        else:
            frames[place] = square_frame(image, size)
    return frames, readable, problem
