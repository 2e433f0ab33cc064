"""Rollouts simulated: the planner as it is, against devices that walk the wire's phase table."""
