"""What can be wrong with an identity, sorted by what the caller may do about it."""

from agent.wire.reasons import Reason


class JoinRefusedError(Exception):
    """A device may not join like this; `reason` says why and `next_step` what to do."""

    def __init__(self, reason: Reason, message: str, next_step: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.next_step = next_step


class TrustExistsError(Exception):
    """There are keys here already, and devices may trust them: they are never overwritten."""


class TrustMissingError(Exception):
    """A home has no keys, or not all of them."""
