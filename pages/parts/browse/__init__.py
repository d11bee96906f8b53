"""What the Browse page alone uses."""
