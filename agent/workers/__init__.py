"""Worker processes: one model in each, bodies through shared memory. Importing it loads nothing."""
