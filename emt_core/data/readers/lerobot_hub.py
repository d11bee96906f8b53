"""A LeRobot set on the Hugging Face Hub: its tables first, files of episodes as they are read.

Everything lies in the hub client's own cache, in the folder of one commit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

from emt_core.data.hub import (
    ACCESS,
    NoAnswer,
    ask_commit,
    cached_commit,
    fetch_files,
    fetch_matching,
)
from emt_core.data.readers.lerobot_meta import LeRobotEpisode
from emt_core.errors import EmtError
from emt_core.recipe.sources import LeRobotSource

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
TABLES = ("meta/*", "meta_data/*")
"""Patterns of a set's tables; `meta_data` is that of LeRobot v1, which is refused by name."""

EPISODES_AT_ONCE = 32
"""Episodes whose files are fetched together."""


def locate(source: LeRobotSource, base: Path) -> Path:
    """The set's folder on this machine; that of a commit in the hub's cache for a hub name.

    Raises EmtError where there is none, or the hub has no answer.
    """
    data = base / Path(source.path).expanduser()
    if data.exists():
        if source.revision is not None:
            raise EmtError(
                f"source {source.name!r}: `revision` is for a set on the Hub, the path is a folder",
                where=data,
                remedy="leave `revision` out, or rename the folder to read the Hub's set",
            )
        return data
    if not HUB_NAME.fullmatch(source.path):
        raise EmtError(
            f"source {source.name!r}: there is no such file or folder",
            where=data,
            remedy="check `path`; a set on the Hub is `org/name`",
        )
    try:
        commit = ask_commit(source.path, source.revision, "dataset")
    except NoAnswer as answer:
        known = cached_commit(source.path, source.revision, "dataset", TABLES)
        if known is None:
            raise EmtError(
                f"source {source.name!r}: {source.path!r} is no folder, and the Hub cannot be "
                f"asked for it: {answer}",
                where=data,
                remedy=f"check the path, `revision` and the network; {ACCESS}; without a network "
                "copy the set to this machine and name its folder",
            ) from answer
        commit = known
    return _tables(source.path, commit)


@lru_cache(maxsize=16)
def _tables(name: str, commit: str) -> Path:
    return fetch_matching(name, commit, TABLES)


def hub_commit(source: LeRobotSource, data: Path) -> str | None:
    """The commit whose folder `data` is; None for a folder that the source itself names."""
    cached = data.parent.name == "snapshots" and HUB_NAME.fullmatch(source.path)
    owner = f"datasets--{source.path.replace('/', '--')}"
    return data.name if cached and data.parent.parent.name == owner else None


def with_files(
    source: LeRobotSource, data: Path, episodes: Iterable[LeRobotEpisode]
) -> Iterator[LeRobotEpisode]:
    """The same episodes; those of a hub set once their files are fetched. Raises EmtError."""
    if hub_commit(source, data) is None:
        yield from episodes
        return
    left = iter(episodes)
    while batch := list(islice(left, EPISODES_AT_ONCE)):
        fetch_files(data, source.path, (file for episode in batch for file in episode.files))
        yield from batch
