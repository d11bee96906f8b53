"""Closed-loop benchmarks: base.py and one file a benchmark; seeds.py says which layouts are whose."""
