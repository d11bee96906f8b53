"""Pool and robot data as they lie on disk: rows, images, episodes and the readers of every format."""
