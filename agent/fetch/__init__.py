"""Fetching a bundle in a child: `python -P -m agent.fetch`. Importing this loads nothing."""
