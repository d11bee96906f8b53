"""Nearness of pool samples to the robot data: measures, their figures, and audits of them.

measures/      one file a kind (random, distance, knn, linear, mlp, gradient, dsir, clip, imported)
perplexity/    the kinds that ask a VLM: perplexity and delta_perplexity
metrics/       ranking, calibration, rank agreement, diversity and MMD, as functions of arrays
map/           the 2-D map of the features
trust/         audits of one score, one file a question
base.py        what a measure is given and what it gives: start here
split.py       train / validation / test, by whole robot episodes
stream.py      one pass over the feature store, block by block
"""
