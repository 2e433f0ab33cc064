"""The three outcomes of a desired document: accepted, stale, conflict. Pure.

Newer or identical is accepted; older is stale and refused; the same
(epoch, generation) with other content is a conflict: somebody is lying, so it
is refused loudly. A device never goes backwards.
"""

from dataclasses import dataclass
from enum import StrEnum

from agent.wire.v1.desired import Order


class Admission(StrEnum):
    """What to do with a document that arrived."""

    NEWER = "newer"
    IDENTICAL = "identical"
    STALE = "stale"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a target holds: the order, and the sha256 of exactly the payload that was signed."""

    order: Order
    payload_digest: str


def admit(held: Held | None, order: Order, payload_digest: str) -> Admission:
    """Say which of the outcomes an arriving document has.

    The digest is of the payload, not of its envelope: signing the same payload
    again with a second key is not another content.
    """
    if held is None or order > held.order:
        return Admission.NEWER
    if order < held.order:
        return Admission.STALE
    return Admission.IDENTICAL if payload_digest == held.payload_digest else Admission.CONFLICT
