"""Devices and their sites. Labels are set by people; facts are what a device says of itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, Select, insert, select, update

from fleet.store import touched
from fleet.store.errors import AmbiguousError, NotFoundError
from fleet.store.tables import devices, sites


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place whose devices share a link."""

    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device as it joined. `site` is its site's id, `site_name` what people call it."""

    id: str
    name: str
    site: str | None
    site_name: str | None
    labels: Mapping[str, str]
    facts: Mapping[str, str]
    serial: str
    certificate_expires_at: str
    joined_at: str


def add(connection: Connection, device: Device) -> None:
    """Add a device that joins. Its id is new: ids are never reused."""
    touched.note(connection, touched.Part.DEVICE, device.id)
    connection.execute(
        insert(devices).values(
            id=device.id,
            name=device.name,
            site=device.site,
            labels=dict(device.labels),
            facts=dict(device.facts),
            serial=device.serial,
            certificate_expires_at=device.certificate_expires_at,
            joined_at=device.joined_at,
        )
    )


def every(connection: Connection) -> Sequence[Device]:
    """Return all devices by name, then id."""
    query = _devices().order_by(devices.c.name, devices.c.id)
    return [_device(row) for row in connection.execute(query)]


def among(connection: Connection, ids: Sequence[str]) -> Sequence[Device]:
    """Return those of these devices that there are."""
    return [_device(row) for row in connection.execute(_devices().where(devices.c.id.in_(ids)))]


def named(connection: Connection, name: str) -> Device:
    """Return the device with this id, or else the one with this name.

    Raises:
        NotFoundError: there is none.
        AmbiguousError: several have the name.
    """
    found = connection.execute(_devices().where(devices.c.id == name)).one_or_none()
    if found is not None:
        return _device(found)
    rows = connection.execute(_devices().where(devices.c.name == name)).all()
    if not rows:
        raise NotFoundError("device", name)
    if len(rows) > 1:
        raise AmbiguousError("device", name, tuple(row.id for row in rows))
    return _device(rows[0])


def known(connection: Connection, ids: Sequence[str]) -> frozenset[str]:
    """Return those of `ids` that have joined."""
    rows = connection.execute(select(devices.c.id).where(devices.c.id.in_(ids)))
    return frozenset(rows.scalars())


def learn(connection: Connection, device: str, facts: Mapping[str, str]) -> None:
    """Keep what a device says of itself now."""
    touched.note(connection, touched.Part.DEVICE, device)
    connection.execute(update(devices).where(devices.c.id == device).values(facts=dict(facts)))


def site_named(connection: Connection, name: str, *, new_id: str, now: str) -> Site:
    """Return the site called `name`, made with `new_id` when nobody spoke of it before."""
    found = connection.execute(select(sites.c.id).where(sites.c.name == name)).scalar_one_or_none()
    if found is not None:
        return Site(id=found, name=name)
    connection.execute(insert(sites).values(id=new_id, name=name, created_at=now))
    return Site(id=new_id, name=name)


def _devices() -> Select[*tuple[object, ...]]:
    return select(devices, sites.c.name.label("site_name")).join(
        sites, devices.c.site == sites.c.id, isouter=True
    )


def _device(row: Row[*tuple[object, ...]]) -> Device:
    return Device(
        id=row.id,
        name=row.name,
        site=row.site,
        site_name=row.site_name,
        labels=row.labels,
        facts=row.facts,
        serial=row.serial,
        certificate_expires_at=row.certificate_expires_at,
        joined_at=row.joined_at,
    )
