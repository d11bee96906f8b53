"""Where the checkout lies that the tests run in."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The folder that holds app.py, pages/, emt_core/ and tests/."""
