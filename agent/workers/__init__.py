"""Worker processes: one model in each, its inputs and answers through shared memory. Importing this loads nothing."""
