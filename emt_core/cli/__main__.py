"""`python -m emt_core.cli` is the command `emt`."""

from emt_core.cli.main import entry

entry()
