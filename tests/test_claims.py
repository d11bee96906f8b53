"""Every number of README was measured: docs/claims.yaml says by which command, and where."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
from places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    spec = importlib.util.spec_from_file_location("claims", ROOT / "docs" / "claims.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_says_what_the_results_say(claims: ModuleType):
    assert claims.mistakes(README) == []


def test_the_ledger_is_what_the_script_writes(claims: ModuleType):
    assert claims.LEDGER.read_text(encoding="utf-8") == claims.ledger(), "python docs/claims.py"


def test_a_figure_that_changed_is_noticed(claims: ModuleType):
    assert "0.064 s" in README
    wrong = claims.mistakes(README.replace("0.064 s", "0.051 s"))
    assert any("0.064 s is not in it" in line for line in wrong)
    assert any("says nothing of 0.051" in line for line in wrong)


@pytest.mark.parametrize("line", ["It is 3.1 times faster.", "| scoring 5M | 1 s | 0.4 s |"])
def test_a_claim_without_a_command_is_noticed(claims: ModuleType, line: str):
    (wrong,) = claims.mistakes(f"{README}\n{line}\n")
    assert line in wrong


def test_a_figure_that_no_page_of_results_holds_is_noticed(
    claims: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    known = claims.claims()
    claim = next(claim for claim in known if "0.064 s" in claim.get("figures", []))
    claim["as"] = {"0.064 s": "0.0641 s"}
    monkeypatch.setattr(claims, "claims", lambda: known)
    (wrong,) = claims.mistakes(README)
    assert "speed/results/selection.md has no 0.0641 s" in wrong


def test_a_tables_goals_are_no_claims(claims: ModuleType):
    table = "| what | goal | measured |\n|---|---|---|\n| x | 5 s | 2 s |"
    assert list(claims.lines_with_numbers(table).values()) == [["2"]]
