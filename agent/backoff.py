"""How long to wait before trying again. Pure: the draw is an argument."""


def full_jitter_s(attempt: int, draw: float, *, base_s: float = 1.0, cap_s: float = 60.0) -> float:
    """Return a wait drawn evenly up to a bound that doubles with each attempt, to a cap.

    Full jitter spreads a fleet that lost its broker at one instant; `draw` is
    in [0, 1), `attempt` counts from 0.
    """
    bound = cap_s if attempt > 30 else min(cap_s, base_s * 2.0**attempt)  # noqa: PLR2004  # far past any cap
    return bound * draw
