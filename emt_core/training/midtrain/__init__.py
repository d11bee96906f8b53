"""Mid-training of a VLM on a selection (method section 8)."""
