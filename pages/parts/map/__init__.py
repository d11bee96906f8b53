"""What the Map page alone uses."""
