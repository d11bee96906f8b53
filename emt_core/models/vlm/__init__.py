"""The one place that feeds a VLM: load (model, processor), chat (prompts), batch (padding)."""
