"""From an ImageRef to a bounded RGB image, or a named problem. Nothing about images is trusted.

Bounds: it is a regular file inside its source's root (data/paths.py says how links are treated);
its format is one of FORMATS; its size is read from the header and held against `max_pixels` before
anything is decoded. Pillow's own bound (about 179 million pixels) stays in force for every thread,
so a `max_pixels` above it does not lift it.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, ImageOps

from emt_core.data.file_kind import mistaken
from emt_core.data.images.base64_text import from_base64, is_base64
from emt_core.data.images.formats import FORMATS
from emt_core.data.images.handles import (
    ArrowHandle,
    ImageProblem,
    JsonHandle,
    ParquetHandle,
    TarHandle,
    file_facts,
    handle,
    missing,
)
from emt_core.data.images.tiles import grid, parts_of, tile
from emt_core.data.images.values import numbered_images
from emt_core.data.paths import PathLeavesRoot, inside
from emt_core.data.sample import ImageRef
from emt_core.errors import EmtError

__all__ = [
    "ImageProblem",
    "check_folder",
    "check_image",
    "image_bytes",
    "image_size",
    "open_image",
    "open_images",
]

DRAWN = ("video", "tile", "hdf5")
"""Kinds of references whose picture has no encoded form of its own, or need not have one."""

BYTES_A_PIXEL = 8
BYTES_BESIDE = 16 * 2**20
"""An encoded image of more is refused: four channels of 16 bits, uncompressed, and EXIF or the
like."""

SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "JPEG2000": ".jp2"}
# Pillow warns from half its bound on; ours has spoken by then, or the user has raised it on
# purpose.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def open_image(ref: ImageRef, root: Path, max_pixels: int, *, at_least: int = 0) -> Image.Image:
    """Decoded RGB image: upright (EXIF), transparency on white, first frame of an animation.

    root: folder that the reference's path is relative to (SourceRange.root). at_least: for a
    preview, a JPEG may be decoded at a fraction of its size with no side below this (0: whole).
    Raises ImageProblem.
    """
    if ref.kind == "tile":
        _check_tile(ref, root, max_pixels)
        parts = parts_of(ref)
        return tile([open_image(part, root, max_pixels, at_least=at_least) for part in parts])
    with _named(ref):
        if ref.kind == "video":
            return _edited(_video(ref, root).image_at(ref.time, max_pixels), ref)
        if ref.kind == "hdf5":
            pixels = _hdf5(ref, root).pixels(ref.member, ref.index, max_pixels)
            if pixels is not None:
                return _edited(_to_rgb(Image.fromarray(pixels)), ref)
        with _encoded(ref, root) as file:
            return _edited(decode_image(file, max_pixels, at_least=at_least), ref)


def _edited(image: Image.Image, ref: ImageRef) -> Image.Image:
    """The image as ImageRef.edit says."""
    if "v" in ref.edit:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if "h" in ref.edit:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if "b" in ref.edit:
        image = Image.merge("RGB", image.split()[::-1])
    return image


def open_images(
    refs: Sequence[ImageRef], root: Path, max_pixels: int
) -> list[Image.Image | ImageProblem]:
    """One result per reference, in the given order; files, archives and videos are each gone
    through once, in order. Raises EmtError where a whole folder of images is gone."""
    found: list[Image.Image | ImageProblem] = [ImageProblem("missing_image", "not read")] * len(
        refs
    )
    for at in sorted(
        range(len(refs)), key=lambda i: (refs[i].kind, refs[i].path, refs[i].time, refs[i].index)
    ):
        try:
            found[at] = open_image(refs[at], root, max_pixels)
        except ImageProblem as problem:
            check_folder(refs[at], root, problem)
            found[at] = problem
    return found


def check_folder(ref: ImageRef, root: Path, problem: ImageProblem) -> None:
    """Raise EmtError where an image is missing with its folder, or its source's folder is empty.

    `sources` has seen the image, so a disk that is no longer mounted is likelier than a change of
    the data: a row without its image would stay so in what is made from it.
    """
    if problem.reason != "missing_image" or ref.kind == "stream":
        return
    for part in parts_of(ref) if ref.kind == "tile" else (ref,):
        folder = _path(part, root).parent
        try:
            with os.scandir(folder), os.scandir(root) as entries:
                if any(True for _ in entries):
                    continue
        except OSError:
            pass
        raise EmtError(
            "a folder of images is gone that this run needs",
            where=folder,
            remedy="bring it back (is its disk mounted?) and run the same command again:"
            " finished work is kept",
        ) from problem


def image_size(ref: ImageRef, root: Path, max_pixels: int) -> tuple[int, int]:
    """(width, height) as the header says, nothing decoded. Raises ImageProblem."""
    if ref.kind == "tile":
        return _check_tile(ref, root, max_pixels)
    with _named(ref):
        if ref.kind == "video":
            video = _video(ref, root)
            video.check(ref.time, max_pixels)
            return video.size
        if ref.kind == "hdf5":
            size = _hdf5(ref, root).size(ref.member, ref.index, max_pixels)
            if size is not None:
                return size
        with _encoded(ref, root) as file:
            return _open(file, max_pixels).size


def check_image(ref: ImageRef, root: Path, max_pixels: int) -> tuple[str, str] | None:
    """None, or (reason, detail). By header only: cheap enough for every image of a pool."""
    if ref.kind == "stream":
        return None  # the reader has looked at the header as it went by
    try:
        image_size(ref, root, max_pixels)
    except ImageProblem as problem:
        return problem.reason, problem.detail
    return None


def image_bytes(ref: ImageRef, root: Path) -> tuple[bytes, str]:
    """The encoded image as it lies on disk and the suffix of its format (`.jpg`): for exports.

    One of DRAWN, and what is edited, has no file of its own and comes as PNG. Raises ImageProblem.
    """
    if ref.kind in DRAWN or ref.edit:
        encoded = io.BytesIO()
        open_image(ref, root, 2**31).save(encoded, "PNG")
        return encoded.getvalue(), ".png"
    with _named(ref):
        with _encoded(ref, root) as file:
            content = file.read()
        image = _open(io.BytesIO(content), 2**31)
    return content, SUFFIXES.get(image.format or "", f".{(image.format or 'bin').lower()}")


def check_bytes(content: bytes, max_pixels: int) -> tuple[str, str] | None:
    """check_image for an image that is at hand, as in a stream."""
    try:
        _open(io.BytesIO(content), max_pixels)
    except ImageProblem as problem:
        return problem.reason, problem.detail
    return None


def decode_image(file: BinaryIO, max_pixels: int, *, at_least: int = 0) -> Image.Image:
    """RGB image of an encoded one. Raises ImageProblem (`undecodable_image`, `pixel_bomb`)."""
    image = _open(file, max_pixels)
    try:
        if at_least:
            image.draft("RGB", (at_least, at_least))
        image.load()
        return _to_rgb(_upright(image))
    except MemoryError:
        raise
    except Exception as error:  # decoders of hostile files raise whatever they like
        raise ImageProblem("undecodable_image", f"{type(error).__name__}: {error}"[:300]) from error


def _open(file: BinaryIO, max_pixels: int) -> Image.Image:
    Image.init()  # registers all formats, once
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size > BYTES_A_PIXEL * max_pixels + BYTES_BESIDE:  # some decoders read a file whole
        raise ImageProblem(
            "pixel_bomb", f"{size:,} bytes, more than {max_pixels:,} pixels can need"
        )
    try:
        image = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageProblem("pixel_bomb", str(error)) from error
    except MemoryError:
        raise
    except Exception as error:
        text = str(error)
        if isinstance(error, Image.UnidentifiedImageError):
            file.seek(0)
            other = mistaken(file.read(32))
            text = f"it is {other[0]}: {other[1]}" if other else "no image format that is read"
        raise ImageProblem("undecodable_image", f"{type(error).__name__}: {text}"[:300]) from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageProblem("pixel_bomb", f"{width} x {height} pixels, at most {max_pixels:,}")
    if width < 1 or height < 1:
        raise ImageProblem("undecodable_image", f"{width} x {height} pixels")
    return image


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block says nothing about the pixels
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        return _from_integers(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    return image.convert("RGB")


def _from_integers(image: Image.Image) -> Image.Image:
    """16-bit greys: the upper byte. Pillow's own conversion clips everything above 255 to white."""
    import numpy as np

    values = np.asarray(image).astype(np.int64)
    values = values >> 8 if values.max(initial=0) > 255 else values
    return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")


@contextmanager
def _named(ref: ImageRef) -> Iterator[None]:
    """Puts the image's place in front of a problem's detail."""
    try:
        yield
    except ImageProblem as problem:
        raise ImageProblem(problem.reason, f"{ref.path[:200]}: {problem.detail}") from problem


def _path(ref: ImageRef, root: Path) -> Path:
    try:
        return inside(root, ref.path)
    except PathLeavesRoot as error:
        raise ImageProblem("bad_path", str(error)) from error


def _check_tile(ref: ImageRef, root: Path, max_pixels: int) -> tuple[int, int]:
    """(width, height) of the whole, by the headers of its pictures. Raises ImageProblem."""
    sizes = [image_size(part, root, max_pixels) for part in parts_of(ref)]
    columns, rows = grid(len(sizes))
    width, height = columns * sizes[0][0], rows * sizes[0][1]
    if width * height > max_pixels:
        raise ImageProblem(
            "pixel_bomb", f"{len(sizes)} cameras: {width} x {height} pixels, at most {max_pixels:,}"
        )
    return width, height


def _video(ref: ImageRef, root: Path) -> Any:
    from emt_core.data.images.video import Video

    return handle(Video, _path(ref, root))


def _hdf5(ref: ImageRef, root: Path) -> Any:
    from emt_core.data.images.hdf5 import HDF5File

    return handle(HDF5File, _path(ref, root))


def _encoded(ref: ImageRef, root: Path) -> BinaryIO:
    """The encoded image as a file."""
    if ref.kind == "stream":
        raise ImageProblem(
            "missing_image", "a stream has no random access: read it with iter_stream_images"
        )
    path = _path(ref, root)
    if ref.kind == "file":
        file_facts(path)
        try:
            return path.open("rb")
        except OSError as error:
            raise missing(error) from error
    if ref.kind == "tar":
        return handle(TarHandle, path).member(ref.index, ref.member)  # type: ignore[return-value]
    if ref.kind == "tfrecord":
        from emt_core.data.tfrecord import TFRecordFile

        return handle(TFRecordFile, path).image(ref.index)  # type: ignore[return-value]
    if ref.kind == "hdf5":
        return io.BytesIO(_hdf5(ref, root).encoded(ref.member, ref.index))
    kind = {"parquet": ParquetHandle, "arrow": ArrowHandle, "json": JsonHandle}[ref.kind]
    return _cell(handle(kind, path).cell(ref.member, ref.index), ref, root)


def _cell(value: Any, ref: ImageRef, root: Path) -> BinaryIO:
    """A cell: bytes, {bytes, path}, base64 text, a path, or a list of these."""
    try:
        found = (image for place, image in numbered_images(value) if place == ref.position)
        value = next(found, None)
    except TypeError as error:
        raise ImageProblem("undecodable_image", str(error)) from error
    if isinstance(value, bytes):
        return io.BytesIO(value)
    if isinstance(value, str) and is_base64(value):
        return io.BytesIO(from_base64(value))
    if isinstance(value, str):
        file = ImageRef(kind="file", path=value)
        with _named(file):
            return _encoded(file, root)
    raise ImageProblem("missing_image", f"column {ref.member!r}, row {ref.index} holds no image")
