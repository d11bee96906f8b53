"""Messages between policy and simulator, and what runs under the simulator's own interpreter."""

from __future__ import annotations

import ast
import json
import socket
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dot_policy import delta_map
from places import ROOT

from emt_core.errors import EmtError
from emt_core.evaluation.closed_loop.serving import PolicyServer
from emt_core.evaluation.simulators import wire

SIMULATORS = ROOT / "emt_core" / "evaluation" / "simulators"
OWN = {
    "worker": set(),
    "wire": set(),
    "rehearsal_sim": set(),
    "metaworld_sim": {"metaworld", "mujoco"},
    "libero_sim": {"libero", "robosuite", "mujoco", "libero_controller"},
    "libero_controller": set(),
    "simpler_bridge_sim": {"simpler_env", "sapien", "transforms3d"},
    "calvin_abcd_sim": {"calvin_agent", "calvin_env", "hydra", "omegaconf", "pybullet"},
}
WORKER_FILES = sorted(SIMULATORS.glob("[a-z]*.py"))


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    theirs.settimeout(10)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_message_arrives_as_it_was_sent(pair):
    ours, theirs = pair
    arrays = {
        "images": np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3),
        "actions": np.array([[1.5, -np.inf]], ">f4"),
        "empty": np.zeros((0, 3), np.int64),
    }
    sent = threading.Thread(
        target=wire.send, args=(ours, "observation", {"instruction": "öffne"}, arrays)
    )
    sent.start()
    kind, fields, got = wire.receive(theirs)
    sent.join()
    assert (kind, fields) == ("observation", {"instruction": "öffne"})
    assert set(got) == set(arrays)
    for name, value in arrays.items():
        assert got[name].shape == value.shape
        np.testing.assert_array_equal(got[name], value)


def framed(header: bytes, length: int | None = None) -> bytes:
    return wire.MAGIC + struct.pack(">I", len(header) if length is None else length) + header


def listing(**entry) -> bytes:
    return json.dumps({"kind": "x", "fields": {}, "arrays": [entry]}).encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "does not begin"),
        (framed(b"", wire.MAX_HEADER + 1), "too long"),
        (framed(b"\xff\xfe"), "cannot be read"),
        (framed(b"[" * 60_000), "cannot be read"),
        (framed(b'{"kind": 3, "fields": {}, "arrays": []}'), "wrong type"),
        (framed(b'{"kind": "x", "fields": [], "arrays": []}'), "wrong type"),
        (framed(b'{"kind": "x"}'), "cannot be read"),
        (framed(listing(name="a", dtype="object", shape=[1])), "unknown type"),
        (framed(listing(name="a", dtype="O", shape=[1])), "unknown type"),
        (framed(listing(name="a", dtype="uint8", shape=[-1])), "impossible shape"),
        (framed(listing(name="a", dtype="uint8", shape=[True])), "impossible shape"),
        (framed(listing(name="a", dtype="uint8", shape=[2] * 9)), "impossible shape"),
        (framed(listing(name="a", dtype="float64", shape=[10**8, 10**8])), "longer than"),
        (framed(json.dumps({"kind": "x", "fields": {}, "arrays": [{}] * 99}).encode()), "too many"),
    ],
)
def test_what_is_no_message_is_refused_before_memory_is_asked_for(pair, data, words):
    ours, theirs = pair
    ours.sendall(data)
    with pytest.raises(wire.WireError, match=words):
        wire.receive(theirs)


def test_an_end_in_the_middle_is_an_end(pair):
    ours, theirs = pair
    ours.sendall(framed(listing(name="a", dtype="uint8", shape=[8])) + b"1234")
    ours.close()
    with pytest.raises(EOFError):
        wire.receive(theirs)


@pytest.mark.parametrize("path", WORKER_FILES, ids=lambda path: path.stem)
def test_worker_files_are_python_38_and_import_numpy_and_their_simulator_only(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a worker file is no part of a package"
            names.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "zip":
            assert not node.keywords, "zip(strict=) is not in Python 3.8"
        elif isinstance(node, ast.Attribute):
            assert node.attr not in ("removeprefix", "removesuffix"), "not in Python 3.8"
    allowed = {"__future__", "numpy", "wire"} | OWN[path.stem]
    assert names <= allowed | set(sys.stdlib_module_names), names - allowed


class Pointer:
    """A policy that answers with the mean colour of what it saw."""

    chunk, action_dim = 3, 2

    def act(self, images, instructions):
        if any(not words.strip() for words in instructions):
            raise EmtError("an instruction is empty")
        return np.repeat(images.reshape(len(images), -1)[:, None, :2], self.chunk, axis=1).astype(
            np.float32
        )


@contextmanager
def serving(policy):
    with PolicyServer(policy) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def server():
    with serving(Pointer()) as found:
        yield found


def test_a_served_policy_answers_and_says_what_is_wrong(server):
    assert server.server_address[0] == "127.0.0.1"
    image = np.full((1, 4, 4, 3), 7, np.uint8)
    with socket.create_connection(server.server_address[:2], timeout=10) as client:

        def ask(kind, fields=None, arrays=None):
            wire.send(client, kind, fields, arrays)
            return wire.receive(client)

        assert ask("hello")[1]["chunk"] == 3
        kind, _, arrays = ask("observation", {"instruction": "go"}, {"images": image})
        assert kind == "actions"
        assert arrays["actions"].shape == (1, 3, 2)
        assert (arrays["actions"] == 7).all()
        both = ask(
            "observation",
            {"instructions": ["go", "stay"]},
            {"images": np.concatenate([image, image])},
        )
        assert both[2]["actions"].shape == (2, 3, 2)
        for fields, arrays in (
            ({"instruction": "go"}, {}),
            ({"instruction": "go"}, {"images": image.astype(np.float32)}),
            ({"instruction": "go"}, {"images": image[0]}),
            ({"instruction": 5}, {"images": image}),
            ({"instruction": " "}, {"images": image}),
        ):
            kind, found, _ = ask("observation", fields, arrays)
            assert kind == "error"
            assert found["message"]
        assert "unknown message" in ask("dance")[1]["message"]
        assert ask("hello")[0] == "policy"  # still there
    with socket.create_connection(server.server_address[:2], timeout=10) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert stranger.recv(100) == b""


class Placed(Pointer):
    """Actions are measured from the state; a cup in the way is a fault of its own."""

    spec = SimpleNamespace(
        step=5,
        action_map=delta_map(reference=(0, 1), reference_names=("hand_x", "hand_y")),
    )

    def act(self, images, instructions, reference):
        if "cup" in instructions[0]:
            raise ZeroDivisionError("cup")
        return super().act(images, instructions) + reference[:, None]


@pytest.fixture
def placed_server():
    with serving(Placed()) as found:
        yield found


def test_a_policy_that_fails_says_so_and_the_connection_stays(
    placed_server, capsys: pytest.CaptureFixture
):
    image = np.full((1, 4, 4, 3), 7, np.uint8)
    with socket.create_connection(placed_server.server_address[:2], timeout=10) as client:

        def ask(kind, fields=None, arrays=None):
            wire.send(client, kind, fields, arrays)
            return wire.receive(client)

        facts = ask("hello")[1]
        assert facts["reference"] == {"column": "observation.state", "names": ["hand_x", "hand_y"]}
        state = np.array([[0.5, 1.0]], np.float32)
        _, _, arrays = ask(
            "observation", {"instruction": "go"}, {"images": image, "reference": state}
        )
        np.testing.assert_allclose(arrays["actions"][0, 0], [7.5, 8.0])
        for more in (
            {},
            {"reference": state[0]},
            {"reference": state[:, :1]},
            {"reference": np.repeat(state, 2, 0)},
        ):
            kind, found, _ = ask("observation", {"instruction": "go"}, {"images": image, **more})
            assert kind == "error" and "reference" in found["message"]
        kind, found, _ = ask(
            "observation", {"instruction": "the cup"}, {"images": image, "reference": state}
        )
        assert (kind, found["message"]) == ("error", "the policy failed: ZeroDivisionError: cup")
        assert "ZeroDivisionError" in capsys.readouterr().err  # whoever serves it sees where
        assert ask("hello")[0] == "policy"


@pytest.mark.parametrize(
    "served", ["server", "placed_server"]
)  # the second wants the robot's state as well
def test_the_example_client_runs_by_itself(request, served):
    host, port = request.getfixturevalue(served).server_address[:2]
    command = [
        sys.executable,
        str(ROOT / "examples" / "policy_client.py"),
        host,
        str(port),
        "open the drawer",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(3, 2)") == 3
