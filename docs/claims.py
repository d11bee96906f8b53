"""Check the figures of README against the pages that measured them; write docs/claims.md.

    python docs/claims.py             # writes docs/claims.md from docs/claims.yaml
    python docs/claims.py --check     # says what is wrong, writes nothing

docs/claims.yaml names, for each line of README with a number in it, the command that measured it
and the page that holds the result. A figure that the page does not hold, a date that it does not
name and a line of README without a claim are mistakes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
LEDGER = ROOT / "docs" / "claims.md"
NUMBER = re.compile(r"(?<![\w.,])-?\d[\d,:]*(?:\.\d+)?")


def claims() -> list[dict[str, Any]]:
    return yaml.safe_load((ROOT / "docs" / "claims.yaml").read_text(encoding="utf-8"))


def lines_with_numbers(markdown: str) -> dict[str, list[str]]:
    """Line of prose or of a table -> its numbers. Code, links, names of versions and a table's
    column of goals do not count."""
    found: dict[str, list[str]] = {}
    goal = None
    text = re.sub(r"^```.*?^```", "", markdown, flags=re.M | re.S)
    for line in text.splitlines():
        if line.startswith("    "):
            continue
        cells = line.split("|")
        if len(cells) < 3:
            goal = None
        elif " goal " in cells:
            goal = cells.index(" goal ")
        kept = "|".join(cell for at, cell in enumerate(cells) if at != goal)
        if numbers := NUMBER.findall(_without_names(kept)):
            found[line] = [number.rstrip(",:") for number in numbers]
    return found


def _without_names(line: str) -> str:
    line = re.sub(r"`[^`]*`|!\[[^\]]*\]\([^)]*\)|\]\([^)]*\)", "", line)
    return re.sub(r"arXiv [\d.]+|Apache-2\.0", "", line)


def mistakes(readme: str) -> list[str]:
    """What is wrong between README, the list of claims and the pages of results."""
    rows = lines_with_numbers(readme)
    known = claims()
    wrong = []
    for claim in known:
        lines = [line for line in readme.splitlines() if line.startswith(claim["line"])]
        if len(lines) != 1:
            wrong.append(f"{claim['line']!r}: {len(lines)} lines of README begin so")
            continue
        wrong += [f"{lines[0]!r}: {problem}" for problem in _wrong_with(claim, lines[0])]
    for line, numbers in rows.items():
        own = [claim for claim in known if line.startswith(claim["line"])]
        told = " ".join(word for claim in own for word in words_of(claim))
        held = NUMBER.findall(told)
        lacking = [number for number in numbers if number not in held]
        if lacking:
            wrong.append(f"{line!r}: docs/claims.yaml says nothing of {', '.join(lacking)}")
    return wrong


def words_of(claim: dict[str, Any]) -> list[str]:
    return [*claim.get("figures", []), *claim.get("given", [])]


def _wrong_with(claim: dict[str, Any], line: str) -> list[str]:
    wrong = [f"{word} is not in it" for word in words_of(claim) if word not in line]
    if not claim.get("figures"):
        return wrong
    page = (ROOT / claim["result"]).read_text(encoding="utf-8")
    written = claim.get("as", {})
    for figure in claim["figures"]:
        if not _holds(page, written.get(figure, figure)):
            wrong.append(f"{claim['result']} has no {written.get(figure, figure)}")
    if not any(day in page for day in _spellings(claim["date"])):
        wrong.append(f"{claim['result']} does not name the date {claim['date']}")
    return wrong


def _holds(page: str, figure: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(figure)}(?!\.?\d)", page) is not None


def _spellings(date: Any) -> tuple[str, str]:
    return date.isoformat(), f"{date.day} {date:%B} {date.year}"


def ledger() -> str:
    """docs/claims.md: a table for each command, then the numbers that were not measured."""
    text = (
        "# Claims of README\n\n"
        "Written by `python docs/claims.py` from `docs/claims.yaml`.\n"
        "A test compares it with README and with the pages of results,\n"
        "and fails where a number of README has no line here.\n"
    )
    measured = [claim for claim in claims() if claim.get("figures")]
    for source in dict.fromkeys(map(_source, measured)):
        text += _heading(*source) + _table(
            ("README", "measured", "holds for"),
            (
                (_cell(claim["line"]), ", ".join(claim["figures"]), claim["scope"])
                for claim in measured
                if _source(claim) == source
            ),
        )
    return f"{text}\n## Numbers that were not measured\n\n" + _table(
        ("README", "number", "what it is"),
        (
            (_cell(claim["line"]), ", ".join(claim["given"]), claim["scope"])
            for claim in claims()
            if not claim.get("figures")
        ),
    )


def _source(claim: dict[str, Any]) -> tuple[str, str, str]:
    return claim["command"], claim["date"].isoformat(), claim["result"]


def _heading(command: str, date: str, result: str) -> str:
    link = result.removeprefix("docs/") if result.startswith("docs/") else f"../{result}"
    return f"\n## `{command}`\n{date}, in full: [{Path(result).stem}]({link})\n\n"


def _table(titles: tuple[str, str, str], rows: Iterable[tuple[str, str, str]]) -> str:
    lines = [titles, ("---",) * 3, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.strip("| ").replace("|", "/").replace("`", "")


def main(arguments: list[str]) -> int:
    wrong = mistakes((ROOT / "README.md").read_text(encoding="utf-8"))
    for problem in wrong:
        print(problem, file=sys.stderr)
    if "--check" not in arguments and not wrong:
        LEDGER.write_text(ledger(), encoding="utf-8")
        print(LEDGER.relative_to(ROOT))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
