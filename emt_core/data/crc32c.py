"""CRC-32C (Castagnoli) of large data in numpy: what TFRecord files guard their records with.

The register of a CRC is linear: that of A followed by B is the register of A moved on by as many
zero bytes as B has, xor that of B alone. So a block is cut into lanes of LANE bytes whose registers
are worked out side by side and then joined in pairs. Zero bytes in front of data change nothing
while the register is 0, so a block is filled up in front.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np

POLYNOMIAL = 0x82F63B78
LANE = 256
"""Bytes; a power of two."""

Tables = tuple[np.ndarray, np.ndarray]
"""uint32 [65536] each: what the low and the high half of a register become."""


def crc32c(blocks: Iterable[bytes]) -> int:
    """The checksum of the blocks one after another."""
    register = 0xFFFFFFFF
    for block in blocks:
        register = _moved(register, len(block)) ^ _register(block)
    return register ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """As TFRecord stores a checksum: turned right by 15 bits, plus a constant."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _register(block: bytes) -> int:
    """The register after a block, from 0."""
    lanes = 1
    while lanes * LANE < len(block):
        lanes *= 2
    padded = np.zeros(lanes * LANE, np.uint8)
    padded[len(padded) - len(block) :] = np.frombuffer(block, np.uint8)
    words = np.ascontiguousarray(padded.view("<u4").reshape(lanes, LANE // 4).T)
    registers = np.zeros(lanes, np.uint32)
    for word in words:
        registers = _apply(_zeros(2), registers ^ word)
    step = LANE.bit_length() - 1
    while len(registers) > 1:
        registers = _apply(_zeros(step), registers[0::2]) ^ registers[1::2]
        step += 1
    return int(registers[0])


def _moved(register: int, count: int) -> int:
    """The register after `count` zero bytes."""
    found = np.array([register], np.uint32)
    for power in range(count.bit_length()):
        if count >> power & 1:
            found = _apply(_zeros(power), found)
    return int(found[0])


def _apply(tables: Tables, registers: np.ndarray) -> np.ndarray:
    low, high = tables
    return low[registers & 0xFFFF] ^ high[registers >> 16]


@cache
def _zeros(power: int) -> Tables:
    """Moves a register on by 2**power zero bytes."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    if power:
        half = _zeros(power - 1)
        moved = _apply(half, _apply(half, bits))
    else:
        moved = bits
        for _ in range(8):
            moved = moved >> 1 ^ np.where(moved & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    return _table(moved[:16]), _table(moved[16:])


def _table(moved: np.ndarray) -> np.ndarray:
    """uint32 [65536]: what each 16 bits become, from what each bit becomes."""
    found = np.zeros(1, np.uint32)
    for bit in moved:
        found = np.concatenate([found, found ^ bit])
    return found
