"""The fleet and its bundles as the store last saw them, as the values that deciding reads.

Blocking, inside the caller's transaction.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from agent.wire import codec, v1
from fleet.inventory import Inventory
from fleet.store import bundles, desired, devices, presence, reported
from fleet.store.targets import target_of
from models import card_codec
from models.card import Card

_AT_ONCE = 500
"""Ids in one query: an engine bounds them."""

EPOCH = 0
"""The epoch of a fleet that never lost its store."""


def observe(connection: Connection, fleet: str) -> Inventory:
    """Return the fleet as the store last saw it."""
    here = {seen.device: seen for seen in presence.every(connection)}
    told = {report.document.device: report.document for report in reported.every(connection)}
    wanted = {document.target: document.payload for document in desired.every(connection)}
    targets = []
    for device in devices.every(connection):
        payload = wanted.get(device.id)
        targets.append(
            target_of(
                device,
                seen=here.get(device.id),
                told=told.get(device.id),
                wanted=None if payload is None else codec.decode(payload, v1.Desired),
            )
        )
    return Inventory(fleet=fleet, targets=tuple(targets), epoch=EPOCH)


def wanted(connection: Connection, ids: Sequence[str], name: str) -> Mapping[str, v1.Deployment]:
    """Return what each of these targets wants under a name; who wants nothing there is missing."""
    found = {}
    for start in range(0, len(ids), _AT_ONCE):
        for held in desired.among(connection, ids[start : start + _AT_ONCE]):
            document = codec.decode(held.payload, v1.Desired)
            for deployment in document.deployments:
                if deployment.name == name:
                    found[held.target] = deployment
    return found


def cards(connection: Connection) -> Mapping[str, Card]:
    """Return the cards of all published bundles, by manifest digest."""
    return {bundle.digest: card_codec.parse(bundle.card) for bundle in bundles.every(connection)}
