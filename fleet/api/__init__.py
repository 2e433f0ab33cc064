"""The centre over HTTP: joining, the registry, and what operators and their tools ask for.

`app.create` makes the application out of `parts.Parts`; `listener` serves it
over TLS and says which device is at the other end; `bounds` holds every body to
its size and time; `openapi` writes the reference.
"""
