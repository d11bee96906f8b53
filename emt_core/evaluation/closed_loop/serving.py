"""`emt serve`: a policy behind a socket, for a real robot or another project's evaluator.

Messages are those between evaluator and simulators (simulators/wire.py has the framing):

    client  hello
    server  policy {chunk, action_dim, names, step, reference {column, names} or null}
    client  observation {instruction} + images [1, H, W, 3]
            or {instructions: [...]} + images [n, H, W, 3]; with `reference` [n, R] where it has one
    server  actions + actions [n, chunk, A], or error {message}: the connection stays open
    client  close

Nobody is asked who they are: it listens on this machine alone unless told otherwise.
"""

from __future__ import annotations

import socketserver
import threading
import traceback
from typing import Any

import numpy as np

from emt_core.errors import EmtError
from emt_core.evaluation.closed_loop.reference import delta_map
from emt_core.evaluation.simulators import wire

MOST_CLIENTS = 16
IDLE_S = 3600.0
MOST_IMAGES = 256
MOST_WORDS = 2000


class PolicyServer(socketserver.ThreadingTCPServer):
    """One policy, one call at a time, several clients. `server_address` has the chosen port."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, policy: Any, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """policy: has act(images, instructions), perhaps chunk, action_dim and spec."""
        self.policy = policy
        self.turn = threading.Lock()
        self.places = threading.BoundedSemaphore(MOST_CLIENTS)
        try:
            super().__init__((host, port), _Client)
        except OSError as error:
            raise EmtError(
                f"cannot listen there ({error.strerror})",
                where=f"{host}:{port}",
                remedy="choose another --port",
            ) from error

    def facts(self) -> dict[str, Any]:
        spec = getattr(self.policy, "spec", None)
        measured = delta_map(self.policy)
        reference = (
            {"column": measured.reference_column, "names": list(measured.reference_names)}
            if measured
            else None
        )
        return {
            "chunk": getattr(self.policy, "chunk", None),
            "action_dim": getattr(self.policy, "action_dim", None),
            "names": list(spec.action_map.names) if spec is not None else None,
            "step": spec.step if spec is not None else None,
            "reference": reference,
        }

    def act(self, fields: dict[str, Any], arrays: dict[str, np.ndarray]) -> np.ndarray:
        """float32 [n, chunk, A]. Raises EmtError for an observation that the policy cannot use."""
        images = arrays.get("images")
        if (
            images is None
            or images.ndim != 4
            or images.dtype != np.uint8
            or not 0 < len(images) <= MOST_IMAGES
        ):
            raise EmtError(
                f"an observation holds `images`, uint8 [n, H, W, 3] with 1 to {MOST_IMAGES} images"
            )
        words = fields.get("instructions", [fields.get("instruction")] * len(images))
        if not isinstance(words, list) or not all(isinstance(text, str) for text in words):
            raise EmtError(
                "an observation holds `instruction`, a text, or `instructions`, one for each image"
            )
        more = {}
        if (measured := delta_map(self.policy)) is not None:
            measured.check_reference(arrays.get("reference"), len(images))
            more["reference"] = arrays["reference"]
        with self.turn:
            return np.asarray(self.policy.act(images, words, **more), np.float32)


class _Client(socketserver.BaseRequestHandler):
    server: PolicyServer

    def handle(self) -> None:
        self.request.settimeout(IDLE_S)
        if not self.server.places.acquire(blocking=False):
            wire.send(
                self.request, "error", {"message": f"{MOST_CLIENTS} clients are connected already"}
            )
            return
        try:
            while self._answer():
                pass
        except (EOFError, OSError, wire.WireError):
            pass  # gone, silent for an hour, or no client of ours
        finally:
            self.server.places.release()

    def _answer(self) -> bool:
        kind, fields, arrays = wire.receive(self.request)
        if kind == "close":
            return False
        try:
            answer = self._reply(kind, fields, arrays)
        except EmtError as error:
            answer = "error", {"message": error.message()}, {}
        except Exception as error:  # a robot must hear that its policy failed, whatever the reason
            traceback.print_exc()
            answer = (
                "error",
                {"message": f"the policy failed: {type(error).__name__}: {error}"[:MOST_WORDS]},
                {},
            )
        wire.send(self.request, *answer)
        return True

    def _reply(
        self, kind: str, fields: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
        if kind == "hello":
            return "policy", self.server.facts(), {}
        if kind == "observation":
            return "actions", {}, {"actions": self.server.act(fields, arrays)}
        raise EmtError(f"unknown message {kind[:40]!r}", remedy="hello, observation or close")
