"""From an MQTT message to a document that may be committed, or why not. Pure; never raises.

The broker has checked who wrote to a topic; this checks that the document says
the same: its fleet and device are those of the topic. What is too large,
malformed, of an unknown schema, of another fleet or about another device is
refused, counted, and confirmed to the broker: it would not get better by
coming again.
"""

from dataclasses import dataclass

from agent.wire import v1
from agent.wire.codec import WireError, decode
from agent.wire.reasons import Reason
from agent.wire.topics import Kind, Topic
from fleet.ports import FromDevice, Received

_DOCUMENTS: dict[Kind, tuple[type[FromDevice], ...]] = {
    Kind.REPORTED: (v1.Reported,),
    Kind.SITE_REPORTED: (v1.SiteReported,),
    Kind.PRESENCE: (v1.Birth, v1.Death),
    Kind.HEALTH: (v1.Health,),
    Kind.EVENT: (v1.Event,),
    Kind.RESULT: (v1.Result,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A message that isn't committed: why, and from which device as far as the topic says."""

    reason: Reason
    message: str
    device: str | None = None


def admit(fleet: str, topic: str, payload: bytes, *, retained: bool = False) -> Received | Refusal:
    """Return the document in `payload`, or why it is refused."""
    try:
        address = Topic.parse(topic)
    except ValueError as error:
        return Refusal(reason=Reason.WRONG_KIND, message=str(error))
    try:
        return Received(
            topic=address, document=_document(fleet, address, payload), retained=retained
        )
    except WireError as error:
        return Refusal(reason=error.reason, message=str(error), device=address.device)


def _document(fleet: str, address: Topic, payload: bytes) -> FromDevice:
    if address.fleet != fleet:
        raise WireError(Reason.WRONG_FLEET, f"a topic of fleet {address.fleet}")
    expected = _DOCUMENTS.get(address.kind)
    if expected is None:
        raise WireError(Reason.WRONG_KIND, f"devices don't write {address.kind}")
    document = decode(payload, *expected)
    if document.fleet != fleet:
        raise WireError(Reason.WRONG_FLEET, f"a document of fleet {document.fleet}")
    if document.device != address.device:
        raise WireError(Reason.WRONG_TARGET, f"a document of {document.device}")
    return document
