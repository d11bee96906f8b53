"""Benchmarks in a closed loop, recording, questions with known answers, comparison of runs."""
