"""Whether a signed desired document is for this device, and newer than what it holds. Pure.

One judge for both ways that there are: MQTT, and a stick that somebody brings.
"""

import hashlib

from agent.wire import codec, v1
from agent.wire.order import Admission, Held, admit
from agent.wire.reasons import Reason


class UnwantedError(Exception):
    """A document is not obeyed; with its reason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def check_address(document: v1.Desired | v1.Command | v1.Acked, fleet: str, device: str) -> None:
    """Return if a document names this fleet and this device.

    Raises:
        UnwantedError: `WRONG_FLEET`, `WRONG_TARGET`.
    """
    target = document.device if isinstance(document, v1.Acked) else document.target
    if document.fleet != fleet:
        raise UnwantedError(Reason.WRONG_FLEET, f"it is for fleet {document.fleet!r}")
    if target != device:
        raise UnwantedError(Reason.WRONG_TARGET, f"it is for {target!r}")


def judge(
    payload: bytes, held: Held | None, *, fleet: str, device: str
) -> tuple[v1.Desired, Held, bool]:
    """Return the document, how it is held once it is, and whether that is something new.

    Args:
        payload: what a trusted key signed.
        held: what the device holds.
        fleet: the device's own.
        device: its id.

    Raises:
        WireError: it is no desired document.
        UnwantedError: `WRONG_FLEET`, `WRONG_TARGET`, `STALE_GENERATION`, `CONFLICTING_GENERATION`.
    """
    desired = codec.decode(payload, v1.Desired)
    check_address(desired, fleet, device)
    digest = "sha256:" + hashlib.sha256(payload).hexdigest()
    found = admit(held, desired.order, digest)
    if found is Admission.STALE:
        raise UnwantedError(Reason.STALE_GENERATION, f"{desired.order} is older than what is held")
    if found is Admission.CONFLICT:
        raise UnwantedError(
            Reason.CONFLICTING_GENERATION,
            f"{desired.order} is held with other content: two centres, or a forgery",
        )
    return desired, Held(order=desired.order, payload_digest=digest), found is Admission.NEWER
