"""Fetching a bundle, in a child of its own: `python -P -m agent.fetch`. Importing this loads nothing."""
