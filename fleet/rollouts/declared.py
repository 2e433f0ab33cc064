"""Whether a rollout that a document declares is to be started. Pure.

A document stays where it is and is applied again and again; a rollout is an act. Between
the two stands the *wish*: which bundle, under which name, on whom, with which settings. How
it spreads is not part of it: another policy is no reason to do over what was done.

Rules, by the newest rollout of the same wish:
- None: start.
- It is under way or paused: nothing. It goes on by itself, or a person is waited for.
- It was brought back, given up, or failed: nothing, and that is said. What the gates
  refused does not come again because a pipeline ran; a person starts it, or another version.
- It ended otherwise: start, where there is a step for somebody about whom it did not decide, or
  who had it and wants something else by now. Who failed is not asked anew each night.
"""

from dataclasses import replace
from enum import StrEnum

from fleet.canonical import digest
from fleet.rollouts.plan import Plan
from fleet.rollouts.policy import CAREFUL, RolloutRequest
from fleet.rollouts.progress import Rollout
from fleet.rollouts.states import ENDED, RolloutState, TargetState


class Declared(StrEnum):
    """What applying a document does about its rollout."""

    START = "start"
    NOTHING = "nothing"
    HELD = "held"


_REFUSED = frozenset(
    {
        RolloutState.ROLLING_BACK,
        RolloutState.ROLLED_BACK,
        RolloutState.FAILED,
        RolloutState.ABORTED,
    }
)
_WENT_BACK = frozenset({TargetState.RETURNING, TargetState.RETURNED, TargetState.NOT_RETURNED})
_FREE = frozenset({TargetState.COMMITTED, TargetState.SUPERSEDED})


def wish(request: RolloutRequest) -> str:
    """Return the digest of what is wanted of whom, however it spreads."""
    targets = tuple(sorted(request.targets))
    return digest(replace(request, targets=targets, policy=CAREFUL.name, soak_s=None))


def declared(plan: Plan, last: Rollout | None) -> Declared:
    """Decide about a plan, by the newest rollout of the same wish."""
    if not plan.steps:
        return Declared.NOTHING
    if last is None:
        return Declared.START
    if last.state in _REFUSED or any(each.state in _WENT_BACK for each in last.targets):
        return Declared.HELD
    if last.state not in ENDED:
        return Declared.NOTHING
    settled = {each.target for each in last.targets if each.state not in _FREE}
    anew = any(step.target not in settled for step in plan.steps)
    return Declared.START if anew else Declared.NOTHING
