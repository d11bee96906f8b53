"""From a recipe to artifacts: plan, runner, jobs, status, edits of recipe files."""
