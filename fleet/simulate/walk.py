"""One simulated device: where it is in the wire's phase table, and what happens to it next. Pure.

The table is `agent.wire.phases.PHASES`, which the agent walks too; here is only what a
device waits for in each phase, and how long. What it does of itself goes on while it is
away: it is just not heard. A download does not: it is put off until the device is back.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from agent.wire.phases import Happening, Phase, after
from agent.wire.reasons import Reason
from agent.wire.v1 import Deployment, Order
from fleet.simulate.twin import FailsIn, Lot

_ONWARD = {
    Phase.VERIFYING: Happening.VERIFIED,
    Phase.STAGING: Happening.STAGED,
    Phase.ACTIVATING: Happening.ACTIVATED,
    Phase.ROLLING_BACK: Happening.RESTORED,
}
"""What comes next, and at once, in phases in which nothing is simulated to go wrong."""

_SHORT_S = 0.05
"""How long what takes no time to speak of takes: a file is checked, a worker seated."""


class Next(NamedTuple):
    """What will happen to a device's revision, in how many seconds, and why."""

    in_s: float
    happening: Happening
    reason: str | None = None


class Told(NamedTuple):
    """What a device says of its deployment, and which document it acts on."""

    observed: Order | None
    wanted: Deployment | None = None
    phase: Phase = Phase.ACCEPTED
    reason: str | None = None


@dataclass(slots=True)
class Walker:
    """A device with one deployment. It is moved by its caller's clock, and by nothing else.

    `proven` is what serves again if the candidate fails, `serving` what serves now, and
    `served` whether the rollout's own content ever did.
    """

    lot: Lot
    digest: str
    online: bool = True
    observed: Order | None = None
    wanted: Deployment | None = None
    phase: Phase = Phase.COMMITTED
    reason: str | None = None
    proven: Deployment | None = None
    before: Deployment | None = None
    serving: Deployment | None = None
    served: bool = False
    condemned: bool = False

    def takes(self, order: Order, wanted: Deployment | None) -> None:
        """Take a document: what it wants of this deployment supersedes what was under way."""
        self.observed = order
        if wanted == self.wanted:
            return
        if self.wanted is not None:
            after(self.phase, Happening.SUPERSEDED)
        if wanted is None:
            self.proven = self.serving = self.before = None
        self.wanted, self.phase, self.reason = wanted, Phase.ACCEPTED, None

    def next(self) -> Next | None:
        """Return what happens to it next by itself; None: nothing, until somebody wants more."""
        if self.wanted is None:
            return None
        mine = self.wanted.bundle.digest == self.digest
        find = _NEXT.get(self.phase)
        return None if find is None else find(self, mine)

    def happens(self, happening: Happening, reason: str | None = None) -> None:
        """Go where the table leads."""
        self.phase = after(self.phase, happening)
        self.reason = reason if reason is not None else self.reason
        match happening:
            case Happening.ACTIVATED:
                self.serving, self.reason = self.wanted, None
                self.served = self.served or self._mine()
            case Happening.PROVEN:
                self.before, self.proven = self.proven, self.serving
            case Happening.ADOPTED:
                self.serving = self.proven = self.wanted
            case Happening.RESTORED:
                mine_failed = self.serving is self.proven
                self.proven = self.before if mine_failed else self.proven
                self.serving, self.before = self.proven, None
            case Happening.FAILED:
                self.condemned = self.condemned or self._mine()
            case _:
                pass  # nothing of what serves changes

    def told(self) -> Told:
        """Return what it would report now."""
        return Told(self.observed, self.wanted, self.phase, self.reason)

    def _mine(self) -> bool:
        return self.wanted is not None and self.wanted.bundle.digest == self.digest


def _accepted(walker: Walker, mine: bool) -> Next | None:  # noqa: FBT001  # as all of _NEXT
    wanted = walker.wanted
    if walker.proven is not None and wanted == replace(walker.proven, revision=_revision(walker)):
        return Next(_SHORT_S, Happening.ADOPTED)
    if mine and walker.condemned:
        return Next(_SHORT_S, Happening.FAILED, Reason.QUARANTINED)
    return Next(_SHORT_S, Happening.BEGUN) if walker.online else None


def _revision(walker: Walker) -> int:
    return 0 if walker.wanted is None else walker.wanted.revision


def _fetching(walker: Walker, mine: bool) -> Next:  # noqa: FBT001  # as all of _NEXT
    if not walker.online:
        return Next(_SHORT_S, Happening.DEFERRED, Reason.REGISTRY_UNREACHABLE)
    return Next(walker.lot.fetch_s if mine else _SHORT_S, Happening.FETCHED)


def _testing(walker: Walker, mine: bool) -> Next:  # noqa: FBT001  # as all of _NEXT
    if mine and walker.lot.fails_in is FailsIn.TESTING:
        return Next(walker.lot.test_s, Happening.FAILED, Reason.GOLDEN_MISMATCH)
    compared = walker.wanted is not None and walker.wanted.settings.shadow is not None
    shadowed = compared and walker.proven is not None
    return Next(walker.lot.test_s, Happening.SHADOWED if shadowed else Happening.TESTED)


def _shadowing(walker: Walker, _: bool) -> Next:  # noqa: FBT001  # as all of _NEXT
    shadow = None if walker.wanted is None else walker.wanted.settings.shadow
    return Next(_SHORT_S if shadow is None else shadow.limit_s, Happening.AGREED)


def _probation(walker: Walker, mine: bool) -> Next:  # noqa: FBT001  # as all of _NEXT
    probation_s = 0.0 if walker.wanted is None else walker.wanted.settings.probation_s
    lot = walker.lot
    if mine and lot.fails_in is FailsIn.SERVING and lot.fails_after_s < probation_s:
        return Next(lot.fails_after_s, Happening.FAILED, Reason.PROBATION_FAILED)
    return Next(probation_s, Happening.PROVEN)


def _committed(walker: Walker, mine: bool) -> Next | None:  # noqa: FBT001  # as all of _NEXT
    lot = walker.lot
    if not mine or lot.fails_in is not FailsIn.SERVING or walker.before is None:
        return None  # with nothing before it, it serves on as well as it can
    probation_s = 0.0 if walker.wanted is None else walker.wanted.settings.probation_s
    in_s = max(_SHORT_S, lot.fails_after_s - probation_s)
    return Next(in_s, Happening.FAILED, Reason.WORKER_CRASHED)


def _shortly(walker: Walker, _: bool) -> Next:  # noqa: FBT001  # as all of _NEXT
    return Next(_SHORT_S, _ONWARD[walker.phase])


_NEXT: dict[Phase, Callable[[Walker, bool], Next | None]] = {
    Phase.ACCEPTED: _accepted,
    Phase.FETCHING: _fetching,
    Phase.VERIFYING: _shortly,
    Phase.STAGING: _shortly,
    Phase.TESTING: _testing,
    Phase.SHADOWING: _shadowing,
    Phase.ACTIVATING: _shortly,
    Phase.PROBATION: _probation,
    Phase.COMMITTED: _committed,
    Phase.ROLLING_BACK: _shortly,
}
"""What a device waits for in each phase. In those that are missing it stays."""
