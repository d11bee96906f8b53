"""Artifacts on disk: keys from content, atomic commit, resume.

<workspace>/workspace.json                 marks the folder; format number
<workspace>/<stage>/<key>/manifest.json    written last: a folder without `.building` is complete
<workspace>/<stage>/<key>/data/...         what the stage made; paths inside are relative
<workspace>/<stage>/<key>.building/        work in progress; survives a kill, resumed by the next
                                           run; where it holds a manifest.json, the next run only
                                           finishes its commit
<workspace>/<stage>/<key>.lock             held by the process that builds; freed by the kernel
                                           when it dies
<workspace>/recipes/<name>.yaml            recipes that ran here, with absolute `base`
<workspace>/state/<recipe>.json            each instance's key when it last ran: shows what is stale
<workspace>/stories/<recipe>/<name>.json   what the Present page tells (explore/report/story.py)
<workspace>/cache/                         bounded caches; safe to delete
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from emt_core.errors import EmtError
from emt_core.workspace.files import (
    flush,
    flush_one,
    read_json,
    read_json_if_there,
    write_json,
)
from emt_core.workspace.view_guard import guard

FORMAT = 1
KEY_LENGTH = 16
VIEW_ONLY = "EMT_VIEW_ONLY"
"""Environment variable: every workspace this process opens is read-only (`emt app --view-only`)."""


def canonical_json(value: Any) -> str:
    """One text for one value: sorted names, no blanks, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    )


def digest_of(value: Any, length: int) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def make_key(
    *,
    stage: str,
    version: int,
    config: Mapping[str, Any],
    identity: Any,
    parents: Mapping[str, str],
) -> str:
    """Hash of everything that determines the stage's output."""
    content = {
        "stage": stage,
        "version": version,
        "config": config,
        "identity": identity,
        "parents": dict(parents),
    }
    return digest_of(content, KEY_LENGTH)


@dataclass(frozen=True)
class Artifact:
    """A finished stage instance: read-only."""

    path: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return read_json(self.path / "manifest.json")

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def stage(self) -> str:
        return self.manifest["stage"]

    @property
    def key(self) -> str:
        return self.manifest["key"]

    @property
    def config(self) -> dict[str, Any]:
        return self.manifest["config"]

    @property
    def rows(self) -> int:
        return self.manifest["rows"]

    @property
    def metrics(self) -> dict[str, Any]:
        return self.manifest["metrics"]


@dataclass(frozen=True)
class Workspace:
    """The folder that holds everything one user or team makes."""

    path: Path
    read_only: bool = False
    """Opened for viewing: `check_writable`, which every writer calls first, refuses."""

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, create: bool = False, read_only: bool = False
    ) -> Workspace:
        """Raises EmtError where the folder is no workspace (without `create`) or of another format.

        read_only: nothing is created, whatever `create` says. VIEW_ONLY in the environment sets it.
        """
        root = Path(path).expanduser().resolve()
        if os.environ.get(VIEW_ONLY):
            read_only = True
            guard(root)
        mark = root / "workspace.json"
        if not mark.exists():
            if not create or read_only:
                raise EmtError(
                    "this folder is not a workspace",
                    where=root,
                    remedy="run `emt run RECIPE --workspace` on it first",
                )
            _make_mark(mark)
        format_ = read_json(mark).get("format")
        if format_ != FORMAT:
            raise EmtError(
                f"workspace format {format_}, this version reads {FORMAT}",
                where=root,
                remedy="use a new folder",
            )
        return cls(root, read_only)

    def check_writable(self) -> None:
        """Raises EmtError in a workspace that was opened for viewing only."""
        if self.read_only:
            raise EmtError(
                "this workspace is open for viewing only",
                where=self.path,
                remedy="open it without --view-only",
            )

    def cache(self, name: str) -> Path:
        """Folder of a bounded cache, perhaps not made yet; for viewers in a temporary folder."""
        return (_viewers_cache(self.path) if self.read_only else self.path / "cache") / name

    def folder(self, stage: str, key: str) -> Path:
        return self.path / stage / key

    def building(self, stage: str, key: str) -> Path:
        return self.path / stage / f"{key}.building"

    def recipe_file(self, recipe: str) -> Path:
        """The workspace's copy of a recipe; absent where none of that name ran here."""
        return self.path / "recipes" / f"{recipe}.yaml"

    def find(self, stage: str, key: str) -> Artifact | None:
        folder = self.folder(stage, key)
        return Artifact(folder) if (folder / "manifest.json").exists() else None

    def artifacts(self, stage: str) -> list[Artifact]:
        """All finished artifacts of a stage, oldest first."""
        manifests = (self.path / stage).glob("*/manifest.json")
        made = [Artifact(p.parent) for p in manifests if p.parent.suffix != ".building"]
        return sorted(made, key=lambda a: (a.manifest["finished"], a.key))

    def parents(self, artifact: Artifact) -> dict[str, Artifact]:
        """The artifacts that fed this one, by stage (a further one of a stage by `stage.name`).

        Raises EmtError if one was deleted.
        """
        parents = {}
        for name, key in artifact.manifest["parents"].items():
            stage = name.partition(".")[0]
            parent = self.find(stage, key)
            if parent is None:
                raise EmtError(
                    f"{artifact.stage} {artifact.key} was made from {stage} {key}, which is gone",
                    where=self.path,
                    remedy="run its recipe again",
                )
            parents[name] = parent
        return parents

    @contextmanager
    def lock(self, stage: str, key: str, *, wait: bool = True) -> Iterator[None]:
        """Hold the right to build one artifact. Without `wait`: filelock.Timeout if it is taken."""
        self.check_writable()
        (self.path / stage).mkdir(exist_ok=True)
        with FileLock(self.path / stage / f"{key}.lock", timeout=-1 if wait else 0):
            yield

    def is_locked(self, stage: str, key: str) -> bool:
        """Whether a process holds the right to build. Makes no lock file and locks nothing."""
        try:
            file = os.open(self.path / stage / f"{key}.lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    def commit(
        self, stage: str, key: str, manifest: Mapping[str, Any], scratch: Collection[str] = ()
    ) -> Artifact:
        """Make the building folder the artifact: fsync data, write manifest, drop scratch, rename.

        scratch: names in data/ that only an interrupted run needs. They are removed once the
        manifest is on disk: a commit that fails before that (full disk, kill) costs no work, and
        one that fails after it is finished by `finish_commit`.
        """
        self.check_writable()
        building = self.building(stage, key)
        if (building / "data").is_dir():
            flush(building / "data", leave_out={building / "data" / name for name in scratch})
        if scratch:
            write_json(building / "scratch.json", list(scratch))
        else:  # an earlier commit may have written one and failed before its manifest
            (building / "scratch.json").unlink(missing_ok=True)
        write_json(building / "manifest.json", dict(manifest))
        committed = self.finish_commit(stage, key)
        assert committed is not None
        return committed

    def finish_commit(self, stage: str, key: str) -> Artifact | None:
        """Finish a commit whose manifest is written; None where there is no such commit."""
        self.check_writable()
        building = self.building(stage, key)
        final = self.folder(stage, key)
        if not (building / "manifest.json").exists():
            return None
        for aside in building.rglob(".*.tmp"):  # of write_text, killed before its rename
            aside.unlink()
        for name in read_json_if_there(building / "scratch.json") or ():
            left = building / "data" / name
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)
        for leftover in ("progress.json", "failure.json", "elapsed.json", "scratch.json"):
            (building / leftover).unlink(missing_ok=True)
        building.rename(final)
        flush_one(final.parent)
        return Artifact(final)

    def discard_building(self, stage: str, key: str) -> None:
        """Remove work in progress that cannot be resumed."""
        self.check_writable()
        shutil.rmtree(self.building(stage, key), ignore_errors=True)


def _make_mark(mark: Path) -> None:
    """Make a folder a workspace. Raises EmtError where that cannot be."""
    root = mark.parent
    if root.exists() and not root.is_dir():
        raise EmtError("the workspace path is a file", where=root, remedy="name a folder")
    try:
        write_json(mark, {"format": FORMAT})
    except PermissionError as error:
        problem = "no permission to write the workspace"
        raise EmtError(problem, where=root, remedy="name another folder") from error
    except OSError as error:  # a file for a folder, a long name, a full or read-only disk
        problem = f"no workspace can be made here: {error.strerror or type(error).__name__}"
        raise EmtError(problem, where=root, remedy="name another folder") from error


@lru_cache(maxsize=8)
def _viewers_cache(workspace: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="emt-view-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
