"""What `emt run` and `emt status` end with: every row of the pool stands under one of its names."""

from __future__ import annotations

import json
import re

from small_world import small_world

from emt_core.cli.__main__ import main


def counts(line: str) -> dict[str, int]:
    """{"below_cut": 995, ...} of `left out: below_cut 995, ...`."""
    return {name: int(n.replace(",", "")) for name, n in re.findall(r"(\w+) ([\d,]*\d)\b", line)}


def test_run_and_status_end_with_rows_read_selected_and_left_out(tmp_path, capsys):
    world = small_world(tmp_path, pool_rows=48, episodes=4)
    file = world / "web" / "web.json"
    rows = json.loads(file.read_text())
    rows[20]["image"] = "[gone].png"
    rows[21]["conversations"].pop()
    file.write_text(json.dumps(rows))
    broken = world / "web" / "images" / "0022.png"
    broken.write_bytes(broken.read_bytes()[:200])  # its head is right: only embed finds out
    recipe = str(world / "recipe.yaml")
    workspace = str(tmp_path / "[w]")
    assert main(["run", recipe, "-w", workspace, "--set", "select.top.k=9"]) == 0
    said = capsys.readouterr().out
    assert "sources: 78 of 80 rows read (46 pool, 32 robot)" in said
    assert "  rejected: missing_image 1, no_answer 1 (" in said
    assert "[w]" in said and "rejects.jsonl" in said
    assert "embed: 77 rows have features; without: undecodable_image 1" in said
    ends = said[said.index("select.top: ") :].splitlines()
    assert ends[0] == "select.top: 9 of 44 eligible rows selected (20.5 %)"
    assert counts(ends[1]) == {"below_cut": 35} and "eligible, but left out" in ends[1]
    assert counts(ends[2]) == {"text_only": 1, "undecodable_image": 1}
    assert main(["status", "-w", workspace]) == 0
    again = capsys.readouterr().out
    assert again[again.index("sources: 78") :] == said[said.index("sources: 78") :]


def test_an_interrupted_flow_ends_with_what_is_there(tmp_path, capsys):
    world = small_world(tmp_path, pool_rows=16, episodes=3)
    recipe = str(world / "recipe.yaml")
    assert main(["run", recipe, "-w", str(tmp_path / "w"), "--until", "sources"]) == 0
    assert main(["status", recipe, "-w", str(tmp_path / "w")]) == 0
    said = capsys.readouterr().out
    assert said.count("sources: 40 of 40 rows read (16 pool, 24 robot)\n") == 2
    assert "selected (" not in said and "rejected" not in said
