"""The story for collaborators: which figures, which words; as a page of the app and as one HTML file."""
