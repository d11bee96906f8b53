"""Demonstrations recorded from a simulator's experts: tasks, camera, recorder."""
