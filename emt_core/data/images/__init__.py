"""Image references: where an image lies, decoding it within bounds, checking it, thumbnails."""
