"""The main job shown on real models, real processes and a real broker. Nothing leaves this machine.

Every step is the command a person would type, run as its own process; every
figure printed is measured in the run, and a claim that fails ends the demo
with its name. No other room imports this one.
"""
