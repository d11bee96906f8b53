"""The same samples embedded again with something taken away: text, image, size, compression, colour.

variants/<name>.safetensors    vectors float32 [n, dim] of the rows that could be embedded, rows int64 [n]
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.encoders import build_encoder
from emt_core.encoders.base import Encoder, ImageRefused, TextMode
from emt_core.encoders.reuse import source_config
from emt_core.index import Index
from emt_core.progress import Progress
from emt_core.stage_config import EmbedConfig, Runtime
from emt_core.trust.config import TrustConfig

if TYPE_CHECKING:
    from PIL import Image

Restyle = Callable[["Image.Image"], "Image.Image"]
BATCH = 16


def restylings(config: TrustConfig) -> dict[str, Restyle]:
    """What the style audit does to every image, pool and robot alike."""
    from PIL import Image

    def one_size(image: Image.Image) -> Image.Image:
        return image.resize((config.side, config.side), Image.Resampling.BICUBIC)

    def compressed(image: Image.Image) -> Image.Image:
        held = io.BytesIO()
        image.save(held, "JPEG", quality=config.jpeg_quality)
        return Image.open(held).convert("RGB")

    def grey(image: Image.Image) -> Image.Image:
        return image.convert("L").convert("RGB")

    return {"one_size": one_size, "jpeg": compressed, "grey": grey}


def embed_variants(
    index: Index,
    rows: np.ndarray,
    embed: EmbedConfig,
    config: TrustConfig,
    *,
    base: Path,
    revision: str | None,
    out: Path,
    runtime: Runtime,
    progress: Progress,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Variant -> (int64 rows, float32 [n, dim]). What an interrupted run has embedded is found, not embedded again."""
    from safetensors.numpy import load_file, save_file

    encoder = build_encoder(embed, base, revision)
    plans: dict[str, tuple[bool, bool, Restyle | None]] = {"joint": (True, True, None), "image": (True, False, None)}
    if embed.encoder == "clip":  # its features are of the image alone
        plans.pop("image")
    elif encoder.takes_text_only:
        plans["text"] = (False, True, None)
    plans |= {name: (True, True, restyle) for name, restyle in restylings(config).items()}
    out.mkdir(parents=True, exist_ok=True)
    left = [name for name in plans if not (out / f"{name}.safetensors").exists()]
    if left:
        encoder.load(runtime.device, embed.precision)
    with progress.track("embedding variants", len(plans) * len(rows), done=(len(plans) - len(left)) * len(rows)) as bar:
        for name in left:
            seen, words, restyle = plans[name]
            kept, vectors = _embed(encoder, index, rows, embed, seen, words, restyle, bar.advance)
            aside = out / f".{name}.safetensors"
            save_file({"rows": kept, "vectors": vectors}, aside)
            aside.replace(out / f"{name}.safetensors")
    stored = {name: load_file(out / f"{name}.safetensors") for name in plans}
    return {name: (found["rows"], found["vectors"]) for name, found in stored.items()}


def _embed(
    encoder: Encoder,
    index: Index,
    rows: np.ndarray,
    embed: EmbedConfig,
    seen: bool,
    words: bool,
    restyle: Restyle | None,
    advance: Callable[[int], None],
) -> tuple[np.ndarray, np.ndarray]:
    from emt_core.images import ImageProblem, open_images

    kept: list[int] = []
    parts: list[np.ndarray] = []
    for at in range(0, len(rows), BATCH):
        batch = rows[at : at + BATCH]
        prepared: list[Any] = []
        for row, sample in zip(batch, index.samples(batch), strict=True):
            source = index.source_of(int(row))
            mode: TextMode = (embed.pool_text if sample.role == "pool" else embed.robot_text) if words else "none"
            images: list[Any] = []
            if seen:
                bound = source_config(index, source)["max_pixels"]
                images = open_images(sample.images[: embed.max_images], source.root, bound)
            if any(isinstance(image, ImageProblem) for image in images) or (not images and mode == "none"):
                continue
            try:
                prepared.append(encoder.prepare(sample, [restyle(i) if restyle else i for i in images], mode))
            except ImageRefused:
                continue
            kept.append(int(row))
        if prepared:
            parts.append(encoder.encode(prepared).astype(np.float32))
        advance(len(batch))
    vectors = np.concatenate(parts) if parts else np.empty((0, encoder.dim), np.float32)
    good = np.isfinite(vectors).all(axis=1)
    return np.array(kept, np.int64)[good], vectors[good]
