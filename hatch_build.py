"""Build hook of hatchling: copies the product's files beside the package into its wheel.

In a checkout they stay at the top level, in the wheel they lie in emt_core/shipped/.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHIPPED = (".streamlit/config.toml", "app.py", "assets", "examples", "pages", "recipes")
"""Files and folders of the checkout that emt_core/recipe/shipped.py finds in an installed wheel."""


class ShippedFiles(BuildHookInterface):
    """Adds SHIPPED to a wheel. An editable installation reads the checkout instead."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """version: "standard" or "editable"."""
        if version == "standard":
            build_data["force_include"] |= {name: f"emt_core/shipped/{name}" for name in SHIPPED}
