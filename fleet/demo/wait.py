"""Waiting for what other processes do: by looking again, with a limit and a claim."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fleet.demo.crew import ClaimError
from fleet.demo.stage import Stage

LIMIT_S = 90.0
"""For what takes some seconds on two quiet cores."""

_LOOK_AGAIN_S = 0.15

Found = TypeVar("Found")


async def until(
    stage: Stage,
    claim: str,
    look: Callable[[], Awaitable[Found | None]],
    otherwise: str,
    *,
    limit_s: float = LIMIT_S,
    every_s: float = _LOOK_AGAIN_S,
) -> Found:
    """Look again and again until something is found.

    Raises:
        ClaimError: nothing was within the limit, or a child has ended meanwhile.
    """
    try:
        async with asyncio.timeout(limit_s):
            while (found := await look()) is None:
                stage.crew.check_alive(claim)
                await asyncio.sleep(every_s)
    except TimeoutError:
        raise ClaimError(claim, f"{otherwise} within {limit_s:g} s") from None
    return found
