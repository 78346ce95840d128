"""Out of core and distributed: an expression cut into tiles, planned within a memory budget, done as tasks."""
