"""Carry plans out: look, decide, write what is due, look again. Blocking, with an async rim.

Rules:
- Everything that decides is pure (`fleet.rollouts.plan`, `fleet.rollouts.rollout`); this reads the
  store, signs, and writes each target's next document with its audit entry and
  the rollout's new state in one transaction. A crash between two leaves work for
  the next pass, never half of something.
- A wake-up carries no input: a pass reads all open rollouts and all of the fleet.
- Nothing is sent here. What was written has a position, and the link publishes it.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog
from pydantic import TypeAdapter
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from agent.wire import codec, v1
from agent.wire.reasons import Reason
from fleet import canonical
from fleet.clock import written
from fleet.identity.join import new_id
from fleet.inventory import Inventory, Target
from fleet.rollouts import rollout
from fleet.rollouts.difference import difference
from fleet.rollouts.plan import Plan, PlanError, PlanReason, find_policy, plan, renewed
from fleet.rollouts.policy import RolloutRequest
from fleet.rollouts.rollout import Progress, Rollout, RolloutEvent
from fleet.rollouts.states import SETTLED, RolloutHappening
from fleet.store import audit, bundles, desired, devices, presence, reported, rollouts
from fleet.store.engine import Store
from fleet.writing import newest, write_desired
from models import card_codec
from models.card import Card
from models.keys import SigningKey

_EPOCH = 0
"""The epoch of a fleet that never lost its store."""

_AT_ONCE = 500
"""Documents signed in one transaction: a writer then waits some tens of milliseconds, no more."""

_PLANS_KEPT = 32
_DIGITS = 6  # of a plan's digest are enough: it is compared with one plan
_CHANGES = 3  # told of a plan that moved; the rest are counted
_PERIOD_S = 5.0
_PAUSE_S = 0.1
_ROLLOUT = TypeAdapter(Rollout)

log = structlog.get_logger("fleet.execute")


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A rollout that runs, and the plan it was started from."""

    id: str
    plan: Plan


class Executor:
    """Plans and carries out a fleet's rollouts; calls `changed` when there is more to publish."""

    def __init__(
        self,
        *,
        fleet: str,
        store: Store,
        key: SigningKey,
        clock: Callable[[], datetime],
        changed: Callable[[], None],
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._key = key
        self._clock = clock
        self._changed = changed
        self._plans: dict[str, Plan] = {}
        self._plans_lock = threading.Lock()
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look again soon. Call it on the loop's thread."""
        self._woken.set()

    async def run(self) -> None:
        """Pass after each wake-up and after each period, until cancelled."""
        while True:
            self._woken.clear()
            try:
                await asyncio.to_thread(self.advance)
            except OperationalError as error:
                # Locked, or the disk is full: nothing was written, and the next pass is the retry.
                log.warning("the store can't be written now", why=str(error.orig))
            try:
                async with asyncio.timeout(_PERIOD_S):
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
        with self._store.read() as connection:
            made = self._plan(connection, request)
        with self._plans_lock:
            self._plans[made.digest] = made
            while len(self._plans) > _PLANS_KEPT:
                del self._plans[next(iter(self._plans))]
        return made

    def start(
        self, request: RolloutRequest, *, if_plan: str | None, actor: str, reason: str
    ) -> Started:
        """Start a rollout, on the condition that its plan is the one that was seen.

        Raises:
            PlanError: nothing can be planned, no target gets a step, or the plan has moved.
        """
        now = self._clock()
        with self._store.write() as connection:
            made = self._plan(connection, request)
            if if_plan is not None:
                self._require(if_plan, made)
            if not made.steps:
                raise _nothing_to_do(made)
            started = Started(id=new_id("r-"), plan=made)
            begun = rollout.fold(
                rollout.begin(made, started.id), [RolloutEvent(rollout=RolloutHappening.STARTED)]
            )
            rollouts.add(
                connection,
                rollouts.KeptRollout(
                    id=started.id,
                    plan=json.dumps(canonical.plain(made)),
                    plan_digest=made.digest,
                    progress=_ROLLOUT.dump_json(begun).decode(),
                    state=begun.state,
                    is_open=True,
                    created_at=written(now),
                ),
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
        return started

    def advance(self) -> None:
        """Bring every open rollout as far as it goes now."""
        with self._store.read() as connection:
            waiting = rollouts.opened(connection)
        for rollout_id in waiting:
            while self._pass(rollout_id):
                pass

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

    def _pass(self, rollout_id: str) -> bool:
        """Look, decide and write once; say whether it changed anything."""
        with self._store.write() as connection:
            kept = rollouts.named(connection, rollout_id)
            before = _ROLLOUT.validate_json(kept.progress)
            inventory = observe(connection, self._fleet)
            after = rollout.fold(before, rollout.seen(before, inventory))
            asked = rollout.due(after)[:_AT_ONCE]
            for progress in asked:
                self._ask(connection, progress, rollout_id)
            if after != before:
                rollouts.move(
                    connection,
                    rollout_id,
                    state=after.state,
                    progress=_ROLLOUT.dump_json(after).decode(),
                    is_open=_is_open(after),
                )
        if asked:
            self._changed()
        return bool(asked) or after != before

    def _ask(self, connection: Connection, progress: Progress, rollout_id: str) -> None:
        """Write a target's next document, signed, where no later one came first."""
        current = newest(connection, progress.target)
        try:
            document = renewed(
                current,
                progress.deployment,
                fleet=self._fleet,
                target=progress.target,
                epoch=_EPOCH,
                issued_at=written(self._clock()),
            )
        except PlanError as error:
            if error.reason is not PlanReason.OVERTAKEN:
                raise
            return  # the next look sees it in the store, and folds it
        write_desired(connection, current, document, key=self._key, actor=rollout_id)

    def _plan(self, connection: Connection, request: RolloutRequest) -> Plan:
        cards = _cards(connection)
        inventory = observe(connection, self._fleet)
        return plan(request, find_policy(request.policy), inventory, cards, self._clock())


def observe(connection: Connection, fleet: str) -> Inventory:
    """Return the fleet as the store last saw it."""
    here = {seen.device: seen for seen in presence.every(connection)}
    told = {report.document.device: report.document for report in reported.every(connection)}
    wanted = {document.target: document.payload for document in desired.every(connection)}
    targets = []
    for device in devices.every(connection):
        seen = here.get(device.id)
        payload = wanted.get(device.id)
        targets.append(
            Target(
                device=device.id,
                name=device.name,
                site=device.site_name,
                labels=device.labels,
                facts=device.facts,
                online=seen is not None and seen.online,
                last_seen=None if seen is None else seen.since,
                desired=None if payload is None else codec.decode(payload, v1.Desired),
                reported=told.get(device.id),
            )
        )
    return Inventory(fleet=fleet, targets=tuple(targets), epoch=_EPOCH)


def progress_of(kept: rollouts.KeptRollout) -> Rollout:
    """Return a kept rollout as the value it is."""
    return _ROLLOUT.validate_json(kept.progress)


def _cards(connection: Connection) -> Mapping[str, Card]:
    return {bundle.digest: card_codec.parse(bundle.card) for bundle in bundles.every(connection)}


def _is_open(now: Rollout) -> bool:
    """Say whether a later look may still change something: targets that are away may come back."""
    return any(progress.state not in SETTLED for progress in now.targets)


def _nothing_to_do(made: Plan) -> PlanError:
    if not made.excluded:
        return PlanError(PlanReason.TARGET_UNKNOWN, "no device matches")
    reasons = sorted({left.reason for left in made.excluded})
    only = PlanReason.NO_CHANGE if reasons == [PlanReason.NO_CHANGE] else made.excluded[0].reason
    return PlanError(
        PlanReason(only) if only in set(PlanReason) else Reason(only),
        f"none of the {len(made.excluded)} devices gets anything: {', '.join(reasons)}",
    )
