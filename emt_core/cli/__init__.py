"""The command line: one verb, one file; main.py registers them, options.py holds what they share."""
