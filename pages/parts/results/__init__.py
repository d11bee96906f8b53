"""What the Results page alone uses."""
