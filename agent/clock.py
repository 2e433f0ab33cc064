"""The time for people. Nothing is decided by it: durations are loop time."""

from datetime import UTC, datetime


def clock() -> str:
    """Return the time by the device's clock, as documents carry it."""
    now = datetime.now(UTC)  # noqa: TID251  # the one place of the agent that reads the wall clock
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
