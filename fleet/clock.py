"""The centre's only look at the wall clock, and how times are written.

Deciding modules take `now` as an argument; adapters and the rim get it here.
"""

from datetime import UTC, datetime


def now() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)  # noqa: TID251  # the one place that may


def written(moment: datetime) -> str:
    """Return a time as RFC 3339 in UTC, to the second: sorts as text, fits the wire."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
