"""The command line: one verb, one file; __main__.py registers them, options.py holds what they
share."""
