from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emt_core.data.index import SCHEMA, from_record, to_record
from emt_core.data.paths import PathLeavesRoot, relative_path
from emt_core.data.readers.conversation import (
    PLACEHOLDER,
    RowProblem,
    build_sample,
    encodable,
    parse_turns,
    placeholders,
    plain_meta,
    settle_turns,
)
from emt_core.data.sample import ImageRef

texts = st.text(st.characters(exclude_categories=()), max_size=30).map(
    lambda text: text.replace(PLACEHOLDER, "")
)
spoken = st.text("abc é日", min_size=1, max_size=20).filter(lambda text: bool(text.strip()))


@st.composite
def conversations(draw):
    pairs = draw(st.lists(st.tuples(texts, spoken), min_size=1, max_size=6))
    turns = [
        {"from": who, "value": text}
        for pair in pairs
        for who, text in zip(("human", "gpt"), pair, strict=True)
    ]
    if draw(st.booleans()):
        turns.insert(0, {"role": "system", "content": draw(texts)})
    return turns


@settings(deadline=None)
@given(raw=conversations(), images=st.integers(0, 4))
def test_placeholders_match_images_and_the_record_round_trips(raw, images):
    """Whatever the text, a settled sample has one placeholder an image and comes back from the
    index unchanged."""
    import pyarrow as pa

    refs = [ImageRef(kind="file", path=f"{n}.png", position=n) for n in range(images)]
    sample = build_sample(
        source="s",
        row=3,
        role="pool",
        turns=parse_turns(raw),
        images=refs,
        missing="lead",
        own_id=5,
        meta={"a": 1.5},
    )
    assert placeholders(sample.turns) == images
    stored = pa.Table.from_pylist([to_record(sample)], schema=SCHEMA).to_pylist()[0]
    assert from_record(stored) == sample
    if images:
        with pytest.raises(RowProblem, match="image_count_mismatch"):
            settle_turns(parse_turns(raw), images=images, role="pool", missing="reject")


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=())))
def test_any_text_can_be_stored(text):
    clean = encodable(text)
    assert clean.encode().decode() == clean
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert clean == text


@settings(deadline=None)
@given(path=st.text(st.sampled_from("a./\\\0~"), max_size=12))
def test_no_path_leaves_its_root(path):
    root = "/data/set"
    try:
        found = relative_path(path, Path(root))
    except PathLeavesRoot:
        return
    assert os.path.normpath(f"{root}/{found}").startswith(root + "/")


def test_every_speaker_of_the_field():
    names = ["system", "Human", "GPT", "user", "assistant", "human", "model", "user", "bot"]
    turns = parse_turns([{"from": name, "value": "x"} for name in names])
    assert [t.role for t in turns] == ["system", *["user", "assistant"] * 4]
    for name in ("function", "observation", "tool", None, 3, ""):
        with pytest.raises(RowProblem, match="unknown_role"):
            parse_turns([{"from": name, "value": "x"}])


def test_meta_is_small_and_plain():
    values = {
        "a": 1,
        "b": "x" * 1000,
        "c": float("nan"),
        "d": [1],
        "meta": {"e": True, "f": None},
        "g": {"h": "i"},
    }
    assert plain_meta(values) == {"a": 1, "d": "[1]", "e": True, "g.h": "i"}
    assert len(plain_meta({str(n): n for n in range(100)})) == 32
