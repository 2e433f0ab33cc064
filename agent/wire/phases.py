"""The life of one revision of one deployment, as a table: the one that all parties read.

Theory: a revision is wanted (`accepted`), becomes a *candidate* beside the
incumbent (`fetching` … `activating`), serves on trial (`probation`) and is
`committed`. Until `activating` succeeded, the incumbent has not been touched;
until `committed`, it is kept, and after that for as long as nothing newer is
committed. Where it is asked for, a candidate answers copies of live requests in the
incumbent's shadow (`shadowing`), unseen, before it may serve.
Whatever goes wrong leads to `refused` (it never served) or through
`rolling-back` to `rolled-back` (it served, and the one before it serves again):
even a committed revision fails when its worker keeps dying, if there is one
before it. `deferred` puts a candidate back to the start of the line for a cause
that passes: no network, no room. A hold leaves a candidate where it is, and so does
a maintenance window, before its test and before it serves. A revision
that brings what is committed already, as a return does, is `adopted` as it serves.
`superseded` may come in every phase, because a newer desired document waits for
nobody.

Pure: the table, and one function that reads it. `docs/reference/phases.md` is
generated from here.
"""

from enum import StrEnum


class Phase(StrEnum):
    """How far a revision has come."""

    ACCEPTED = "accepted"
    FETCHING = "fetching"
    VERIFYING = "verifying"
    STAGING = "staging"
    TESTING = "testing"
    SHADOWING = "shadowing"
    ACTIVATING = "activating"
    PROBATION = "probation"
    COMMITTED = "committed"
    ROLLING_BACK = "rolling-back"
    ROLLED_BACK = "rolled-back"
    REFUSED = "refused"
    RETIRED = "retired"


class Happening(StrEnum):
    """What may happen to a revision."""

    BEGUN = "begun"
    FETCHED = "fetched"
    VERIFIED = "verified"
    STAGED = "staged"
    TESTED = "tested"
    SHADOWED = "shadowed"
    AGREED = "agreed"
    ACTIVATED = "activated"
    PROVEN = "proven"
    ADOPTED = "adopted"
    DEFERRED = "deferred"
    FAILED = "failed"
    RESTORED = "restored"
    SUPERSEDED = "superseded"


PHASES: dict[Phase, dict[Happening, Phase]] = {
    Phase.ACCEPTED: {
        Happening.BEGUN: Phase.FETCHING,
        Happening.ADOPTED: Phase.COMMITTED,  # it serves already, committed under another number
        Happening.FAILED: Phase.REFUSED,  # quarantined, or doesn't fit: known before fetching
        Happening.SUPERSEDED: Phase.RETIRED,
    },
    Phase.FETCHING: {
        Happening.FETCHED: Phase.VERIFYING,
        Happening.DEFERRED: Phase.ACCEPTED,
        Happening.FAILED: Phase.REFUSED,
        Happening.SUPERSEDED: Phase.RETIRED,
    },
    Phase.VERIFYING: {
        Happening.VERIFIED: Phase.STAGING,
        Happening.DEFERRED: Phase.ACCEPTED,  # a blob at rest was corrupt: fetch it again
        Happening.FAILED: Phase.REFUSED,
        Happening.SUPERSEDED: Phase.RETIRED,
    },
    Phase.STAGING: {
        Happening.STAGED: Phase.TESTING,
        Happening.DEFERRED: Phase.ACCEPTED,
        Happening.FAILED: Phase.REFUSED,
        Happening.SUPERSEDED: Phase.RETIRED,
    },
    Phase.TESTING: {
        Happening.TESTED: Phase.ACTIVATING,
        Happening.SHADOWED: Phase.SHADOWING,  # tested, and to be compared before it serves
        Happening.DEFERRED: Phase.ACCEPTED,
        Happening.FAILED: Phase.REFUSED,
        Happening.SUPERSEDED: Phase.RETIRED,
    },
    Phase.SHADOWING: {
        Happening.AGREED: Phase.ACTIVATING,
        Happening.DEFERRED: Phase.ACCEPTED,
        Happening.FAILED: Phase.REFUSED,
        Happening.SUPERSEDED: Phase.RETIRED,
    },
    Phase.ACTIVATING: {
        Happening.ACTIVATED: Phase.PROBATION,
        Happening.DEFERRED: Phase.ACCEPTED,
        Happening.FAILED: Phase.REFUSED,
        Happening.SUPERSEDED: Phase.RETIRED,
    },
    Phase.PROBATION: {
        Happening.PROVEN: Phase.COMMITTED,
        Happening.FAILED: Phase.ROLLING_BACK,
        Happening.SUPERSEDED: Phase.RETIRED,
    },
    Phase.COMMITTED: {
        Happening.FAILED: Phase.ROLLING_BACK,  # its worker keeps dying, and one was before it
        Happening.SUPERSEDED: Phase.RETIRED,
    },
    Phase.ROLLING_BACK: {
        Happening.RESTORED: Phase.ROLLED_BACK,
        Happening.SUPERSEDED: Phase.RETIRED,
    },
    Phase.ROLLED_BACK: {
        Happening.SUPERSEDED: Phase.RETIRED,  # it stays the one wanted until another is
    },
    Phase.REFUSED: {
        Happening.SUPERSEDED: Phase.RETIRED,
    },
    Phase.RETIRED: {},  # terminal
}

SETTLED = frozenset({Phase.COMMITTED, Phase.ROLLED_BACK, Phase.REFUSED, Phase.RETIRED})
"""Phases a revision stays in until something newer is wanted, or a committed one fails late."""

SERVING = frozenset({Phase.PROBATION, Phase.COMMITTED})
"""Phases in which this very revision answers requests."""


class IllegalHappeningError(Exception):
    """Something happened that the table has no row for: a bug of ours, named by both words."""

    def __init__(self, phase: Phase, happening: Happening) -> None:
        super().__init__(f"a revision that is {phase} can't be {happening}")
        self.phase = phase
        self.happening = happening


def after(phase: Phase, happening: Happening) -> Phase:
    """Return the phase that `happening` leads to.

    Raises:
        IllegalHappeningError: the table has no such row.
    """
    try:
        return PHASES[phase][happening]
    except KeyError:
        raise IllegalHappeningError(phase, happening) from None
