"""Proximity measures, one file for each kind."""
