"""Who is here: the latest birth of each device, and whether that session has ended.

Rules:
- Sessions are numbered within a device's ledger (the fact `skerry/ledger`). A
  birth counts when its session is higher than the one held, or its ledger is
  another: a device that lost its ledger counts from 1 again.
- A death of an older session than the one held is ignored: the broker may
  deliver a will after the device has come back. One of a newer session counts:
  its birth was missed, and the device was here and is gone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Row, select, update
from sqlalchemy.dialects.sqlite import insert

from agent.wire import v1
from agent.wire.facts import LEDGER
from fleet.store import devices, touched
from fleet.store.tables import presence


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """What is known of a device's presence. `since` is the centre's clock."""

    device: str
    session: int
    online: bool
    since: str
    agent_version: str
    facts: Mapping[str, str]

    @property
    def ledger(self) -> str | None:
        """The ledger in which it numbers sessions and events; None: its birth was missed."""
        return self.facts.get(LEDGER)


def born(connection: Connection, birth: v1.Birth, *, now: str) -> bool:
    """Note that a device is here; False: it is no news."""
    current = held(connection, birth.device)
    if current is not None:
        # Of a session whose birth was missed the ledger is not known: taken to be this one.
        another = current.ledger not in {None, birth.facts.get(LEDGER)}
        if birth.session <= current.session and not another:
            return False
    _put(
        connection,
        Presence(
            device=birth.device,
            session=birth.session,
            online=True,
            since=now,
            agent_version=birth.agent_version,
            facts=birth.facts,
        ),
    )
    devices.learn(connection, birth.device, birth.facts)
    return True


def died(connection: Connection, death: v1.Death, *, now: str) -> bool:
    """Note that a device is gone; False: it is no news."""
    current = held(connection, death.device)
    if current is None:
        gone = Presence(
            device=death.device,
            session=death.session,
            online=False,
            since=now,
            agent_version="",
            facts={},
        )
        _put(connection, gone)
        return True
    if death.session < current.session or (death.session == current.session and not current.online):
        return False
    touched.note(connection, touched.Part.PRESENCE, death.device)
    connection.execute(
        update(presence)
        .where(presence.c.device == death.device)
        .values(session=death.session, online=False, since=now)
    )
    return True


def held(connection: Connection, device: str) -> Presence | None:
    """Return what is known of a device's presence."""
    row = connection.execute(select(presence).where(presence.c.device == device)).one_or_none()
    return None if row is None else _presence(row)


def among(connection: Connection, ids: Iterable[str]) -> Mapping[str, Presence]:
    """Return what is known of these devices' presence, by device."""
    rows = connection.execute(select(presence).where(presence.c.device.in_(set(ids))))
    return {row.device: _presence(row) for row in rows}


def _put(connection: Connection, seen: Presence) -> None:
    values = {
        "session": seen.session,
        "online": seen.online,
        "since": seen.since,
        "agent_version": seen.agent_version,
        "facts": dict(seen.facts),
    }
    touched.note(connection, touched.Part.PRESENCE, seen.device)
    connection.execute(
        insert(presence)
        .values(device=seen.device, **values)
        .on_conflict_do_update(index_elements=[presence.c.device], set_=values)
    )


def _presence(row: Row[*tuple[object, ...]]) -> Presence:
    return Presence(
        device=row.device,
        session=row.session,
        online=row.online,
        since=row.since,
        agent_version=row.agent_version,
        facts=row.facts,
    )
