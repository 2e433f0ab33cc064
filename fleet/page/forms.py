"""What a form sends, read with limits: the body's size is `fleet.api.bounds`'s business. Pure."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException

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
