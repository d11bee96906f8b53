"""Probes: what frozen features tell of robot data."""
