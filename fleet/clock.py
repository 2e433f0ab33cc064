"""The centre's only look at the wall clock, and how times and spans are written.

Deciding modules take `now` as an argument; adapters and the rim get it here.
"""

from datetime import UTC, datetime


def now() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)  # noqa: TID251  # the one place that may


def written(moment: datetime) -> str:
    """Return a time as RFC 3339 in UTC, to the second: sorts as text, fits the wire."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(seconds: float) -> str:
    """Return a time span in the largest unit, and the next one while it says something."""
    whole = max(int(seconds), 0)
    for length, unit, smaller, below in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 0, ""),
    ):
        if whole >= length:
            count, rest = divmod(whole, length)
            more = rest // smaller if smaller and count < 10 else 0  # noqa: PLR2004  # `12 d` is enough
            return f"{count} {unit} {more} {below}" if more else f"{count} {unit}"
    return f"{whole} s"


def age(since: str | None, now: str) -> str:
    """Return how long ago a time was, by the clock that says it is `now`: `8 min`, `3 d 4 h`."""
    if since is None:
        return "never"
    return span((datetime.fromisoformat(now) - datetime.fromisoformat(since)).total_seconds())
