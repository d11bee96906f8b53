"""Rollouts of a policy: episodes, simulator workers, results by checkpoint, serving a policy."""
