"""What people add while they look: flags, notes, saved views."""
