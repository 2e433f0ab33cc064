"""The centre: what should run where, and whether it does. Importing this loads nothing."""
