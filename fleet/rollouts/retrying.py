"""Which failures may pass by themselves, and when a target is asked again. Pure.

A failure *passes* where nothing was wrong with the bundle and its target: the registry
could not be reached, a disk was full, it took too long. What a device found out about
the bundle itself (its golden vectors, its speed, its probation) does not pass: asking
again would serve it a known bad one. A reason that nobody here knows does not pass.
"""

from agent.wire.reasons import Reason
from fleet.rollouts.policy import Retry
from fleet.rollouts.states import TargetState

PASSING = frozenset(
    {
        Reason.REGISTRY_UNREACHABLE,
        Reason.REGISTRY_REFUSED,
        Reason.CENTRE_UNREACHABLE,
        Reason.CENTRE_REFUSED,
        Reason.DIGEST_MISMATCH,  # what came was not what was asked for; the next download may be
        Reason.SIZE_MISMATCH,
        Reason.DISK_FULL,
        Reason.OUT_OF_MEMORY,
        Reason.TIMED_OUT,
        Reason.INTERRUPTED,
        Reason.BLOB_ROTTEN,
        Reason.LEDGER_UNWRITABLE,
        Reason.SHADOW_INCONCLUSIVE,  # too little traffic says nothing about the bundle
    }
)
"""Reasons that may be gone when the target is asked again."""


def passes(state: TargetState, reason: str | None) -> bool:
    """Tell whether a failure may be gone by itself; one that said nothing in time may be."""
    if state is TargetState.TIMED_OUT:
        return True
    return reason is not None and reason in PASSING


def again_after(retry: Retry | None, tries: int, state: TargetState, reason: str | None) -> float:
    """Return in how many seconds a target that failed is asked again by itself. Negative: never.

    Args:
        retry: what the policy says; None: nobody is asked again.
        tries: how often it was asked again by itself so far.
        state: how it failed.
        reason: what it said, if it did.
    """
    if retry is None or tries >= retry.times or not passes(state, reason):
        return -1.0
    return retry.wait_before(tries + 1)
