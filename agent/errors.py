"""Errors of the agent's own: a step that did not succeed, and what a person is told.

Every one carries a reason code. Whether a failed step is tried again or ends
its candidate is decided by `agent.plan.outcome`, not where it is raised.
"""

from collections.abc import Mapping


class StepError(Exception):
    """A step of a deployment did not succeed; nothing that serves was changed by it."""

    def __init__(
        self, reason: str, message: str, parameters: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.parameters = dict(parameters or {})


class PersonError(Exception):
    """What a person is told: what happened, why (with its code), what next; and the exit code.

    The code is one of the wire's reasons, or one that only concerns this machine.
    """

    def __init__(self, what: str, reason: str, why: str, hint: str, *, code: int) -> None:
        super().__init__(what)
        self.what, self.reason, self.why, self.hint, self.code = what, reason, why, hint, code

    def lines(self) -> str:
        """Return the three lines."""
        return f"{self.what}\n{self.reason}: {self.why}\n{self.hint}\n"
