"""Carry plans out: look, decide, write what is due, look again. Blocking, with an async rim.

Rules:
- Everything that decides is pure (`fleet.rollouts`); this reads the
  store, signs, and writes each target's next document with its audit entry and
  the rollout's new state in one transaction. A crash between two leaves work for
  the next pass, never half of something.
- A wake-up carries no input: a pass reads all open rollouts and all of the fleet.
- Nothing is sent here. What was written has a position, and the link publishes it.
"""

import asyncio
import json
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from agent.wire import v1
from agent.wire.reasons import Reason
from fleet import canonical, kept
from fleet.chronicle import Chronicle
from fleet.clock import written
from fleet.health.drift import Counts, Distance
from fleet.health.drift import judge as drifted
from fleet.identity.join import new_id
from fleet.inventory import Inventory
from fleet.kept import Memory, decided_later, overtaking
from fleet.measured import is_measured, measured
from fleet.observe import cards
from fleet.roll import EPOCH, Roll
from fleet.rollouts.asking import due, look_again_at, overtaken
from fleet.rollouts.declared import Declared, declared, wish
from fleet.rollouts.difference import difference
from fleet.rollouts.documents import renewed, without
from fleet.rollouts.errors import PlanError, PlanReason
from fleet.rollouts.fold import fold
from fleet.rollouts.look import seen
from fleet.rollouts.plan import Plan, plan, policy_of
from fleet.rollouts.policy import RolloutRequest
from fleet.rollouts.progress import (
    MeasuredEvent,
    Progress,
    Rollout,
    RolloutEvent,
    TargetEvent,
    begin,
    cut_off,
)
from fleet.rollouts.states import (
    TO_RETURN,
    RolloutHappening,
    RolloutState,
    TargetHappening,
)
from fleet.rollouts.trace import Trace
from fleet.store import audit, desired, rollouts
from fleet.store.drift import references
from fleet.store.engine import Store
from fleet.writing import newest, write_desired
from models.keys import SigningKey

_AT_ONCE = 500
"""Documents signed in one transaction: a writer then waits some tens of milliseconds, no more."""

_PLANS_KEPT = 32
_DIGITS = 6  # of a plan's digest are enough: it is compared with one plan
_CHANGES = 3  # told of a plan that moved; the rest are counted
_PERIOD_S = 5.0
_SOONEST_S = 0.05
_PAUSE_S = 0.1
_UNCONNECTED_S = 0.5

log = structlog.get_logger("fleet.execute")


_AUDITED = {
    RolloutHappening.PAUSED: "rollout.pause",
    RolloutHappening.RESUMED: "rollout.resume",
    RolloutHappening.RETURN_ASKED: "rollout.rollback",
    RolloutHappening.ABORTED: "rollout.abort",
    RolloutHappening.APPROVED: "rollout.approve",
    RolloutHappening.PROMOTED: "rollout.promote",
    RolloutHappening.RETRIED: "rollout.retry",
}
"""What a person may say of a rollout under way, and what the audit calls it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A rollout that runs, its trace, and the plan it was started from."""

    id: str
    plan: Plan
    trace: Trace


class Executor:
    """Plans and carries out a fleet's rollouts.

    `changed` is called when there is more to publish; `connected` says whether
    devices can be heard at all. `chronicle` hears of what was written, and holds nobody up.
    `memory` has the rollouts as they were read last.
    """

    def __init__(
        self,
        *,
        roll: Roll,
        store: Store,
        key: SigningKey,
        clock: Callable[[], datetime],
        changed: Callable[[], None],
        connected: Callable[[], bool],
        chronicle: Chronicle,
    ) -> None:
        self._roll = roll
        self._store = store
        self._key = key
        self._clock = clock
        self._changed = changed
        self._connected = connected
        self._chronicle = chronicle
        self.memory = Memory()
        self._plans: dict[str, Plan] = {}
        self._plans_lock = threading.Lock()
        self._followed: set[str] = set()  # the rollouts this process has looked at before
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look again soon. Call it on the loop's thread."""
        self._woken.set()

    async def run(self) -> None:
        """Pass after each wake-up and after each period, until cancelled.

        Without its broker the centre hears nobody, and nobody can be late: it looks
        again when it is connected, as one that was away itself.
        """
        while True:
            self._woken.clear()
            wait_s = _PERIOD_S
            try:
                if self._connected():
                    wait_s = await asyncio.to_thread(self.advance)
                else:
                    wait_s = _UNCONNECTED_S
                    self._followed.clear()
            except OperationalError as error:
                # Locked, or the disk is full: nothing was written, and the next pass is the retry.
                log.warning("the store can't be written now", why=str(error.orig))
            try:
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()
            except TimeoutError:
                continue
            # What one batch of reports woke us for, the next one often says again.
            await asyncio.sleep(_PAUSE_S)

    def plan(self, request: RolloutRequest) -> Plan:
        """Return what would be done now.

        Raises:
            PlanError: nothing can be planned.
        """
        inventory = self._roll.inventory()
        with self._store.read() as connection:
            made = self._plan(connection, request, inventory)
        with self._plans_lock:
            self._plans[made.digest] = made
            while len(self._plans) > _PLANS_KEPT:
                del self._plans[next(iter(self._plans))]
        return made

    def start(
        self,
        request: RolloutRequest,
        *,
        if_plan: str | None,
        actor: str,
        reason: str,
        trace: Trace | None = None,
        once: bool = False,
    ) -> Started:
        """Start a rollout, on the condition that its plan is the one that was seen.

        It belongs to `trace`; None: to one of its own. `once`: only if a document that
        declares it would start it now (`fleet.rollouts.declared`).

        Raises:
            PlanError: nothing can be planned, no target gets a step, the plan has moved, or
                the last rollout of the same wish stands against it.
        """
        now = self._clock()
        trace = trace or Trace(id=secrets.token_hex(16))
        moved: list[tuple[Rollout, Rollout]] = []
        planned = self._roll.inventory()
        made = self.plan(request)  # that takes long, and keeps no writer waiting
        document = json.dumps(canonical.plain(made))
        with self._store.write() as connection:
            inventory = self._roll.inventory()
            if _wanted(inventory) != _wanted(planned):
                made = self._plan(connection, request, inventory)
                document = json.dumps(canonical.plain(made))
            if if_plan is not None:
                self._require(if_plan, made)
            if not made.steps:
                raise _nothing_to_do(made)
            if once:
                self._require_new(connection, made)
            started = Started(id=new_id("r-"), plan=made, trace=trace)
            word = RolloutEvent(rollout=RolloutHappening.STARTED, by=actor, reason=reason)
            begun = fold(begin(made, started.id, trace), [word], now)
            for older in rollouts.opened(connection):
                before = self.memory.read(connection, older)
                # Looked at first: who was asked a moment ago is on the way, and not overtaken.
                after = self._as_seen(before, inventory, now)
                after = fold(after, overtaken(after, made), now)
                self.memory.keep(connection, before, after)
                moved.append((before, after))
            kept.add(
                connection,
                begun,
                plan=document,
                created_at=written(now),
                policy=made.policy.name,
                wish=wish(made.request),
                settings_given=made.request.settings is not None,
            )
            audit.add(
                connection,
                audit.Entry(
                    at=written(now),
                    actor=actor,
                    action="rollout.start",
                    subject=started.id,
                    reason=reason,
                    after={"plan": made.digest, "targets": len(made.steps)},
                ),
            )
        self._followed.add(started.id)
        self._chronicle.started(begun)
        for before, after in moved:
            self._chronicle.moved(before, after, now)
        return started

    def _require_new(self, connection: Connection, made: Plan) -> None:
        last = self.last(connection, made.request)
        if last is not None and declared(made, last) is not Declared.START:
            raise PlanError(PlanReason.NO_CHANGE, f"{last.id} of the same wish is {last.state}")

    def last(self, connection: Connection, request: RolloutRequest) -> Rollout | None:
        """Return the newest rollout of the same wish; None: there was none."""
        kept_as = rollouts.wishing(connection, wish(request))
        return None if kept_as is None else self.memory.whole(connection, kept_as)

    def say(
        self,
        rollout_id: str,
        word: RolloutHappening,
        *,
        actor: str,
        reason: str,
        wave: int | None = None,
    ) -> Rollout:
        """Apply a person's word to a rollout: paused, resumed, and so on.

        Raises:
            NotFoundError: there is no such rollout.
            IllegalEventError: not in the state it is in; nothing changed.
        """
        now = self._clock()
        self._roll.inventory()  # the first reading keeps no writer waiting
        with self._store.write() as connection:
            before = self.memory.read(connection, rollout_id)
            # Looked at first: nobody who was asked a moment ago is taken for one who never was.
            inventory = self._roll.inventory()
            after = self._as_seen(before, inventory, now)
            if word is RolloutHappening.RETURN_ASKED:
                after = fold(after, _taken_over(connection, after, inventory), now)
            said = RolloutEvent(rollout=word, by=actor, reason=reason, wave=wave)
            if word is RolloutHappening.RETRIED:
                said = replace(said, left_out=decided_later(connection, before))
            after = fold(after, [said], now)
            self.memory.keep(connection, before, after)
            audit.add(
                connection,
                audit.Entry(
                    at=written(now),
                    actor=actor,
                    action=_AUDITED[word],
                    subject=rollout_id,
                    reason=reason,
                    before={"state": before.state},
                    after={"state": after.state},
                ),
            )
        self._chronicle.moved(before, after, now)
        return after

    def carry(self, target: str, *, actor: str) -> bytes | None:
        """Return a device's newest signed document, for somebody who carries it there.

        Where a rollout has come to it and waits only for it to be in reach, it is asked
        first: no wave is opened, and no canary passed over, for a stick.

        Returns None where nothing was ever wanted of it.
        """
        now = self._clock()
        moved: list[tuple[Rollout, Rollout]] = []
        self._roll.inventory()  # the first reading keeps no writer waiting
        with self._store.write() as connection:
            inventory = self._roll.inventory()
            for rollout in rollouts.opened(connection):
                before = self.memory.read(connection, rollout)
                after = self._as_seen(before, inventory, now)
                for progress in due(after, now, carried_to=target):
                    if progress.target == target:
                        self._ask(connection, after, progress)
                self.memory.keep(connection, before, after)
                moved.append((before, after))
            held = desired.held(connection, target)
            if held is not None:
                entry = audit.Entry(
                    at=written(now),
                    actor=actor,
                    action="device.export",
                    subject=target,
                    after={"epoch": held.order.epoch, "generation": held.order.generation},
                )
                audit.add(connection, entry)
        for before, after in moved:
            self._chronicle.moved(before, after, now)
        self._changed()
        return held.envelope if held else None

    def advance(self) -> float:
        """Bring every open rollout as far as it goes now; return in how many seconds to look again.

        Sooner than that only a wake-up gives reason to look.
        """
        now = self._clock()
        with self._store.read() as connection:
            waiting = rollouts.opened(connection)
        wait_s = _PERIOD_S
        for rollout_id in waiting:
            moving, after = self._pass(rollout_id)
            while moving:
                moving, after = self._pass(rollout_id)
            self._followed.add(rollout_id)
            again = look_again_at(after, now)
            if again is not None:
                wait_s = min(wait_s, max(_SOONEST_S, (again - now).total_seconds()))
        return wait_s

    def _require(self, digest: str, made: Plan) -> None:
        """Hold the world to the plan that a person saw: its digest, or the first digits of it."""
        digits = digest.removeprefix("sha256:")
        if len(digits) >= _DIGITS and made.digest.removeprefix("sha256:").startswith(digits):
            return
        with self._plans_lock:
            seen = [plan for key, plan in self._plans.items() if digits and digits in key]
        if len(seen) != 1:
            raise PlanError(PlanReason.PLAN_CHANGED, f"the plan is {made.digest} now")
        changes = [str(change) for change in difference(seen[0], made)]
        rest = f"; and {len(changes) - _CHANGES} more" if len(changes) > _CHANGES else ""
        raise PlanError(PlanReason.PLAN_CHANGED, "; ".join(changes[:_CHANGES]) + rest)

    def _pass(self, rollout_id: str) -> tuple[bool, Rollout]:
        """Look, decide and write once; say whether that changed anything.

        Looking keeps no writer waiting: what was decided is written where the rollout is still
        the one that was looked at. A newer document than was seen is left as it is (`_ask`).
        """
        now = self._clock()
        with self._store.read() as connection:
            before = self.memory.read(connection, rollout_id)
        after, asked = self._decided(before, now)
        if not asked and after == before:
            return False, after
        with self._store.write() as connection:
            held = self.memory.read(connection, rollout_id)
            if held is not before:
                before = held
                after, asked = self._decided(before, now)
            for progress in asked:
                self._ask(connection, after, progress)
            self.memory.keep(connection, before, after)
        self._followed.add(rollout_id)
        self._chronicle.moved(before, after, now)
        if asked:
            self._changed()
        return True, after

    def _decided(self, held: Rollout, now: datetime) -> tuple[Rollout, tuple[Progress, ...]]:
        """Return a rollout as it is seen now, and whom to ask."""
        after = self._as_seen(held, self._roll.inventory(patience_s=None), now)
        return after, due(after, now)[:_AT_ONCE]

    def _as_seen(self, held: Rollout, inventory: Inventory, now: datetime) -> Rollout:
        """Return a rollout as the store shows it now.

        While there was no centre nobody could be heard, and no deadline ran.
        """
        before = held if held.id in self._followed else cut_off(held, now)
        told = self._told(before, now) if is_measured(before) else ()
        return fold(before, (*told, *seen(before, inventory, now)), now)

    def _told(self, rollout: Rollout, now: datetime) -> tuple[MeasuredEvent, ...]:
        """Return what devices told since the last look that the rollout's checks read."""
        heard = {known.device.id: known.heard for known in self._roll.call(patience_s=None)}
        return measured(rollout, heard, now, self._drifted)

    def _drifted(self, digest: str, counts: Counts) -> tuple[Distance, ...]:
        with self._store.read() as connection:
            return drifted(references(connection, digest), counts)

    def _ask(self, connection: Connection, rollout: Rollout, progress: Progress) -> None:
        """Write a target's next document, signed, where no later one came first."""
        current = newest(connection, progress.target)
        try:
            document = self._next(current, rollout, progress)
        except PlanError as error:
            if error.reason is not PlanReason.OVERTAKEN:
                raise
            return  # the next look sees it in the store, and folds it
        write_desired(connection, current, document, key=self._key, actor=rollout.id)

    def _next(self, current: v1.Desired | None, rollout: Rollout, progress: Progress) -> v1.Desired:
        """Return what is asked of a target next, also on the way back: in the rollout's trace."""
        trace_id = rollout.trace.id if rollout.trace else None
        issued_at, deployment = written(self._clock()), progress.deployment
        if rollout.state is RolloutState.ROLLING_BACK:
            if progress.returning is None:
                return without(
                    current, deployment.name, revision=deployment.revision, issued_at=issued_at
                )
            deployment = progress.returning
        return renewed(
            current,
            replace(deployment, trace_id=trace_id),
            fleet=self._roll.fleet,
            target=progress.target,
            epoch=EPOCH,
            issued_at=issued_at,
        )

    def _plan(self, connection: Connection, request: RolloutRequest, inventory: Inventory) -> Plan:
        policy = policy_of(request)
        return plan(request, policy, inventory, cards(connection), self._clock())


def _wanted(inventory: Inventory) -> list[tuple[str, v1.Desired | None]]:
    """Return what a plan must not be wrong about: who there is, and what is wanted of each.

    What devices say is a little old in any case.
    """
    return [(each.device, each.desired) for each in inventory.targets]


def _taken_over(
    connection: Connection, rollout: Rollout, inventory: Inventory
) -> list[TargetEvent]:
    """Return whose content a later rollout has brought once more: a return is not about them."""
    found = {each.device: each.wanted(rollout.deployment) for each in inventory.targets}
    wanted = {target: deployment for target, deployment in found.items() if deployment is not None}
    brought = overtaking(connection, rollout, wanted).brought
    return [
        TargetEvent(target=progress.target, happening=TargetHappening.OVERTAKEN)
        for progress in rollout.targets
        if progress.target in brought and progress.state in TO_RETURN
    ]


def _nothing_to_do(made: Plan) -> PlanError:
    if not made.excluded:
        return PlanError(PlanReason.TARGET_UNKNOWN, "no device matches")
    reasons = sorted({left.reason for left in made.excluded})
    only = PlanReason.NO_CHANGE if reasons == [PlanReason.NO_CHANGE] else made.excluded[0].reason
    return PlanError(
        PlanReason(only) if only in set(PlanReason) else Reason(only),
        f"none of the {len(made.excluded)} devices gets anything: {', '.join(reasons)}",
    )
