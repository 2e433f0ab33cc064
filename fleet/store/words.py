"""How each device was, in state words: the one of now, and the spans of those before.

A device's latest `KEPT` spans are kept; what is older is summed up by state, so that none
vanishes uncounted. Only another word is written, so that a fleet that is as it was costs nothing
but a row a minute, which says that somebody looked.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from fleet.clock import written
from fleet.health.spoken import Spoken, SpokenSum, Watch, Word, word_of
from fleet.health.states import Verdict
from fleet.store.keyed import joined
from fleet.store.tables import watches, words_now, words_past, words_summed

KEPT = 200

GAP = timedelta(minutes=15)
"""Without a look for so long: nobody knows how the devices were meanwhile. A large fleet that
moves all the time is looked at every few minutes."""

_WATCHES_KEPT = 1000


def note(connection: Connection, changed: Mapping[str, Verdict], now: datetime) -> int:
    """Keep the words of devices where they are others than those that are kept; return how many.

    So many devices at once as one transaction should have: some hundreds.
    """
    held = {
        row["device"]: row
        for row in connection.execute(
            select(words_now).where(words_now.c.device.in_(list(changed)))
        ).mappings()
    }
    at = written(now)
    begun, ended = [], []
    for device, verdict in changed.items():
        word, before = word_of(verdict), held.get(device)
        if before is not None:
            if word == (before["state"], before["reason"], before["subject"]):
                continue
            ended.append({**before, "until": max(at, before["since"])})
        number = 1 if before is None else before["number"] + 1
        begun.append({"device": device, "number": number, "since": at, **word._asdict()})
    if not begun:
        return 0
    put = insert(words_now)
    names = ("number", "state", "reason", "subject", "since")
    connection.execute(
        put.on_conflict_do_update(
            index_elements=[words_now.c.device],
            set_={name: put.excluded[name] for name in names},
        ),
        begun,
    )
    if ended:
        connection.execute(insert(words_past), ended)
        full = [(each["device"], each["number"] - KEPT) for each in ended if each["number"] > KEPT]
        _sum_up(connection, full)
    return len(begun)


def watched(connection: Connection, now: datetime) -> None:
    """Note that somebody looked: as one time with that of the last look, or as another one.

    A look by a clock that was ahead says nothing of the time until then: where the clock is set
    back, the last one ends now.
    """
    at = written(now)
    last = connection.execute(
        select(watches).order_by(watches.c.number.desc()).limit(1)
    ).one_or_none()
    number = 1 if last is None else last.number + 1
    if last is not None:
        until = datetime.fromisoformat(last.until)
        mine = update(watches).where(watches.c.number == last.number)
        if written(until - GAP) <= at <= written(until + GAP):
            connection.execute(mine.values(until=max(at, last.until)))
            return
        if at < last.until:
            connection.execute(mine.values(until=max(at, last.since)))
    connection.execute(insert(watches).values(number=number, since=at, until=at))
    connection.execute(delete(watches).where(watches.c.number <= number - _WATCHES_KEPT))


def of_device(connection: Connection, device: str) -> Sequence[Spoken]:
    """Return the words of a device that are kept, the first one first."""
    past, held = (
        connection.execute(
            select(table).where(table.c.device == device).order_by(table.c.number)
        ).mappings()
        for table in (words_past, words_now)
    )
    return [
        Spoken(
            word=Word(row["state"], row["reason"], row["subject"]),
            since=row["since"],
            until=row.get("until"),
            number=row["number"],
        )
        for row in (*past, *held)
    ]


def summed(connection: Connection, device: str) -> Sequence[SpokenSum]:
    """Return what is no longer kept of a device's words."""
    rows = connection.execute(
        select(words_summed).where(words_summed.c.device == device).order_by(words_summed.c.state)
    )
    return [
        SpokenSum(
            state=row.state,
            spans=row.spans,
            lasted_s=row.lasted_s,
            since=row.since,
            until=row.until,
        )
        for row in rows
    ]


def all_watches(connection: Connection) -> Sequence[Watch]:
    """Return when somebody looked, the first time first."""
    rows = connection.execute(select(watches).order_by(watches.c.number))
    return [Watch(since=row.since, until=row.until) for row in rows]


def _sum_up(connection: Connection, keys: Sequence[tuple[str, int]]) -> None:
    """Add the oldest span of some devices to the sums of its state."""
    going = [
        row
        for _, found in joined(words_past, ("device", "number"), keys)
        for row in connection.execute(select(words_past).select_from(found))
        if row.device is not None
    ]
    if not going:
        return
    put = insert(words_summed)
    connection.execute(
        put.on_conflict_do_update(
            index_elements=[words_summed.c.device, words_summed.c.state],
            set_={
                "spans": words_summed.c.spans + put.excluded.spans,
                "lasted_s": words_summed.c.lasted_s + put.excluded.lasted_s,
                "until": func.max(words_summed.c.until, put.excluded.until),
            },
        ),
        [
            {
                "device": row.device,
                "state": row.state,
                "spans": 1,
                "lasted_s": _length_s(row.since, row.until),
                "since": row.since,
                "until": row.until,
            }
            for row in going
        ],
    )
    for device, number in keys:
        connection.execute(
            delete(words_past).where(words_past.c.device == device, words_past.c.number <= number)
        )


def _length_s(since: str, until: str) -> int:
    span = datetime.fromisoformat(until) - datetime.fromisoformat(since)
    return max(0, int(span.total_seconds()))
