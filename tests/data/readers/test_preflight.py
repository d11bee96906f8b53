from __future__ import annotations

import subprocess
import sys

from PIL import Image
from rich.console import Console
from source_files import encoded, lerobot_folder, llava_row, picture, save_pictures, write_json

from emt_core.data.preflight import preflight, render
from emt_core.errors import EmtError
from emt_core.recipe.sources import SourcesConfig


def config(*sources) -> SourcesConfig:
    return SourcesConfig(sources=sources)


WEB = {"name": "web", "role": "pool", "format": "llava", "path": "web.json", "max_pixels": 10_000}
ARM = {
    "name": "arm",
    "role": "robot",
    "format": "lerobot",
    "path": "set",
    "camera": "observation.images.front",
}


def write(tmp_path) -> None:
    save_pictures(tmp_path, ["a.png"])
    (tmp_path / "b.png").write_bytes(encoded(picture(1, (60, 50))))
    (tmp_path / "bomb.png").write_bytes(encoded(picture(1, (200, 200))))
    rows = [
        llava_row("a.png"),
        llava_row(["a.png", "b.png"], turns=6),
        llava_row(None),
        *[llava_row("[red]gone.png")] * 5,
        llava_row("bomb.png"),
    ]
    write_json(tmp_path / "web.json", rows)
    lerobot_folder(tmp_path / "set")


def test_reports_what_the_stage_would_find(tmp_path):
    write(tmp_path)
    web, arm = preflight(config(WEB, ARM), tmp_path, thumbnails=tmp_path / "sheets")
    assert (web.seen, web.kept, web.text_only, web.multi_image, web.images, web.turns_most) == (
        9,
        3,
        1,
        1,
        3,
        6,
    )
    assert web.rejects == {"missing_image": 5, "pixel_bomb": 1} and web.complete
    assert len(web.examples["missing_image"]) == 3 and web.examples["pixel_bomb"][0].startswith(
        "row 8: bomb.png"
    )
    assert (web.smallest, web.largest) == ((24, 16), (60, 50))
    assert (arm.kept, arm.episodes, arm.rejects, arm.largest) == (24, 3, {}, (48, 32))
    assert Image.open(web.sheet).size == (160, 160)  # two rows show the same picture
    assert Image.open(arm.sheet).size == (160 * 3, 160)  # one frame an episode


def test_limit_and_a_source_that_cannot_be_read(tmp_path):
    write(tmp_path)
    web, gone, arm = preflight(
        config(WEB, {**WEB, "name": "gone", "path": "no.json"}, ARM), tmp_path, limit=2
    )
    assert (web.seen, web.complete) == (2, False) and arm.seen == 2
    assert "no such file" in gone.error and gone.seen == 0  # the others are read all the same
    (full,) = preflight(config(WEB), tmp_path, limit=9)
    assert full.complete


def test_rendered_text_from_data_is_no_markup(tmp_path):
    write(tmp_path)
    console = Console(width=200, force_terminal=False)
    with console.capture() as capture:
        console.print(
            render(preflight(config(WEB, {**WEB, "name": "gone", "path": "no.json"}), tmp_path))
        )
    text = capture.get()
    assert "web: 5 x missing_image" in text and "row 3: [red]gone.png" in text
    assert "no such file" in text and "9" in text and "6 (66.7%)" in text


def test_no_model_library_is_loaded(tmp_path):
    write(tmp_path)
    config = {"sources": [WEB, ARM]}
    code = (
        "import sys, pathlib\n"
        "from emt_core.data.preflight import preflight\n"
        "from emt_core.recipe.sources import SourcesConfig\n"
        f"web, arm = preflight(SourcesConfig.model_validate({config!r}), pathlib.Path({str(tmp_path)!r}))\n"
        "assert web.kept == 3 and arm.kept == 24\n"
        "assert not {'torch', 'lance', 'transformers', 'datasets', 'streamlit'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def rendered(report) -> str:
    console = Console(width=400, force_terminal=False)
    with console.capture() as capture:
        console.print(render(report))
    return capture.get()


def test_control_characters_of_data_never_reach_the_terminal(tmp_path):
    names = ["\x1b[31mred\x1b[2J\x07.png", "a.png\r\nfake: line", "\u202egnp.a", "\x9b2J.png"]
    rows = [llava_row(name, id=name) for name in names]
    rows += [llava_row(None) | {"conversations": [{"from": "\x1b[2J", "value": "x"}]}]
    write_json(tmp_path / "web.json", [*rows, llava_row(None)])
    text = rendered(preflight(config(WEB), tmp_path))
    assert "\\x1b[31mred" in text and "a.png\\r\\nfake" in text
    assert all(char == "\n" or char.isprintable() for char in text)
    said = EmtError("no \x1b[2J", where="a\rb", remedy="\u2028").message()
    assert all(char == "\n" or char.isprintable() for char in said)


def test_missing_images_are_shown_with_the_path_tried_and_the_option(tmp_path):
    write_json(tmp_path / "data" / "web.json", [llava_row("a\\0.png"), llava_row("/x/1.png")])
    web = {**WEB, "path": "data/web.json", "image_root": "../pics"}
    text = rendered(preflight(config(web), tmp_path))
    root = tmp_path / "data" / ".." / "pics"
    assert f"tried {root}/a/0.png" in text
    assert f"image paths are taken from {root}; `image_root: FOLDER` says otherwise" in text
    write_json(tmp_path / "data" / "web.json", [llava_row("/x/1.png")])
    text = rendered(preflight(config(web), tmp_path))
    assert "'/x/1.png' leaves" in text and "`image_root" in text and "tried" not in text
