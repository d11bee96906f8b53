"""Demonstrations in HDF5, in the layouts of robomimic and LIBERO, and of ACT and ALOHA.

    robomimic, LIBERO: a file a task                 ACT, ALOHA: a file an episode
    data/demo_N/obs/CAMERA    uint8 [T, H, W, 3]     observations/images/CAMERA
    data/demo_N/obs/...       states of the robot    observations/qpos, qvel
    data/demo_N/actions       [T, A]                 action  [T, A]
    data, attribute problem_info or env_args         attribute sim, compress

A camera's rows may also be encoded images, one a frame: bytes filled up with zeros, or of any
length. `path` is a file, or a folder whose files are read in the order of their names, numbers in
them counted. A file that cannot be read costs its episodes and not the set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from emt_core.data.file_kind import real_files
from emt_core.data.fingerprint import FileSet
from emt_core.data.images.handles import ImageProblem, handle
from emt_core.data.images.hdf5 import HDF5File, HDF5Problem
from emt_core.data.readers.conversation import RowProblem, encodable
from emt_core.data.readers.hdf5_text import instruction_of, json_attribute
from emt_core.data.readers.lerobot_kinds import other_kind
from emt_core.data.readers.robot_set import (
    EDITS,
    Episode,
    RobotSet,
    Steps,
    check_length,
    count_frames,
    read_frames,
)
from emt_core.data.sample import ImageRef, Reject, Sample
from emt_core.data.splits import check_one_split
from emt_core.errors import EmtError
from emt_core.recipe.sources import HDF5Source

LIMIT_COUNTS = "episodes"
SUFFIXES = (".hdf5", ".h5")
MAX_NUMBERS = 100_000_000
"""Numbers of a column in one episode: 800 MB as float64."""


def loose_images(source: HDF5Source, data: Path) -> bool:
    return False


def image_root(source: HDF5Source, data: Path) -> Path:
    return (data if data.is_dir() else data.parent).absolute()


def files(source: HDF5Source, data: Path) -> FileSet:
    return FileSet(base=image_root(source, data), bulk=tuple(hdf5_files(data)))


def count(source: HDF5Source, data: Path) -> int | None:
    return count_frames(robot_set(source, data))


def read(source: HDF5Source, data: Path) -> Iterator[Sample | Reject]:
    """Raises EmtError: no file, no camera of this name in any."""
    return read_frames(robot_set(source, data))


def robot_set(source: HDF5Source, data: Path) -> HDF5Set:
    return HDF5Set(source, data)


def hdf5_files(data: Path) -> list[Path]:
    """The file, or those of a folder. Raises EmtError where there is none."""
    if not data.is_dir():
        return [data]
    found = real_files((p for p in data.rglob("*") if p.suffix.lower() in SUFFIXES), data)
    if not found:
        what, remedy = other_kind(data) or ("", "`path` is the file, or the folder of the files")
        raise EmtError(
            f"the folder holds no file {' or '.join(SUFFIXES)}" + (what and f": this is {what}"),
            where=data,
            remedy=remedy,
        )
    check_one_split([path.parent for path in found], data)
    return sorted(found, key=lambda path: natural(path.relative_to(data).as_posix()))


def natural(name: str) -> list[tuple[int, str]]:
    """A key by which `demo_10` comes after `demo_2`."""
    parts = re.split("([0-9]+)", name)
    return [(int(part[:18]) if place % 2 else 0, part) for place, part in enumerate(parts)]


@dataclass(frozen=True)
class Layout:
    """Where a file of this layout has what, below an episode's group."""

    images: str
    action: str
    numbers: tuple[str, ...]
    """Groups whose datasets of numbers are columns."""


DEMOS = Layout("obs/", "actions", ("", "obs/"))
EPISODE = Layout("observations/images/", "action", ("", "observations/"))


@dataclass(frozen=True, kw_only=True)
class Demo(Episode):
    file: str
    """Below the set's root."""
    group: str
    """"" or `data/demo_3/`."""
    layout: Layout


class HDF5Set(RobotSet):
    source: HDF5Source

    @property
    def root(self) -> Path:
        return image_root(self.source, self.data)

    @property
    def edit(self) -> str:
        return EDITS[self.source.flip] + ("b" if self.source.bgr else "")

    @cached_property
    def _first(self) -> Demo:
        """The first episode that can be looked into: it says what the set has.

        Raises EmtError where no file can be read.
        """
        problem = ("unreadable_file", "there is no episode")
        for path in hdf5_files(self.data):
            for demo in self._of_file(path, 0):
                if demo.problem is None or demo.group or demo.problem[0] == "missing_image":
                    return demo
                problem = demo.problem
        raise EmtError(
            f"no file of {self.source.name!r} can be read: {problem[1]}",
            where=self.data,
            remedy="the layouts that are read: docs/formats.md, HDF5 demonstrations",
        )

    def _handle(self, demo: Demo) -> HDF5File:
        return handle(HDF5File, self.root / demo.file)

    @cached_property
    def _found(self) -> tuple[list[str], dict[str, int]]:
        """(cameras, numeric columns -> dimensions) of the first episode."""
        demo = self._first
        file = self._handle(demo)
        cameras: list[str] = []
        columns: dict[str, int] = {}
        images = demo.group + demo.layout.images
        with suppress(HDF5Problem):
            cameras = [name for name in file.names(images) if _is_camera(file, images + name)]
        for folder in demo.layout.numbers:
            with suppress(HDF5Problem):
                for name in file.names(demo.group + folder):
                    width = _width(file, demo.group + folder + name)
                    if width and folder + name != "compress_len":
                        columns[folder + name] = width
        return cameras, columns

    @property
    def cameras(self) -> list[str]:
        return self._found[0]

    @property
    def columns(self) -> list[str]:
        return list(self._found[1])

    @property
    def actions(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (self._first.layout.action,)

    @cached_property
    def fps(self) -> float | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """robosuite's control frequency, where the file tells it."""
        demo = self._first
        kwargs = json_attribute(self._handle(demo), "data", "env_args").get("env_kwargs")
        rate = kwargs.get("control_freq") if isinstance(kwargs, dict) else None
        return float(rate) if isinstance(rate, int | float) and 0 < rate < 10_000 else None

    def dimensions(self, column: str) -> tuple[str, ...]:
        if column not in self._found[1]:
            raise EmtError(
                f"there is no numeric feature {column!r}",
                where=self.data,
                remedy=f"features: {', '.join(self.columns)}",
            )
        return tuple(map(str, range(self._found[1][column])))

    def all_episodes(self) -> Iterator[Demo]:
        index = 0
        for path in hdf5_files(self.data):
            for demo in self._of_file(path, index):
                yield demo
                index += 1

    def _of_file(self, path: Path, first: int) -> Iterator[Demo]:
        """The episodes of a file; one with a problem where it cannot be read."""
        name = path.relative_to(self.root).as_posix()
        try:
            groups, layout = _episode_groups(handle(HDF5File, path))
        except ImageProblem as problem:
            gone = problem.reason == "missing_image"
            reason = "missing_file" if gone else problem.reason
            yield _broken(first, name, reason, problem.detail)
            return
        except HDF5Problem as problem:
            yield _broken(first, name, "unreadable_file", str(problem))
            return
        for place, group in enumerate(groups):
            yield self._demo(first + place, path, name, group, layout)

    def _demo(self, index: int, path: Path, name: str, group: str, layout: Layout) -> Demo:
        file = handle(HDF5File, path)
        camera = self.source.all_cameras[0]
        length = 0
        text = ""
        problem = None
        try:
            length = file.frames(group + layout.images + camera)
            text = self.source.instruction or instruction_of(file, name, group)
            if not length:
                problem = ("empty_episode", f"{name}, {group or 'the file'}: no frames")
        except HDF5Problem as error:
            problem = ("missing_image", f"{name}: {error}")
        if name + group != encodable(name + group):
            problem = ("unreadable_row", f"{name}, {group}: the name is no UTF-8")
        demo = group.removeprefix("data/").removesuffix("/")
        return Demo(
            index=index,
            length=length,
            tasks=(text,) if text else (),
            own_id=encodable(f"{name}/{demo}" if demo else name),
            problem=problem,
            file=name,
            group=group,
            layout=layout,
        )

    def open(self, episode: Episode) -> HDF5Steps:
        assert isinstance(episode, Demo)
        if episode.problem:
            raise RowProblem(*episode.problem)
        try:
            return HDF5Steps(self, self._handle(episode), episode)
        except ImageProblem as problem:
            raise RowProblem(problem.reason, f"{episode.file}: {problem.detail}") from problem


class HDF5Steps(Steps):
    def __init__(self, robot: HDF5Set, file: HDF5File, demo: Demo) -> None:
        self.robot = robot
        self.file = file
        self.demo = demo
        text = " ".join((demo.tasks or ("",))[0].split())
        self.instructions = (text,)
        self.instruction = np.zeros(demo.length, np.int64)
        frames = np.arange(demo.length, dtype=np.float64)
        self.seconds = frames / robot.fps if robot.fps else np.full(demo.length, np.nan)
        self._paths = {}
        for camera in robot.source.all_cameras:
            path = demo.group + demo.layout.images + camera
            try:
                length = file.frames(path)
            except HDF5Problem as error:
                raise RowProblem("missing_image", f"{demo.file}: {error}") from error
            if length != demo.length:
                check_length(demo.own_id, length, demo.length)
            self._paths[camera] = path
        if demo.layout.action in robot.columns:
            check_length(demo.own_id, demo.length, len(self.values(demo.layout.action)))

    def image(self, camera: str, frame: int) -> ImageRef:
        return ImageRef(
            kind="hdf5",
            path=self.demo.file,
            member=self._paths[camera],
            index=frame,
            edit=self.robot.edit,
        )

    def values(self, column: str) -> np.ndarray:
        width = len(self.robot.dimensions(column))
        try:
            found = self.file.rows(self.demo.group + column, MAX_NUMBERS)
        except HDF5Problem as error:
            raise RowProblem("unreadable_row", f"{self.demo.file}: {error}") from error
        if found.shape[1] != width:
            raise RowProblem(
                "unreadable_row",
                f"{self.demo.own_id} has {found.shape[1]} dimensions in {column!r}, the first "
                f"episode {width}",
            )
        return found

    def no_instruction(self, frame: int) -> str:
        return "has no instruction in its file; `instruction:` gives all episodes one"


def _broken(index: int, name: str, reason: str, detail: str) -> Demo:
    return Demo(
        index=index,
        length=0,
        own_id=encodable(name),
        problem=(reason, f"{encodable(name)}: {detail}"),
        file=name,
        group="",
        layout=EPISODE,
    )


def _episode_groups(file: HDF5File) -> tuple[list[str], Layout]:
    """(group of each episode in order, layout). Raises HDF5Problem for another layout."""
    listed = file.names("data")
    demos = [name for name in listed if "\ufffd" in name or file.names(f"data/{name}")]
    if demos:
        return [f"data/{name}/" for name in sorted(demos, key=natural)], DEMOS
    if file.names("observations/images"):
        return [""], EPISODE
    raise HDF5Problem(
        "it has neither data/demo_N (robomimic, LIBERO) nor observations/images (ACT, ALOHA), but "
        + ", ".join(file.names("")[:20])
    )


def _is_camera(file: HDF5File, name: str) -> bool:
    """Whether a dataset holds images; beside them lie states and depth."""
    try:
        file.frames(name)
    except HDF5Problem:
        return False
    return True


def _width(file: HDF5File, name: str) -> int:
    """Dimensions of a dataset of numbers; 0 where it is none."""
    try:
        found = file.dataset(name)
    except HDF5Problem:
        return 0
    if found.dtype.kind not in "fiub":
        return 0
    if found.ndim == 2 and found.dtype != np.uint8:  # else encoded images
        return found.shape[1]
    return int(found.ndim == 1)
