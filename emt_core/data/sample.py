"""A sample: a whole conversation about images (pool), or a robot frame with its instruction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from emt_core.errors import one_line
from emt_core.recipe.base import Role

Speaker = Literal["system", "user", "assistant"]
RefKind = Literal[
    "file", "tar", "parquet", "arrow", "json", "video", "stream", "tile", "hdf5", "tfrecord"
]

# Every row that does not become a sample is counted under one of these names and kept in the
# rejects file.
REJECT_REASONS: Mapping[str, str] = {
    "unreadable_row": "the row is not what the format promises (no conversation, a wrong type)",
    "members_apart": "the archive's members of this key do not lie side by side",
    "unknown_role": "a turn's speaker is none of human/user, gpt/assistant, system",
    "bad_turn_order": "user and assistant do not alternate, or the first turn is not the user's",
    "no_answer": "the conversation ends without an answer to train on (pool)",
    "empty_text": "no turn carries any text (pool), or the episode has no instruction (robot)",
    "image_count_mismatch": "the number of <image> placeholders differs from the number of images",
    "video_not_read": "the row has video or audio, of which nothing is read",
    "preference": "the row is of a preference set: it has a rejected answer, or a mark of it",
    "missing_file": "a data file of the robot set does not exist",
    "unreadable_file": "a data file of the robot set is cut off, damaged or of another kind",
    "bad_checksum": "the episode's bytes do not have the checksum that was stored with them",
    "empty_episode": "the episode has no frames",
    "length_mismatch": "the episode has not as many actions as images",
    "wrong_rate": "the video's frame rate is not that of the timestamps",
    "missing_image": "an image file, archive member or video does not exist",
    "undecodable_image": "an image or video frame cannot be decoded",
    "pixel_bomb": "an image has more pixels than the stated bound and is never decoded",
    "bad_path": "an image path leaves its source's folder",
    "image_refused": "the encoder's processor cannot take the image (its aspect ratio, say)",
    "non_finite_feature": "the encoder produced NaN or infinity for the sample",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRef:
    """Where an image lies; images stay there and are never copied.

    kind    path (relative to the source's root)      member          index            time
    file    the image file                            -               -                -
    tar     the archive                               member name     byte offset      -
    parquet the parquet file                          column          row in file      -
    arrow   the arrow shard of a saved HF dataset     column          row in shard     -
    json    the JSON file, base64 text in a row       field           byte of the row  -
    video   the video file                            camera          frame in file    seconds
    stream  the dataset's name (no random access)     column          row of stream    -
    tile    as the first picture (images/tiles.py)    all, as JSON    as the first     as the first
    hdf5    the HDF5 file                             dataset in it   frame            -
    tfrecord the shard                               feature         byte of its field -

    `position` is the place inside a list-valued column (several images in one cell), else 0.
    `edit` is what is done to the decoded image: `v` turned upside down, `h` mirrored, `b` red and
    blue swapped, in any combination.
    """

    kind: RefKind
    path: str
    member: str = ""
    index: int = 0
    time: float = 0.0
    position: int = 0
    edit: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One turn. Text keeps its `<image>` placeholders: they say where the images stand."""

    role: Speaker
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One row of the index.

    id: `source:row`, row counted from 0 in the source's own order, rejected rows included, so ids
    never shift. own_id: the id the file gives, kept as it is; it may repeat (LLaVA's do). turns:
    the conversation; a robot frame has one user turn, its instruction. episode, frame: robot only,
    else -1. meta: whatever else the row carried that is small and plain (the demo's style and
    content factors, for one).
    """

    source: str
    row: int
    role: Role
    turns: tuple[Turn, ...]
    images: tuple[ImageRef, ...] = ()
    own_id: str = ""
    episode: int = -1
    frame: int = -1
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.source}:{self.row}"

    @property
    def text_only(self) -> bool:
        return not self.images


MAX_DETAIL_CHARS = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class Reject:
    """A row left out: its reason (a key of REJECT_REASONS) and a detail that helps to mend it.

    The detail is kept as one line of at most MAX_DETAIL_CHARS, control characters escaped: it may
    quote the data, and it is printed.
    """

    source: str
    row: int
    reason: str
    detail: str
    own_id: str = ""

    def __post_init__(self) -> None:
        if self.reason not in REJECT_REASONS:
            raise ValueError(f"{self.reason!r} is not a named reason: {sorted(REJECT_REASONS)}")
        object.__setattr__(self, "detail", one_line(self.detail, MAX_DETAIL_CHARS))

    @property
    def id(self) -> str:
        return f"{self.source}:{self.row}"
