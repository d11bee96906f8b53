"""Perplexities of a VLM that was briefly tuned on robot actions as text (method section 5)."""
