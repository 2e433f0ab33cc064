"""Where a page of a list begins, as text that callers give back and need not understand. Pure."""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from agent.wire.reasons import Reason
from fleet.rollouts.errors import PlanError


def cursor(place: Sequence[str | int]) -> str:
    """Return as text what a list is ordered by, of one of its rows."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def place(given: str, kinds: Sequence[type], *, of: str) -> list[Any]:
    """Return the place that a cursor says, whose parts are of these kinds.

    Raises:
        PlanError: MALFORMED: it was not given here; `of` names the parameter.
    """
    try:
        raw = json.loads(base64.urlsafe_b64decode(given + "=" * (-len(given) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raw = None
    if not isinstance(raw, list) or [type(each) for each in raw] != list(kinds):
        raise PlanError(Reason.MALFORMED, f"{of}: it is no cursor that was given here")
    return raw
