"""Which mark stands for which state: one vocabulary for the terminal and the page. Pure.

A mark is a shape; how it is drawn is the reader's (`fleet.cli.marks`, `fleet.page`).
"""

from collections.abc import Mapping
from enum import StrEnum


class Mark(StrEnum):
    """What is marked; the first seven are the state words of a device."""

    OK = "ok"
    UPDATING = "updating"
    WAITING = "waiting"
    DEGRADED = "degraded"
    FAILING = "failing"
    OFFLINE = "offline"
    UNKNOWN = "unknown"
    PAUSED = "paused"
    ROLLED_BACK = "rolled-back"


ROLLOUT_MARKS: Mapping[str, Mark] = {
    "planned": Mark.WAITING,
    "running": Mark.UPDATING,
    "paused": Mark.PAUSED,
    "rolling-back": Mark.ROLLED_BACK,
    "done": Mark.OK,
    "rolled-back": Mark.ROLLED_BACK,
    "failed": Mark.FAILING,
    "aborted": Mark.PAUSED,
    "superseded": Mark.OFFLINE,
}
"""The mark of a rollout's state (`fleet.rollouts.states`); another word is `Mark.UNKNOWN`."""

MARKS: Mapping[str, Mark] = {
    **ROLLOUT_MARKS,
    # of waves
    "waiting": Mark.WAITING,
    "soaking": Mark.UPDATING,
    "to-approve": Mark.PAUSED,
    "inconclusive": Mark.PAUSED,
    "passed": Mark.OK,
    # of targets
    "asked": Mark.UPDATING,
    "updating": Mark.UPDATING,
    "returning": Mark.UPDATING,
    "committed": Mark.OK,
    "returned": Mark.OK,
    "refused": Mark.FAILING,
    "timed-out": Mark.FAILING,
    "not-returned": Mark.FAILING,
    "not-asked": Mark.OFFLINE,
}
"""How the states of rollouts, waves and targets are marked; one word has one mark."""

VERDICT_MARKS: Mapping[str, Mark] = {
    "pending": Mark.UPDATING,
    "success": Mark.OK,
    "failure": Mark.FAILING,
    "inconclusive": Mark.PAUSED,
}
"""The mark of what a gate says."""

ASIDE_MARKS: Mapping[str, Mark] = {
    "offline": Mark.OFFLINE,
    "held": Mark.PAUSED,
    "window": Mark.WAITING,
}
"""The mark of a target that can't be asked now, by what keeps it."""

SEVERITY_MARKS: Mapping[str, Mark] = {
    "critical": Mark.FAILING,
    "warning": Mark.DEGRADED,
    "info": Mark.UNKNOWN,
}
"""The mark of an alert that is open, by how urgent it is; of one that is over it is `Mark.OK`."""

DRIFT_MARKS: Mapping[str, Mark] = {
    "alarm": Mark.FAILING,
    "watch": Mark.DEGRADED,
    "ok": Mark.OK,
    "too few": Mark.UNKNOWN,
}
"""The mark of how far a model's requests are from its card's reference."""
