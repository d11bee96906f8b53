"""Perplexity of a sample under the VLM, before and after tuning it on robot data with actions as text."""
