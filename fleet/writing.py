"""Write what a target should be: signed, in place of the document before, with its audit entry.

In the caller's transaction, so that whatever led to the document is written with
it or not at all. Nothing is sent here: what was written has a position, and the
link publishes it. Blocking.
"""

from sqlalchemy import Connection

from agent.wire import codec, v1
from agent.wire.shed import shed_desired
from fleet.store import audit, desired
from models import dsse
from models.keys import SigningKey


def newest(connection: Connection, target: str) -> v1.Desired | None:
    """Return a target's newest document; None: nothing was ever wanted of it."""
    held = desired.held(connection, target)
    return None if held is None else codec.decode(held.payload, v1.Desired)


def write_desired(
    connection: Connection,
    before: v1.Desired | None,
    document: v1.Desired,
    *,
    key: SigningKey,
    actor: str,
    reason: str = "",
) -> None:
    """Sign a target's next document and write it. `before` is its newest, as read in here.

    Raises:
        OrderConflictError: the store holds one as new, or newer; it stays.
        WireError: the document is larger than its limit.
    """
    document = shed_desired(document)
    payload = codec.encode(document)
    envelope = dsse.render(key.sign(dsse.DESIRED_PAYLOAD_TYPE, payload))
    desired.put(
        connection,
        desired.HeldDesired(
            target=document.target,
            order=document.order,
            payload=payload,
            envelope=envelope,
            issued_at=document.issued_at,
        ),
    )
    audit.add(
        connection,
        audit.Entry(
            at=document.issued_at,
            actor=actor,
            action="desired.put",
            subject=document.target,
            reason=reason,
            before=None if before is None else _in_short(before),
            after=_in_short(document),
        ),
    )


def _in_short(document: v1.Desired) -> dict[str, object]:
    return {
        "generation": document.order.generation,
        "deployments": {
            deployment.name: f"{deployment.bundle.name}:{deployment.bundle.version}"
            f" revision {deployment.revision}"
            for deployment in document.deployments
        },
        "settings": {
            "health_period_s": document.settings.health_period_s,
            "reconnect_cap_s": document.settings.reconnect_cap_s,
        },
    }
