"""How often the rules are right: `python -m emt_core.category.evaluate --file FILE --split held`."""

from __future__ import annotations
