"""The 2-D map of features: PCA, then UMAP, PaCMAP or t-SNE fitted on a seeded sample."""
