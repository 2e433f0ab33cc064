"""What an alert is about: one cause, however many devices show it. Values only. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """How soon a person must look; the worst first."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Scope(StrEnum):
    """What devices with the same trouble have in common: there the cause is looked for."""

    FLEET = "fleet"
    CENTRE = "centre"
    SITE = "site"
    BUNDLE = "bundle"
    REASON = "reason"
    ROLLOUT = "rollout"


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Which cause: two looks that find the same key find the same one."""

    rule: str
    scope: Scope
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A cause as one look finds it.

    `devices` show it, `of` so many could; 0: it isn't about devices. `places`: at so many places
    of the scope `part` it was found at once that it is taken for one cause; 0: it is one by itself.
    `names` are of the first few devices. `reason` with its parameters is the code that most of
    them have.
    """

    key: Key
    since: str
    devices: int = 0
    of: int = 0
    places: int = 0
    part: Scope | None = None
    names: tuple[str, ...] = ()
    reason: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
