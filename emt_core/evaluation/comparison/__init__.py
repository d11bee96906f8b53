"""Evaluated runs beside each other: arms and seeds, paired tests, and the paper's figures."""
