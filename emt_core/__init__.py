"""EmbodiedMidtrain: find, select and study mid-training data for vision-language-action models (arXiv 2604.20012)."""

__version__ = "0.1.0"
