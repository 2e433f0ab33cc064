"""The states of a rollout, its waves and its targets, and what leads from one to another. Pure.

Tables only; `fleet.rollouts.rollout` reads them. Terminal rows are written out. The
diagrams in the docs are drawn from here. Pausing, gates and deadlines will add
rows; so far a policy that has any is not planned (`fleet.rollouts.plan`).
"""

from collections.abc import Mapping
from enum import StrEnum


class RolloutState(StrEnum):
    """How far a rollout is."""

    PLANNED = "planned"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"


class RolloutHappening(StrEnum):
    """What may happen to a rollout. All but the first and the last follow from its waves."""

    STARTED = "started"
    PASSED = "passed"
    FAILED = "failed"
    OVERTAKEN = "overtaken"
    ABORTED = "aborted"


ROLLOUT: Mapping[RolloutState, Mapping[RolloutHappening, RolloutState]] = {
    RolloutState.PLANNED: {
        RolloutHappening.STARTED: RolloutState.RUNNING,
        RolloutHappening.ABORTED: RolloutState.ABORTED,
    },
    RolloutState.RUNNING: {
        RolloutHappening.PASSED: RolloutState.DONE,
        RolloutHappening.FAILED: RolloutState.FAILED,
        RolloutHappening.OVERTAKEN: RolloutState.SUPERSEDED,
        RolloutHappening.ABORTED: RolloutState.ABORTED,
    },
    RolloutState.DONE: {},
    RolloutState.FAILED: {},
    RolloutState.ABORTED: {},
    RolloutState.SUPERSEDED: {},
}


class WaveState(StrEnum):
    """How far a wave is."""

    WAITING = "waiting"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"


class WaveHappening(StrEnum):
    """What may happen to a wave. All of it follows from its targets and the rollout."""

    STARTED = "started"
    SETTLED_WELL = "settled well"
    SETTLED_BADLY = "settled badly"
    OVERTAKEN = "overtaken"
    ABORTED = "aborted"


WAVE: Mapping[WaveState, Mapping[WaveHappening, WaveState]] = {
    WaveState.WAITING: {
        WaveHappening.STARTED: WaveState.RUNNING,
        WaveHappening.ABORTED: WaveState.ABORTED,
    },
    WaveState.RUNNING: {
        WaveHappening.SETTLED_WELL: WaveState.PASSED,
        WaveHappening.SETTLED_BADLY: WaveState.FAILED,
        WaveHappening.OVERTAKEN: WaveState.SUPERSEDED,
        WaveHappening.ABORTED: WaveState.ABORTED,
    },
    WaveState.PASSED: {},
    WaveState.FAILED: {},
    WaveState.ABORTED: {},
    WaveState.SUPERSEDED: {},
}


class TargetState(StrEnum):
    """How far one target is with this rollout's revision."""

    PLANNED = "planned"
    ASKED = "asked"
    UPDATING = "updating"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled-back"
    REFUSED = "refused"
    SUPERSEDED = "superseded"


class TargetHappening(StrEnum):
    """What may happen to one target."""

    ASKED = "asked"
    PROGRESSED = "progressed"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    REFUSED = "refused"
    OVERTAKEN = "overtaken"


_SETTLING: Mapping[TargetHappening, TargetState] = {
    TargetHappening.COMMITTED: TargetState.COMMITTED,
    TargetHappening.ROLLED_BACK: TargetState.ROLLED_BACK,
    TargetHappening.REFUSED: TargetState.REFUSED,
    TargetHappening.OVERTAKEN: TargetState.SUPERSEDED,
}

TARGET: Mapping[TargetState, Mapping[TargetHappening, TargetState]] = {
    TargetState.PLANNED: {
        TargetHappening.ASKED: TargetState.ASKED,
        TargetHappening.OVERTAKEN: TargetState.SUPERSEDED,
    },
    TargetState.ASKED: {TargetHappening.PROGRESSED: TargetState.UPDATING, **_SETTLING},
    TargetState.UPDATING: {TargetHappening.PROGRESSED: TargetState.UPDATING, **_SETTLING},
    TargetState.COMMITTED: {},
    TargetState.ROLLED_BACK: {},
    TargetState.REFUSED: {},
    TargetState.SUPERSEDED: {},
}

COUPLED: Mapping[
    tuple[RolloutState, WaveState],
    RolloutHappening | WaveHappening,
] = {
    (RolloutState.RUNNING, WaveState.FAILED): RolloutHappening.FAILED,
    (RolloutState.RUNNING, WaveState.SUPERSEDED): RolloutHappening.OVERTAKEN,
    (RolloutState.ABORTED, WaveState.WAITING): WaveHappening.ABORTED,
    (RolloutState.ABORTED, WaveState.RUNNING): WaveHappening.ABORTED,
    (RolloutState.FAILED, WaveState.WAITING): WaveHappening.ABORTED,
    (RolloutState.SUPERSEDED, WaveState.WAITING): WaveHappening.ABORTED,
}
"""What a rollout and one of its waves do to each other, repeated until nothing changes.

That waves start one after the other, and that a rollout is done when all of
them passed, needs more than a pair, and is in `_coupled`.
"""

FINAL = frozenset(state for state, row in ROLLOUT.items() if not row)
SETTLED = frozenset(state for state, row in TARGET.items() if not row)
BAD = frozenset({TargetState.ROLLED_BACK, TargetState.REFUSED})
