"""What the Sources page alone uses."""
