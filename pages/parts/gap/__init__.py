"""What the Gap page alone uses."""
