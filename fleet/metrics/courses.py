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
from fleet.metrics.slots import OTHER, UNKNOWN, Key, Slots
from fleet.rollouts.gate import decides_at
from fleet.rollouts.outline import Outline
from fleet.rollouts.progress import RolloutWave
from fleet.rollouts.states import ENDED, UNDECIDED_WAVES, RolloutState, TargetState, WaveState
from fleet.store.rollouts import KeptRollout, named
from fleet.store.tables import rollouts

SHOWN = 20
"""Rollouts, the newest first."""

NAMES_LIMIT = 20
"""Bundles whose rollouts that ended are counted by name."""

RECENT_S = 86400
"""For how long one that has ended is shown."""

NONE = "none"
"""In place of a bundle: the rollout takes a deployment away."""

DURATION_BOUNDS_S = (60, 300, 900, 1800, 3600, 7200, 14400, 28800, 86400, 259200, 604800)

_NO_NAMES = frozenset({NONE, OTHER, UNKNOWN})
_DECIDED = frozenset({WaveState.PASSED, WaveState.FAILED, WaveState.INCONCLUSIVE})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A rollout as it was read, and when it last moved.

    `soaks_until`: until then it moves, as nothing has to but time. `gate` is the last one that
    weighs something: its wave, what it sees, and what it wants, as shares.
    """

    rollout: Outline
    moved: datetime
    began: datetime
    soaks_until: datetime | None
    gate: tuple[str, float, float] | None


class Courses:
    """Remembers the rollouts of the last look, to count those that ended since."""

    def __init__(self, names: Named) -> None:
        self._names = names
        self._states: dict[str, str] | None = None
        self._bundles = Slots(NAMES_LIMIT)
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
        self._settle()
        self._count_ends(states, read)
        self._states = states
        for name, _ in self._names.bundles.held:
            for outcome in ENDED:
                self._finished[outcome.value, self._label(name)] += 0
        shown = {
            each: found
            for each, found in read.items()
            if found.rollout.state not in ENDED or (now - found.moved).total_seconds() < RECENT_S
        }
        return {**_sheet(shown, self._names, now), **self._ended()}

    @property
    def overflow(self) -> Mapping[str, int]:
        """How often a bundle found no slot."""
        return {"finished": self._bundles.overflow}

    def _settle(self) -> None:
        """Give the slots to bundles that are named now; what others had is forgotten."""
        held = [(name,) for name, _ in self._names.bundles.held if name not in _NO_NAMES]
        lost = {name for (name,) in self._bundles.settle(held)}
        for key in [key for key in self._finished if key[1] in lost]:
            del self._finished[key]

    def _label(self, name: str) -> str:
        if name in _NO_NAMES:
            return name
        (shown,) = self._bundles.label((name,))
        return shown

    def _count_ends(self, states: Mapping[str, str], read: Mapping[str, _Read]) -> None:
        before = self._states
        for each, state in states.items():
            if before is None or state not in ENDED or before.get(each) == state:
                continue
            found = read.get(each)
            name = UNKNOWN if found is None else _bundle(found.rollout, self._names)[0]
            self._finished[state, self._label(name)] += 1
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
        gate=_gate(rollout),
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
        "skerry_rollout_gate_observed_ratio": {
            (each, found.gate[0]): found.gate[1]
            for each, found in shown.items()
            if found.gate is not None
        },
        "skerry_rollout_gate_wanted_ratio": {
            (each, found.gate[0]): found.gate[2]
            for each, found in shown.items()
            if found.gate is not None
        },
        "skerry_rollout_last_progress_timestamp_seconds": {
            (each,): max(found.moved, min(found.soaks_until or found.moved, now)).timestamp()
            for each, found in shown.items()
        },
    }


def _bundle(rollout: Outline, names: Named) -> Key:
    if rollout.bundle is None:  # it takes a deployment away
        return (NONE, NONE)
    return names.bundles.label((rollout.bundle.name, rollout.bundle.version))


def _outcomes(rollout: Outline) -> Iterator[tuple[str, int]]:
    for state in TargetState:
        yield state.value, rollout.counts.get(state, 0)
    yield "set-aside", rollout.set_aside


def _wave(rollout: Outline) -> int:
    if rollout.state in ENDED or rollout.state is RolloutState.PLANNED:
        return 0
    return min((wave.number for wave in rollout.waves if wave.state in UNDECIDED_WAVES), default=0)


def _verdict(rollout: Outline) -> Key | None:
    decided = [wave for wave in rollout.waves if wave.gate and wave.state in _DECIDED]
    return (_named(decided[-1]), decided[-1].state.value) if decided else None


def _gate(rollout: Outline) -> tuple[str, float, float] | None:
    """Return what the last gate that has seen something sees and wants."""
    found = None
    for wave, (good, bad) in zip(rollout.waves, rollout.ends, strict=True):
        if wave.gate is not None and wave.state is not WaveState.WAITING and good + bad:
            found = _named(wave), good / (good + bad), wave.gate.success_percent / 100
    return found


def _named(wave: RolloutWave) -> str:
    return f"wave {wave.number}"


def _soaks_until(rollout: Outline) -> datetime | None:
    ends = [decides_at(wave) for wave in rollout.waves if wave.state is WaveState.SOAKING]
    return max((end for end in ends if end is not None), default=None)
