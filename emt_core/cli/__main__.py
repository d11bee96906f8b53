"""`python -m emt_core.cli` is the command `emt`."""

from emt_core.cli.main import entry

if __name__ == "__main__":  # a worker process imports this file once more
    entry()
