"""Who is signed in: a cookie that only a holder of the operator token could have been given.

The token is sent once, in the body of the form; the cookie is made with a key derived from it, so
that a new token ends every session. Signing out ends the session here too, until it would have
ended by itself. Nothing about a session is kept on disk.
"""

import hmac
import secrets
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from fleet.api.access import Access

LASTS = timedelta(hours=12)
"""A working day; then the token is asked for again."""


class Sessions:
    """Gives, knows and ends sessions. `fleet` names the cookie: ports of one host share theirs."""

    def __init__(self, access: Access, fleet: str) -> None:
        self._access = access
        self._key = access.key_for("page session")
        self._cookie = f"skerry-{fleet}"
        self._ended: dict[str, float] = {}

    def open(self, token: str, now: datetime) -> str | None:
        """Return a new session, where `token` is the operator token."""
        if not self._access.is_operator(token):
            return None
        head = f"{int((now + LASTS).timestamp())}.{secrets.token_urlsafe(16)}"
        return f"{head}.{self._sign(head)}"

    def is_open(self, request: Request, now: datetime) -> bool:
        """Say whether a request comes from somebody who is signed in."""
        session = request.cookies.get(self._cookie, "")
        head, _, signature = session.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(head).encode()):
            return False
        return float(head.partition(".")[0]) > now.timestamp() and head not in self._ended

    def close(self, request: Request, now: datetime) -> None:
        """End the session of a request."""
        head = request.cookies.get(self._cookie, "").rpartition(".")[0]
        self._ended = {each: at for each, at in self._ended.items() if at > now.timestamp()}
        if self.is_open(request, now):
            self._ended[head] = float(head.partition(".")[0])

    def remember(self, response: Response, session: str, *, secure: bool) -> None:
        """Have a browser keep a session: no script reads it, no other site sends it."""
        response.set_cookie(
            self._cookie,
            session,
            max_age=int(LASTS.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=secure,
        )

    def forget(self, response: Response) -> None:
        """Have a browser forget its session."""
        response.delete_cookie(self._cookie, httponly=True, samesite="strict")

    def _sign(self, head: str) -> str:
        return hmac.digest(self._key, head.encode(), "sha256").hex()


def is_from_here(request: Request) -> bool:
    """Say whether a form was sent by a page of ours: browsers name the origin of every one."""
    origin = urlsplit(request.headers.get("origin", ""))
    return (origin.scheme, origin.netloc) == (request.url.scheme, request.headers.get("host", ""))


def inside(path: str) -> str:
    """Return a path to go on to, if it is one of ours; else the first page."""
    parts = urlsplit(path)
    ours = path.startswith("/") and path[1:2] not in ("/", "\\") and path.isprintable()
    return path if ours and not parts.scheme and not parts.netloc else "/"
