"""A Hugging Face Hub on this machine, which serves folders as data sets to the real client."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

from emt_core.data import hub as hub_client
from emt_core.data.readers.lerobot_hub import _tables


class FakeHub:
    """revisions: (name, branch, tag or commit) -> (commit, folder). asked: what was asked for."""

    def __init__(self) -> None:
        self.revisions: dict[tuple[str, str], tuple[str, Path]] = {}
        self.asked: list[str] = []

    def publish(self, name: str, commit: str, folder: Path, *revisions: str) -> None:
        for revision in (commit, *revisions):
            self.revisions[name, revision] = (commit, folder)

    @property
    def fetched(self) -> list[str]:
        """Files whose content was asked for."""
        files = (line.split("/resolve/")[1] for line in self.asked if line.startswith("GET /data"))
        return [file.partition("/")[2] for file in files]


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_GET(self) -> None:
            self._serve(body=True)

        def do_HEAD(self) -> None:
            self._serve(body=False)

        def _serve(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            parts = path.strip("/").split("/")
            api = parts[0] == "api"
            name = "/".join(parts[2:4] if api else parts[1:3])
            rest = parts[4:] if api else parts[3:]
            verb, revision = (rest[0], rest[1]) if len(rest) > 1 else ("revision", "main")
            commit, folder = hub.revisions.get((name, revision), ("", Path()))
            if not commit:
                self._send(404, b"", {"X-Error-Code": "RevisionNotFound"}, body)
            elif verb == "revision":
                self._json({"_id": "0", "id": name, "sha": commit, "siblings": []}, body)
            elif verb == "tree":
                files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
                self._json([_entry(file, folder) for file in files], body)
            else:
                self._file(folder, "/".join(rest[2:]), commit, body)

        def _file(self, folder: Path, file: str, commit: str, body: bool) -> None:
            headers = {"X-Repo-Commit": commit}
            if not (folder / file).is_file():
                self._send(404, b"", headers | {"X-Error-Code": "EntryNotFound"}, body)
                return
            content = (folder / file).read_bytes()
            self._send(200, content, headers | {"ETag": f'"{_oid(content)}"'}, body)

        def _json(self, value: object, body: bool) -> None:
            headers = {"Content-Type": "application/json"}
            self._send(200, json.dumps(value).encode(), headers, body)

        def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    return Handler


def _entry(file: Path, folder: Path) -> dict[str, object]:
    content = file.read_bytes()
    path = file.relative_to(folder).as_posix()
    return {"type": "file", "path": path, "size": len(content), "oid": _oid(content)}


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def hub_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that the client in this process asks; its cache is tmp_path/cache."""
    from huggingface_hub import constants

    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    use(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    forget()
    try:
        yield hub
    finally:
        forget()
        server.shutdown()
        server.server_close()


def use(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the client ask this address."""
    from huggingface_hub import constants

    files = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)


def forget() -> None:
    """What a new process would not know."""
    hub_client._no_answer.clear()
    _tables.cache_clear()
