"""What is wanted and what is published, as the values that deciding reads.

Blocking, inside the caller's transaction.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from agent.wire import codec, v1
from fleet.store import bundles, desired
from models import card_codec
from models.card import Card

_AT_ONCE = 500
"""Ids in one query: an engine bounds them."""


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
