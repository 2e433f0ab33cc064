"""Who is in the fleet, and what each device contributes to alerts: read once, then kept.

Reading every document of a large fleet takes a minute; seeing which of them are others than at
the last look takes a second. So a device is read again when something of it has changed, and a
health document that shows nothing, of a device that showed nothing, costs only its own reading.
What is kept is what reading everything anew would give (a test compares them). Blocking.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, select

from agent.wire import codec, v1
from fleet.alerts.notes import Noted, note, shows_nothing
from fleet.clock import written
from fleet.health.drift import Drift
from fleet.health.heard import Heard
from fleet.store import desired, devices, drift, health, presence, reported
from fleet.store.tables import desired as desired_table
from fleet.store.tables import devices as devices_table
from fleet.store.tables import health as health_table
from fleet.store.tables import presence as presence_table
from fleet.store.tables import reported as reported_table
from fleet.store.targets import target_of

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class _Print:
    """What tells a device's documents from others: not their content, which is dear to read.

    `rest` is all but its health, and but whether it is here (`here`), which is read at once.
    `told_at` and `felt_at` are when its report and its health came, to the second: within that
    second another one may come that looks the same.
    """

    rest: tuple[object, ...]
    health: tuple[object, ...]
    here: tuple[bool, str] | None
    told_at: str
    felt_at: str


@dataclass(frozen=True, slots=True)
class _Entry:
    print: _Print
    noted: Noted
    period_s: float | None


class Roll:
    """Keeps a note of every device between looks."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._read_at = ""

    def read(self, connection: Connection, now: datetime) -> Sequence[Noted]:
        """Return what is noted of every device, after reading what has changed."""
        prints = dict(_prints(connection))
        felt: list[str] = []
        changed: list[str] = []
        for device, seen in prints.items():
            entry = self._entries.get(device)
            again = seen.told_at >= self._read_at
            if entry is None or again or entry.print.rest != seen.rest:
                changed.append(device)
                continue
            if entry.print.here != seen.here:
                if seen.here is None or entry.print.here is None:
                    changed.append(device)
                    continue
                self._entries[device] = entry = _came_or_went(entry, seen, *seen.here)
            if entry.print.health == seen.health and seen.felt_at < self._read_at:
                continue
            (changed if entry.noted.signs else felt).append(device)
        changed += self._feel(connection, prints, felt)
        self._read(connection, prints, changed, now)
        # In the order of names, and without those that are no more.
        self._entries = {device: self._entries[device] for device in prints}
        self._read_at = written(now)
        return [entry.noted for entry in self._entries.values()]

    def _feel(
        self, connection: Connection, prints: dict[str, _Print], ids: Sequence[str]
    ) -> list[str]:
        """Read the health of devices that showed nothing; return who must be read as a whole."""
        rest = set(ids)
        for start in range(0, len(ids), _AT_ONCE):
            for told in health.among(connection, ids[start : start + _AT_ONCE]):
                device = told.document.device
                entry = self._entries[device]
                same = entry.period_s == told.document.period_s
                if same and (told.late or shows_nothing(told.document)):
                    noted = replace(entry.noted, at=max(entry.noted.at, told.received_at))
                    self._entries[device] = _Entry(prints[device], noted, entry.period_s)
                    rest.discard(device)
        return list(rest)

    def _read(
        self, connection: Connection, prints: dict[str, _Print], ids: Sequence[str], now: datetime
    ) -> None:
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            here = presence.among(connection, some)
            told = {each.document.device: each for each in reported.among(connection, some)}
            wanted = {each.target: each for each in desired.among(connection, some)}
            feels = {each.document.device: each for each in health.among(connection, some)}
            drifts = drift.among(connection, some)
            for device in devices.among(connection, some):
                document = wanted.get(device.id)
                felt = feels.get(device.id)
                heard = heard_of(
                    device,
                    here.get(device.id),
                    told.get(device.id),
                    None if document is None else codec.decode(document.payload, v1.Desired),
                    felt,
                    drifts=drifts.get(device.id, ()),
                )
                self._entries[device.id] = _Entry(
                    prints[device.id],
                    note(heard, device.certificate_expires_at, now),
                    None if felt is None else felt.document.period_s,
                )


def _came_or_went(entry: _Entry, seen: _Print, online: bool, since: str) -> _Entry:  # noqa: FBT001  # as it is told
    """Return a device that is here now, or no more: that alone is no reason to read it."""
    noted = replace(entry.noted, online=online, since=since, at=max(entry.noted.at, since))
    return replace(entry, print=replace(entry.print, here=seen.here), noted=noted)


def heard_of(
    device: devices.Device,
    seen: presence.Presence | None,
    told: reported.HeldReport | None,
    wanted: v1.Desired | None,
    feels: health.HeldHealth | None,
    *,
    drifts: tuple[Drift, ...],
) -> Heard:
    """Return what was last heard of a device, from all that the store holds of it."""
    return Heard(
        target=target_of(
            device, seen=seen, told=None if told is None else told.document, wanted=wanted
        ),
        joined_at=device.joined_at,
        reported_at=None if told is None else told.received_at,
        health=None if feels is None else feels.document,
        health_at=None if feels is None else feels.received_at,
        health_late=feels is not None and feels.late,
        drift=drifts,
    )


def _prints(connection: Connection) -> Iterator[tuple[str, _Print]]:
    """Return every device's print, in the order of their names."""
    here, told, felt = presence_table.c, reported_table.c, health_table.c
    of = devices_table.c
    drifts = drift.marks(connection)
    query = (
        select(
            of.id,
            of.name,
            of.site,
            of.certificate_expires_at,
            told.session,
            told.received_at,
            desired_table.c.position,
            felt.received_at,
            felt.number,
            felt.late,
            here.online,
            here.since,
        )
        .select_from(devices_table)
        .outerjoin(presence_table, here.device == of.id)
        .outerjoin(reported_table, told.device == of.id)
        .outerjoin(health_table, felt.device == of.id)
        .outerjoin(desired_table, desired_table.c.target == of.id)
        .order_by(of.name, of.id)
    )
    for row in connection.execute(query):
        device, *rest, told_at, position, health_at, number, late, online, since = row
        yield (
            device,
            _Print(
                rest=(*rest, told_at, position, drifts.get(device)),
                health=(health_at, number, late),
                here=None if since is None else (online, since),
                told_at=told_at or "",
                felt_at=health_at or "",
            ),
        )
