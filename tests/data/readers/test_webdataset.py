from __future__ import annotations

import json
import tarfile

import pytest
from source_files import encoded, picture, write_tar

from emt_core.data.images.decode import check_image, image_bytes, open_image
from emt_core.data.readers import fingerprint, image_root, locate
from emt_core.data.readers.webdataset import expand_braces
from emt_core.data.sample import ImageRef
from emt_core.errors import EmtError
from emt_core.recipe.sources import WebDatasetSource

TALK = [{"from": "human", "value": "<image>\nwhere?"}, {"from": "gpt", "value": "there"}]


def source(path="shards", **more) -> WebDatasetSource:
    return WebDatasetSource(format="webdataset", name="wds", role="pool", path=path, **more)


def members(first: int, count: int) -> list[tuple[str, bytes]]:
    found = []
    for n in range(first, first + count):
        facts = {"conversations": TALK, "style": "plain", "id": n}
        found += [
            (f"{n:05d}.png", encoded(picture(n))),
            (f"{n:05d}.json", json.dumps(facts).encode()),
        ]
    return found


def test_keys_captions_and_several_images(tmp_path, rows_of):
    three = TALK[0]["value"].replace("<image>", "<image>" * 11)
    talk = json.dumps({"conversations": [{"from": "human", "value": three}, TALK[1]]}).encode()
    many = [(f"set/b.{n}.png", encoded(picture(n))) for n in (10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)]
    content = [
        ("set/a.JPG", encoded(picture(5), "JPEG")),
        ("set/a.txt", b"a red cup\n"),
        *many,
        ("set/b.json", talk),
        ("c.webp", encoded(picture(6), "WEBP")),
        ("c.json", json.dumps({"caption": "a dog", "width": 24}).encode()),
        ("d.json", json.dumps({"question": "how many?", "answer": "2"}).encode()),
        ("README", b"not a sample"),
        ("e.png", encoded()),
        ("f.png", encoded()),
        ("f.txt", b"\xff\xfe"),
        ("g.json", b"{"),
    ]
    write_tar(tmp_path / "one.tar", content)
    samples, rejects = rows_of(source("one.tar"))
    assert [s.own_id for s in samples] == ["set/a", "set/b", "c", "d"]
    assert [t.text for t in samples[0].turns] == ["<image>", "a red cup"]
    assert [r.member for r in samples[1].images] == [
        f"set/b.{n}.png" for n in range(11)
    ]  # 2 before 10
    assert samples[2].meta == {"width": 24} and samples[3].text_only
    assert [(r.own_id, r.reason) for r in rejects] == [(k, "unreadable_row") for k in "efg"]
    for n, ref in enumerate(samples[1].images):
        assert open_image(ref, tmp_path, 10_000).tobytes() == picture(n).tobytes()
    assert image_bytes(samples[2].images[0], tmp_path) == (encoded(picture(6), "WEBP"), ".webp")


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members_are_found_by_offset_in_every_tar_dialect(tmp_path, rows_of, format):
    long = "deep/" * 18 + "ü" * 20 if format != tarfile.USTAR_FORMAT else "deep/a"
    facts = json.dumps({"conversations": TALK}).encode()
    write_tar(
        tmp_path / "x.tar", [(f"{long}.png", encoded(picture(3))), (f"{long}.json", facts)], format
    )
    (sample,), _ = rows_of(source("x.tar"))
    assert open_image(sample.images[0], tmp_path, 10_000).tobytes() == picture(3).tobytes()


@pytest.mark.parametrize(
    "path", ["shards", "shards/pool-{000..002}.tar", "shards/pool-{000,001,002}.tar"]
)
def test_shards_follow_one_another(tmp_path, rows_of, path):
    for shard in range(3):
        write_tar(tmp_path / "shards" / f"pool-{shard:03d}.tar", members(shard * 4, 4))
    samples, rejects = rows_of(source(path))
    assert rejects == [] and [s.own_id for s in samples] == [str(n) for n in range(12)]
    assert samples[5].meta == {"style": "plain"}
    root = image_root(source(path), locate(source(path), tmp_path))
    assert root == tmp_path / "shards"
    for n in (11, 0, 5):
        assert check_image(samples[n].images[0], root, 10_000) is None
        assert open_image(samples[n].images[0], root, 10_000).tobytes() == picture(n).tobytes()
    assert fingerprint(source(path), locate(source(path), tmp_path))["files"] == 3


def test_unreadable_archives(tmp_path, rows_of):
    whole = write_tar(tmp_path / "a.tar", members(0, 4)).read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:2500])
    with pytest.raises(EmtError, match=r"archive cannot be read after '0000\d"):
        rows_of(source("a.tar"))
    (tmp_path / "b.tar").write_bytes(b"no archive at all" * 100)
    with pytest.raises(EmtError, match="archive cannot be read"):
        rows_of(source("b.tar"))
    with tarfile.open(tmp_path / "c.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x.txt"))
    with pytest.raises(EmtError, match="compressed"):
        rows_of(source("c.tar"))
    with pytest.raises(EmtError, match="2 of 3 archives are missing"):
        rows_of(source("{a,x,y}.tar"))
    (tmp_path / "none").mkdir()
    with pytest.raises(EmtError, match=r"no \.tar file"):
        rows_of(source("none"))


def test_a_reference_into_a_changed_archive_is_a_reject(tmp_path, rows_of):
    write_tar(tmp_path / "a.tar", members(0, 2))
    samples, _ = rows_of(source("a.tar"))
    ref = samples[1].images[0]
    write_tar(tmp_path / "a.tar", [("other.txt", b"x" * 4000), *members(0, 2)])
    assert check_image(ref, tmp_path, 10_000)[0] in ("missing_image", "undecodable_image")
    assert (
        check_image(ImageRef(kind="tar", path="gone.tar", member="x", index=512), tmp_path, 10)[0]
        == "missing_image"
    )


def test_braces():
    assert expand_braces("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert expand_braces("{x,y}/{0..1}") == ["x/0", "x/1", "y/0", "y/1"]
    with pytest.raises(EmtError, match="more than"):
        expand_braces("{0..99999999}")


def add_link(tar: tarfile.TarFile, name: str, to: str, kind: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = to
    tar.addfile(info)


def test_every_image_format_that_is_read_by_its_suffix(tmp_path, rows_of):
    kinds = {
        "bmp": "BMP",
        "GIF": "GIF",
        "tif": "TIFF",
        "jfif": "JPEG",
        "avif": "AVIF",
        "ppm": "PPM",
        "jp2": "JPEG2000",
    }
    content = []
    for n, (suffix, kind) in enumerate(kinds.items()):
        content += [(f"{n}.{suffix}", encoded(picture(n), kind)), (f"{n}.txt", b"a cup")]
    unread = [f"{n}.{suffix}" for n, suffix in enumerate(["heic", "svg", "eps", "jxl"], 50)]
    for name in unread:
        content += [(name, b"x"), (name[:3] + "txt", b"a cup")]
    content += [("90.cls", b"3"), ("90.txt", b"words"), ("91.mp4", b"x"), ("91.txt", b"a film")]
    write_tar(tmp_path / "a.tar", content)
    samples, rejects = rows_of(source("a.tar"))
    assert [len(s.images) for s in samples] == [1] * len(kinds) + [0]
    assert all(check_image(s.images[0], tmp_path, 10_000) is None for s in samples[:-1])
    assert [r.reason for r in rejects] == ["undecodable_image"] * 4 + ["video_not_read"]
    assert all(name in r.detail for name, r in zip(unread, rejects, strict=False))


def test_archives_written_one_behind_another_are_read_to_the_end(tmp_path, rows_of):
    parts = [write_tar(tmp_path / "x" / f"{n}.tar", members(0, 2)).read_bytes() for n in range(3)]
    (tmp_path / "a.tar").write_bytes(b"".join(parts))
    samples, rejects = rows_of(source("a.tar"))
    assert rejects == [] and [s.own_id for s in samples] == ["0", "1"] * 3
    assert len({s.images[0].index for s in samples}) == 6
    assert all(check_image(s.images[0], tmp_path, 10_000) is None for s in samples)
    (tmp_path / "a.tar").write_bytes(parts[0] + parts[1][:2500])
    with pytest.raises(EmtError, match="cannot be read after '0000"):
        rows_of(source("a.tar"))
    (tmp_path / "a.tar").write_bytes(parts[0] + b"no archive" * 100)
    with pytest.raises(EmtError, match="cannot be read"):
        rows_of(source("a.tar"))


def test_links_lead_to_the_member_that_they_name(tmp_path, rows_of):
    write_tar(tmp_path / "a.tar", [("pics/0.png", encoded(picture(7))), ("b/1.txt", b"a cup")])
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        add_link(tar, "b/1.png", "pics/0.png", tarfile.LNKTYPE)
        for n, to in ((2, "../pics/0.png"), (3, "1.png"), (4, "../../gone.png"), (5, "5.png")):
            add_link(tar, f"b/{n}.png", to, tarfile.SYMTYPE)
            add_link(tar, f"b/{n}.txt", "1.txt", tarfile.SYMTYPE)
    samples, rejects = rows_of(source("a.tar"))
    assert [s.own_id for s in samples] == ["b/1", "b/2", "b/3"]
    for sample in samples:
        assert open_image(sample.images[0], tmp_path, 10_000).tobytes() == picture(7).tobytes()
    assert [(r.own_id, r.reason) for r in rejects] == [
        ("pics/0", "unreadable_row"),
        ("b/4", "missing_image"),
        ("b/5", "missing_image"),
    ]


def test_members_that_come_twice_or_apart_are_named(tmp_path, rows_of):
    one = encoded(picture(1))
    write_tar(tmp_path / "a.tar", [("0.png", one), ("0.txt", b"a"), ("0.png", one)])
    assert "two members '0.png'" in rows_of(source("a.tar"))[1][0].detail
    write_tar(
        tmp_path / "a.tar", [("0.png", one), ("1.png", one), ("0.txt", b"a"), ("1.txt", b"b")]
    )
    samples, rejects = rows_of(source("a.tar"))
    assert samples == [] and [r.reason for r in rejects[2:]] == ["members_apart"] * 2
    assert "tar --sort=name" in rejects[2].detail
    write_tar(tmp_path / "a.tar", [("0.txt", b"a"), ("1.txt", b"b"), ("0.png", one)])
    with pytest.raises(EmtError, match="members of '0' are not side by side"):
        rows_of(source("a.tar"))  # its text was taken for a row of its own


def test_keys_with_dots_and_hidden_copies(tmp_path, rows_of):
    talk = json.dumps({"conversations": TALK}).encode()
    content = [
        ("22.05.png", encoded(picture(1))),
        ("22.05.json", talk),
        ("22.10.png", encoded(picture(2))),
        ("22.10.json", talk),
        ("__MACOSX/._22.10.png", b"x"),
        (".ipynb_checkpoints/22.10.png", encoded(picture(3))),
        ("./23.0.png", encoded(picture(4))),
        ("./23.note.txt", b"of no image"),
    ]
    write_tar(tmp_path / "a.tar", content)
    write_tar(tmp_path / "._a.tar", content)
    samples, (reject,) = rows_of(source("."))
    assert [s.own_id for s in samples] == ["22.05", "22.10"]
    for n, sample in enumerate(samples, 1):
        assert open_image(sample.images[0], tmp_path, 10_000).tobytes() == picture(n).tobytes()
    assert "23.0.png, ./23.note.txt (a key ends at the first dot" in reject.detail


def test_null_fields_and_byte_order_marks_in_members(tmp_path, rows_of):
    mark = b"\xef\xbb\xbf"
    facts = {"conversations": None, "question": None, "messages": [], "caption": None}
    content = [
        ("0.png", encoded()),
        ("0.json", mark + json.dumps(facts).encode()),
        ("0.txt", mark + b"a cup"),
        ("1.json", json.dumps({"image": "x/1.jpg", "caption": "a dog"}).encode()),
        ("2.json", json.dumps({"video": "x.mp4", "caption": "a dog"}).encode()),
    ]
    write_tar(tmp_path / "a.tar", content)
    (sample,), rejects = rows_of(source("a.tar"))
    assert sample.turns[1].text == "a cup" and len(sample.images) == 1
    assert [r.reason for r in rejects] == ["missing_image", "video_not_read"]


def test_a_header_that_begins_like_an_end_marker_is_none(tmp_path, rows_of):
    whole = write_tar(tmp_path / "a.tar", members(0, 2)).read_bytes()
    (tmp_path / "a.tar").write_bytes(whole + b"\0" + whole[1:])
    with pytest.raises(EmtError, match="end marker is missing"):
        rows_of(source("a.tar"))
