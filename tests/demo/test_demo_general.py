"""The general pool's generators: same bytes for the same seed, true answers, and a wall between the
splits."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from demo import words
from demo.drawing import COLORS, fonts_available
from demo.general import FAMILIES, draw, general_samples
from demo.layout_questions import CLEAR, Placed, relations
from demo.phrasing import QUESTIONS, article, plural, point
from demo.sample import EMBODIED_KINDS, DemoSample
from emt_core.evaluation.recording.tasks import IMAGE_SIZE

pytestmark = pytest.mark.skipif(
    not fonts_available(), reason="drawing needs the Debian fonts of docs/tiny_vlm.md"
)

POINT = re.compile(r"\((\d\.\d\d), (\d\.\d\d)\)")


def images_of(
    family: str, count: int, split: str = "train", seed: int = 5
) -> list[list[DemoSample]]:
    return [draw(family, seed, i, split) for i in range(count)]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_depends_on_its_seed_and_index_only(family: str) -> None:
    later_first = [draw(family, 3, i) for i in (4, 2)]
    again = [draw(family, 3, i) for i in (2, 4)]
    assert later_first[0][0].image.tobytes() == again[1][0].image.tobytes()
    assert [(s.question, s.answer, s.meta) for s in later_first[1]] == [
        (s.question, s.answer, s.meta) for s in again[0]
    ]
    assert draw(family, 4, 2)[0].image.tobytes() != again[0][0].image.tobytes()
    assert draw(family, 3, 2, "heldout")[0].image.tobytes() != again[0][0].image.tobytes()


def test_drawing_is_the_same_in_every_process() -> None:
    script = (
        "from demo.general import FAMILIES, draw; from hashlib import sha256; print(sha256(repr("
        "[(s.image.tobytes(), s.turns, s.meta) for f in FAMILIES for i in range(10 if f != 'scenes' else 300)"
        " for s in draw(f, 3, i)]"
        ").encode()).hexdigest())"
    )
    seeds = ({"PYTHONHASHSEED": seed} for seed in ("1", "3", "5"))
    found = [
        subprocess.run([sys.executable, "-c", script], env=os.environ | s, capture_output=True)
        for s in seeds
    ]
    assert found[0].stdout and len({run.stdout for run in found}) == 1, found[0].stderr.decode()


@pytest.mark.parametrize("family", FAMILIES)
def test_images_are_small_rgb_and_keys_unique(family: str) -> None:
    groups, sizes = images_of(family, 25), []
    for group in groups:
        image = group[0].image
        assert image.size == (IMAGE_SIZE, IMAGE_SIZE) and image.mode == "RGB"
        assert len({s.image_key for s in group}) == 1 and all(s.image is image for s in group)
        assert all(
            (s.kind in EMBODIED_KINDS) == (s.content == "embodied") and s.style == "plain"
            for s in group
        )
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=80)
        sizes.append(buffer.tell())
    assert len({g[0].image_key for g in groups}) == len(groups)
    assert np.mean(sizes) < 4000


def test_points_are_on_the_shape_they_name() -> None:
    checked = 0
    for group in images_of("scenes", 60):
        pixels = np.asarray(group[0].image)
        for s in (s for s in group if s.kind == "point"):
            x, y = (float(v) for v in POINT.fullmatch(s.answer).groups())
            assert abs(x - s.meta["x"]) <= 0.005 + 1e-9 and abs(y - s.meta["y"]) <= 0.005 + 1e-9
            hue = s.meta["target"].split()[0]
            here = pixels[int(s.meta["y"] * IMAGE_SIZE), int(s.meta["x"] * IMAGE_SIZE)].astype(int)
            assert np.abs(here - np.asarray(COLORS[hue])).max() <= 13, s.meta
            checked += 1
    assert checked > 40


def test_points_are_on_the_ink_of_the_glyph() -> None:
    from demo.emoji import CONCEPTS, _paste

    key = (255, 0, 255)
    for i, name in enumerate(list(CONCEPTS)[::6]):
        canvas = Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), key)
        placed = _paste(np.random.default_rng(i), canvas, name, (56, 56), 34)
        ink = np.any(np.asarray(canvas) != key, axis=-1)
        assert ink[int(placed.y * IMAGE_SIZE), int(placed.x * IMAGE_SIZE)], name
        rows, cols = np.nonzero(ink)
        assert (
            np.hypot(cols.mean() - placed.x * IMAGE_SIZE, rows.mean() - placed.y * IMAGE_SIZE) < 14
        ), name


@pytest.mark.parametrize("family", ["things", "scenes"])
def test_left_right_above_below_are_true(family: str) -> None:
    checked = 0
    question = re.compile(
        r"(?:Is the (?P<a>.+?) (?:to the )?(?P<side>left of|right of|above|below) the (?P<b>.+)\?"
        r"|Does the (?P<a2>.+) lie (?P<side2>higher|lower) in the image than the (?P<b2>.+)\?)"
    )
    for group in images_of(family, 60):
        marks = {label: (x, y) for label, x, y in group[0].meta["marks"]}
        for s in group:
            match = question.fullmatch(s.question) if s.kind == "spatial" else None
            if match is None:
                continue
            a, b = marks[match["a"] or match["a2"]], marks[match["b"] or match["b2"]]
            side = match["side"] or match["side2"]
            gap = {
                "left": b[0] - a[0],
                "right": a[0] - b[0],
                "above": b[1] - a[1],
                "higher": b[1] - a[1],
            }.get(side.split()[0], a[1] - b[1])
            assert abs(gap) >= CLEAR - 1e-3
            assert s.answer == ("yes" if gap > 0 else "no"), (s.question, marks)
            checked += 1
    assert checked > 15


def test_no_question_is_asked_about_objects_too_close_to_tell() -> None:
    near = [Placed(name="cup", x=0.50, y=0.50), Placed(name="dog", x=0.52, y=0.53)]
    asked = relations(np.random.default_rng(0), near, 20)
    assert all(m["form"] == "what_at" for _, _, m in asked) and asked


def test_counts_match_what_was_drawn() -> None:
    for family in ("things", "scenes"):
        for group in images_of(family, 40):
            labels = [label for label, _, _ in group[0].meta["marks"]]
            for s in (s for s in group if s.kind == "count"):
                of = s.meta["of"]
                if family == "things":
                    want = len(labels) if of == "all" else labels.count(of)
                else:
                    want = (
                        len(labels) if of == "all" else sum(of in label.split() for label in labels)
                    )
                assert s.answer == str(want), (s.question, labels)


def test_strings_of_the_two_splits_never_meet() -> None:
    seen: dict[str, set[str]] = {"train": set(), "heldout": set()}
    for split in ("train", "heldout"):
        for family in ("documents", "charts"):
            for group in images_of(family, 80, split):
                for s in group:
                    if s.kind == "read" and " " not in s.answer:
                        seen[split].add(s.answer)
                    if s.meta.get("chart") == "table" and s.meta.get("form") == "value":
                        seen[split].add(s.answer)
    assert len(seen["train"]) > 60 and len(seen["heldout"]) > 60
    assert all(words.is_heldout(t) for t in seen["heldout"]) and not any(
        words.is_heldout(t) for t in seen["train"]
    )
    assert not seen["train"] & seen["heldout"]


def test_about_a_tenth_of_all_strings_is_held_out() -> None:
    rng = np.random.default_rng(0)
    random = ["".join(chr(65 + int(c)) for c in rng.integers(26, size=5)) for _ in range(4000)]
    assert 0.08 < np.mean([words.is_heldout(t) for t in random]) < 0.13
    assert words.is_heldout(" port ") == words.is_heldout("PORT")


def test_characters_lie_where_the_marks_say() -> None:
    for group in images_of("documents", 30):
        s = group[0]
        pixels = np.asarray(s.image).astype(int)
        for character, x, y in s.meta["marks"]:
            assert 0 < x < 1 and 0 < y < 1
            row, col = int(y * IMAGE_SIZE), int(x * IMAGE_SIZE)
            patch = pixels[max(0, row - 7) : row + 8, max(0, col - 6) : col + 7]
            assert patch.max(axis=(0, 1)).sum() - patch.min(axis=(0, 1)).sum() > 90, (
                s.meta["shown"],
                character,
            )


def test_every_kind_has_six_phrasings() -> None:
    kinds = {
        "caption": ["caption"],
        "count": ["count_one", "count_all"],
        "colour": ["colour_of", "colour_background"],
        "point": ["point"],
        "spatial": [k for k in QUESTIONS if k.startswith(("is_", "what_", "relation", "which_"))],
        "read": ["read", "read_title", "read_author", "read_number", "read_line"],
        "chart": [k for k in QUESTIONS if k.startswith("chart_")],
    }
    assert sum(len(v) for v in kinds.values()) == len(QUESTIONS)
    for kind, intents in kinds.items():
        assert len({q for i in intents for q in QUESTIONS[i]}) >= 6, kind


def test_conversations_keep_one_content_and_every_turn() -> None:
    single = list(general_samples(seed=9, images=12))
    joined = list(general_samples(seed=9, images=12, multi_turn=1.0))
    assert sorted(t for s in joined for t in s.turns) == sorted(
        (s.question, s.answer) for s in single
    )
    assert any(len(s.turns) > 1 for s in joined)


def test_english() -> None:
    assert [article("apple"), article("unicorn"), article("jeans"), article("french fries")] == [
        "an apple",
        "a unicorn",
        "a pair of jeans",
        "some french fries",
    ]
    assert [
        plural(n) for n in ("cherries", "maple leaf", "fox", "toothbrush", "butterfly", "cheese")
    ] == [
        "cherries",
        "maple leaves",
        "foxes",
        "toothbrushes",
        "butterflies",
        "pieces of cheese",
    ]
    assert point(0.4249, 1.2) == "(0.42, 1.00)"
