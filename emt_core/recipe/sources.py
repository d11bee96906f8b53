"""What a recipe says about each source: one model a format. Every field changes what is read."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from emt_core.recipe.base import Frozen, Role, StageConfig
from emt_core.recipe.ranges import checked_ranges


class SourceBase(Frozen):
    name: str
    """Short name, part of every sample id (`name:row`); letters, digits, `_`, `-`, `.`."""

    role: Role
    """`pool`: candidates for mid-training. `robot`: the data to be near to."""

    path: str
    """File or folder, relative to the recipe's base, or a hub name where the format allows one."""

    limit: int | None = Field(default=None, ge=1)
    """Read only the first rows (samples, or episodes for robot data). None: all."""

    max_pixels: int = Field(default=50_000_000, ge=1)
    """Images with more pixels are rejected as `pixel_bomb` and never decoded."""

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
            raise ValueError(
                "a source's name is 1-64 letters, digits, '_', '-' or '.', starting with a letter "
                "or digit"
            )
        return name


class ColumnsMixin(Frozen):
    """Columns of a table. Give `conversations`, or `question` and `answer`, or `text`."""

    ADDED = frozenset({"choices"})

    conversations: str | None = None
    """Column with a list of turns (`from`/`value`, `role`/`content`, or `user`/`assistant`), or a
    JSON string of one."""

    question: str | None = None
    """Column with the user's text."""

    answer: str | None = None
    """Column with the assistant's text; beside `choices` also the place of the right one from 0, or
    its letter."""

    choices: str | None = None
    """Column with the choices of a question: a list, or a text that holds one. They are written
    below the question, and the answer becomes the text of the right one."""

    text: str | None = None
    """Column with a caption: the assistant's turn after a user turn with the image alone."""

    images: str | None = None
    """Column with the image or list of images (struct {bytes, path}, bytes, base64 text, or path).
    None: none is named, an error where the table has one; "": rows are read without."""

    own_id: str | None = None
    """Column with the row's own id."""

    meta: tuple[str, ...] = ()
    """Columns kept beside the sample."""

    @model_validator(mode="after")
    def _some_text(self) -> ColumnsMixin:
        given = [self.conversations is not None, self.question is not None, self.text is not None]
        if sum(given) > 1:
            raise ValueError("give one of conversations, question (+ answer), text")
        if self.choices is not None and self.question is None:
            raise ValueError("choices go with a question")
        return self


class TableSource(ColumnsMixin, SourceBase):
    ADDED = ColumnsMixin.ADDED | {"image_root"}

    image_root: str | None = None
    """Folder that image paths in the table are relative to, itself relative to the table's folder;
    a path is taken where bytes lie beside it. None: the table's folder."""


class LlavaSource(ColumnsMixin, SourceBase):
    ADDED = frozenset({*ColumnsMixin.model_fields, "remove"})

    format: Literal["llava"]
    """LLaVA JSON (one array, streamed) or JSON lines: `{"id", "image": str | [str] | none,
    "conversations": [...]}`; rows of OpenAI, ms-swift and the_cauldron, and a file of InternVL that
    leads to such files. Fields of other names are said as columns are; an image may also be base64
    text."""

    image_root: str = "."
    """Folder that image paths are relative to, itself relative to the JSON file's folder."""

    remove: tuple[str, ...] = ()
    """Marks that are taken out of every text, such as `<depth>` of a set with depth maps."""


class ShareGPTSource(SourceBase):
    format: Literal["sharegpt"]
    """LLaMA-Factory ShareGPT: `path` is the folder of `dataset_info.json`."""

    dataset: str
    """The entry of `dataset_info.json`."""

    media_dir: str = "."
    """Folder that relative image paths join, relative to `path` (LLaMA-Factory's `media_dir`)."""


class HFSource(TableSource):
    format: Literal["hf"]
    """HF datasets: a folder written by `save_to_disk`, or a hub name."""

    subset: str | None = None
    """Configuration name on the hub."""

    split: str = "train"
    """Split to read."""

    revision: str | None = None
    """Hub revision (commit) to pin."""

    streaming: bool = False
    """Read a hub set as a stream, not downloaded whole; embedding stores thumbnails."""


class WebDatasetSource(SourceBase):
    ADDED = frozenset({"caption"})

    format: Literal["webdataset"]
    """Tar archives of `key.jpg`, `key.txt`, `key.json`; `path` is a folder, a tar, or a brace
    pattern."""

    caption: str | None = None
    """Field of `key.json` that is the caption, such as one that another model wrote. None:
    `key.txt`, else its `caption` or `text`."""


class ParquetSource(TableSource):
    format: Literal["parquet"]
    """A parquet file, a folder of them, or a pattern such as `data/train-*.parquet`, read in the
    order of names."""


class EpisodeChoice(Frozen):
    """Which episodes of a robot set are read."""

    ADDED = frozenset({"episodes"})

    name: str
    limit: int | None = Field(default=None, ge=1)
    """Only the first episodes (of `episodes`, where it is given). None: all."""

    episodes: Annotated[tuple[str, ...], BeforeValidator(checked_ranges)] = ()
    """Only these episodes, by number: `[0-49, 61]`, both ends of a range included. (): all."""


class EpisodeSource(SourceBase, EpisodeChoice):
    """A source of robot episodes. Give `camera`, or several `cameras`."""

    ADDED = EpisodeChoice.ADDED | {"cameras", "views", "flip"}

    camera: str | None = None
    """The camera whose pictures are read, by the name that the files give it."""

    cameras: tuple[str, ...] = ()
    """Several cameras, in this order, instead of `camera`."""

    views: Literal["each", "tile"] = "each"
    """Several cameras: `each`: every frame gives a sample for each camera. `tile`: it gives one
    sample, whose picture has all cameras in it (up to three side by side, more in a square; each
    the size of the first, with black bars where its shape differs)."""

    frames_per_episode: int = Field(default=8, ge=1)
    """Frames taken from each episode, evenly spaced from first to last."""

    flip: Literal["none", "vertical", "both"] = "none"
    """How the stored images are turned upright. `vertical`: they lie upside down, as robosuite and
    LIBERO render them. `both`: upside down and mirrored, a half turn, as OpenVLA's copies and our
    LIBERO benchmark turn them."""

    @model_validator(mode="after")
    def _some_camera(self) -> EpisodeSource:
        if (self.camera is None) == (not self.cameras):
            raise ValueError("give `camera` or, for several, `cameras`: one of the two")
        if len(set(self.cameras)) < len(self.cameras):
            raise ValueError("a camera stands twice in `cameras`")
        return self

    @property
    def all_cameras(self) -> tuple[str, ...]:
        """The cameras that are read, in order; at least one."""
        return (self.camera,) if self.camera is not None else self.cameras


class LeRobotSource(EpisodeSource):
    ADDED = EpisodeSource.ADDED | {"annotations", "revision"}

    format: Literal["lerobot"]
    """LeRobot v2.1 or v3.0 (told apart by meta/info.json): a folder, or a hub name `org/name`;
    `camera` is an image or video feature, e.g. `observation.images.front`."""

    revision: str | None = None
    """Branch, tag or commit of a set on the hub. None: its newest."""

    annotations: tuple[str, ...] = ()
    """Role `pool`: rows are these annotations, such as `vqa`, `subtask` or `plan`, not frames. A
    question keeps its words; what answers none answers the instruction, where it begins."""

    @model_validator(mode="after")
    def _rows_that_train(self) -> LeRobotSource:
        if (self.role == "pool") != bool(self.annotations):
            raise ValueError(
                "a frame has no answer to train on: `role: pool` takes `annotations` "
                "(such as [vqa, subtask]), `role: robot` takes none"
            )
        return self


class FrameSource(EpisodeSource):
    """A source whose rows are frames of episodes, and nothing else."""

    instruction: str | None = Field(default=None, min_length=1)
    """The instruction of all episodes. None: what the files say."""

    @model_validator(mode="after")
    def _robot_data(self) -> FrameSource:
        if self.role == "pool":
            raise ValueError("a frame has no answer to train on: these formats take `role: robot`")
        return self


class HDF5Source(FrameSource):
    format: Literal["hdf5"]
    """HDF5 demonstrations: a file or a folder of files, in the layout of robomimic and LIBERO
    (`camera` such as `agentview_rgb`) or of ACT and ALOHA (`cam_high`)."""

    bgr: bool = False
    """Red and blue are swapped in the stored images, as in JPEGs that OpenCV wrote from RGB."""


class RLDSSource(FrameSource):
    format: Literal["rlds"]
    """RLDS episodes that tensorflow_datasets wrote as TFRecord: the folder of `dataset_info.json`
    and `features.json`; `camera` such as `image`, a feature of `steps/observation`."""

    split: str = "train"
    """Split to read."""

    language: str | None = None
    """Text feature that holds the instruction, e.g. `steps/language_instruction`. None: the first
    that is there of those that Open X-Embodiment uses."""


RobotSource = LeRobotSource | HDF5Source | RLDSSource

SETS: dict[str, type[RobotSource]] = {
    "lerobot": LeRobotSource,
    "hdf5": HDF5Source,
    "rlds": RLDSSource,
}


class RobotData(EpisodeChoice):
    """One data set of robot episodes to fine-tune on: every frame of its episodes."""

    ADDED = EpisodeChoice.ADDED | {
        "format",
        "revision",
        "flip",
        "bgr",
        "split",
        "instruction",
        "language",
    }

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    """Short name, for messages and rejects."""

    path: str
    """File or folder of the set, relative to the recipe's base folder; of a LeRobot set also a hub
    name."""

    revision: str | None = None
    """Branch, tag or commit of a set on the hub. None: its newest."""

    camera: str
    """The one camera the policy sees, by the name that the files give it."""

    format: Literal["lerobot", "hdf5", "rlds"] = "lerobot"
    """Format of the set, as in `sources`."""

    flip: Literal["none", "vertical", "both"] = "none"
    """As in `sources`: how the stored images are turned upright."""

    bgr: bool = False
    """As in `sources` (hdf5): red and blue are swapped in the stored images."""

    split: str = "train"
    """As in `sources` (rlds): the split to read."""

    instruction: str | None = Field(default=None, min_length=1)
    """As in `sources` (hdf5, rlds): the instruction of all episodes."""

    language: str | None = None
    """As in `sources` (rlds): the feature that holds the instruction."""

    @model_validator(mode="before")
    @classmethod
    def _one_camera(cls, given: Any) -> Any:
        if isinstance(given, dict) and {"cameras", "views"} & set(given):
            raise ValueError(
                "a policy sees one camera: `camera: NAME` (`cameras` and `views` are for `sources`)"
            )
        return given

    @model_validator(mode="after")
    def _of_the_format(self) -> RobotData:
        astray = sorted(set(self._given()) - set(SETS[self.format].model_fields))
        if astray:
            raise ValueError(f"format {self.format} has no setting {', '.join(astray)}")
        return self

    def _given(self) -> dict[str, Any]:
        """The settings that are not at their defaults."""
        return self.model_dump(exclude_defaults=True) | {"format": self.format}

    def source(self) -> RobotSource:
        """The set as a source of robot episodes."""
        return SETS[self.format].model_validate(self._given() | {"role": "robot"})


class VcrSource(SourceBase):
    format: Literal["vcr"]
    """VCR as published: `train.jsonl` or `val.jsonl`, beside the folder `vcr1images`. The answer is
    the right one of the four choices."""

    image_root: str = "vcr1images"
    """Folder of images and their metadata, relative to the file's folder."""

    boxes: bool = True
    """Say below the question where the objects are that it and its answer name."""

    rationale: bool = False
    """Ask in a second turn why, and answer with the right rationale."""


SourceConfig = Annotated[
    LlavaSource
    | ShareGPTSource
    | HFSource
    | WebDatasetSource
    | ParquetSource
    | VcrSource
    | RobotSource,
    Field(discriminator="format"),
]


class SourcesConfig(StageConfig):
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    """All sources, pool and robot; their order is the row order of everything that follows."""
