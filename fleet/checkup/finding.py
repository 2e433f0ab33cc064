"""What a check found. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How bad a finding is; only `wrong` makes a doctor's exit code 1."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found. Where all is not well: `why`, and the `hint` what to do next."""

    check: str
    verdict: Verdict
    what: str
    why: str = ""
    hint: str = ""

    def __post_init__(self) -> None:
        if self.verdict in {Verdict.WARNING, Verdict.WRONG} and not (self.why and self.hint):
            raise ValueError(f"{self.check}: {self.what!r} has no cause or no next step")


def ok(check: str, what: str) -> Finding:
    """Return that all is well."""
    return Finding(check=check, verdict=Verdict.OK, what=what)


def not_tried(check: str, what: str) -> Finding:
    """Return that a check had nothing to look at."""
    return Finding(check=check, verdict=Verdict.NOT_TRIED, what=what)


def warning(check: str, what: str, why: str, hint: str) -> Finding:
    """Return what will be wrong if nobody does anything."""
    return Finding(check=check, verdict=Verdict.WARNING, what=what, why=why, hint=hint)


def wrong(check: str, what: str, why: str, hint: str) -> Finding:
    """Return what is wrong."""
    return Finding(check=check, verdict=Verdict.WRONG, what=what, why=why, hint=hint)
