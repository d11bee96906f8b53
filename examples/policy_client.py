"""Ask a served policy for actions: what a robot's machine needs, standard library and NumPy alone.

    emt serve WORKSPACE/finetune/KEY/data/policies/step-1000 --port 8700
    python examples/policy_client.py 127.0.0.1 8700 "open the drawer"

It runs as it is where emt_core is installed. For a robot's machine, copy this file and
emt_core/evaluation/simulators/wire.py side by side; nothing else is needed there.
"""

from __future__ import annotations

import socket
import sys
import time

import numpy as np

try:
    import wire  # pyright: ignore[reportMissingImports]  # the copy beside this file
except ImportError:
    from emt_core.evaluation.simulators import wire


class PolicyClient:
    """One connection to `emt serve`."""

    def __init__(self, host, port):
        try:
            self.connection = socket.create_connection((host, port), timeout=60)
        except ConnectionRefusedError:
            sys.exit(f"nothing listens at {host}:{port} (yet): is `emt serve` running?")
        self.facts = self._ask("hello", "policy")[0]

    def act(self, image, instruction, state=None):
        """image: uint8 [H, W, 3], upright, as recorded. Returns float32 [chunk, A] in the training
        data's units.

        state: the robot's, where `facts["reference"]` names its dimensions: the actions are
        measured from it.
        """
        arrays = {"images": image[None]}
        if state is not None:
            arrays["reference"] = np.asarray(state, np.float32)[None]
        return self._ask("observation", "actions", {"instruction": instruction}, arrays)[1][
            "actions"
        ][0]

    def close(self):
        wire.send(self.connection, "close")
        self.connection.close()

    def _ask(self, kind, expected, fields=None, arrays=None):
        wire.send(self.connection, kind, fields, arrays)
        answer, fields, arrays = wire.receive(self.connection)
        if answer != expected:
            raise RuntimeError(fields.get("message", answer))
        return fields, arrays


def main():
    client = PolicyClient(sys.argv[1], int(sys.argv[2]))
    print("policy:", client.facts)
    camera = np.random.default_rng(0).integers(
        0, 255, (224, 224, 3), dtype=np.uint8
    )  # a robot's camera stands here
    wanted = client.facts.get("reference")
    state = (
        np.zeros(len(wanted["names"])) if wanted else None
    )  # and its present state here, in the order of the names
    for _ in range(3):
        started = time.perf_counter()
        actions = client.act(camera, sys.argv[3], state)
        print(
            actions.shape,
            "in",
            round(1000 * (time.perf_counter() - started)),
            "ms; first:",
            actions[0].round(3),
        )
    client.close()


if __name__ == "__main__":
    main()
