"""What people look at, made from finished artifacts. It only reads: nothing is trained or written into an artifact."""
