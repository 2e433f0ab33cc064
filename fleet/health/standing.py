"""What a device wants and serves under each name, and why these differ, if they do. Pure.

No predicate is written twice: of each deployment the rows of `fleet.health.states` are asked,
with the device narrowed to that one. They are asked in the order of who could change something:
what has ended there, whether it can be heard, what holds it, how far it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from fleet.health import states
from fleet.health.heard import Heard
from fleet.health.states import Finding, HealthReason, Predicate


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One deployment of a device. A finding of None: it serves what is wanted, and that is well.

    `told` is the device's last word about it; None: it never said anything of this name.
    """

    name: str
    wanted: v1.Deployment | None
    serves: v1.BundleRef | None
    told: v1.ReportedDeployment | None
    finding: Finding | None


def standings(heard: Heard, now: datetime) -> Iterator[Standing]:
    """Return how each deployment stands, in the order of their names."""
    wanted = () if heard.target.desired is None else heard.target.desired.deployments
    for name in sorted(
        {*(each.name for each in wanted), *(each.name for each in heard.deployments)}
    ):
        alone = _alone(heard, name)
        told = alone.target.told(name)
        yield Standing(
            name=name,
            wanted=alone.target.wanted(name),
            serves=None if told is None else alone.serves(told),
            told=told,
            finding=_differs(alone, name, now),
        )


def _alone(heard: Heard, name: str) -> Heard:
    """Return a device with one deployment, and nothing else that it could be about."""
    desired, told = heard.target.desired, heard.target.told(name)
    if desired is not None:
        wanted = tuple(each for each in desired.deployments if each.name == name)
        desired = replace(desired, deployments=wanted)
    return _saying(replace(heard, target=replace(heard.target, desired=desired)), told)


def _saying(heard: Heard, told: v1.ReportedDeployment | None) -> Heard:
    """Return a device that says this of its deployments, and no more."""
    reported = heard.target.reported
    if reported is None:
        return heard
    reported = replace(reported, deployments=() if told is None else (told,))
    return replace(heard, target=replace(heard.target, reported=reported))


def _differs(alone: Heard, name: str, now: datetime) -> Finding | None:
    wanted, told = alone.target.wanted(name), alone.target.told(name)
    if wanted is None or (told is not None and told.revision < wanted.revision):
        alone = _saying(alone, None)  # what it says of another revision is no reason for this one
    found = _first(states.ENDS, alone, now)
    if found is not None or _is_as_wanted(alone, name):
        return found
    return _first(states.KEPT_FROM, alone, now) or Finding(
        reason=Reason.REMOVED if wanted is None else HealthReason.NOT_BEGUN,
        since=alone.reported_at or alone.joined_at,
    )


def _first(predicates: tuple[Predicate, ...], alone: Heard, now: datetime) -> Finding | None:
    found = (predicate(alone, now) for predicate in predicates)
    return next((finding for finding in found if finding is not None), None)


def _is_as_wanted(alone: Heard, name: str) -> bool:
    wanted, told = alone.target.wanted(name), alone.target.told(name)
    if wanted is None or told is None or told.phase is not Phase.COMMITTED:
        return False
    serves = alone.serves(told)
    ours = (wanted.revision, wanted.bundle.digest)
    return serves is not None and (told.revision, serves.digest) == ours
