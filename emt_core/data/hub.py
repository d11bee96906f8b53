"""The Hugging Face Hub: which commit a revision is, and files fetched into the client's own cache.

Files of a commit never change, so what the cache has of it is never asked for again: a set whose
`revision` is a commit needs no network once its files are there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from emt_core.errors import EmtError

Kind = Literal["model", "dataset"]
COMMIT = re.compile(r"[0-9a-f]{40}")
TIMEOUT_S = 5.0
ASK_AGAIN_S = 30.0
"""A plan asks for the same commit several times: after no answer the hub is not asked at once."""

THREADS = 8
"""Files that are fetched at once, as the hub's client does."""

ACCESS = "a gated or private set needs `hf auth login`"

_no_answer: dict[tuple[str, str | None, Kind], tuple[float, str]] = {}
"""(name, revision, kind) -> when the hub did not answer, and why."""


class NoAnswer(Exception):
    """The hub did not say which commit a revision is; the text says why."""


def ask_commit(name: str, revision: str | None, kind: Kind) -> str:
    """The commit of a revision (None: the newest). A commit is its own answer, without a network.

    Raises NoAnswer where the hub cannot be reached, or has no such name or revision.
    """
    if revision and COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi

    at, reason = _no_answer.get((name, revision, kind), (0.0, ""))
    if at and time.monotonic() - at < ASK_AGAIN_S:
        raise NoAnswer(reason)
    try:
        found = HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=TIMEOUT_S)
        return found.sha or ""
    except Exception as error:
        reason = _reason(error)
        _no_answer[name, revision, kind] = (time.monotonic(), reason)
        raise NoAnswer(reason) from error


def cached_commit(
    name: str, revision: str | None, kind: Kind, patterns: Sequence[str] | None = None
) -> str | None:
    """The commit by which the client's cache knows the revision; None without all its files.

    patterns: the files that are needed, all by default.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = snapshot_download(
            name,
            repo_type=kind,
            revision=revision,
            local_files_only=True,
            allow_patterns=list(patterns) if patterns else None,
        )
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None
    return Path(found).name


def fetch_matching(name: str, commit: str, patterns: Sequence[str]) -> Path:
    """The folder of a data set's commit in the client's cache, with the files that match there.

    Raises EmtError where they cannot be had.
    """
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            name, repo_type="dataset", revision=commit, allow_patterns=list(patterns)
        )
    except Exception as error:
        raise _not_fetched(name, commit, ", ".join(patterns), error) from error
    return Path(found)


def fetch_files(folder: Path, name: str, files: Iterable[str]) -> None:
    """Fetch files of a commit into its folder in the cache; one that the hub lacks stays away.

    What is there is not asked for, and a download that was cut off goes on. Raises EmtError where
    one cannot be had.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    commit = folder.name
    missing = [file for file in dict.fromkeys(files) if not (folder / file).exists()]
    if not missing:
        return
    disable_progress_bars("huggingface_hub.http_get")  # one bar a file, thousands of files
    disable_progress_bars("huggingface_hub.xet_get")

    def fetch(file: str) -> None:
        try:
            hf_hub_download(name, file, repo_type="dataset", revision=commit)
        except RemoteEntryNotFoundError:
            return
        except Exception as error:
            raise _not_fetched(name, commit, file, error) from error

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(fetch, missing))


def _not_fetched(name: str, commit: str, what: str, error: Exception) -> EmtError:
    return EmtError(
        f"{what} of {name!r} cannot be fetched from the Hub: {_reason(error)}",
        where=f"{name} at {commit}",
        remedy=f"check the network and run again, what was fetched is kept; {ACCESS}",
    )


def _reason(error: Exception) -> str:
    """What kept the hub from answering, in one line; raises what is no answer of hub or network."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return str(error).splitlines()[0]
    # refused connection, no name service, offline, a full disk: each client has errors of its own
    client = type(error).__module__.startswith(("httpx", "requests", "huggingface_hub"))
    if not client and not isinstance(error, OSError | RuntimeError):
        raise error
    return f"{type(error).__name__}: {str(error)[:200]}".splitlines()[0]
