"""One stage, one file, run in the order of flow.py; the contract is in run/stage.py."""
