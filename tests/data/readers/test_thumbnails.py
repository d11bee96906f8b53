from __future__ import annotations

import io
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from PIL import Image
from source_files import encoded, lerobot_folder, picture

from emt_core.data.images import thumbnails
from emt_core.data.images.thumbnails import evict, placeholder, stored_thumbnail, thumbnail
from emt_core.data.index import SourceRange
from emt_core.data.sample import ImageRef
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.table import Table


def source(root, **facts) -> SourceRange:
    facts = {"root": str(root), "max_pixels": 50_000_000} | facts
    return SourceRange(name="web", role="pool", start=0, stop=1, facts=facts)


def cached(space) -> list:
    return sorted((space.path / "cache" / "thumbs").glob("*/*"))


def test_made_once_bounded_in_size_and_renewed_when_the_image_changes(tmp_path, monkeypatch):
    space = Workspace.open(tmp_path / "ws", create=True)
    (tmp_path / "a.jpg").write_bytes(encoded(picture(1, (1200, 800)), "JPEG"))
    ref = ImageRef(kind="file", path="a.jpg")
    first = thumbnail(space, source(tmp_path), ref)
    image = Image.open(io.BytesIO(first))
    assert image.format == "WEBP" and image.size == (160, 107)
    assert len(cached(space)) == 1
    monkeypatch.setattr(thumbnails, "open_image", lambda *_, **__: 1 / 0)
    assert thumbnail(space, source(tmp_path), ref) == first  # from the cache
    monkeypatch.undo()
    assert Image.open(io.BytesIO(thumbnail(space, source(tmp_path), ref, 64))).size == (64, 43)
    (tmp_path / "a.jpg").write_bytes(encoded(picture(2, (800, 1200)), "JPEG"))
    assert Image.open(io.BytesIO(thumbnail(space, source(tmp_path), ref))).size == (107, 160)


def test_what_cannot_be_shown_is_a_placeholder_and_not_cached(tmp_path):
    space = Workspace.open(tmp_path / "ws", create=True)
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "big.png").write_bytes(encoded(picture(1, (100, 100))))
    for path in ("gone.png", "bad.png", "../x.png", "a\0b"):
        assert thumbnail(space, source(tmp_path), ImageRef(kind="file", path=path)) == placeholder()
    bound = source(tmp_path, max_pixels=50)
    assert thumbnail(space, bound, ImageRef(kind="file", path="big.png")) == placeholder()
    assert thumbnail(space, bound, ImageRef(kind="stream", path="x")) == placeholder()
    assert cached(space) == [] and Image.open(io.BytesIO(placeholder(80))).size == (80, 80)


def test_video_frames_from_several_threads_at_once(tmp_path):
    space = Workspace.open(tmp_path / "ws", create=True)
    root = lerobot_folder(tmp_path / "set")
    video = next(root.glob("videos/*/*/*.mp4")).relative_to(root).as_posix()
    refs = [ImageRef(kind="video", path=video, time=n / 10) for n in range(36)] * 2
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda ref: thumbnail(space, source(root), ref), refs))
    assert found[:36] == found[36:] and len(set(found)) == 36 == len(cached(space))
    for n in (0, 13, 35):  # red tells the episode, green the frame
        red, green, _ = Image.open(io.BytesIO(found[n])).convert("RGB").getpixel((20, 10))
        assert abs(red - 20 - 60 * (n // 12)) < 12 and abs(green - 10 * (n % 12)) < 12


def test_the_cache_is_bounded_and_keeps_what_was_asked_for_last(tmp_path, monkeypatch):
    space = Workspace.open(tmp_path / "ws", create=True)
    for n in range(20):
        (tmp_path / f"{n}.png").write_bytes(encoded(picture(n)))
        thumbnail(space, source(tmp_path), ImageRef(kind="file", path=f"{n}.png"))
    files = cached(space)
    old = time.time() - 10_000
    for path in files:
        os.utime(path, (old, old))
    recent = thumbnail(space, source(tmp_path), ImageRef(kind="file", path="3.png"))
    total = sum(path.stat().st_size for path in files)
    folder = space.path / "cache" / "thumbs"
    assert evict(folder, total) == 0
    dropped = evict(folder, total // 2)
    left = cached(space)
    assert dropped == 20 - len(left) > 0 and sum(path.stat().st_size for path in left) <= total // 2
    assert recent in [path.read_bytes() for path in left]
    monkeypatch.setattr(thumbnails, "EVICT_EVERY", 1)
    monkeypatch.setattr(thumbnails.evict, "__defaults__", (0,))
    (tmp_path / "new.png").write_bytes(encoded(picture(99)))
    thumbnail(space, source(tmp_path), ImageRef(kind="file", path="new.png"))
    assert cached(space) == []  # writing looks after the bound by itself


def test_a_stream_shows_what_embedding_stored(tmp_path):
    table = Table(tmp_path / "embed" / "data" / "thumbs.lance")
    table.append(
        pa.table({"row": pa.array([4, 9], pa.int64()), "webp": pa.array([b"four", b"nine"])})
    )
    embed = Artifact(tmp_path / "embed")
    assert stored_thumbnail(embed, 9) == b"nine" and stored_thumbnail(embed, 5) is None
    space = Workspace.open(tmp_path / "ws", create=True)
    ref = ImageRef(kind="stream", path="hub/name")
    assert thumbnail(space, source("hub/name"), ref, embed=embed, row=4) == b"four"
    assert thumbnail(space, source("hub/name"), ref, embed=embed, row=5) == placeholder()
