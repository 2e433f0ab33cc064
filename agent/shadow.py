"""Whether a candidate answers live requests as the incumbent does. Pure.

The candidate gets copies of requests that the incumbent has answered, and nobody
sees its answers; only counts come out of it. It is through as soon as enough were
compared and agreed, and out as soon as so many differ that it can't get through.
"""

import math
from collections.abc import Mapping

from agent.state import Compared
from agent.wire import v1
from agent.wire.reasons import Reason
from agent.wire.words import size
from models.card import Card


def ends(asked: v1.ShadowSettings, seen: Compared) -> bool:
    """Tell whether going on is no use: it is known, or the two can't be compared."""
    return verdict(asked, seen) is not None or seen.apart >= asked.requests


def verdict(asked: v1.ShadowSettings, seen: Compared) -> bool | None:
    """Return whether the candidate agrees with the incumbent; None: too little was seen yet."""
    may_differ = int(asked.requests * (1 - asked.agreement) + _GRAIN)
    if seen.requests - seen.agreed > may_differ:
        return False
    return True if seen.requests >= asked.requests else None


_GRAIN = 1e-9  # 100 * (1 - 0.95) is 5.000000000000004, and 100 * (1 - 0.9) is 9.999999999999998


def refusal(asked: v1.ShadowSettings, seen: Compared) -> tuple[Reason, str, Mapping[str, str]]:
    """Return why a candidate that did not get through is refused: reason, message, parameters."""
    compared = str(seen.requests)
    if verdict(asked, seen) is False:
        message = f"{seen.agreed} of {seen.requests} live requests were answered alike"
        numbers = {"compared": compared, "agreed": str(seen.agreed)}
        return Reason.SHADOW_DISAGREED, message, numbers
    message = f"{seen.requests} of {asked.requests} live requests in {asked.limit_s:g} s"
    if seen.apart:
        message += f"; {seen.apart} could not be compared"
    return (
        Reason.SHADOW_INCONCLUSIVE,
        message,
        {"compared": compared, "wanted": str(asked.requests)},
    )


def too_large(card: Card, room_bytes: int) -> str:
    """Say why no request of a model can be compared; empty where there is room for one.

    A request and the incumbent's answer to it lie in the candidate's region together. What may
    vary in size is left to be seen.
    """
    least = sum(
        math.prod(tensor.shape) * (tensor.datatype.size_bytes or 0)
        for tensor in (*card.inputs, *card.outputs)
        if -1 not in tensor.shape
    )
    if least <= room_bytes:
        return ""
    return (
        f"a request and its answer take {size(least)} together,"
        f" and only {size(room_bytes)} can be compared"
    )


def due(asked: v1.ShadowSettings, answered: int) -> bool:
    """Tell whether the `answered`th request that the incumbent answered is to be compared."""
    return int(answered * asked.share + _GRAIN) > int((answered - 1) * asked.share + _GRAIN)
