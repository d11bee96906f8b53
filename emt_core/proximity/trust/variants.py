"""The same samples embedded again with something taken away: text, image, size, colors.

variants/<name>.safetensors    vectors float32 [n, dim] and rows int64 [n] of what could be embedded
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_core.data.index import Index
from emt_core.models.encoders import build_encoder
from emt_core.models.encoders.base import Encoder
from emt_core.models.prepared import Refused
from emt_core.models.refusals import RefusedShare
from emt_core.models.vlm.chat import TextMode
from emt_core.proximity.trust.audit_sections import Variants
from emt_core.recipe.base import Runtime
from emt_core.recipe.embed import EmbedConfig
from emt_core.recipe.trust import TrustConfig
from emt_core.workspace.progress import Progress

if TYPE_CHECKING:
    from PIL import Image

Restyle = Callable[["Image.Image"], "Image.Image"]
BATCH = 16
SIDE_WITHOUT_OWN = 224
"""Pixels that `one_size` scales to where the encoder has no size of its own: half of the 448 that
VLMs often see."""


def restylings(side: int, jpeg_quality: int) -> dict[str, Restyle]:
    """Name -> what the style audit does to every image, pool and robot alike."""
    from PIL import Image

    def one_size(image: Image.Image) -> Image.Image:
        # down, so that all have the same little detail; up again, because that size and not this is
        # what is looked at
        small = image.resize((side, side), Image.Resampling.BICUBIC)
        return small.resize((2 * side, 2 * side), Image.Resampling.BICUBIC)

    def compressed(image: Image.Image) -> Image.Image:
        held = io.BytesIO()
        image.save(held, "JPEG", quality=jpeg_quality)
        return Image.open(held).convert("RGB")

    def gray(image: Image.Image) -> Image.Image:
        return image.convert("L").convert("RGB")

    return {"one_size": one_size, "jpeg": compressed, "grey": gray}


def own_side(encoder: Encoder) -> int | None:
    """Pixels on a side that the encoder's processor brings every image to; None: no single size."""
    images = getattr(getattr(encoder, "processor", None), "image_processor", None)
    if images is None:  # open_clip's settings, or no processor at all
        size = getattr(encoder, "preprocess", {}).get("size")
        return int(size) if isinstance(size, int) else max(size) if size else None
    if hasattr(images, "merge_size"):  # Qwen: keeps an image's own size
        return None
    for name in ("crop_size", "size"):
        height = (getattr(images, name, None) or {}).get("height")
        if height:
            return int(height)
    return None


def _plans(
    embed: EmbedConfig, encoder: Encoder
) -> tuple[dict[str, tuple[bool, bool]], dict[str, str]]:
    """(modality -> image and text seen or not, modality left out -> why)."""
    plans = {"joint": (True, True), "image": (True, False), "text": (False, True)}
    why: dict[str, str] = {}
    silent = [
        role
        for role, text in (("robots", embed.robot_text), ("the pool", embed.pool_text))
        if text == "none"
    ]
    if embed.encoder == "clip" or len(silent) == 2:
        why["image"] = "Image only is left out: these features are of the image alone as they are."
        why["text"] = "Text only is left out: these features hold no text."
    elif silent:
        field = "robot_text" if silent[0] == "robots" else "pool_text"
        why["text"] = (
            f"Text only is left out: {silent[0]} have no text in these features ({field}: none), "
            "so words cannot be compared. Text that only one side has gives that side away by "
            "being there: set pool_text and robot_text both to none, or neither."
        )
    elif not encoder.takes_text_only:
        why["text"] = "Text only is left out: this encoder takes no sample without an image."
    return {name: seen for name, seen in plans.items() if name not in why}, why


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
) -> Variants:
    """The features of these rows (int64, rising) in each variant.

    What an interrupted run has embedded is found in `out`, not embedded again.
    """
    from safetensors.numpy import load_file, save_file

    encoder = build_encoder(embed, base, revision)
    own = own_side(encoder)
    side = config.side or (own // 2 if own else SIDE_WITHOUT_OWN)
    modalities, left_out = _plans(embed, encoder)
    plans: dict[str, tuple[bool, bool, Restyle | None]] = {
        name: (*seen, None) for name, seen in modalities.items()
    }
    for name, restyle in restylings(side, config.jpeg_quality).items():
        plans[name] = (True, True, restyle)
    out.mkdir(parents=True, exist_ok=True)
    left = [name for name in plans if not (out / f"{name}.safetensors").exists()]
    if left:
        encoder.load(runtime.device, embed.precision)
    done = (len(plans) - len(left)) * len(rows)
    with progress.track("embedding variants", len(plans) * len(rows), done=done) as bar:
        for name in left:
            seen, words, restyle = plans[name]
            kept, vectors = _embed(encoder, index, rows, embed, seen, words, restyle, bar.advance)
            aside = out / f".{name}.safetensors"
            save_file({"rows": kept, "vectors": vectors}, aside)
            aside.replace(out / f"{name}.safetensors")
    stored = {name: load_file(out / f"{name}.safetensors") for name in plans}
    vectors = {name: (arrays["rows"], arrays["vectors"]) for name, arrays in stored.items()}
    return Variants(vectors=vectors, left_out=left_out, side=side, own_side=own)


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
    """(int64 rows that could be embedded, float32 [n, dim]) of one variant."""
    from emt_core.data.images.decode import ImageProblem, open_images

    kept: list[int] = []
    parts: list[np.ndarray] = []
    refusals = RefusedShare()
    for at in range(0, len(rows), BATCH):
        batch = rows[at : at + BATCH]
        prepared: list[Any] = []
        for row, sample in zip(batch, index.samples(batch), strict=True):
            source = index.source_of(int(row))
            mode: TextMode = "none"
            if words:
                mode = embed.pool_text if sample.role == "pool" else embed.robot_text
            images: list[Any] = []
            if seen:
                shown = sample.images[: embed.max_images]
                images = open_images(shown, source.root, source.max_pixels)
            unreadable = any(isinstance(image, ImageProblem) for image in images)
            if unreadable or (not images and mode == "none"):
                continue
            if restyle:
                images = [restyle(image) for image in images]
            refused = None
            try:
                prepared.append(encoder.prepare(sample, images, mode))
                kept.append(int(row))
            except Refused as problem:
                refused = problem
            if images:
                refusals.count(source.name, refused)
        if prepared:
            parts.append(encoder.encode(prepared).astype(np.float32))
        advance(len(batch))
    vectors = np.concatenate(parts) if parts else np.empty((0, encoder.dim), np.float32)
    good = np.isfinite(vectors).all(axis=1)
    return np.array(kept, np.int64)[good], vectors[good]
