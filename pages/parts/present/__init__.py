"""What the Present page alone uses."""
