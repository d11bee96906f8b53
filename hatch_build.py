"""Build hook of hatchling: copies what lies beside the package in a checkout into the wheel, as emt_core/shipped/."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHIPPED = (".streamlit/config.toml", "app.py", "assets", "examples", "pages", "recipes")
"""Files and folders of the checkout that emt_core/recipe/shipped.py finds in an installed wheel."""


class ShippedFiles(BuildHookInterface):
    """Adds SHIPPED to a wheel, not to an editable installation: that one reads the checkout itself."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """version: "standard" or "editable"."""
        if version == "standard":
            build_data["force_include"] |= {name: f"emt_core/shipped/{name}" for name in SHIPPED}
