"""What a form sends, read with limits, and why it is refused. Pure.

The body's size is `fleet.api.bounds`'s business.
"""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from pydantic import ValidationError
from starlette.exceptions import HTTPException

from fleet.api.refusals import said

_FIELDS_LIMIT = 50


def read(body: bytes) -> Mapping[str, str]:
    """Return the fields of a form, the last of each name.

    Raises:
        HTTPException: it is not a form.
    """
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS_LIMIT))
    except ValueError as error:
        raise HTTPException(400, "that is no form") from error


def refused(error: Exception) -> tuple[int, dict[str, str]]:
    """Return why what a form asks for can't be done: a status, and what its page says."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the form"
        told = {"error": f"{where}: {first['msg']}", "reason": "MALFORMED"}
        return 422, {**told, "next": "write it as the form says"}
    status, refusal = said(error)
    return status, refusal.model_dump()
