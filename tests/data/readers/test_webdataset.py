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
