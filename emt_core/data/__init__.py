"""Pool and robot data as they lie on disk: rows, images, episodes, readers of every format."""
