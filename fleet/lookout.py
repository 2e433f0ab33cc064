"""Looks out for what is wrong: looks, decides, keeps, wakes who tells; and keeps people's words.

Level-triggered: a look reads what there is and needs no memory of the last one but to be cheap.
What decides is pure (`fleet.alerts`). A look runs off the loop. Blocking, with an async rim.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from fleet.alerts.alert import OPEN, Ack, Alert, Silence, acknowledged
from fleet.alerts.cause import Scope
from fleet.alerts.fold import fold
from fleet.alerts.notes import Noted, note
from fleet.alerts.rules import Causes, causes
from fleet.alerts.world import World
from fleet.clock import written
from fleet.health.judging import Held, held
from fleet.health.states import HealthReason, Verdict
from fleet.identity.join import new_id
from fleet.kept import outline_of
from fleet.known import Known
from fleet.roll import Roll
from fleet.rollouts.outline import Outline
from fleet.store import alerts, audit, rollouts
from fleet.store.engine import Store
from fleet.store.errors import AlertOverError, ConflictError
from fleet.words import Words

PERIOD_S = 5.0
"""Between two looks, however long one took: a large fleet that moves all the time leaves time for
others."""

_ROLLOUTS_READ = 20
"""The newest; older ones are read only while they are open, or an alert of theirs is."""

log = structlog.get_logger("fleet.lookout")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A device as it was last looked at."""

    known: Known
    noted: Noted
    held: Held


def _known_of(
    entries: Iterable[_Entry], now: datetime, hearing_since: datetime
) -> Iterator[tuple[str, Verdict]]:
    """Return how devices are, but of whom nobody knows.

    While the centre itself heard nothing nobody fell silent: each has as long to speak since then
    as it may be silent (so do alerts: `fleet.alerts.find`).
    """
    listened_s = (now - hearing_since).total_seconds()
    for each in entries:
        told = each.held.told
        if told.finding.reason != HealthReason.SILENT or listened_s > each.noted.quiet_after_s:
            yield each.noted.device, told


class Lookout:
    """`run()` until cancelled; `changed` is called (in any thread) when there is something to tell.

    `connected` says whether the centre hears its broker; `certificates` are its own, with their
    ends.
    """

    def __init__(
        self,
        *,
        store: Store,
        roll: Roll,
        clock: Callable[[], datetime],
        connected: Callable[[], bool],
        certificates: Mapping[str, datetime],
        changed: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._connected = connected
        self._certificates = certificates
        self._changed = changed
        self._roll = roll
        self._entries: dict[str, _Entry] = {}
        self._words = Words(store)
        self._hearing_since: datetime | None = None
        self._looked_at: datetime | None = None

    @property
    def looked_at(self) -> datetime | None:
        """When the rules were last evaluated; None: not yet."""
        return self._looked_at

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except OperationalError as error:
                # Locked, or the disk is full: nothing was written, and the next look is the retry.
                log.warning("the store can't be written now", why=str(error.orig))
            await asyncio.sleep(PERIOD_S)

    def look(self) -> None:
        """Look once, and keep what has changed by that."""
        now = self._clock()
        if not self._connected():
            self._hearing_since = None
        elif self._hearing_since is None:
            self._hearing_since = now
        self._note(now)
        with self._store.read() as connection:
            before = alerts.live(connection, now)
            world = World(
                now=now,
                hearing_since=self._hearing_since,
                notes=[each.noted for each in self._entries.values()],
                rollouts=self._under_way(connection, before),
                certificates=self._certificates,
            )
        self._alert(before, causes(world), now)
        self._looked_at = now
        if self._hearing_since is not None:
            heard = _known_of(self._entries.values(), now, self._hearing_since)
            self._words.keep(heard, now)

    def _alert(self, before: Sequence[Alert], found: Causes, now: datetime) -> None:
        """Keep alerts as they are now, and wake who tells where there is news."""
        if fold(before, found, now).alerts == tuple(before):
            return
        with self._store.write() as connection:
            # Read again: a person may have said something meanwhile.
            before = alerts.live(connection, now)
            after = fold(before, found, now, position=alerts.head(connection))
            alerts.keep(connection, before, after.alerts)
        for event in after.events:
            log.info("alert", alert=event.alert, news=event.news, devices=event.devices)
        if after.events:
            self._changed()

    def ack(self, name: str, *, actor: str, reason: str) -> Alert:
        """Note that somebody is on an alert: that it grows is no news from now on.

        Raises:
            NotFoundError: there is none with this id.
            AlertOverError: it is over.
        """
        now = written(self._clock())
        with self._store.write() as connection:
            alert = alerts.named(connection, name)
            if alert.state not in OPEN:
                raise AlertOverError(name)
            alert = acknowledged(alert, Ack(by=actor, reason=reason, at=now))
            alerts.put(connection, alert)
            entry = audit.Entry(
                at=now,
                actor=actor,
                action="alert.ack",
                subject=name,
                reason=reason,
                after={"rule": alert.key.rule, "subject": alert.key.subject},
            )
            audit.add(connection, entry)
        return alert

    def silence(
        self,
        *,
        rule: str | None,
        site: str | None,
        bundle: str | None,
        for_s: int,
        actor: str,
        reason: str,
    ) -> Silence:
        """Tell nobody of alerts that match all that is given, for a time.

        Raises:
            ConflictError: too many silences hold.
        """
        now = self._clock()
        wanted = Silence(
            id=new_id("q-"),
            rule=rule,
            site=site,
            bundle=bundle,
            until=written(now + timedelta(seconds=for_s)),
            by=actor,
            reason=reason,
            created_at=written(now),
        )
        with self._store.write() as connection:
            holding = alerts.silences_after(connection, written(now))
            if len(holding) >= alerts.SILENCES_LIMIT:
                raise ConflictError(f"{len(holding)} silences hold already")
            alerts.silence(connection, wanted)
            entry = audit.Entry(
                at=written(now),
                actor=actor,
                action="alert.silence",
                subject=wanted.id,
                reason=reason,
                after={"rule": rule, "site": site, "bundle": bundle, "until": wanted.until},
            )
            audit.add(connection, entry)
        self._changed()
        return wanted

    def end_silence(self, name: str, *, actor: str, reason: str) -> Silence:
        """Let a silence end: what it kept back is told now.

        Raises:
            NotFoundError: none with this id holds.
        """
        now = written(self._clock())
        with self._store.write() as connection:
            ended = alerts.end_silence(connection, name, now=now)
            entry = audit.Entry(
                at=now,
                actor=actor,
                action="alert.silence.end",
                subject=name,
                reason=reason,
                before={"until": ended.until},
                after={"until": now},
            )
            audit.add(connection, entry)
        self._changed()
        return ended

    def _note(self, now: datetime) -> None:
        """Look at every device; of whom nothing new is known, what was noted is kept."""
        entries: dict[str, _Entry] = {}
        for known in self._roll.call(patience_s=None):
            device = known.device
            kept = self._entries.get(device.id)
            judged = held(known.heard, now, None if kept is None else kept.held)
            if kept is None or kept.known is not known:
                noted = note(known.heard, device.certificate_expires_at, now)
                kept = _Entry(known, noted, judged)
            elif kept.held is not judged:
                kept = replace(kept, held=judged)
            entries[device.id] = kept
        self._entries = entries

    def _under_way(self, connection: Connection, before: Iterable[Alert]) -> tuple[Outline, ...]:
        """Return the newest rollouts and all that are open, or have an alert that is."""
        also = [
            each.key.subject
            for each in before
            if each.key.scope is Scope.ROLLOUT and each.state in OPEN
        ]
        return tuple(map(outline_of, rollouts.recent(connection, _ROLLOUTS_READ, also)))
