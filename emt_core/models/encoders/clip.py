"""open_clip towers: image features for embed, text features for search and zero-shot categories.

model: a folder with `open_clip_config.json` and safetensors; or `architecture/file.safetensors`; or
`architecture/tag`, a pretrained tag of open_clip, which it fetches. All vectors have length 1:
contrastive training sees directions only, so lengths mean nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.data.fingerprint import content_hash
from emt_core.errors import EmtError
from emt_core.models.device import Precision, choose_dtype, dtype_name
from emt_core.models.identity import model_identity
from emt_core.models.prepared import Prepared, Refused
from emt_core.models.refusals import ProcessorFails, in_words, plain_picture, takes
from emt_core.models.vlm.chat import TextMode
from emt_core.run.device import choose_device

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from emt_core.data.sample import Sample

CONFIG = "open_clip_config.json"
TEXT_BATCH = 256
WEIGHTS = (".pt", ".bin", ".pth", ".safetensors")
"""Endings by which a missing file is told from the tag of pretrained weights."""

FORMS = (
    "a folder with open_clip_config.json, `architecture/file.safetensors`,"
    " or `architecture/pretrained-tag`"
)


@dataclass(frozen=True)
class ClipName:
    """What `embed.model` names: exactly one of folder, file and tag."""

    architecture: str = ""
    folder: Path | None = None
    file: Path | None = None
    tag: str = ""

    @property
    def reference(self) -> str:
        """As open_clip wants it."""
        return f"local-dir:{self.folder}" if self.folder else self.architecture


def parse_clip_name(model: str, base: Path) -> ClipName:
    """Raises EmtError where the name has none of the three forms."""
    folder = base / Path(model).expanduser()
    if model and (folder / CONFIG).is_file():
        return ClipName(folder=folder.resolve())
    architecture, _, rest = model.partition("/")
    if not architecture or not rest:
        raise EmtError(
            f"{model!r} names no CLIP model with weights",
            where="embed.model",
            remedy=f"give {FORMS}",
        )
    file = base / Path(rest).expanduser()
    if file.is_file() and file.suffix == ".safetensors":
        return ClipName(architecture=architecture, file=file.resolve())
    if file.is_file() or "/" in rest or file.suffix in WEIGHTS:
        problem = "is not a safetensors file" if file.is_file() else "does not exist"
        raise EmtError(
            f"the CLIP checkpoint {problem}",
            where=file,
            remedy=f"give {FORMS}; pickled weights are not read",
        )
    return ClipName(architecture=architecture, tag=rest)


def clip_identity(model: str, base: Path) -> dict[str, Any]:
    """Hash of the files; for a pretrained tag its name, which stands for one set of weights."""
    name = parse_clip_name(model, base)
    if name.folder:
        return model_identity(str(name.folder), None, base)
    if name.file:
        return {"architecture": name.architecture, "weights": content_hash(name.file)}
    return {"architecture": name.architecture, "pretrained": name.tag}


class ClipEncoder:
    preload: tuple[str, ...] = ("open_clip",)
    takes_text_only = False

    def __init__(self, model: str, base: Path) -> None:
        """Sets up preprocessing only; the towers come with load()."""
        import open_clip
        from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

        self.name = parse_clip_name(model, base)
        self._model: torch.nn.Module | None = None
        if self.name.folder:
            stored = json.loads((self.name.folder / CONFIG).read_text(encoding="utf-8"))
            config = stored["model_cfg"]
            changes = stored.get("preprocess_cfg", {})
        else:
            config = open_clip.get_model_config(self.name.architecture)
            changes = self._pretrained(model) if config else {}
        if config is None:
            raise EmtError(
                f"open_clip has no architecture {self.name.architecture!r}",
                where=model,
                remedy=f"give {FORMS}",
            )
        self.dim: int = config["embed_dim"]
        size = config["vision_cfg"].get("image_size", 224)
        self.preprocess = merge_preprocess_dict(asdict(PreprocessCfg()), changes) | {"size": size}
        self.transform: Any = image_transform_v2(PreprocessCfg(**self.preprocess), is_train=False)

    def _pretrained(self, model: str) -> dict[str, Any]:
        """What open_clip notes of the tag's preprocessing. Raises EmtError for an unknown tag."""
        import open_clip

        architecture = self.name.architecture
        if not self.name.tag:
            return {}
        noted = open_clip.get_pretrained_cfg(architecture, self.name.tag)
        if not noted:
            tags = open_clip.list_pretrained_tags_by_model(architecture)
            raise EmtError(
                f"{architecture} has no weights {self.name.tag!r}",
                where=model,
                remedy=", ".join(tags) or "none",
            )
        return noted

    def prepare(self, sample: Sample, images: Sequence[Image.Image], text: TextMode) -> Prepared:
        """pixel_values [images, 3, height, width]; the text plays no part in an image vector."""
        try:
            pixels = np.stack([np.asarray(self.transform(image)) for image in images])
        except MemoryError:
            raise
        except Exception as error:
            if takes(lambda: self.transform(plain_picture())):
                raise Refused("image_refused", in_words(error)) from error
            raise ProcessorFails(self.transform, error) from error
        return Prepared(length=len(images), vision={"pixel_values": pixels})

    def load(self, device: str, precision: Precision) -> None:
        import open_clip

        self.device = choose_device(device)
        self.dtype = choose_dtype(precision, self.device)
        try:
            self._model = open_clip.create_model(
                self.name.reference,
                pretrained=str(self.name.file) if self.name.file else self.name.tag or None,
                precision="bf16" if dtype_name(self.dtype) == "bfloat16" else "fp32",
                device=self.device,
                require_pretrained=True,
                weights_only=True,
            )
        except (RuntimeError, OSError, ValueError, KeyError, AssertionError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise EmtError(
                f"the CLIP model cannot be loaded: {first}", where=self.name.reference, remedy=FORMS
            ) from error
        self._model.eval().requires_grad_(False)
        self._tokenizer = open_clip.get_tokenizer(self.name.reference)

    def encode(self, prepared: Sequence[Prepared]) -> np.ndarray:
        """The direction of the mean of a row's image directions."""
        import torch

        counts = [item.length for item in prepared]
        towers: Any = self._loaded()
        stacked = np.concatenate([item.vision["pixel_values"] for item in prepared])
        pixels = torch.from_numpy(stacked).to(self.device, self.dtype)
        with torch.inference_mode():
            features = towers.encode_image(pixels, normalize=True).float()
            means = [part.mean(dim=0) for part in features.split(counts)]
            return torch.nn.functional.normalize(torch.stack(means), dim=-1).cpu().numpy()

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [n, dim], length 1: the cosine with an image's vector is their dot product."""
        import torch

        towers: Any = self._loaded()
        parts = [np.empty((0, self.dim), np.float32)]
        with torch.inference_mode():
            for at in range(0, len(texts), TEXT_BATCH):
                tokens = self._tokenizer(list(texts[at : at + TEXT_BATCH])).to(self.device)
                parts.append(towers.encode_text(tokens, normalize=True).float().cpu().numpy())
        return np.concatenate(parts)

    def describe(self) -> dict[str, Any]:
        model = self._loaded()
        return {
            "encoder": "clip",
            "architecture": self.name.architecture or "from the folder's open_clip_config.json",
            "parameters": sum(p.numel() for p in model.parameters()),
            "dim": self.dim,
            "device": str(self.device),
            "dtype": dtype_name(self.dtype),
            "normalized": True,
        }

    def __getstate__(self) -> dict[str, Any]:
        """What goes to a worker process: preprocessing, never the towers."""
        return {**self.__dict__, "_model": None, "_tokenizer": None}

    def _loaded(self) -> torch.nn.Module:
        if self._model is None:
            raise RuntimeError("call load() first")
        return self._model
