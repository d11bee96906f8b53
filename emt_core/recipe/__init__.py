"""What a recipe may say: one file for each part, read into frozen models."""
