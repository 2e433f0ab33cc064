"""How every device was in the last thirty days: slots of time, packed by day.

A document that came at once adds to the slot that is open, one short row a device; when the next
slot begins, the row goes into its day. So a document costs one small write, however long a day is.
One that waited goes into the day that it is of. Both are counted once: of events the ledger's
numbers tell which are new (`fleet.store.events.unheard`), of the others the marks of the last
`_SEEN` are remembered, since a broken connection sends only those again.

A device's days are looked through when it begins one: what is older than yesterday is put together
to hours, what is older than thirty days goes. A device that is gone keeps what it had.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, and_, delete, select
from sqlalchemy.dialects.sqlite import insert

from agent.wire import v1
from fleet.health.days import (
    COARSE_S,
    DAY_S,
    FINE_S,
    Day,
    belongs,
    coarsened,
    is_kept,
    pack_day,
    second_of,
    step_of,
    unpack_day,
    with_slot,
)
from fleet.health.slots import Slot, merged, pack, slot_of, unpack
from fleet.store.keyed import joined
from fleet.store.tables import devices, health_days, health_open

_SEEN = 16
_MARK = 8


@dataclass(slots=True, kw_only=True)
class _Open:
    """The slot that is being filled, and the marks of the last documents in it or before."""

    begin: int = 0
    slot: Slot = field(default_factory=Slot)
    seen: tuple[bytes, ...] = ()

    def knows(self, mark: bytes) -> bool:
        return mark in self.seen

    def note(self, mark: bytes) -> None:
        self.seen = (*self.seen, mark)[-_SEEN:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A slot that is kept: when it begins, by the centre's clock, and how long it is."""

    begin: int
    length_s: int
    slot: Slot


def add(
    connection: Connection,
    came: Sequence[v1.Health],
    waited: Sequence[v1.Event],
    *,
    now: str,
) -> None:
    """Add documents that came at once, and events (each told for the first time) that waited."""
    late = [(each.device, each.health) for each in waited if each.health is not None]
    ids = {each.device for each in came} | {device for device, _ in late}
    if not ids:
        return
    arrived = _second(now)
    held = _held_open(connection, ids)
    days: dict[tuple[str, int], list[tuple[int, Slot]]] = {}

    def put(device: str, moment: int, slot: Slot) -> None:
        days.setdefault((device, moment // DAY_S), []).append((moment % DAY_S, slot))

    touched = set()
    for document in came:
        mine, mark = held.setdefault(document.device, _Open()), _mark(document)
        if mine.knows(mark):
            continue
        touched.add(document.device)
        begin = arrived - arrived % FINE_S
        if mine.begin != begin:
            if mine.slot.documents:
                put(document.device, mine.begin, mine.slot)
            mine.begin, mine.slot = begin, Slot()
        mine.slot = merged((mine.slot, slot_of(document, late=False)))
        mine.note(mark)
    joined_at = _joined_at(connection, {device for device, _ in late})
    for device, document in late:
        if device in held and held[device].knows(_mark(document)):
            continue
        moment = belongs(arrived, measured=second_of(document.at), joined=joined_at[device])
        put(device, moment, slot_of(document, late=True))
    _put_open(connection, {device: held[device] for device in touched})
    _put_days(connection, days, today=arrived // DAY_S)


def between(connection: Connection, device: str, begin: int, end: int) -> Sequence[Stretch]:
    """Return a device's slots that begin in a stretch of time, in order."""
    rows = connection.execute(
        select(health_days).where(
            health_days.c.device == device,
            health_days.c.day >= begin // DAY_S,
            health_days.c.day <= end // DAY_S,
        )
    )
    found = {row.day: unpack_day(row.day, row.step_s, row.slots) for row in rows}
    current = _held_open(connection, {device}).get(device)
    if current is not None and current.slot.documents:
        day, second = divmod(current.begin, DAY_S)
        page = found.get(day, Day(day=day, step_s=FINE_S, slots={}))
        found[day] = with_slot(page, second, current.slot)
    return [
        Stretch(begin=moment, length_s=page.step_s, slot=slot)
        for _, page in sorted(found.items())
        for second, slot in sorted(page.slots.items())
        if begin <= (moment := page.day * DAY_S + second) < end
    ]


def _put_days(
    connection: Connection,
    added: Mapping[tuple[str, int], Sequence[tuple[int, Slot]]],
    *,
    today: int,
) -> None:
    keys = [key for key in added if is_kept(key[1], today)]
    if not keys:
        return
    there = {
        (row.device, row.day): unpack_day(row.day, row.step_s, row.slots)
        for _, found in joined(health_days, ("device", "day"), keys)
        for row in connection.execute(select(health_days).select_from(found))
        if row.device is not None
    }
    pages = []
    for key in keys:
        page = there.get(key, Day(day=key[1], step_s=step_of(key[1], today), slots={}))
        for second, slot in added[key]:
            page = with_slot(page, second, slot)
        pages.append((key[0], page))
    _write(connection, pages)
    begun = {device for device, day in keys if (device, day) not in there}
    if begun:
        _put_together(connection, begun, today=today)


def _put_together(connection: Connection, ids: set[str], *, today: int) -> None:
    """Put the older days of some devices together to hours, and forget those of long ago."""
    mine = health_days.c.device.in_(ids)
    oldest = today
    while is_kept(oldest, today):
        oldest -= 1
    connection.execute(delete(health_days).where(mine, health_days.c.day <= oldest))
    fine = today
    while step_of(fine, today) == FINE_S:
        fine -= 1
    rows = connection.execute(
        select(health_days).where(
            and_(mine, health_days.c.step_s != COARSE_S, health_days.c.day <= fine)
        )
    )
    old = [(row.device, unpack_day(row.day, row.step_s, row.slots)) for row in rows]
    _write(connection, [(device, coarsened(page)) for device, page in old])


def _write(connection: Connection, pages: Sequence[tuple[str, Day]]) -> None:
    if not pages:
        return
    put = insert(health_days)
    connection.execute(
        put.on_conflict_do_update(
            index_elements=[health_days.c.device, health_days.c.day],
            set_={"step_s": put.excluded.step_s, "slots": put.excluded.slots},
        ),
        [
            {"device": device, "day": page.day, "step_s": page.step_s, "slots": pack_day(page)}
            for device, page in pages
        ],
    )


def _held_open(connection: Connection, ids: set[str]) -> dict[str, _Open]:
    rows = connection.execute(select(health_open).where(health_open.c.device.in_(ids)))
    return {
        row.device: _Open(
            begin=row.begin,
            slot=unpack(row.slot),
            seen=tuple(row.seen[place : place + _MARK] for place in range(0, len(row.seen), _MARK)),
        )
        for row in rows
    }


def _put_open(connection: Connection, held: Mapping[str, _Open]) -> None:
    if not held:
        return
    put = insert(health_open)
    connection.execute(
        put.on_conflict_do_update(
            index_elements=[health_open.c.device],
            set_={
                "begin": put.excluded.begin,
                "slot": put.excluded.slot,
                "seen": put.excluded.seen,
            },
        ),
        [
            {
                "device": device,
                "begin": each.begin,
                "slot": pack(each.slot),
                "seen": b"".join(each.seen),
            }
            for device, each in held.items()
        ],
    )


def _joined_at(connection: Connection, ids: set[str]) -> Mapping[str, int]:
    query = select(devices.c.id, devices.c.joined_at).where(devices.c.id.in_(ids))
    return {row.id: _second(row.joined_at) for row in connection.execute(query)}


def _mark(document: v1.Health) -> bytes:
    """Return what tells a document from the others of its device, by which it is known again."""
    told = (
        document.session,
        document.at,
        document.told,
        document.cpu_ratio,
        document.memory_used_bytes,
        sum(each.requests for each in document.deployments),
    )
    return hashlib.blake2b(repr(told).encode(), digest_size=_MARK).digest()


def _second(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp())
