"""Closed-loop benchmarks: base.py and one file for each benchmark."""
