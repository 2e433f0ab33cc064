"""Serving: who answers for which deployment, over the Open Inference Protocol. Loads nothing."""
