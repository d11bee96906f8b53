"""Verbs of the command line that are not stages; cli.py registers them."""
