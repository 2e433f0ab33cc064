"""Rollouts in numbers: those under way and those that ended within a day. Blocking.

A rollout's end is counted when a look finds it: the looks are seconds apart, and a rollout that
ended between two of them has ended all the same. What had ended before the first look is history.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, or_, select

from fleet.kept import outline_of
from fleet.metrics.bins import Bins
from fleet.metrics.census import Named
from fleet.metrics.families import Sheet, Spread
from fleet.metrics.slots import UNKNOWN, Key, Slots
from fleet.rollouts.gate import decides_at
from fleet.rollouts.outline import Outline
from fleet.rollouts.states import ENDED, RolloutState, TargetState, WaveState
from fleet.store.rollouts import KeptRollout, named
from fleet.store.tables import rollouts

SHOWN = 20
"""Rollouts, the newest first."""

RECENT_S = 86400
"""For how long one that has ended is shown."""

DURATION_BOUNDS_S = (60, 300, 900, 1800, 3600, 7200, 14400, 28800, 86400, 259200, 604800)

_DECIDED = frozenset({WaveState.PASSED, WaveState.FAILED, WaveState.INCONCLUSIVE})
_MOVING = frozenset({WaveState.RUNNING, WaveState.SOAKING, WaveState.INCONCLUSIVE})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A rollout as it was read, and when it last moved.

    `soaks_until`: until then it moves, as nothing has to but time.
    """

    rollout: Outline
    moved: datetime
    began: datetime
    soaks_until: datetime | None


class Courses:
    """Remembers the rollouts of the last look, to count those that ended since."""

    def __init__(self, names: Named) -> None:
        self._names = names
        self._states: dict[str, str] | None = None
        self._bundles = Slots(20)
        self._finished: Counter[Key] = Counter()
        self._took = Bins(DURATION_BOUNDS_S)

    def look(self, connection: Connection, now: datetime) -> Sheet:
        """Return the rollouts in numbers, and how many of each bundle have ended."""
        newest = select(rollouts.c.id).order_by(rollouts.c.number.desc()).limit(SHOWN)
        going = [each for each, state in (self._states or {}).items() if state not in ENDED]
        states = dict(
            connection.execute(
                select(rollouts.c.id, rollouts.c.state)
                .where(
                    or_(
                        rollouts.c.is_open,
                        rollouts.c.id.in_(newest),
                        rollouts.c.id.in_(going),
                    )
                )
                .order_by(rollouts.c.number.desc())
            ).all()
        )
        read = {each: _as_read(named(connection, each)) for each in list(states)[:SHOWN]}
        self._count_ends(states, read)
        self._states = states
        for name, _ in self._names.bundles.held:
            for outcome in ENDED:
                self._finished[outcome.value, *self._bundles.label((name,))] += 0
        shown = {
            each: found
            for each, found in read.items()
            if found.rollout.state not in ENDED or (now - found.moved).total_seconds() < RECENT_S
        }
        return {**_sheet(shown, self._names, now), **self._ended()}

    def _count_ends(self, states: Mapping[str, str], read: Mapping[str, _Read]) -> None:
        before = self._states
        for each, state in states.items():
            if before is None or state not in ENDED or before.get(each) == state:
                continue
            found = read.get(each)
            name = UNKNOWN if found is None else _bundle(found.rollout, self._names)[0]
            self._finished[state, *self._bundles.label((name,))] += 1
            if found is not None:
                self._took.add((state,), max(0.0, (found.moved - found.began).total_seconds()))

    def _ended(self) -> Mapping[str, Mapping[Key, float | Spread]]:
        return {
            "skerry_rollouts_finished_total": dict(self._finished),
            "skerry_rollout_duration_seconds": self._took.numbers(),
        }


def _as_read(kept: KeptRollout) -> _Read:
    rollout = outline_of(kept)
    began = datetime.fromisoformat(kept.created_at)
    return _Read(
        rollout=rollout,
        began=began,
        moved=rollout.moved or began,
        soaks_until=_soaks_until(rollout),
    )


def _sheet(
    shown: Mapping[str, _Read], names: Named, now: datetime
) -> Mapping[str, Mapping[Key, float | Spread]]:
    return {
        "skerry_rollout_info": {
            (each, *_bundle(found.rollout, names), found.rollout.state.value): 1
            for each, found in shown.items()
        },
        "skerry_rollout_devices": {
            (each, outcome): number
            for each, found in shown.items()
            for outcome, number in _outcomes(found.rollout)
        },
        "skerry_rollout_wave": {(each,): _wave(found.rollout) for each, found in shown.items()},
        "skerry_rollout_gate_verdict": {
            (each, *verdict): 1
            for each, found in shown.items()
            if (verdict := _verdict(found.rollout)) is not None
        },
        "skerry_rollout_last_progress_timestamp_seconds": {
            (each,): max(found.moved, min(found.soaks_until or found.moved, now)).timestamp()
            for each, found in shown.items()
        },
    }


def _bundle(rollout: Outline, names: Named) -> Key:
    if rollout.bundle is None:  # it takes a deployment away
        return ("none", "none")
    return names.bundles.label((rollout.bundle.name, rollout.bundle.version))


def _outcomes(rollout: Outline) -> Iterator[tuple[str, int]]:
    for state in TargetState:
        yield state.value, rollout.counts.get(state, 0)
    yield "set-aside", rollout.set_aside


def _wave(rollout: Outline) -> int:
    if rollout.state in ENDED or rollout.state is RolloutState.PLANNED:
        return 0
    return min((wave.number for wave in rollout.waves if wave.state in _MOVING), default=0)


def _verdict(rollout: Outline) -> Key | None:
    decided = [wave for wave in rollout.waves if wave.gate and wave.state in _DECIDED]
    return (f"wave {decided[-1].number}", decided[-1].state.value) if decided else None


def _soaks_until(rollout: Outline) -> datetime | None:
    ends = [decides_at(wave) for wave in rollout.waves if wave.state is WaveState.SOAKING]
    return max((end for end in ends if end is not None), default=None)
