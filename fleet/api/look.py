"""The whole fleet in one document, and what of it needs a person."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, Field
from sqlalchemy import Connection

from fleet.api.parts import Parts
from fleet.api.shown import ServedNumbers, StateShown, shown_at
from fleet.health.grouped import Cells, by_served
from fleet.health.headcount import Headcount, Trouble
from fleet.health.heard import Heard
from fleet.health.states import HealthReason, State, Verdict
from fleet.health.sums import Numbers, Served
from fleet.kept import outline_of
from fleet.known import Known
from fleet.rollouts.outline import Outline
from fleet.rollouts.states import UNDECIDED_WAVES, RolloutState
from fleet.sentences import explain
from fleet.store import rollouts

NEEDS_SHOWN = 7
_ROLLOUTS_READ = 20
"""The newest; older ones are read only while they are open."""

_IN_FLIGHT = frozenset({RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.ROLLING_BACK})
_ENDED_BADLY = frozenset({RolloutState.FAILED, RolloutState.ROLLED_BACK, RolloutState.ABORTED})
_NEEDING = (State.FAILING, State.OFFLINE, State.DEGRADED)
"""In this order; of those that are offline only who is connected and mute."""


class BrokerShown(BaseModel):
    """The broker, as the centre sees it."""

    connected: bool = Field(description="False: nothing new is heard, and nothing is sent.")


class SpreadShown(BaseModel):
    """On how many devices a bundle serves."""

    bundle: str
    version: str
    digest: str
    devices: int = Field(description="Where it serves now.")
    share: float = Field(description="Of all devices, 0 to 1.")
    offline: int = Field(description="Devices that are not heard, and may be serving it.")


class RolloutShown(BaseModel):
    """A rollout that is under way, or the last one of its deployment where that ended badly."""

    id: str
    state: RolloutState
    deployment: str
    from_versions: list[str] = Field(description="What its targets had before.")
    to: str = Field(description="The bundle it brings: name and version.")
    wave: int | None = Field(description="The one under way, from 1; null: none is.")
    waves: int
    counts: dict[str, int] = Field(description="Targets by state.")
    set_aside: int
    reason: str | None = Field(description="Why it is as it is: a code.")
    sentence: str | None
    started_at: str


class Need(BaseModel):
    """Something that waits for a person: what, why, and the command that goes on."""

    state: str = Field(description="A device's state, or a rollout's.")
    subject: str = Field(description="A device, some devices, or a rollout.")
    reason: str = Field(description="Why: a code; empty: a person has paused it.")
    sentence: str
    command: str


class FleetShown(BaseModel):
    """The fleet now."""

    fleet: str
    as_of: str
    broker: BrokerShown
    devices: int
    states: dict[State, int] = Field(description="Devices by state; every state is there.")
    offline_since: str | None = Field(description="Since when the longest one is offline.")
    serving: list[SpreadShown]
    numbers: list[ServedNumbers] = Field(description="Of the devices that are heard.")
    rollouts: list[RolloutShown]
    needs_you: list[Need] = Field(description="At most seven, the worst first.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at the whole fleet: every device with its verdict, and what is shown of them.

    `needs` are all that need a person, the worst first; `shown` has the first of them.
    """

    every: Sequence[tuple[Known, Verdict]]
    at: datetime
    sites: Mapping[str | None, Mapping[State, int]]
    cells: Cells
    needs: tuple[Need, ...]
    shown: FleetShown


def look(parts: Parts, headcount: Headcount) -> Look:
    """Look at the whole fleet, and let the headcount keep what was counted. Blocking."""
    known = parts.roll.call()
    with parts.store.read() as connection:
        moving = _rollouts(connection)
    now = parts.clock()
    headcount.take((each.heard for each in known), now)
    summed = headcount.cells()
    needs = (*_of_rollouts(moving), *_of_devices(headcount.alike(), shown_at(now)))
    verdicts = (told for _, told in headcount.judged())
    return Look(
        every=list(zip(known, verdicts, strict=True)),
        at=now,
        sites=headcount.by_site(),
        cells=summed,
        needs=needs,
        shown=_shown(parts, headcount, by_served(summed), moving, needs=needs, now=now),
    )


def _shown(
    parts: Parts,
    headcount: Headcount,
    served: Mapping[Served, Numbers],
    moving: list[RolloutShown],
    *,
    needs: Sequence[Need],
    now: datetime,
) -> FleetShown:
    states = headcount.by_state()
    return FleetShown(
        fleet=parts.authority.fleet,
        as_of=shown_at(now),
        broker=BrokerShown(connected=parts.connected()),
        devices=sum(states.values()),
        states=dict(states),
        offline_since=headcount.offline_since(),
        serving=[
            SpreadShown(
                bundle=each.bundle.name,
                version=each.bundle.version,
                digest=each.bundle.digest,
                devices=each.serving,
                share=each.serving / each.devices,
                offline=each.offline,
            )
            for each in headcount.spread()
        ],
        numbers=[ServedNumbers.of_served(*each) for each in served.items()],
        rollouts=moving,
        needs_you=list(needs[:NEEDS_SHOWN]),
    )


def _rollouts(connection: Connection) -> list[RolloutShown]:
    """Return the rollouts under way, and those that ended badly and were not followed by one."""
    shown, seen = [], set()
    for kept in rollouts.recent(connection, _ROLLOUTS_READ):
        rollout = outline_of(kept)
        last = rollout.deployment not in seen
        seen.add(rollout.deployment)
        if rollout.state in _IN_FLIGHT or (last and rollout.state in _ENDED_BADLY):
            shown.append(_rollout(rollout, kept.created_at))
    return shown


def _rollout(rollout: Outline, started_at: str) -> RolloutShown:
    bundle, cause = rollout.bundle, rollout.cause
    before: Counter[str] = Counter()
    for _, version, number in rollout.replaces:
        before[version] += number
    under_way = [wave.number for wave in rollout.waves if wave.state in UNDECIDED_WAVES]
    told = None if cause is None else explain(cause.code, cause.parameters).meaning
    return RolloutShown(
        id=rollout.id,
        state=rollout.state,
        deployment=rollout.deployment,
        from_versions=[version for version, _ in before.most_common()],
        to=rollout.deployment if bundle is None else f"{bundle.name} {bundle.version}",
        wave=min(under_way, default=None),
        waves=len(rollout.waves),
        counts={str(state): count for state, count in rollout.counts.items()},
        set_aside=rollout.set_aside,
        reason=None if cause is None else cause.code,
        sentence=told,
        started_at=started_at,
    )


def _of_rollouts(moving: Iterable[RolloutShown]) -> list[Need]:
    return [
        Need(
            state=each.state,
            subject=each.id,
            reason=each.reason or "",
            sentence=each.sentence or f"{each.to}: resume, abort or roll back?",
            command=f"skerry rollout why {each.id}",
        )
        for each in moving
        if each.state is RolloutState.PAUSED
    ]


def _of_devices(alike: Mapping[Trouble, Sequence[tuple[Heard, Verdict]]], now: str) -> list[Need]:
    """Return what is wrong with devices; those with the same trouble are one line."""
    wrong = [(trouble, of) for trouble, of in alike.items() if _needs(trouble)]
    wrong.sort(key=lambda each: (_NEEDING.index(each[0][0]), -len(each[1]), each[0]))
    return [_need(*trouble, of, now) for trouble, of in wrong]


def _needs(trouble: Trouble) -> bool:
    """Tell whether a person must look: who is connected and mute hangs, and won't mend itself."""
    state, reason, _ = trouble
    mute = reason == HealthReason.SILENT
    return mute or (state in _NEEDING and state is not State.OFFLINE)


def _need(
    state: State, reason: str, subject: str, of: Sequence[tuple[Heard, Verdict]], now: str
) -> Need:
    if len(of) == 1:
        heard, told = of[0]
        return Need(
            state=state,
            subject=heard.target.name,
            reason=reason,
            sentence=StateShown.of(heard, told, now).sentence,
            command=f"skerry device show {heard.target.name}",
        )
    heard, told = min(of, key=lambda each: (each[0].target.name, each[0].target.device))
    meaning = explain(reason, told.finding.parameters, beside=False).meaning
    same = all(
        other.finding.parameters == told.finding.parameters
        or explain(reason, other.finding.parameters, beside=False).meaning == meaning
        for _, other in of
    )
    meaning = meaning if same else f"{heard.target.name}, for one: {meaning}"
    return Need(
        state=state,
        subject=f"{len(of)} devices",
        reason=reason,
        sentence=f"{subject}: {meaning}" if subject else meaning,
        command=f"skerry device ls --state {state}",
    )
