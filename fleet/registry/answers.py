"""Who may ask, and how a refusal is written: the OCI distribution specification's error body."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

Authorise = Callable[[Request], Awaitable[str | None]]
"""Says who asks (for the audit: a device's id, an operator); None: nobody it knows.

Given by the composer.
"""

CHALLENGE = 'Basic realm="skerry"'
"""What skopeo, oras and stock clients answer with a user name and password.

The password is the operator token.
"""


class AnswerError(Exception):
    """The request ends here, with this answer."""

    def __init__(self, answer: Response) -> None:
        super().__init__(answer.status_code)
        self.answer = answer


def refusal(
    status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error in the specification's words: `{"errors": [{"code", "message"}]}`."""
    error = {"code": code, "message": message}
    return JSONResponse({"errors": [error]}, status, headers=dict(headers or {}))


def unauthorised() -> Response:
    """Ask for credentials. The same for everything, so that nothing can be probed for."""
    return refusal(
        401,
        "UNAUTHORIZED",
        "a client certificate of this fleet or an operator token is needed",
        headers={"WWW-Authenticate": CHALLENGE},
    )
