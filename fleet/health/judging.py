"""A device's verdict, kept until something changes it. Pure.

What was last heard changes it; and time alone changes one thing, that a device has been silent for
too long. So a fleet of which little is new is judged again by looking at two times a device.
"""

from dataclasses import dataclass
from datetime import datetime

from fleet.health.heard import Heard
from fleet.health.states import Verdict, silent_limit_s, verdict


@dataclass(frozen=True, slots=True)
class Held:
    """One device with its verdict. It is silent after `quiet_at`, seconds since 1970."""

    heard: Heard
    told: Verdict
    quiet_at: float
    quiet: bool


def held(heard: Heard, now: datetime, before: Held | None) -> Held:
    """Return a device with its verdict of now: the very one of before, where that still is it."""
    moment = now.timestamp()
    if before is not None and before.heard is heard and (moment > before.quiet_at) is before.quiet:
        return before
    since = datetime.fromisoformat(heard.at or heard.joined_at).timestamp()
    quiet_at = since + silent_limit_s(heard)
    return Held(heard, verdict(heard, now), quiet_at, moment > quiet_at)
