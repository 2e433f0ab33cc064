"""Before which of its windows a candidate waits, by its phase and its reason. Pure."""

from agent.wire.phases import Phase
from agent.wire.reasons import Reason

_CLOSED = {
    Phase.ACCEPTED: Reason.DOWNLOAD_WINDOW_CLOSED,
    Phase.TESTING: Reason.MAINTENANCE_WINDOW_CLOSED,
    Phase.ACTIVATING: Reason.MAINTENANCE_WINDOW_CLOSED,
}


def waits_for_window(phase: Phase | None, reason: str | None) -> bool:
    """Tell whether it goes on by itself when a window opens.

    Before a window that is open, a reason is one of before: it has begun.
    """
    return phase is not None and reason is not None and _CLOSED.get(phase) == reason
