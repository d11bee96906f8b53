"""A log that a kill cut short goes on without losing a line, and a text's own line ends cut
nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emt_core.workspace.lines import whole_lines


@pytest.mark.parametrize(
    "cut", ['{"n": 3', '{"n": 3}', '{"n": 3}\n{"n"', "\x00\x00\x00", 'nonsense\n{"n": 4}\n']
)
def test_what_is_appended_behind_a_cut_line_is_found(tmp_path: Path, cut: str):
    log = tmp_path / "log.jsonl"
    assert whole_lines(log) == []
    texts = ["one\u2028two\x85three", "\u00e4"]
    log.write_text(
        "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts) + cut
    )
    kept = whole_lines(log)
    assert [entry.get("text") for entry in kept[:2]] == texts and len(kept) == 2 + cut.startswith(
        '{"n": 3}\n'
    )
    with log.open("a") as file:
        file.write('{"n": 5}\n')
    assert whole_lines(log) == [*kept, {"n": 5}]
