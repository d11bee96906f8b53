"""RLDS episodes as tensorflow_datasets writes them (Open X-Embodiment), read without TensorFlow.

NAME/VERSION/dataset_info.json                          splits, their shards and how many episodes
             features.json                              names, shapes and kinds of the features
             NAME-train.tfrecord-00000-of-00016         a record an episode

An episode is a tf.train.Example whose lists hold the values of all its steps, one after another:
`steps/observation/image` (encoded images), `steps/action`, `steps/language_instruction`. An image
is referred to by the byte at which its value begins, so a frame is found with two reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.data.fingerprint import FileSet
from emt_core.data.images.handles import ImageProblem, handle
from emt_core.data.readers.conversation import RowProblem
from emt_core.data.readers.rlds_meta import RLDSMeta, Shard, version_folder
from emt_core.data.readers.robot_set import (
    Episode,
    RobotSet,
    Steps,
    check_length,
    count_frames,
    read_frames,
)
from emt_core.data.sample import ImageRef, Reject, Sample
from emt_core.data.tfrecord import (
    BYTES_LIST,
    DamagedRecord,
    Features,
    Field,
    Part,
    TFRecordFile,
)
from emt_core.errors import EmtError
from emt_core.recipe.sources import RLDSSource

LIMIT_COUNTS = "episodes"

COUNTED = ("is_first", "is_last", "reward", "discount")
"""Columns of one number a step that standard RLDS sets have: the quickest way to count steps."""

NOTHING = Part(0, 0)
LANGUAGE = (
    "steps/language_instruction",
    "steps/natural_language_instruction",
    "steps/observation/natural_language_instruction",
    "steps/observation/language_instruction",
    "steps/observation/instruction",
    "episode_metadata/language_instruction",
)
"""Features with the instruction, by which Open X-Embodiment sets are known to call them."""


def loose_images(source: RLDSSource, data: Path) -> bool:
    return False


def image_root(source: RLDSSource, data: Path) -> Path:
    return version_folder(data).absolute()


def files(source: RLDSSource, data: Path) -> FileSet:
    folder = version_folder(data)
    shards = (folder / shard.name for shard in RLDSMeta(folder).shards(source.split))
    return FileSet(
        base=folder,
        index=(folder / "dataset_info.json", folder / "features.json"),
        bulk=tuple(path for path in shards if path.is_file()),
    )


def count(source: RLDSSource, data: Path) -> int | None:
    return count_frames(robot_set(source, data))


def read(source: RLDSSource, data: Path) -> Iterator[Sample | Reject]:
    """Raises EmtError: no such split, camera or text, another file format."""
    return read_frames(robot_set(source, data))


def robot_set(source: RLDSSource, data: Path) -> RLDSSet:
    return RLDSSet(source, version_folder(data))


@dataclass(frozen=True, kw_only=True)
class RLDSEpisode(Episode):
    shard: str
    record: Part


class RLDSSet(RobotSet):
    source: RLDSSource

    @cached_property
    def meta(self) -> RLDSMeta:
        return RLDSMeta(self.data)

    @property
    def cameras(self) -> list[str]:
        return list(self.meta.cameras)

    @property
    def columns(self) -> list[str]:
        return list(self.meta.numbers)

    @property
    def actions(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """`action`, or all parts of an action that has parts."""
        parts = (name for name in self.columns if name.startswith("action/"))
        return ("action",) if "action" in self.columns else tuple(parts)

    def dimensions(self, column: str) -> tuple[str, ...]:
        if column not in self.meta.numbers:
            raise EmtError(
                f"there is no numeric feature {column!r}",
                where=self.data / "features.json",
                remedy=f"features: {', '.join(self.columns)}",
            )
        return tuple(map(str, range(self.meta.numbers[column])))

    @cached_property
    def language(self) -> str:
        """The feature that holds the instruction. Raises EmtError where there is none."""
        texts = self.meta.texts
        given = self.source.language
        found = given if given in texts else next((n for n in LANGUAGE if n in texts), "")
        if not found or (given and found != given):
            raise EmtError(
                f"there is no text feature {given!r}" if given else "no feature is an instruction",
                where=self.data / "features.json",
                remedy=f"`language:` names one of {', '.join(texts) or 'none'}; "
                "`instruction:` gives all episodes one text",
            )
        return found

    def all_episodes(self) -> Iterator[RLDSEpisode]:
        index = 0
        for shard in self.meta.shards(self.source.split):
            for episode in self._of_shard(shard, index):
                yield episode
                index += 1

    def _of_shard(self, shard: Shard, first: int) -> Iterator[RLDSEpisode]:
        try:
            records, stop = handle(TFRecordFile, self.data / shard.name).records()
        except ImageProblem as problem:
            records = []
            stop = problem.detail
            problem_of_rest = ("missing_file", f"{shard.name}: {stop}")
        else:
            stop = self.meta.other_kind(shard) or stop
            problem_of_rest = ("unreadable_file", f"{shard.name}: {stop or 'it ends too soon'}")
        if len(records) > shard.episodes:
            raise EmtError(
                f"the shard has {len(records):,} episodes, dataset_info.json promises "
                f"{shard.episodes:,}",
                where=self.data / shard.name,
                remedy="the two are of different versions of the set: download both again",
            )
        for place in range(shard.episodes):
            if place < len(records):
                yield self._listed(shard, first + place, records[place])
            else:
                yield RLDSEpisode(
                    index=first + place,
                    length=0,
                    shard=shard.name,
                    record=NOTHING,
                    problem=problem_of_rest,
                )

    def _listed(self, shard: Shard, index: int, record: Part) -> RLDSEpisode:
        """The episode with its length; a record that makes no sense has a problem."""
        file = handle(TFRecordFile, self.data / shard.name)
        length = 0
        text = self.source.instruction or ""
        problem = None
        try:
            features = file.features(record)
            length = self._length(file, features)
            if not text:
                text = next(iter(self._texts(file, features, most=1)), "")
            if not length:
                problem = ("empty_episode", f"record {index} of {shard.name} has no steps")
        except (DamagedRecord, RowProblem) as error:
            detail = error.detail if isinstance(error, RowProblem) else str(error)
            problem = ("unreadable_row", f"{shard.name}: {detail}")
        return RLDSEpisode(
            index=index,
            length=length,
            tasks=(text,) if text else (),
            shard=shard.name,
            record=record,
            problem=problem,
        )

    def _length(self, file: TFRecordFile, features: Features) -> int:
        for name in COUNTED:
            if f"steps/{name}" in features and self.meta.numbers.get(name) == 1:
                return len(file.numbers(*features[f"steps/{name}"]))
        camera = self.meta.cameras.get(self.source.all_cameras[0], "")
        return len(file.values(features[camera][1])) if camera in features else 0

    def _texts(self, file: TFRecordFile, features: Features, most: int | None = None) -> list[str]:
        """The instruction of each step (one for all where it belongs to the episode)."""
        if self.language not in features:
            return []
        kind, part = features[self.language]
        if kind == BYTES_LIST:
            return [file.text(field.value) for field in file.values(part)[:most]]
        codes = file.numbers(kind, part)
        width = self.meta.texts[self.language]
        if not width or len(codes) % width:
            raise RowProblem("length_mismatch", f"{self.language} has {len(codes):,} characters")
        return [_decoded(row) for row in codes.reshape(-1, width)[:most]]

    def open(self, episode: Episode) -> RLDSSteps:
        assert isinstance(episode, RLDSEpisode)
        if episode.problem:
            raise RowProblem(*episode.problem)
        try:
            file = handle(TFRecordFile, self.data / episode.shard)
            if not file.intact(episode.record):
                raise RowProblem(
                    "bad_checksum",
                    f"episode {episode.index}, bytes {episode.record.start:,} to "
                    f"{episode.record.stop:,} of {episode.shard}: download the shard again",
                )
            return RLDSSteps(self, file, episode)
        except ImageProblem as problem:
            raise RowProblem("missing_file", f"{episode.shard}: {problem.detail}") from problem
        except DamagedRecord as error:
            raise RowProblem("unreadable_row", f"{episode.shard}: {error}") from error


class RLDSSteps(Steps):
    def __init__(self, robot: RLDSSet, file: TFRecordFile, episode: RLDSEpisode) -> None:
        self.robot = robot
        self.file = file
        self.episode = episode
        self.features = file.features(episode.record)
        self.seconds = np.full(episode.length, np.nan)
        self._images: dict[str, list[Field]] = {}
        for camera in robot.source.all_cameras:
            self._of(camera)
        for column in robot.actions:
            width = robot.meta.numbers[column]
            found = self.features.get(f"steps/{column}")
            numbers = len(file.numbers(*found)) if found else 0
            check_length(f"episode {episode.index}", episode.length, numbers // width)
        texts = [robot.source.instruction or ""]
        if not texts[0]:
            texts = [text.strip() for text in robot._texts(file, self.features)] or [""]
        if len(texts) not in (1, episode.length):
            raise RowProblem(
                "length_mismatch",
                f"episode {episode.index} has {episode.length:,} steps and {len(texts):,} texts",
            )
        self.instructions = tuple(dict.fromkeys(texts))
        places = {text: place for place, text in enumerate(self.instructions)}
        of_text = np.array([places[text] for text in texts], np.int64)
        self.instruction = np.broadcast_to(of_text, episode.length) if len(texts) == 1 else of_text

    def _of(self, camera: str) -> list[Field]:
        """The values of a camera, one a step."""
        if camera not in self._images:
            name = self.robot.meta.cameras[camera]
            kind, part = self.features.get(name, (BYTES_LIST, NOTHING))
            found = self.file.values(part) if kind == BYTES_LIST else []
            if len(found) != self.episode.length:
                raise RowProblem(
                    "length_mismatch" if found else "missing_image",
                    f"episode {self.episode.index} has {self.episode.length:,} steps and "
                    f"{len(found):,} images in {name}",
                )
            self._images[camera] = found
        return self._images[camera]

    def image(self, camera: str, frame: int) -> ImageRef:
        return ImageRef(
            kind="tfrecord",
            path=self.episode.shard,
            member=self.robot.meta.cameras[camera],
            index=self._of(camera)[frame].at,
            edit=self.robot.edit,
        )

    def values(self, column: str) -> np.ndarray:
        width = len(self.robot.dimensions(column))
        found = self.features.get(f"steps/{column}")
        if found is None:
            raise RowProblem("unreadable_row", f"episode {self.episode.index} has no {column!r}")
        try:
            numbers = self.file.numbers(*found).astype(np.float64)
        except DamagedRecord as error:
            raise RowProblem("unreadable_row", f"{self.episode.shard}: {error}") from error
        if len(numbers) != self.episode.length * width:
            raise RowProblem(
                "length_mismatch",
                f"episode {self.episode.index} has {self.episode.length:,} steps and "
                f"{len(numbers):,} numbers in {column!r}, {width} a step",
            )
        return numbers.reshape(-1, width)

    def no_instruction(self, frame: int) -> str:
        return f"has no text in {self.robot.language}; `instruction:` gives all episodes one"


def _decoded(codes: Any) -> str:
    """Text of character codes that are filled up with zeros (Language-Table)."""
    kept = codes[codes != 0]
    return bytes(kept.clip(0, 255).astype(np.uint8)).decode("utf-8", "replace")
