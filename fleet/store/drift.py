"""The drift that devices told, an hour at a time: the last of it, summed up and judged.

A health document replaces the last one, a minute later; what it told of drift is kept here, for
each deployment of each device. It is judged when it comes, once an hour, and not whenever somebody
looks at the fleet. A device has at most `DEPLOYMENTS_LIMIT` rows of some 6 KB, and 16 KB at most.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache

from sqlalchemy import Connection, Row, Select, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from agent.wire import v1
from agent.wire.limits import DEPLOYMENTS_LIMIT
from agent.wire.packing import pack_counts, unpack_counts
from fleet.health.drift import Distance, Drift, Level, judge, worst
from fleet.health.tellings import Telling, Tellings, with_one
from fleet.store import presence, touched
from fleet.store.tables import bundles, drift
from models import card_codec
from models.card import DriftReference

_CARDS_KEPT = 64


def put(connection: Connection, document: v1.Health, *, now: str) -> None:
    """Keep the drift of a health document that came at once."""
    if not any(part.drift for part in document.deployments):
        return
    names = [part.name for part in document.deployments]
    gone = (drift.c.device == document.device) & drift.c.deployment.not_in(names)
    touched.note(connection, touched.Part.DRIFT, document.device)
    connection.execute(delete(drift).where(gone))
    here = presence.held(connection, document.device)
    ledger = None if here is None else here.ledger
    for new in _told(document, ledger, number=document.told, waited=False):
        _keep(connection, document.device, *new, now=now, in_use=True)


def put_late(connection: Connection, batch: Iterable[v1.Event], *, now: str) -> None:
    """Keep the drift of health that waited. It says nothing about now."""
    for event in batch:
        document = event.health
        if document is None or not any(part.drift for part in document.deployments):
            continue
        here = presence.held(connection, event.device)
        in_use = here is None or here.ledger in {None, event.ledger}
        for new in _told(document, event.ledger, number=event.number, waited=True):
            _keep(connection, event.device, *new, now=now, in_use=in_use)


def held(connection: Connection, device: str) -> Sequence[Drift]:
    """Return the drift of each of a device's deployments, by name."""
    rows = connection.execute(_query().where(drift.c.device == device))
    return [_drift(row) for row in rows]


def among(connection: Connection, ids: Sequence[str]) -> Mapping[str, tuple[Drift, ...]]:
    """Return the drift of these devices' deployments, by device."""
    return _by_device(connection.execute(_query().where(drift.c.device.in_(ids))))


def references(connection: Connection, digest: str) -> tuple[DriftReference, ...]:
    """Return what a bundle's card says of drift; nothing where it was not published here."""
    query = select(bundles.c.card).where(bundles.c.digest == digest)
    card = connection.execute(query).scalar_one_or_none()
    return () if card is None else _references(card)


@lru_cache(maxsize=_CARDS_KEPT)
def _references(card: bytes) -> tuple[DriftReference, ...]:
    return card_codec.parse(card).drift


def _told(
    document: v1.Health, ledger: str | None, *, number: int, waited: bool
) -> Iterable[tuple[str, Tellings]]:
    """Return what a document tells of each deployment that it tells of, by name."""
    for part in document.deployments:
        if part.drift:
            telling = Telling(
                number=number,
                waited=waited,
                mark=f"{document.session}.{document.told}.{document.at}",
                counts={each.subject: each.counts for each in part.drift},
            )
            yield (
                part.name,
                Tellings(
                    ledger=ledger, revision=part.revision, digest=part.digest, kept=(telling,)
                ),
            )


def _keep(
    connection: Connection, device: str, name: str, new: Tellings, *, now: str, in_use: bool
) -> None:
    key = (drift.c.device == device) & (drift.c.deployment == name)
    row = connection.execute(select(drift).where(key)).one_or_none()
    if row is None and _rows(connection, device) >= DEPLOYMENTS_LIMIT:
        return  # a live document makes room: it names all there are
    before = None if row is None else _tellings(row)
    tellings = with_one(before, new, in_use=in_use)
    if tellings is None:
        return
    counts = tellings.counts()
    judged = judge(references(connection, tellings.digest), counts)
    (telling,) = new.kept
    told_at, since = None if telling.waited else now, now
    if row is not None and len(tellings.kept) > 1:  # those before it still count
        told_at = told_at or row.told_at
        since = row.since if worst(_judged(row)) is worst(judged) else now
    values = {
        "revision": tellings.revision,
        "digest": tellings.digest,
        "ledger": tellings.ledger,
        "told_at": told_at,
        "since": since,
        "counts": {subject: list(told) for subject, told in counts.items()},
        "judged": [asdict(each) for each in judged],
        "tellings": [_written(each) for each in tellings.kept],
    }
    touched.note(connection, touched.Part.DRIFT, device)
    connection.execute(
        insert(drift)
        .values(device=device, deployment=name, **values)
        .on_conflict_do_update(index_elements=[drift.c.device, drift.c.deployment], set_=values)
    )


def _rows(connection: Connection, device: str) -> int:
    query = select(func.count()).select_from(drift).where(drift.c.device == device)
    return connection.execute(query).scalar_one()


def _query() -> Select[*tuple[object, ...]]:
    """Return all but the tellings, which are the most of a row."""
    columns = [column for column in drift.c if column is not drift.c.tellings]
    return select(*columns).order_by(drift.c.device, drift.c.deployment)


def _by_device(rows: Iterable[Row[*tuple[object, ...]]]) -> Mapping[str, tuple[Drift, ...]]:
    found: dict[str, tuple[Drift, ...]] = {}
    for row in rows:
        found[row.device] = (*found.get(row.device, ()), _drift(row))
    return found


def _drift(row: Row[*tuple[object, ...]]) -> Drift:
    return Drift(
        deployment=row.deployment,
        revision=row.revision,
        digest=row.digest,
        told_at=row.told_at,
        since=row.since,
        counts=row.counts,
        judged=_judged(row),
    )


def _judged(row: Row[*tuple[object, ...]]) -> tuple[Distance, ...]:
    return tuple(Distance(**{**each, "level": Level(each["level"])}) for each in row.judged)


def _written(telling: Telling) -> list[object]:
    counts = {subject: pack_counts(told) for subject, told in telling.counts.items()}
    return [telling.number, telling.waited, telling.mark, counts]


def _tellings(row: Row[*tuple[object, ...]]) -> Tellings:
    return Tellings(
        ledger=row.ledger,
        revision=row.revision,
        digest=row.digest,
        kept=tuple(
            Telling(
                number=number,
                waited=waited,
                mark=mark,
                counts={subject: unpack_counts(text) for subject, text in counts.items()},
            )
            for number, waited, mark, counts in row.tellings
        ),
    )
