"""The 2-D map: PCA, a fit on a seeded sample (one file a method), other rows beside their nearest fitted rows."""
