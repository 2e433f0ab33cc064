"""Errors of the models room, sorted by what the caller may do about them.

Every error carries a reason code (`agent.wire.reasons` gives each its sentence
and next step) and a message that says what happened to what. The message never
repeats its cause; `raise … from` keeps the chain.
"""


class ModelError(Exception):
    """Something about a model, card or bundle is wrong; `reason` says which kind."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RefusedError(ModelError):
    """The input is wrong as it is: asking again with the same bytes gives the same answer."""


class CorruptError(ModelError):
    """Bytes are not the bytes their digest names: delete them and fetch again."""


class TransientError(ModelError):
    """The world was not ready (network, disk, time): try again later."""
