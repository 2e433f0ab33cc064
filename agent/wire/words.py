"""Times and amounts as people read them, at the centre and before the device. Pure."""

from datetime import datetime


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


def latency(seconds: float | None) -> str:
    """Return a latency: `0.31 ms`, `11.6 ms`, `1.25 s`; nothing where none was measured."""
    if seconds is None:
        return ""
    return _three(seconds * 1000, "ms") if seconds < 0.9995 else _three(seconds, "s")  # noqa: PLR2004  # what would read 1000 ms


def compared(compared: int, agreed: int, wanted: int) -> str:
    """Return how far a comparison is: `37 of 100 compared, 36 agreed`."""
    return f"{compared} of {wanted} compared, {agreed} agreed"


def size(number: int) -> str:
    """Return a number of bytes as people read it: 6.6 MB."""
    if number < 1000:  # noqa: PLR2004  # bytes in a kB
        return f"{number} B"
    amount = number / 1000
    for unit in ("kB", "MB", "GB"):
        if amount < 999.95:  # noqa: PLR2004  # what would be written as 1000.0
            return f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def _three(number: float, unit: str) -> str:
    """Return a number with three digits that count, or two decimals where it is small."""
    decimals = 0 if number >= 99.95 else 1 if number >= 9.995 else 2  # noqa: PLR2004  # as rounded
    return f"{number:.{decimals}f} {unit}"
