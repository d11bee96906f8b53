"""What lies on disk in a workspace: artifacts, tables, locks, progress, jobs."""
