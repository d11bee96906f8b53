"""What the Select page alone uses."""
