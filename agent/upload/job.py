"""What the uploading child is asked to do. Pure; both sides of the pipe read this."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from agent.fetch.job import Credentials

LINES_LIMIT = 100_000
"""More than a ring of 16 MB holds: a line has some 200 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerJob:
    """A long answer, to be sent to an https URL: a text, or the last lines of a folder's log."""

    url: str
    credentials: Credentials
    text: str = ""
    folder: str | None = None
    lines: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return what goes through the pipe."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: bytes) -> "AnswerJob":
        """Return the job that came through the pipe."""
        fields = json.loads(raw)
        return cls(**{**fields, "credentials": Credentials(**fields["credentials"])})
