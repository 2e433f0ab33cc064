"""Who asks: a device by its certificate, an operator by the token.

The listener puts the common name of a verified client certificate into the
request's state as `peer`; nothing in a request's own bytes can. Tokens are
compared in constant time.
"""

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import Request

OPERATOR = "operator"
"""How an operator is named in the audit, until there are users."""

_BEARER = HTTPBearer(
    bearerFormat="opaque",
    scheme_name="operatorToken",
    description="The operator token: `operator.token` in the centre's home.",
    auto_error=False,
)


def peer_of(request: Request) -> str | None:
    """Return the common name of the client's certificate, which the listener verified."""
    peer = request.scope.get("state", {}).get("peer")
    return peer if isinstance(peer, str) else None


class Access:
    """Says who asks."""

    def __init__(self, operator_token: str) -> None:
        self._token = operator_token.encode()

    def is_operator(self, secret: str) -> bool:
        """Say whether `secret` is the operator token."""
        return hmac.compare_digest(secret.encode(), self._token)

    def key_for(self, purpose: str) -> bytes:
        """Return a key that only who holds the token can make; a new token makes all others."""
        return hmac.digest(self._token, purpose.encode(), "sha256")

    async def operator(self, request: Request) -> str | None:
        """Return the operator who asks, by Bearer or (stock clients) Basic; None: a stranger."""
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        match scheme.lower():
            case "bearer":
                secret = value.strip()
            case "basic":
                secret = _password(value)
            case _:
                return None
        return OPERATOR if self.is_operator(secret) else None

    async def reader(self, request: Request) -> str | None:
        """Return who may pull: a device of this fleet, or an operator."""
        peer = peer_of(request)
        if peer is not None and peer.startswith("d-"):
            return peer
        return await self.operator(request)

    def required(self) -> Callable[..., Awaitable[str]]:
        """Return what a route depends on to be for operators only."""

        async def operator(
            credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
        ) -> str:
            if credentials is None or not self.is_operator(credentials.credentials):
                raise HTTPException(
                    401, "this needs the operator token", {"WWW-Authenticate": "Bearer"}
                )
            return OPERATOR

        return operator


def _password(encoded: str) -> str:
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return decoded.partition(":")[2]
