"""The time by the device's clock. Durations are loop time.

What is decided by this one is only what people mean by it: a file's age, a window in the week.
"""

from datetime import UTC, datetime


def now() -> datetime:
    """Return the time by the device's clock."""
    return datetime.now(UTC)  # noqa: TID251  # the one place of the agent that reads the wall clock


def clock() -> str:
    """Return the time by the device's clock, as documents carry it."""
    return now().strftime("%Y-%m-%dT%H:%M:%SZ")
