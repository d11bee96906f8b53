"""One browser for all tests; minutes per group (a folder, or a file directly under tests/) at the
end of a run."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import pytest

# Two processes share two cores, and tests start processes of their own: without it, each would
# start a thread per core for every small product.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# the tests start dozens of processes that import the same libraries: where the environment forbids
# bytecode beside the
# sources, each would compile them anew, half of the CPU time of a short run
if sys.dont_write_bytecode:
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    sys.dont_write_bytecode = False
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Off-screen GL (Mesa's LLVM) loaded before triton's LLVM crashes the process when torch imports
# triton.
# The product renders in processes of its own (evaluation/recording/recorder.py); tests render here.
with suppress(ImportError):
    import triton  # noqa: F401

SPENT: dict[str, float] = defaultdict(float)
COUNT: dict[str, int] = defaultdict(int)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    parts = Path(report.nodeid.split("::")[0]).parts
    group = parts[1] if len(parts) > 1 else parts[0]
    SPENT[group] += report.duration
    COUNT[group] += report.when == "call"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("minutes per group")
    for group, seconds in sorted(SPENT.items(), key=lambda item: -item[1]):
        terminalreporter.write_line(f"{seconds / 60:6.2f} min  {COUNT[group]:4d} tests  {group}")
    terminalreporter.write_line(f"{sum(SPENT.values()) / 60:6.2f} min  in all")


@pytest.fixture(scope="session")
def browser():
    """One for the whole run: playwright allows no second one while the first is open."""
    from app_world import ARGUMENTS, CHROMIUM

    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()
