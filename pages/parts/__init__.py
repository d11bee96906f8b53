"""What several pages share, and a folder for the parts of each page."""
