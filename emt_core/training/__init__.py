"""Training of a VLM on a selection (method section 8), and what mid-training and fine-tuning share.

schedule      learning rate and random state as functions of the step: nothing to save
steps_log     steps.jsonl, the curves
checkpoints   atomic, checked, resumable state
optimizer     AdamW and which parameters decay
"""
