"""A rollout as spans of its trace: rollout, wave, device, phase; made when each has ended. Pure.

A span's id follows from what it is of, so that the parts of a trace find each other
whatever was sent first, also by a centre that was started again in between. Times are
the centre's: when something arrived here. A device's own clock may be of 1970, and is
told as an attribute.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agent.wire import v1
from agent.wire.phases import SETTLED as ENDS
from agent.wire.phases import Phase
from fleet.rollouts.progress import Progress, Rollout
from fleet.rollouts.states import BAD, UNDER_WAY, RolloutState, TargetState, WaveState

_Known = Mapping[str, str | int | None]

_GOING_OUT = frozenset({RolloutState.RUNNING, RolloutState.PAUSED})
_OVER = frozenset(
    {WaveState.PASSED, WaveState.FAILED, WaveState.ABORTED, WaveState.SUPERSEDED},
)
_FAILED = frozenset(
    {
        *BAD,
        Phase.REFUSED,
        Phase.ROLLED_BACK,
        RolloutState.FAILED,
        RolloutState.ROLLING_BACK,
        RolloutState.ROLLED_BACK,
        TargetState.NOT_RETURNED,
        WaveState.FAILED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that began and ended. `failed`: why it is no success; empty: it is one."""

    trace_id: str
    id: str
    parent: str
    name: str
    begin: datetime
    end: datetime
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    failed: str = ""


def ended(before: Rollout, after: Rollout, now: datetime) -> Iterator[Span]:
    """Return the spans of what was under way in `before` and no longer is in `after`."""
    if after.trace is None:
        return
    waves = {target: wave.number for wave in after.waves for target in wave.targets}
    for earlier, progress in zip(before.targets, after.targets, strict=True):
        if progress is not earlier:
            yield from _of_target(after, waves[progress.target], earlier, progress, now)
    for old, wave in zip(before.waves, after.waves, strict=True):
        if wave.state in _OVER and old.state not in _OVER and wave.started_at is not None:
            yield _span(
                after,
                f"wave {wave.number}",
                ids=(_of_wave(after, wave.number), _of_rollout(after)),
                times=(wave.started_at, now),
                known={"wave": wave.number, "title": wave.title, "state": wave.state},
            )
    yield from _of_itself(before, after, now)


def phases(told: Sequence[tuple[v1.Event, datetime]]) -> Iterator[Span]:
    """Return the spans of the phases that end with the last of these events.

    Args:
        told: a device's transitions of one revision, in order, each with the time of its
            arrival; the last of them is one with which a revision settles.
    """
    settled = [number for number, (event, _) in enumerate(told[:-1]) if event.phase in ENDS]
    begin = settled[-1] + 1 if settled else 0
    for number, (event, at) in enumerate(told[begin:], start=begin):
        until = told[number + 1][1] if number + 1 < len(told) else at
        if event.trace_id is None or event.phase is None:
            continue
        parent = _of_device(event.trace_id, event.device, event.deployment, event.revision)
        known = {
            "device": event.device,
            "deployment": event.deployment,
            "revision": event.revision,
            "phase": event.phase,
            "reason": event.reason,
            "device.at": event.at,
        }
        yield Span(
            trace_id=event.trace_id,
            id=_id(parent, event.ledger, event.number),
            parent=parent,
            name=event.phase,
            begin=at,
            end=until,
            attributes=_attributes(known),
            failed=_why(event.phase, event.reason),
        )


def _of_itself(before: Rollout, after: Rollout, now: datetime) -> Iterator[Span]:
    """Return the rollout's own span when it no longer goes out, and that of its way back."""
    assert after.trace is not None  # noqa: S101  # for the type checker: the caller looked
    bundle = after.bundle
    known: _Known = {
        "deployment": after.deployment,
        "bundle": None if bundle is None else f"{bundle.name}:{bundle.version}",
        "state": after.state,
        "reason": None if after.cause is None else after.cause.code,
        "targets": len(after.targets),
    }
    left = before.state in _GOING_OUT and after.state not in _GOING_OUT
    if left and after.started_at is not None:
        ids = (_of_rollout(after), after.trace.parent)
        yield _span(after, "rollout", ids=ids, times=(after.started_at, now), known=known)
    back = before.state is RolloutState.ROLLING_BACK and after.state is not before.state
    if back and before.since is not None:
        ids = (_id(after.id, "return"), _of_rollout(after))
        yield _span(after, "return", ids=ids, times=(before.since, now), known=known)


def _of_target(
    rollout: Rollout, wave: int, before: Progress, after: Progress, now: datetime
) -> Iterator[Span]:
    """Return a device's span when it comes to an end, and that of its way back."""
    assert rollout.trace is not None  # noqa: S101  # for the type checker: the caller looked
    known: _Known = {
        "device": after.target,
        "device.name": after.name,
        "class": after.class_name,
        "deployment": after.deployment.name,
        "revision": after.deployment.revision,
        "state": after.state,
        "phase": after.phase,
        "reason": after.reason,
    }
    own = (rollout.trace.id, after.target, after.deployment.name)
    came = before.state in UNDER_WAY and after.state not in UNDER_WAY
    if came and after.asked_at is not None:
        ids = (_of_device(*own, after.deployment.revision), _of_wave(rollout, wave))
        yield _span(rollout, "device", ids=ids, times=(after.asked_at, now), known=known)
    back = before.state is TargetState.RETURNING and after.state is not before.state
    if back and before.since is not None:
        ids = (_of_device(*own, after.deployment.revision + 1), _id(rollout.id, "return"))
        yield _span(rollout, "device return", ids=ids, times=(before.since, now), known=known)


def _span(
    rollout: Rollout,
    name: str,
    *,
    ids: tuple[str, str],
    times: tuple[datetime, datetime],
    known: _Known,
) -> Span:
    assert rollout.trace is not None  # noqa: S101  # for the type checker: the caller looked
    return Span(
        trace_id=rollout.trace.id,
        id=ids[0],
        parent=ids[1],
        name=name,
        begin=times[0],
        end=times[1],
        attributes=_attributes({"rollout": rollout.id, **known}),
        failed=_why(known["state"], known.get("reason")),
    )


def _why(state: object, reason: object) -> str:
    return str(reason or state) if state in _FAILED else ""


def _attributes(known: _Known) -> dict[str, str | int]:
    return {
        f"skerry.{name}": value if isinstance(value, int) else str(value)
        for name, value in known.items()
        if value not in (None, "")
    }


def _of_rollout(rollout: Rollout) -> str:
    return _id(rollout.id)


def _of_wave(rollout: Rollout, number: int) -> str:
    return _id(rollout.id, number)


def _of_device(trace_id: str, device: str, deployment: str | None, revision: int | None) -> str:
    """Return the id of a device's span: both sides of it know only this."""
    return _id(trace_id, device, deployment, revision)


def _id(*parts: object) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:16]
