"""The examples of docs/formats.md are read as the page says."""

from __future__ import annotations

import re

import pytest
from places import ROOT
from source_files import picture, save_pictures

from emt_core.data.images.decode import open_image
from emt_core.data.readers import image_root, locate
from emt_core.recipe.sources import LlavaSource

PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
LAYOUTS = PAGE[PAGE.index("## Layouts of rows") : PAGE.index("## Layouts of files")]
BLOCKS = re.findall(r"^```json(.*)\n((?:.*\n)*?)```$", LAYOUTS, re.M)


def test_the_page_has_an_example_of_each_layout():
    assert len(BLOCKS) == LAYOUTS.count("```") // 2 == 6


@pytest.mark.parametrize(("options", "rows"), BLOCKS)
def test_an_example_of_the_page_is_read_with_its_image(tmp_path, rows_of, options, rows):
    save_pictures(tmp_path, ["0.png"])
    (tmp_path / "rows.json").write_text(rows)
    named = dict(option.split("=") for option in options.split())
    source = LlavaSource(format="llava", name="web", role="pool", path="rows.json", **named)
    samples, rejects = rows_of(source)
    assert rejects == [] and len(samples) == len(re.findall("^{", rows, re.M))
    for sample in samples:
        (ref,) = sample.images
        found = open_image(ref, image_root(source, locate(source, tmp_path)), 10_000)
        assert found.tobytes() == picture(0).tobytes()
        assert "What is it?" in sample.turns[-2].text and sample.turns[-1].text == "A box."


def test_the_example_of_a_file_that_leads_to_files(tmp_path, rows_of):
    (meta,) = re.findall(r"`({\"own\".*?}})`", LAYOUTS)
    save_pictures(tmp_path / "images", ["0.png"])
    (tmp_path / "rows.json").write_text(BLOCKS[0][1])
    (tmp_path / "meta.json").write_text(meta)
    source = LlavaSource(format="llava", name="web", role="pool", path="meta.json")
    (sample,), rejects = rows_of(source)
    assert rejects == [] and sample.images[0].path == "images/0.png"
