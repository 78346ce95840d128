"""The command: what it is told, what it does, and what it shows."""
