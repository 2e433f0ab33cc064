"""One device is let in: token, request, certificate, and all it needs to live alone. Blocking.

Rules:
- A token's use is counted in the transaction that adds the device, so that of
  two devices with one last use exactly one gets in, and a request that is
  refused uses nothing up.
- What the operator attached to the token wins over what the device asked for.
- The device's id is new, random and says nothing.
"""

import base64
import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from agent.wire import v1
from agent.wire.reasons import Reason
from fleet.clock import written
from fleet.identity.authority import Authority
from fleet.identity.errors import JoinRefusedError
from fleet.identity.tokens import JoinToken
from fleet.store import audit, devices, tokens
from fleet.store.engine import Store
from fleet.store.errors import AmbiguousError, NotFoundError, TokenRefusedError, TokenState

_REFUSALS = {
    TokenState.UNKNOWN: (Reason.TOKEN_UNKNOWN, "this fleet never gave out this token"),
    TokenState.USED: (Reason.TOKEN_USED, "the token has been used as often as it may be"),
    TokenState.EXPIRED: (Reason.TOKEN_EXPIRED, "the token has expired"),
}
_NEXT = "ask the operator for a new one: skerry token create"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachable:
    """Where devices find the centre's parts."""

    broker_url: str
    registry_url: str


def join(
    request: v1.JoinRequest,
    *,
    authority: Authority,
    store: Store,
    reachable: Reachable,
    now: datetime,
) -> v1.JoinAnswer:
    """Let a device in.

    Raises:
        JoinRefusedError: TOKEN_UNKNOWN, TOKEN_USED, TOKEN_EXPIRED, CSR_INVALID or NAME_TAKEN;
            nothing changed.
    """
    token_hash = _hash_of(request.token, authority)
    moment = written(now)
    try:
        with store.read() as connection:
            tokens.check(connection, token_hash, now=moment)
        device = new_id("d-")
        issued = authority.issue(request.csr, device, now=now)
        with store.write() as connection:
            token = tokens.check(connection, token_hash, now=moment)
            _refuse_taken(connection, request.name)
            tokens.use(connection, token_hash, now=moment)
            site = token.site
            if site is None and request.site is not None:
                found = devices.site_named(
                    connection, request.site, new_id=new_id("s-"), now=moment
                )
                site = found.id
            labels = {**request.labels, **token.labels}
            devices.add(
                connection,
                devices.Device(
                    id=device,
                    name=request.name,
                    site=site,
                    site_name=None,
                    labels=labels,
                    facts=request.facts,
                    serial=issued.serial,
                    certificate_expires_at=written(issued.expires_at),
                    joined_at=moment,
                ),
            )
            audit.add(
                connection,
                audit.Entry(
                    at=moment,
                    actor=token.id,
                    action="join",
                    subject=device,
                    after={"name": request.name, "site": site, "serial": issued.serial},
                ),
            )
    except TokenRefusedError as error:
        reason, message = _REFUSALS[error.state]
        raise JoinRefusedError(reason, message, _NEXT) from error
    return v1.JoinAnswer(
        fleet=authority.fleet,
        device=device,
        certificate=issued.certificate,
        ca=authority.pem,
        keys=authority.trusted,
        broker_url=reachable.broker_url,
        registry_url=reachable.registry_url,
        site=site,
    )


def new_id(prefix: str) -> str:
    """Return a new id: 80 random bits, written so that they fit a topic and a host name."""
    return prefix + base64.b32encode(secrets.token_bytes(10)).decode().lower()


def _refuse_taken(connection: Connection, name: str) -> None:
    """Refuse a name by which people would mean another device; only who has a token learns it."""
    try:
        taken = devices.named(connection, name).joined_at
    except NotFoundError:
        return
    except AmbiguousError:
        taken = "several days"
    raise JoinRefusedError(
        Reason.NAME_TAKEN,
        f"{name} joined on {taken}",
        "choose another: --name NAME",
    )


def _hash_of(text: str, authority: Authority) -> str:
    """Return the hash to look for. A token of another fleet, or none at all, is unknown here."""
    try:
        token = JoinToken.parse(text)
    except ValueError as error:
        raise JoinRefusedError(
            Reason.TOKEN_UNKNOWN,
            str(error),
            "check that all of it was copied; it is shown once, by skerry token create",
        ) from error
    if token.ca_sha256 != authority.ca_sha256:
        raise JoinRefusedError(
            Reason.TOKEN_UNKNOWN,
            "the token is for another fleet",
            "check the address of the centre; " + _NEXT,
        )
    return token.hash
