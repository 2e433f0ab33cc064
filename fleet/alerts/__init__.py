"""Alerts decided: what is wrong now, one a cause, and what becomes of each. Pure throughout."""
