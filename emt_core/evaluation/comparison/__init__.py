"""Evaluated runs beside each other: an experiment's arms and seeds, paired tests, and the paper's figures."""
