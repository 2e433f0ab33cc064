"""By which id a rollout is followed through all logs: a trace of W3C Trace Context. Pure."""

import re
from dataclasses import dataclass

from agent.wire.v1.checks import check_trace

_HEADER = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<id>(?!0{32})[0-9a-f]{32})"
    r"-(?P<parent>(?!0{16})[0-9a-f]{16})-[0-9a-f]{2}(?P<more>-.{0,256})?"
)
_PARENT = re.compile(r"[0-9a-f]{16}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The trace a rollout belongs to. `parent` is the span that asked for it; empty: none did."""

    id: str
    parent: str = ""

    def __post_init__(self) -> None:
        check_trace(self.id)
        if self.parent and not _PARENT.match(self.parent):
            raise ValueError(f"not a span's id: {self.parent[:80]!r} (16 of 0-9 and a-f)")


def of_header(traceparent: str) -> Trace | None:
    """Return the trace that a `traceparent` header names.

    None: it names none that can be read. As the specification has it, that is no error of
    the request: the rollout gets a trace of its own.
    """
    found = _HEADER.fullmatch(traceparent.strip())
    if found is None or (found["version"] == "00" and found["more"]):
        return None
    return Trace(id=found["id"], parent=found["parent"])
