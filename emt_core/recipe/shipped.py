"""Files that come with the product: the app, recipes, the demo's assets.

In a checkout they lie beside the package, in an installed wheel inside it (hatch_build.py):

    <checkout>/{app.py, .streamlit/, pages/, recipes/, assets/, examples/, emt_core/}
    <site-packages>/emt_core/shipped/{the same without emt_core/}

Nothing is ever written there: results go into a workspace, exports and reports where asked.
"""

from __future__ import annotations

from pathlib import Path

from emt_core.errors import EmtError

PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE / "shipped" if (PACKAGE / "shipped").is_dir() else PACKAGE.parent
"""The folder that holds app.py, pages/, recipes/ and assets/."""


def shipped(name: str) -> Path:
    """The path of a shipped file or folder, such as `app.py`.

    Raises EmtError where the installation lacks it.
    """
    path = ROOT / name
    if not path.exists():
        raise EmtError(
            f"{name} does not come with this installation",
            where=path,
            remedy="install the wheel, or run from a checkout (make setup)",
        )
    return path
