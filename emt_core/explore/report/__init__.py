"""The report for collaborators: which blocks it has, how each is made, and the HTML file."""
