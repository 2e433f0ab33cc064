"""Topics: `skerry/v1/{fleet}/{device}/{kind}`. Pure.

A device subscribes to literal topics; only the centre uses wildcards. The
device level is the certificate's common name, which the broker checks (`%u`).
"""

from dataclasses import dataclass
from enum import StrEnum

from agent.wire.v1.checks import check_device, check_fleet

ROOT = "skerry/v1"


class Kind(StrEnum):
    """The last level of a topic."""

    DESIRED = "desired"
    SITE_DESIRED = "site-desired"
    REPORTED = "reported"
    SITE_REPORTED = "site-reported"
    PRESENCE = "presence"
    HEALTH = "health"
    EVENT = "event"
    ACKED = "acked"
    COMMAND = "command"
    RESULT = "result"


DEVICE_READS = (Kind.DESIRED, Kind.ACKED, Kind.SITE_DESIRED, Kind.COMMAND)
DEVICE_WRITES = (
    Kind.REPORTED,
    Kind.SITE_REPORTED,
    Kind.PRESENCE,
    Kind.HEALTH,
    Kind.EVENT,
    Kind.RESULT,
)
SIGNED = frozenset({Kind.DESIRED, Kind.SITE_DESIRED, Kind.COMMAND})
"""Kinds that travel in a DSSE envelope, because a device obeys them."""

RETAINED = frozenset(
    {Kind.DESIRED, Kind.SITE_DESIRED, Kind.REPORTED, Kind.SITE_REPORTED, Kind.PRESENCE, Kind.ACKED}
)


@dataclass(frozen=True, slots=True)
class Topic:
    """One device's topic of one kind."""

    fleet: str
    device: str
    kind: Kind

    def __post_init__(self) -> None:
        check_fleet(self.fleet)
        check_device(self.device)

    def __str__(self) -> str:
        return f"{ROOT}/{self.fleet}/{self.device}/{self.kind}"

    @classmethod
    def parse(cls, text: str) -> "Topic":
        """Return the topic written in `text`.

        Raises:
            ValueError: it is none of ours.
        """
        levels = text.split("/")
        if len(levels) != 5 or "/".join(levels[:2]) != ROOT:  # noqa: PLR2004  # as in `__str__`
            raise ValueError(f"not a topic of ours: {text[:200]!r}")
        return cls(levels[2], levels[3], Kind(levels[4]))


def every_device(fleet: str, kind: Kind) -> str:
    """Return the centre's subscription to one kind of every device of a fleet."""
    check_fleet(fleet)
    return f"{ROOT}/{fleet}/+/{kind}"


def marker(fleet: str) -> str:
    """Return the topic of the centre's retained marker; missing, the broker has lost its memory."""
    check_fleet(fleet)
    return f"{ROOT}/{fleet}/centre/marker"
