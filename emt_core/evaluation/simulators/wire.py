"""Messages between a policy and what it moves: a simulator's worker, a robot, another evaluator.

    b"EMT1" | header length, uint32 big-endian | header, JSON | the arrays' bytes in order

    {"kind": "observation", "fields": {"instruction": "open the drawer"},
     "arrays": [{"name": "images", "dtype": "uint8", "shape": [1, 112, 112, 3]}]}

Arrays are C-ordered and little-endian. Nothing is ever unpickled, and every size is checked against
a bound before any of it is read. Standard library and NumPy, Python 3.8 syntax: the file is also
run outside the package.
"""

from __future__ import annotations

import json
import struct

import numpy as np

MAGIC = b"EMT1"
MAX_HEADER = 1 << 16
MAX_ARRAYS = 8
MAX_DIMENSIONS = 5
MAX_BYTES = 1 << 28
DTYPES = ("uint8", "int32", "int64", "float32", "float64")


class WireError(Exception):
    """The other side sent something that is no message of ours."""


def send(connection, kind, fields=None, arrays=None):
    """Send one message; blocks until all is written. fields: JSON; arrays: of DTYPES."""
    listed = []
    parts = []
    for name, value in (arrays or {}).items():
        value = np.ascontiguousarray(value)
        if value.dtype.name not in DTYPES:
            raise WireError(f"an array of type {value.dtype} cannot be sent")
        listed.append({"name": name, "dtype": value.dtype.name, "shape": list(value.shape)})
        parts.append(value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes())
    header = json.dumps({"kind": kind, "fields": fields or {}, "arrays": listed}).encode()
    if len(header) > MAX_HEADER:
        raise WireError(f"a header of {len(header):,} bytes is too long")
    connection.sendall(b"".join([MAGIC, struct.pack(">I", len(header)), header, *parts]))


def receive(connection, max_bytes=MAX_BYTES):
    """Read one message: (kind, fields, {name: array}).

    max_bytes: bound on all arrays together. Raises EOFError where the other side has closed,
    WireError for what is no message, and whatever the connection raises on a timeout.
    """
    start = _read(connection, len(MAGIC) + 4)
    if start[: len(MAGIC)] != MAGIC:
        raise WireError("the message does not begin with EMT1")
    length = struct.unpack(">I", start[len(MAGIC) :])[0]
    if length > MAX_HEADER:
        raise WireError(f"a header of {length:,} bytes is too long")
    kind, fields, listed = _header(_read(connection, length))
    arrays = {}
    left = max_bytes
    for entry in listed:
        name, dtype, shape = _described(entry)
        size = dtype.itemsize
        for side in shape:
            size *= side
        if size > left:
            raise WireError(f"the arrays are longer than {max_bytes:,} bytes")
        left -= size
        arrays[name] = np.frombuffer(_read(connection, size), dtype).reshape(shape)
    return kind, fields, arrays


def _header(data):
    try:
        header = json.loads(data.decode())
        kind = header["kind"]
        fields = header["fields"]
        listed = header["arrays"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError(f"the header cannot be read ({type(error).__name__})") from error
    if not isinstance(kind, str) or not isinstance(fields, dict) or not isinstance(listed, list):
        raise WireError("the header has fields of the wrong type")
    if len(listed) > MAX_ARRAYS:
        raise WireError(f"{len(listed)} arrays in one message are too many")
    return kind, fields, listed


def _described(entry):
    """(name, dtype, shape) of one announced array."""
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("name"), str)
        or entry.get("dtype") not in DTYPES
    ):
        raise WireError("an array is announced with an unknown type")
    shape = entry.get("shape")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        raise WireError("an array is announced with an impossible shape")
    if not all(type(side) is int and 0 <= side <= MAX_BYTES for side in shape):
        raise WireError("an array is announced with an impossible shape")
    return entry["name"], np.dtype(entry["dtype"]).newbyteorder("<"), tuple(shape)


def _read(connection, size):
    """Exactly `size` bytes."""
    data = bytearray(size)
    view = memoryview(data)
    got = 0
    while got < size:
        count = connection.recv_into(view[got:])
        if not count:
            raise EOFError("the connection was closed")
        got += count
    return bytes(data)
