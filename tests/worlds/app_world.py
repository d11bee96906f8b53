"""A small world with hostile text in it, and the app served over a workspace: what the tests of the
app share."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from places import ROOT
from small_world import small_world

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "<script>window.hacked = 1</script> <b>bold?</b> **stars** $\\alpha^2$ :red[x] [link](javascript:alert(1))"
"""Stands as the first question of a pool sample; every page must show it letter by letter."""

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 120_000


def hostile_world(folder: Path) -> Path:
    """The small world with one hostile caption (web:0) in it."""
    small_world(folder)
    path = folder / "web" / "web.json"
    rows = json.loads(path.read_text())
    rows[0]["conversations"][0]["value"] = f"<image>\n{HOSTILE}"
    path.write_text(json.dumps(rows))
    return folder


def emt(*arguments: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "emt_core.cli", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@dataclass
class Server:
    address: str
    workspace: Path
    log: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(workspace: Path, log: Path) -> Iterator[Server]:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(ROOT / "app.py"),
        "--server.port",
        str(port),
    ]
    command += [
        "--server.headless",
        "true",
        "--logger.enableRich",
        "false",
        "--",
        "--workspace",
        str(workspace),
    ]
    yield from running(command, port, workspace, log)


def running(
    command: Sequence[str],
    port: int,
    workspace: Path,
    log: Path,
    *,
    cwd: Path = ROOT,
    environment: Mapping[str, str] = os.environ,
) -> Iterator[Server]:
    """The server that the command starts, once it answers at the port; afterwards it and its
    children are gone.

    Fails with the end of the log where it ends early or does not answer for PATIENCE_MS.
    """
    patience = PATIENCE_MS / 1000
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdout=out,
            stderr=out,
            env={**environment, "NO_COLOR": "1"},
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        until = time.monotonic() + patience
        while not answers(address):
            ended = process.poll()
            if ended is not None or time.monotonic() > until:
                what = (
                    f"ended with {ended}"
                    if ended is not None
                    else f"did not answer for {patience:.0f} s"
                )
                raise AssertionError(
                    f"the server {what}:\n{log.read_text(errors='replace')[-3000:]}"
                )
            time.sleep(0.2)
        yield Server(address, workspace, log)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/_stcore/health", timeout=2).close()
    except OSError:
        return False
    return True
