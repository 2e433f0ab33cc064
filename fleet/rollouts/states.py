"""The states of a rollout, its waves and its targets, and what leads from one to another. Pure.

Tables only; `fleet.rollouts.fold` reads them. Terminal rows are written out. The
diagrams in the docs are drawn from here.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum


class RolloutState(StrEnum):
    """How far a rollout is."""

    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    ROLLING_BACK = "rolling-back"
    DONE = "done"
    ROLLED_BACK = "rolled-back"
    FAILED = "failed"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"


class RolloutHappening(StrEnum):
    """What may happen to a rollout. A person's words are started to retried; the rest follows."""

    STARTED = "started"
    PAUSED = "paused"
    RESUMED = "resumed"
    RETURN_ASKED = "return asked"
    ABORTED = "aborted"
    APPROVED = "approved"
    PROMOTED = "promoted"
    RETRIED = "retried"
    PASSED = "passed"
    INCONCLUSIVE = "inconclusive"
    GATE_FAILED = "gate failed"
    FAILED = "failed"
    STOPPED = "stopped"
    RETURNED = "returned"
    RETURN_FAILED = "return failed"
    OVERTAKEN = "overtaken"


_GOING_ON: Mapping[RolloutHappening, RolloutState] = {
    RolloutHappening.APPROVED: RolloutState.RUNNING,
    RolloutHappening.PROMOTED: RolloutState.RUNNING,
    RolloutHappening.RETRIED: RolloutState.RUNNING,
}

WORDS: Mapping[str, tuple[RolloutHappening, bool]] = {
    "pause": (RolloutHappening.PAUSED, False),
    "resume": (RolloutHappening.RESUMED, False),
    "approve": (RolloutHappening.APPROVED, False),
    "promote": (RolloutHappening.PROMOTED, True),
    "retry": (RolloutHappening.RETRIED, False),
    "abort": (RolloutHappening.ABORTED, True),
    "rollback": (RolloutHappening.RETURN_ASKED, True),
}
"""What a person may say of a rollout, and whether it needs a reason."""


ROLLOUT: Mapping[RolloutState, Mapping[RolloutHappening, RolloutState]] = {
    RolloutState.PLANNED: {
        RolloutHappening.STARTED: RolloutState.RUNNING,
        RolloutHappening.ABORTED: RolloutState.ABORTED,
    },
    RolloutState.RUNNING: {
        RolloutHappening.PAUSED: RolloutState.PAUSED,
        RolloutHappening.INCONCLUSIVE: RolloutState.PAUSED,
        RolloutHappening.PASSED: RolloutState.DONE,
        RolloutHappening.GATE_FAILED: RolloutState.ROLLING_BACK,
        RolloutHappening.STOPPED: RolloutState.PAUSED,  # a gate failed, and the policy says so
        RolloutHappening.RETURN_ASKED: RolloutState.ROLLING_BACK,
        RolloutHappening.FAILED: RolloutState.FAILED,  # no gate stands behind the wave
        RolloutHappening.OVERTAKEN: RolloutState.SUPERSEDED,
        RolloutHappening.ABORTED: RolloutState.ABORTED,
        **_GOING_ON,
    },
    RolloutState.PAUSED: {
        RolloutHappening.APPROVED: RolloutState.PAUSED,  # it goes on when it is resumed
        RolloutHappening.PROMOTED: RolloutState.PAUSED,
        RolloutHappening.RETRIED: RolloutState.PAUSED,
        RolloutHappening.RESUMED: RolloutState.RUNNING,
        RolloutHappening.GATE_FAILED: RolloutState.ROLLING_BACK,  # who was asked goes on meanwhile
        RolloutHappening.STOPPED: RolloutState.PAUSED,
        RolloutHappening.RETURN_ASKED: RolloutState.ROLLING_BACK,
        RolloutHappening.FAILED: RolloutState.FAILED,
        RolloutHappening.OVERTAKEN: RolloutState.SUPERSEDED,
        RolloutHappening.ABORTED: RolloutState.ABORTED,
    },
    RolloutState.ROLLING_BACK: {
        RolloutHappening.RETURNED: RolloutState.ROLLED_BACK,
        RolloutHappening.RETURN_FAILED: RolloutState.FAILED,
        RolloutHappening.OVERTAKEN: RolloutState.SUPERSEDED,
        RolloutHappening.ABORTED: RolloutState.ABORTED,
    },
    RolloutState.DONE: {
        RolloutHappening.RETRIED: RolloutState.DONE,
        RolloutHappening.RETURN_ASKED: RolloutState.ROLLING_BACK,
    },
    RolloutState.FAILED: {
        RolloutHappening.RETRIED: RolloutState.FAILED,
        RolloutHappening.RETURN_ASKED: RolloutState.ROLLING_BACK,
    },
    RolloutState.ABORTED: {RolloutHappening.RETURN_ASKED: RolloutState.ROLLING_BACK},
    RolloutState.ROLLED_BACK: {},
    RolloutState.SUPERSEDED: {},
}

ENDED = frozenset(
    {
        RolloutState.DONE,
        RolloutState.ROLLED_BACK,
        RolloutState.FAILED,
        RolloutState.ABORTED,
        RolloutState.SUPERSEDED,
    }
)
"""A rollout stays as it is here, unless a person wants everybody back."""


class WaveState(StrEnum):
    """How far a wave is."""

    WAITING = "waiting"
    RUNNING = "running"
    SOAKING = "soaking"
    TO_APPROVE = "to-approve"
    INCONCLUSIVE = "inconclusive"
    PASSED = "passed"
    FAILED = "failed"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"


class WaveHappening(StrEnum):
    """What may happen to a wave.

    `approved`, `promoted` and `retried` are a person's words; the rest follows from its
    targets and the rollout.
    """

    STARTED = "started"
    SETTLED_WELL = "settled well"
    UNSETTLED = "unsettled"
    SOAKED = "soaked"
    SETTLED_BADLY = "settled badly"
    UNDECIDED = "undecided"
    APPROVAL_WANTED = "approval wanted"
    APPROVED = "approved"
    PROMOTED = "promoted"
    RETRIED = "retried"
    OVERTAKEN = "overtaken"
    ABORTED = "aborted"


_ENDING: Mapping[WaveHappening, WaveState] = {
    WaveHappening.SETTLED_BADLY: WaveState.FAILED,
    WaveHappening.OVERTAKEN: WaveState.SUPERSEDED,
    WaveHappening.ABORTED: WaveState.ABORTED,
}

WAVE: Mapping[WaveState, Mapping[WaveHappening, WaveState]] = {
    WaveState.WAITING: {
        WaveHappening.STARTED: WaveState.RUNNING,
        WaveHappening.OVERTAKEN: WaveState.SUPERSEDED,
        WaveHappening.ABORTED: WaveState.ABORTED,
    },
    WaveState.RUNNING: {
        WaveHappening.SETTLED_WELL: WaveState.SOAKING,
        WaveHappening.UNDECIDED: WaveState.INCONCLUSIVE,
        WaveHappening.PROMOTED: WaveState.PASSED,
        **_ENDING,
    },
    WaveState.SOAKING: {
        WaveHappening.SOAKED: WaveState.PASSED,
        WaveHappening.APPROVAL_WANTED: WaveState.TO_APPROVE,
        WaveHappening.PROMOTED: WaveState.PASSED,
        WaveHappening.UNSETTLED: WaveState.RUNNING,  # one that was away is back
        WaveHappening.UNDECIDED: WaveState.INCONCLUSIVE,
        **_ENDING,
    },
    # It has soaked, and is well: a person lets it pass.
    WaveState.TO_APPROVE: {
        WaveHappening.APPROVED: WaveState.PASSED,
        WaveHappening.PROMOTED: WaveState.PASSED,
        WaveHappening.UNSETTLED: WaveState.RUNNING,  # one that was away is back: it soaks anew
        WaveHappening.UNDECIDED: WaveState.INCONCLUSIVE,
        **_ENDING,
    },
    # Only a person's word, or an end that decides it after all, leads on from here.
    WaveState.INCONCLUSIVE: {
        WaveHappening.APPROVED: WaveState.PASSED,
        WaveHappening.PROMOTED: WaveState.PASSED,
        WaveHappening.RETRIED: WaveState.RUNNING,
        WaveHappening.SETTLED_WELL: WaveState.SOAKING,
        **_ENDING,
    },
    # While the rollout lasts, a wave answers for its targets: one may fail after it was passed.
    WaveState.PASSED: {WaveHappening.SETTLED_BADLY: WaveState.FAILED},
    WaveState.FAILED: {WaveHappening.RETRIED: WaveState.RUNNING},  # while its rollout is paused
    WaveState.ABORTED: {},
    WaveState.SUPERSEDED: {},
}

UNDECIDED_WAVES = frozenset(
    {WaveState.RUNNING, WaveState.SOAKING, WaveState.TO_APPROVE, WaveState.INCONCLUSIVE}
)
"""Waves that have begun and have not passed: at most one at a time."""

OPEN_WAVES = UNDECIDED_WAVES | {WaveState.PASSED}
"""Waves whose targets may be asked, also those that were away when it began."""

TO_APPROVE = frozenset({WaveState.TO_APPROVE, WaveState.INCONCLUSIVE})
"""Waves that a person's approval lets pass."""


class TargetState(StrEnum):
    """How far one target is with this rollout's revision."""

    PLANNED = "planned"
    ASKED = "asked"
    UPDATING = "updating"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled-back"
    REFUSED = "refused"
    TIMED_OUT = "timed-out"
    RETURNING = "returning"
    RETURNED = "returned"
    NOT_RETURNED = "not-returned"
    NOT_ASKED = "not-asked"
    SUPERSEDED = "superseded"


class TargetHappening(StrEnum):
    """What may happen to one target."""

    ASKED = "asked"
    PROGRESSED = "progressed"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    REFUSED = "refused"
    TIMED_OUT = "timed out"
    RETURN_ASKED = "return asked"
    RETURNED = "returned"
    RETURN_FAILED = "return failed"
    SPARED = "spared"
    OVERTAKEN = "overtaken"
    RETRIED = "retried"


_LEAVING: Mapping[TargetHappening, TargetState] = {
    TargetHappening.RETURN_ASKED: TargetState.RETURNING,
    TargetHappening.OVERTAKEN: TargetState.SUPERSEDED,
}
_SETTLING: Mapping[TargetHappening, TargetState] = {
    TargetHappening.COMMITTED: TargetState.COMMITTED,
    TargetHappening.ROLLED_BACK: TargetState.ROLLED_BACK,
    TargetHappening.REFUSED: TargetState.REFUSED,
    **_LEAVING,
}

TARGET: Mapping[TargetState, Mapping[TargetHappening, TargetState]] = {
    TargetState.PLANNED: {
        TargetHappening.ASKED: TargetState.ASKED,
        TargetHappening.SPARED: TargetState.NOT_ASKED,
        TargetHappening.OVERTAKEN: TargetState.SUPERSEDED,
    },
    TargetState.ASKED: {
        TargetHappening.PROGRESSED: TargetState.UPDATING,
        TargetHappening.TIMED_OUT: TargetState.TIMED_OUT,
        **_SETTLING,
    },
    TargetState.UPDATING: {
        TargetHappening.PROGRESSED: TargetState.UPDATING,
        TargetHappening.TIMED_OUT: TargetState.TIMED_OUT,
        **_SETTLING,
    },
    # A worker that dies again and again brings the device back to what it had before.
    TargetState.COMMITTED: {TargetHappening.ROLLED_BACK: TargetState.ROLLED_BACK, **_LEAVING},
    TargetState.ROLLED_BACK: {
        TargetHappening.RETRIED: TargetState.ASKED,
        TargetHappening.SPARED: TargetState.ROLLED_BACK,  # it is not asked again after all
        **_LEAVING,
    },
    TargetState.REFUSED: {
        TargetHappening.RETRIED: TargetState.ASKED,
        TargetHappening.SPARED: TargetState.REFUSED,
        **_LEAVING,
    },
    TargetState.TIMED_OUT: {
        TargetHappening.RETRIED: TargetState.ASKED,
        TargetHappening.SPARED: TargetState.TIMED_OUT,
        **_SETTLING,  # late is late, and still an end
    },
    TargetState.RETURNING: {
        TargetHappening.RETURNED: TargetState.RETURNED,
        TargetHappening.RETURN_FAILED: TargetState.NOT_RETURNED,
        TargetHappening.TIMED_OUT: TargetState.NOT_RETURNED,
        TargetHappening.OVERTAKEN: TargetState.SUPERSEDED,
    },
    TargetState.NOT_RETURNED: {
        TargetHappening.RETURNED: TargetState.RETURNED,
        TargetHappening.OVERTAKEN: TargetState.SUPERSEDED,
    },
    TargetState.RETURNED: {},
    TargetState.NOT_ASKED: {},
    TargetState.SUPERSEDED: {},
}

UNDER_WAY = frozenset({TargetState.ASKED, TargetState.UPDATING})
"""The store holds its document, and it has not come to an end with it."""

TIMED = frozenset({*UNDER_WAY, TargetState.RETURNING})
"""An end is expected of it, in a time that runs while it can be reached."""

BAD = frozenset({TargetState.ROLLED_BACK, TargetState.REFUSED, TargetState.TIMED_OUT})
"""What counts against a gate."""

SETTLED = frozenset(
    {
        TargetState.COMMITTED,
        TargetState.ROLLED_BACK,
        TargetState.REFUSED,
        TargetState.RETURNED,
        TargetState.NOT_RETURNED,
        TargetState.NOT_ASKED,
        TargetState.SUPERSEDED,
    }
)
"""Nothing more is expected of the target by itself."""

TO_RETURN = frozenset({TargetState.COMMITTED, *UNDER_WAY, *BAD})
"""Who gets a newer document with the content from before, when a rollout is rolled back."""


def possible(
    state: RolloutState, waves: Collection[WaveState], targets: Collection[TargetState]
) -> frozenset[RolloutHappening]:
    """Return what may happen to a rollout in this state whose waves and targets are in these."""
    stopped = state is RolloutState.PAUSED and WaveState.FAILED in waves
    asked = {
        RolloutHappening.RESUMED: not stopped,
        RolloutHappening.APPROVED: TO_APPROVE.intersection(waves) and not stopped,
        RolloutHappening.PROMOTED: UNDECIDED_WAVES.intersection(waves) and not stopped,
        RolloutHappening.RETRIED: stopped or BAD.intersection(targets),
    }
    return frozenset(each for each in ROLLOUT[state] if asked.get(each, True))
