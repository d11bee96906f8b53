"""What the Overview page alone uses."""
