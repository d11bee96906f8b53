"""Encoded images, whole and damaged in ways that decoders are known to trip over."""

from __future__ import annotations

import io
import struct
import zlib
from random import Random
from typing import Any

from PIL import Image
from source_files import encoded, picture

from mutation.files import damaged

SAVED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("PNG", {}),
    ("JPEG", {"quality": 80}),
    ("JPEG", {"quality": 80, "progressive": True}),
    ("WEBP", {"quality": 80}),
    ("WEBP", {"lossless": True}),
    ("GIF", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", {"compression": "jpeg"}),
    ("PPM", {}),
    ("AVIF", {"quality": 60}),
    ("JPEG2000", {}),
)
MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "I", "F", "CMYK", "YCbCr")


def any_image(rng: Random) -> bytes:
    """An image in one of the formats that are read, with EXIF or several frames now and then."""
    name, options = rng.choice(SAVED)
    image = picture(rng.randrange(9), (rng.randint(1, 40), rng.randint(1, 40)))
    options = dict(options)
    if name in ("JPEG", "PNG", "WEBP", "TIFF") and rng.random() < 0.3:
        exif = Image.Exif()
        exif[0x0112] = rng.choice([1, 3, 6, 8])
        options["exif"] = exif
    if name in ("GIF", "TIFF", "WEBP", "PNG") and rng.random() < 0.3:
        options |= {"save_all": True, "append_images": [picture(3, image.size)] * 3}
    if rng.random() < 0.3:
        try:
            return encoded(image.convert(rng.choice(MODES)), name, **options)
        except (OSError, ValueError, KeyError, SystemError):  # the format has no such mode
            pass
    return encoded(image, name, **options)


def bad_image(rng: Random) -> bytes:
    """An image that is damaged, lies about itself, or is none at all."""
    kind = rng.random()
    if kind < 0.65:
        return damaged(any_image(rng), rng)
    if kind < 0.9:
        return rng.choice(LIES)(rng)
    return rng.choice(
        [b"", b"\0", rng.randbytes(200), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
    )


def _chunk(name: bytes, data: bytes, length: int | None = None) -> bytes:
    size = len(data) if length is None else length
    return struct.pack(">I", size) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(rng: Random) -> bytes:
    """A PNG whose header promises more than it holds, or whose chunks are wrong."""
    side = rng.choice([0, 1, 9, 5_000, 20_000, 2**16, 2**31 - 1, 2**32 - 1])
    depth, colour = rng.choice([(8, 2), (16, 6), (1, 0), (8, 3), (3, 7), (255, 255)])
    head = struct.pack(
        ">IIBBBBB", side, rng.choice([side, 1]), depth, colour, 0, 0, rng.choice([0, 1, 9])
    )
    chunks = [_chunk(b"IHDR", head)]
    text = b"a\0\0" + zlib.compress(bytes(rng.choice([10, 80_000_000])))
    extra = [
        _chunk(b"zTXt", text),
        _chunk(b"iCCP", text),
        _chunk(b"eXIf", rng.randbytes(40)),
        _chunk(b"acTL", struct.pack(">II", 2**31, 0)),
        _chunk(b"PLTE", b"abc" * 300),
        _chunk(b"tRNS", bytes(300)),
        _chunk(b"IDAT", b"", length=2**31),
        _chunk(b"IHDR", head),
    ]
    chunks += rng.sample(extra, rng.randint(0, 2))
    chunks.append(_chunk(b"IDAT", zlib.compress(bytes(rng.choice([0, 100, 1_000_000])))))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + _chunk(b"IEND", b"")


def _tiff(rng: Random) -> bytes:
    """A TIFF with hostile tags: huge counts, offsets outside, strips that do not fit."""
    data = bytearray(encoded(picture(1, (9, 9)), "TIFF"))
    at = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, at)[0]
    for _ in range(rng.randint(1, 3)):
        entry = at + 2 + 12 * rng.randrange(entries)
        field = rng.choice([("<H", 0), ("<H", 2), ("<I", 4), ("<I", 8)])
        value = rng.choice([0, 1, 2, 7, 0xFFFF, 0xFFFFFFFF, 0x7FFFFFFF, at, 100_000])
        struct.pack_into(
            field[0], data, entry + field[1], value & (0xFFFF if field[0] == "<H" else 0xFFFFFFFF)
        )
    return bytes(data)


def _bmp(rng: Random) -> bytes:
    data = bytearray(encoded(picture(2, (9, 9)), "BMP"))
    for _ in range(rng.randint(1, 3)):
        place = rng.choice([10, 14, 18, 22, 26, 28, 30, 34, 46])
        struct.pack_into("<I", data, place, rng.choice([0, 1, 24, 0xFFFFFFFF, 0x7FFFFFFF, 70_000]))
    return bytes(data)


def _gif(rng: Random) -> bytes:
    """A GIF with a huge screen, or frames that lie outside of it."""
    data = bytearray(
        encoded(picture(3, (9, 9)), "GIF", save_all=True, append_images=[picture(4, (9, 9))])
    )
    struct.pack_into("<HH", data, 6, rng.choice([0, 1, 9, 65_535]), rng.choice([0, 9, 65_535]))
    frame = data.find(b",", 13)
    if frame > 0:
        struct.pack_into("<HHHH", data, frame + 1, *(rng.choice([0, 9, 65_535]) for _ in range(4)))
    return bytes(data)


def _ppm(rng: Random) -> bytes:
    size = rng.choice(
        ["9 9", "0 0", "99999 99999", "-1 9", "9" * 400 + " 1", "9", "3 3\n#" + "x" * 90_000]
    )
    kind = rng.choice(["P6", "P5", "P4", "P3", "P7", "Pf"])
    return f"{kind}\n{size}\n{rng.choice([255, 0, 65535, 99999])}\n".encode() + bytes(243)


def _jpeg(rng: Random) -> bytes:
    """A JPEG whose frame header has another size, or that has segments out of place."""
    data = bytearray(encoded(picture(5, (16, 16)), "JPEG"))
    frame = data.find(b"\xff\xc0")
    struct.pack_into(
        ">HH", data, frame + 5, rng.choice([0, 16, 65_535]), rng.choice([0, 16, 65_535])
    )
    if rng.random() < 0.5:
        data[2:2] = (
            b"\xff"
            + bytes([rng.randrange(0xC0, 0xFF)])
            + struct.pack(">H", rng.choice([0, 2, 9, 0xFFFF]))
            + rng.randbytes(7)
        )
    return bytes(data)


def _deep_noise(rng: Random) -> bytes:
    """A whole image of many pixels in few bytes."""
    side = rng.choice([3_000, 7_500])
    buffer = io.BytesIO()
    Image.new(rng.choice(["1", "L"]), (side, side)).save(buffer, rng.choice(["PNG", "GIF", "WEBP"]))
    return buffer.getvalue()


LIES = (_png, _png, _tiff, _tiff, _bmp, _gif, _ppm, _jpeg, _deep_noise)
