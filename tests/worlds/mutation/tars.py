"""Tar archives with hostile members and headers."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass, replace
from random import Random

from mutation.images import any_image, bad_image
from mutation.values import HOSTILE

BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Member:
    name: str
    data: bytes = b""
    type: bytes = tarfile.REGTYPE
    link: str = ""
    size: int | None = None
    pax: tuple[tuple[str, str], ...] = ()


def archive(members: list[Member], form: int = tarfile.PAX_FORMAT) -> bytes:
    """The archive's bytes; a member's name is written as it is, whatever it is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type = member.type
            info.linkname = member.link
            info.pax_headers = dict(member.pax)
            info.size = len(member.data)
            try:
                tar.addfile(info, io.BytesIO(member.data))
            except (ValueError, UnicodeError):  # this format cannot hold such a name
                info.name = ascii(member.name)[:90]
                info.linkname = ascii(member.link)[:90]
                info.pax_headers = {}
                tar.addfile(info, io.BytesIO(member.data))
    return buffer.getvalue()


def places(members: list[Member]) -> list[tuple[int, int, int]]:
    """(header, data, end) of each member in `archive` of plain names."""
    with tarfile.open(fileobj=io.BytesIO(archive(members))) as tar:
        return [(m.offset, m.offset_data, m.offset_data + m.size) for m in tar]


def other_members(members: list[Member], rng: Random) -> tuple[str, list[Member]]:
    """Members renamed, linked, doubled, moved, of another type, or added."""
    found = list(members)
    at = rng.randrange(len(found))
    what = rng.choice(
        "renamed linked typed doubled moved gone added many pax concatenated dots".split()
    )
    if what == "renamed":
        name = found[at].name
        new = rng.choice([*HOSTILE, name.upper(), name + ".x", "d/" + name, "/" + name, name + "/"])
        found[at] = replace(found[at], name=new)
    elif what == "linked":
        kind = rng.choice([tarfile.SYMTYPE, tarfile.LNKTYPE])
        target = rng.choice([*HOSTILE, found[at].name, found[0].name, found[-1].name])
        found[at] = replace(found[at], data=b"", type=kind, link=target)
    elif what == "typed":
        kinds = [tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
        kinds += [tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME]
        kinds += [tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, b"Z", b"S"]
        found[at] = replace(found[at], type=rng.choice(kinds))
    elif what == "doubled":
        found.insert(rng.randrange(len(found)), found[at])
    elif what == "moved":
        found.insert(rng.randrange(len(found)), found.pop(at))
    elif what == "gone":
        del found[at]
    elif what == "added":
        suffix = rng.choice("png jpg txt json cls mp4 heic svg tar x.png".split())
        data = rng.choice([b"", b"{}", b"[" * 9_000, any_image(rng), bad_image(rng)])
        found.insert(at, Member(f"{rng.choice(['0', 'x', found[at].name])}.{suffix}", data))
    elif what == "many":
        found += [Member(f"{n % 3}.{n}.png", b"x") for n in range(500)]
    elif what == "pax":
        records = [
            ("size", rng.choice(["0", "-1", "99999999999", "x", "1e9", "9" * 5_000])),
            ("path", rng.choice(HOSTILE).replace("\0", "")),
            ("linkpath", rng.choice(HOSTILE).replace("\0", "")),
            ("mtime", rng.choice(["nan", "1e999", "x"])),
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.map", rng.choice(["0,1", "x", "0," * 99, "-1,-1"])),
            ("GNU.sparse.size", rng.choice(["1", "-1", "99999999999"])),
            ("GNU.sparse.realsize", rng.choice(["1", "-1", "x"])),
            ("hdrcharset", "BINARY"),
        ]
        found[at] = replace(found[at], pax=tuple(rng.sample(records, rng.randint(1, 4))))
    elif what == "concatenated":
        return what, found
    elif what == "dots":
        found = [replace(member, name=f"v1.{member.name}") for member in found]
    return what, found


def bad_header(data: bytes, header: int, rng: Random) -> bytes:
    """One header field with another value, its checksum right or wrong."""
    fields = {"name": (0, 100), "mode": (100, 8), "size": (124, 12), "mtime": (136, 12)}
    fields |= {"type": (156, 1), "link": (157, 100), "magic": (257, 8), "prefix": (345, 155)}
    start, size = fields[rng.choice(["size", "size", *fields])]
    sizes = [b"77777777777\0", b"-0000000001\0", b"\x80" + b"\xff" * 11, b"\xff" * 12]
    sizes += [b"            ", b"0000000000x\0", b"\x80" + bytes(10) + b"\1", b"00000000000\0"]
    new = rng.choice([rng.choice(sizes), rng.randbytes(size), b"\xff" * size, bytes(size)])
    block = bytearray(data[header : header + BLOCK])
    block[start : start + size] = new[:size].ljust(size, b"\0")
    if rng.random() < 0.8:
        block[148:156] = b" " * 8
        block[148:156] = f"{sum(block):06o}\0 ".encode()
    return data[:header] + bytes(block) + data[header + BLOCK :]
