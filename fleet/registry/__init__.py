"""The bundle registry: the pull half of the OCI distribution API over an image layout, and publishing into it."""
