"""Who may ask, and how a refusal is written: the error body of the OCI distribution specification."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

Authorise = Callable[[Request], Awaitable[str | None]]
"""Says who asks (for the audit: a device's id, an operator), or None when nobody it knows. Given by the composer."""

CHALLENGE = 'Basic realm="skerry"'
"""What skopeo, oras and stock clients answer with a user name and password; the password is the operator token."""


def refusal(
    status: int,
    code: str,
    message: str,
    *,
    detail: object = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an error of the distribution specification: `{"errors": [{"code", "message", "detail"}]}`."""
    error: dict[str, object] = {"code": code, "message": message}
    if detail is not None:
        error["detail"] = detail
    return JSONResponse({"errors": [error]}, status, headers=dict(headers or {}))


def unauthorised() -> Response:
    """Ask for credentials. The same for everything, so that nothing can be probed for."""
    return refusal(
        401,
        "UNAUTHORIZED",
        "a client certificate of this fleet or an operator token is needed",
        headers={"WWW-Authenticate": CHALLENGE},
    )
