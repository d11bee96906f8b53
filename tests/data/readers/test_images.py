from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from source_files import encoded, picture, write_tar

from emt_core.data.images.check import check_batch
from emt_core.data.images.decode import (
    ImageProblem,
    check_image,
    image_bytes,
    image_size,
    open_image,
    open_images,
)
from emt_core.data.sample import ImageRef

BOUND = 100_000


def file_ref(path: str) -> ImageRef:
    return ImageRef(kind="file", path=path)


def put(tmp_path, content: bytes, name: str = "x.img") -> ImageRef:
    (tmp_path / name).write_bytes(content)
    return file_ref(name)


def problem_of(ref, root, bound=BOUND) -> str:
    with pytest.raises(ImageProblem) as caught:
        open_image(ref, root, bound)
    assert caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_formats(tmp_path, format):
    ref = put(tmp_path, encoded(picture(), format))
    image = open_image(ref, tmp_path, BOUND)
    assert image.mode == "RGB" and image.size == (24, 16) == image_size(ref, tmp_path, BOUND)
    assert np.abs(np.asarray(image, int) - np.asarray(picture(), int)).mean() < 12
    assert check_image(ref, tmp_path, BOUND) is None
    content, suffix = image_bytes(ref, tmp_path)
    assert content == (tmp_path / "x.img").read_bytes() and suffix == {"JPEG": ".jpg"}.get(
        format, f".{format.lower()}"
    )


def test_transparency_lies_on_white(tmp_path):
    for mode in ("RGBA", "LA", "P"):
        image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
        image.putpixel((0, 0), (10, 10, 10, 255))
        image = image.convert("RGBA").quantize(16) if mode == "P" else image.convert(mode)
        found = open_image(put(tmp_path, encoded(image)), tmp_path, BOUND)
        assert found.getpixel((3, 3)) == (255, 255, 255) and max(found.getpixel((0, 0))) <= 12, mode
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert (
        abs(open_image(put(tmp_path, encoded(half)), tmp_path, BOUND).getpixel((0, 0))[0] - 127)
        <= 1
    )


def test_exif_orientation_is_applied(tmp_path):
    image = picture(size=(24, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees
    ref = put(tmp_path, encoded(image, "PNG", exif=exif))
    assert (
        open_image(ref, tmp_path, BOUND).tobytes()
        == image.transpose(Image.Transpose.ROTATE_270).tobytes()
    )


def test_other_modes(tmp_path):
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = open_image(put(tmp_path, encoded(cmyk, "JPEG")), tmp_path, BOUND).getpixel((4, 4))
    assert red[0] > 200 and max(red[1:]) < 60
    gray16 = Image.fromarray(np.full((4, 4), 0x8000, np.uint16))
    assert open_image(put(tmp_path, encoded(gray16)), tmp_path, BOUND).getpixel((0, 0)) == (
        128,
        128,
        128,
    )
    assert (
        open_image(put(tmp_path, encoded(Image.new("1", (4, 4), 1))), tmp_path, BOUND).getpixel(
            (0, 0)
        )
        == (255,) * 3
    )
    frames = [picture(1), picture(2)]
    ref = put(
        tmp_path, encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    )
    assert (
        open_image(ref, tmp_path, BOUND).tobytes() == frames[0].tobytes()
    )  # an animation's first frame
    floats = Image.fromarray(np.zeros((4, 4), np.float32))
    assert problem_of(put(tmp_path, encoded(floats, "TIFF")), tmp_path) == "undecodable_image"


def test_broken_images(tmp_path):
    whole = encoded(picture(size=(200, 200)), "JPEG")
    cut = put(tmp_path, whole[: len(whole) // 2])
    assert problem_of(cut, tmp_path) == "undecodable_image"
    assert (
        check_image(cut, tmp_path, BOUND) is None
    )  # the header is fine: what the check cannot see, embedding does
    for content in (b"", b"GIF89a", b"<svg/>", b"%!PS-Adobe\n", b"\x89PNG\r\n\x1a\n" + b"x" * 50):
        ref = put(tmp_path, content)
        assert problem_of(ref, tmp_path) == "undecodable_image"
        assert check_image(ref, tmp_path, BOUND)[0] == "undecodable_image"


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [400, 12_000, 60_000, 2**30])
def test_a_pixel_bomb_is_told_by_its_header_in_any_thread(tmp_path, side):
    ref = put(tmp_path, png_claiming(side, side))
    bound = Image.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: check_image(ref, tmp_path, BOUND), range(8)))
    assert {reason for reason, _ in found} == {"pixel_bomb"}
    assert problem_of(ref, tmp_path) == "pixel_bomb"
    assert bound == Image.MAX_IMAGE_PIXELS  # Pillow's own guard is left as it was


def test_the_bound_is_what_the_source_says(tmp_path):
    ref = put(tmp_path, encoded(picture(size=(100, 100))))
    assert (
        check_image(ref, tmp_path, 10_000) is None
        and check_image(ref, tmp_path, 9_999)[0] == "pixel_bomb"
    )


def test_places(tmp_path):
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    for folder in (outside, root / "sub"):
        folder.mkdir(parents=True)
    (outside / "secret.png").write_bytes(encoded())
    for path in (
        "../outside/secret.png",
        "sub/../../outside/secret.png",
        str(outside / "secret.png"),
        "",
        "..",
        "a\0b",
    ):
        assert check_image(file_ref(path), root, BOUND)[0] == "bad_path", path
    assert check_image(file_ref("gone.png"), root, BOUND)[0] == "missing_image"
    assert check_image(file_ref("sub"), root, BOUND)[0] == "missing_image"
    assert check_image(file_ref("x" * 300), root, BOUND)[0] == "missing_image"
    os.mkfifo(root / "pipe.png")
    assert check_image(file_ref("pipe.png"), root, BOUND) == (
        "missing_image",
        "pipe.png: not a regular file",
    )
    (root / "linked").symlink_to(outside)  # a link was made by the disk's owner, not by the data
    assert check_image(file_ref("linked/secret.png"), root, BOUND) is None


def test_many_at_once_keep_their_order_and_their_problems(tmp_path):
    names = [f"{n}.png" for n in range(6)]
    write_tar(tmp_path / "a.tar", {name: encoded(picture(n)) for n, name in enumerate(names)})
    import tarfile

    with tarfile.open(tmp_path / "a.tar") as tar:
        offsets = [member.offset_data for member in tar]
    refs = [
        ImageRef(kind="tar", path="a.tar", member=n, index=at)
        for n, at in zip(names, offsets, strict=True)
    ]
    refs = [*reversed(refs), file_ref("gone.png")]
    found = open_images(refs, tmp_path, BOUND)
    assert [image.tobytes() for image in found[:6]] == [
        picture(n).tobytes() for n in (5, 4, 3, 2, 1, 0)
    ]
    assert isinstance(found[6], ImageProblem) and found[6].reason == "missing_image"
    assert (
        check_batch([(refs[0], refs[6]), (refs[0],), ()], tmp_path, BOUND)[0][0] == "missing_image"
    )


def test_handles_are_bounded_and_notice_a_new_file(tmp_path):
    from emt_core.data.images import handles as image_handles

    for n in range(80):
        write_tar(tmp_path / f"{n}.tar", {"a.png": encoded(picture(n))})
    before = len(list(Path("/proc/self/fd").iterdir()))
    for n in range(80):
        ref = ImageRef(kind="tar", path=f"{n}.tar", member="a.png", index=512)
        assert open_image(ref, tmp_path, BOUND).tobytes() == picture(n).tobytes()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + image_handles.KEPT["TarHandle"]
    write_tar(tmp_path / "79.tar", {"a.png": encoded(picture(7))})
    assert open_image(ref, tmp_path, BOUND).tobytes() == picture(7).tobytes()


def test_threads_share_no_handle(tmp_path):
    contents = {f"{n}.png": encoded(picture(n, (200, 150))) for n in range(40)}
    write_tar(tmp_path / "a.tar", contents)
    import tarfile

    with tarfile.open(tmp_path / "a.tar") as tar:
        refs = [ImageRef(kind="tar", path="a.tar", member=m.name, index=m.offset_data) for m in tar]
    wrong: list[int] = []

    def work(start: int) -> None:
        for n in [*range(start, 40), *range(start)]:
            if open_image(refs[n], tmp_path, BOUND).tobytes() != picture(n, (200, 150)).tobytes():
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 40, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@settings(max_examples=150, deadline=None)
@given(
    place=st.integers(0, 400),
    junk=st.binary(min_size=1, max_size=8),
    format=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP"]),
)
def test_damaged_bytes_are_an_image_or_a_named_problem(place, junk, format):
    """No decoder's exception escapes, whatever a file holds."""
    from emt_core.data.images.decode import decode_image

    content = bytearray(encoded(picture(), format))
    content[place : place + len(junk)] = junk
    try:
        assert decode_image(io.BytesIO(bytes(content)), BOUND).mode == "RGB"
    except ImageProblem as problem:
        assert problem.reason in ("undecodable_image", "pixel_bomb")


def test_workers_die_with_a_killed_parent():
    """kill -9 of the stage must not leave worker processes behind."""
    code = (
        "from concurrent.futures import ProcessPoolExecutor; import multiprocessing, os, time\n"
        "from emt_core.workspace.process import live_and_die_with_parent\n"
        "if __name__ == '__main__':\n"
        "    spawn = multiprocessing.get_context('spawn')\n"
        "    pool = ProcessPoolExecutor(2, mp_context=spawn, initializer=live_and_die_with_parent)\n"
        "    [pool.submit(time.sleep, 0.2) for _ in range(4)]\n"
        "    print(*{pool.submit(os.getpid).result() for _ in range(20)}, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        workers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert workers and all(worker.is_running() for worker in workers)
        parent.kill()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []


def test_a_pointer_in_place_of_a_picture_is_told(tmp_path):
    (tmp_path / "a.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "c.png").write_text("<html>sign in</html>")
    for name, said in (("a.png", "git lfs pull"), ("b.png", "empty"), ("c.png", "web page")):
        reason, detail = check_image(ImageRef(kind="file", path=name), tmp_path, 10_000)
        assert reason == "undecodable_image" and said in detail
