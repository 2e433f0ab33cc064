"""Rollouts decided: who gets what and when, wave by wave, gate by gate. Pure throughout."""
