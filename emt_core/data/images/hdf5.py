"""Datasets of an HDF5 file that comes from outside: no other file is read, nothing is unpickled.

Links are walked by hand. An external link, external storage or a virtual dataset could name any
file of the machine, so none is followed. What a dataset claims is held against bounds before it is
read: the pixels of a frame, the bytes of a chunk (a small file may unpack to any size), and whether
it was written at all (HDF5 gives zeros for what was not).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.data.file_kind import mistaken
from emt_core.data.images.handles import ImageProblem, missing

MAX_CHUNK_BYTES = 256 * 2**20
MAX_ENCODED_BYTES = 64 * 2**20
MAX_LINKS = 16
CACHE_BYTES = 32 * 2**20
"""Unpacked chunks that are kept: a writer may put many frames into one."""

CACHE_SLOTS = 10_007
DATASETS = 4
"""Datasets that are held open; the chunks of one that is closed are dropped."""

CHANNELS = (1, 3, 4)


class HDF5Problem(Exception):
    """Why something of a file cannot be read."""


class HDF5File:
    """An open file. Raises ImageProblem where it is none."""

    def __init__(self, path: Path) -> None:
        import h5py

        self.path = path
        try:
            self.file = h5py.File(path, "r", rdcc_nbytes=CACHE_BYTES, rdcc_nslots=CACHE_SLOTS)
        except FileNotFoundError as error:
            raise missing(error) from error
        except (OSError, RuntimeError, ValueError) as error:
            raise ImageProblem("unreadable_file", _no_hdf5(path, error)) from error
        self._open: dict[str, Any] = {}

    def close(self) -> None:
        self._open.clear()
        self.file.close()

    def get(self, name: str) -> Any:
        """The group or dataset of a name, "" for the root; None where there is none.

        Raises HDF5Problem where the way there leads out of the file.
        """
        with _told():
            return _resolved(self.file, name)

    def names(self, group: str) -> list[str]:
        """What a group has, by name; nothing where it is no group. Raises HDF5Problem.

        A name that is no UTF-8, which h5py gives as bytes, has U+FFFD in it and is never found.
        """
        import h5py

        found = self.get(group)
        with _told():
            listed = list(found) if isinstance(found, h5py.Group) else []
        return [one if isinstance(one, str) else one.decode("utf-8", "replace") for one in listed]

    def dataset(self, name: str) -> Any:
        """A dataset that is safe to read, kept open. Raises HDF5Problem."""
        import h5py

        found = self._open.pop(name, None)
        if found is None:
            found = self.get(name)
            if not isinstance(found, h5py.Dataset):
                raise HDF5Problem(f"there is no dataset {name!r}")
            with _told():
                _check_storage(found, name)
        self._open[name] = found
        while len(self._open) > DATASETS:
            del self._open[next(iter(self._open))]
        return found

    def rows(self, name: str, most: int) -> np.ndarray:
        """float64 [T, n] of a dataset of numbers, `most` numbers at the most.

        Raises HDF5Problem.
        """
        found = self.dataset(name)
        with _told():
            if found.dtype.kind not in "fiub" or found.ndim not in (1, 2):
                raise HDF5Problem(f"{name!r} holds {found.dtype} {list(found.shape)}, no numbers")
            if found.size > most:
                raise HDF5Problem(f"{name!r} claims {found.size:,} numbers")
            values = np.asarray(found[()], np.float64)
        return values.reshape(len(values), -1) if values.size else np.empty((len(values), 0))

    def frames(self, name: str) -> int:
        """How many frames a dataset of images has. Raises HDF5Problem where it is none."""
        found = self.dataset(name)
        with _told():
            if not (_is_pixels(found) or _is_encoded(found)):
                raise HDF5Problem(
                    f"{name!r} holds {found.dtype} {list(found.shape)}; images are uint8 [frames, "
                    "height, width, 1, 3 or 4], or encoded, one a frame"
                )
            return len(found)

    def size(self, name: str, frame: int, max_pixels: int) -> tuple[int, int] | None:
        """(width, height) of a frame that is stored as pixels; None where it is encoded.

        Raises ImageProblem.
        """
        found = self._frame(name, frame)
        if not _is_pixels(found):
            return None
        height, width = found.shape[1:3]
        if height * width > max_pixels:
            raise ImageProblem("pixel_bomb", f"{width} x {height} pixels, at most {max_pixels:,}")
        return width, height

    def pixels(self, name: str, frame: int, max_pixels: int) -> np.ndarray | None:
        """uint8 [height, width(, 3 or 4)] of a frame; None where it is encoded.

        Raises ImageProblem.
        """
        if self.size(name, frame, max_pixels) is None:
            return None
        try:
            with _told():
                found = np.ascontiguousarray(self._frame(name, frame)[frame])
        except HDF5Problem as error:
            raise ImageProblem("undecodable_image", f"{name}, frame {frame}: {error}") from error
        return found[..., 0] if found.shape[-1] == 1 else found

    def encoded(self, name: str, frame: int) -> bytes:
        """The encoded image of a frame, with the zeros that fill its row. Raises ImageProblem."""
        found = self._frame(name, frame)
        try:
            with _told():
                value = found[frame]
        except HDF5Problem as error:
            raise ImageProblem("undecodable_image", f"{name}, frame {frame}: {error}") from error
        return value if isinstance(value, bytes) else np.asarray(value).tobytes()

    def _frame(self, name: str, frame: int) -> Any:
        """The dataset of a frame that is there."""
        try:
            count = self.frames(name)
        except HDF5Problem as error:
            raise ImageProblem("missing_image", str(error)) from error
        if not 0 <= frame < count:
            raise ImageProblem("missing_image", f"{name} has {count:,} frames, not {frame}")
        return self.dataset(name)


def _resolved(file: Any, name: str) -> Any:
    import h5py

    parts = [part for part in name.split("/") if part]
    found: Any = file
    links = 0
    while parts:
        part = parts.pop(0)
        if not isinstance(found, h5py.Group) or part == "..":
            return None
        link = found.get(part, getlink=True)
        if link is None:
            return None
        if isinstance(link, h5py.ExternalLink):
            raise HDF5Problem(f"{name!r} is a link to another file, {link.filename!r}")
        if isinstance(link, h5py.SoftLink):
            links += 1
            if links > MAX_LINKS:
                raise HDF5Problem(f"{name!r} is a link that goes round in a circle")
            if link.path.startswith("/"):
                found = file
            parts = [*(one for one in link.path.split("/") if one), *parts]
            continue
        found = found.get(part)
    return found


def _check_storage(found: Any, name: str) -> None:
    """Raises HDF5Problem for a dataset that is not safe or not worth to be read."""
    if found.external or found.is_virtual:
        raise HDF5Problem(f"{name!r} keeps its values in other files")
    if found.dtype.kind == "O":
        import h5py

        if not (h5py.check_string_dtype(found.dtype) or h5py.check_vlen_dtype(found.dtype)):
            raise HDF5Problem(f"{name!r} holds references")
    if not found.size:
        return
    if found.chunks is None:
        if found.id.get_storage_size() == 0:
            raise HDF5Problem(f"{name!r} was never written")
        return
    size = found.dtype.itemsize
    for length in found.chunks:
        size *= length
    if size > MAX_CHUNK_BYTES:
        raise HDF5Problem(f"{name!r} has chunks of {size:,} bytes, at most {MAX_CHUNK_BYTES:,}")
    promised = 1
    for length, of_chunk in zip(found.shape, found.chunks, strict=True):
        promised *= -(-length // of_chunk)
    there = found.id.get_num_chunks()
    if there < promised:
        raise HDF5Problem(f"{name!r} was written in part: {there:,} of {promised:,} chunks")


def _is_pixels(found: Any) -> bool:
    return found.dtype == np.uint8 and found.ndim == 4 and found.shape[3] in CHANNELS


def _is_encoded(found: Any) -> bool:
    """Whether each row is one encoded image: padded bytes, or bytes of any length."""
    import h5py

    if found.ndim == 2:
        return found.dtype == np.uint8 and found.shape[1] <= MAX_ENCODED_BYTES
    if found.ndim != 1:
        return False
    if h5py.check_vlen_dtype(found.dtype) == np.uint8 or h5py.check_string_dtype(found.dtype):
        return found.dtype.itemsize <= MAX_ENCODED_BYTES
    return found.dtype.kind == "V" and found.dtype.itemsize <= MAX_ENCODED_BYTES


@contextmanager
def _told() -> Iterator[None]:
    """Turns what h5py raises on a damaged file into HDF5Problem."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise HDF5Problem(_words(error)) from error


def _no_hdf5(path: Path, error: Exception) -> str:
    """What a file is that HDF5 cannot open."""
    with path.open("rb") as file:
        other = mistaken(file.read(32))
    return f"it is {other[0]}: {other[1]}" if other else f"no HDF5 file: {_words(error)}"


def _words(error: Exception) -> str:
    return str(error.args[0] if error.args else error)[:200]
