"""The bundle registry: pulling by the OCI distribution API, and publishing into it."""
