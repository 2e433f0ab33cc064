"""A client of the centre's API, for the commands: one request, one answer, one deadline.

What goes wrong becomes a `CommandError` in the API's own words: what happened,
the reason code, what to do next. Blocking.
"""

import json
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx2 as httpx

from fleet.cli.screen import CommandError, ExitCode
from fleet.identity.places import Home

ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
"""A list of 100,000 devices has some 40 MB; nothing asks for more."""

_TIMEOUT_S = 30.0
_TOKEN = re.compile(r"[!-~]{1,1024}\Z")  # what an HTTP header takes, in one word
_EXITS = {
    401: ExitCode.NOT_ALLOWED,
    403: ExitCode.NOT_ALLOWED,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.CONFLICT,
    422: ExitCode.REFUSED,
    503: ExitCode.UNREACHABLE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where the centre is, and what to show and trust there."""

    url: str
    token: str = field(repr=False)
    ca: Path | None

    @classmethod
    def find(cls, *, home: Path, url: str | None, token_file: Path | None, ca: Path | None) -> Self:
        """Return the connection that a person means: what they gave, else what the home knows.

        Raises:
            CommandError: no centre runs on the home, or the token can't be read.
        """
        places = Home(home)
        if ca is None and os.path.isfile(places.ca):  # noqa: PTH113  # never raises
            ca = places.ca
        return cls(
            url=_usable(url or _running(places)),
            token=_token(token_file or places.operator_token),
            ca=ca,
        )


class Centre:
    """The API of one centre. Use it as a context manager."""

    def __init__(self, connection: Connection) -> None:
        self.url = connection.url
        self._client = httpx.Client(
            base_url=connection.url,
            headers={"Authorization": f"Bearer {connection.token}"},
            timeout=_TIMEOUT_S,
            verify=_trust(connection),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End its connections."""
        self._client.close()

    def get(self, *path: str, query: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401  # JSON, as the API's reference describes it
        """Return what is at a path; each part is quoted, and so is the query.

        Raises:
            CommandError: the centre can't be reached, or refuses.
        """
        return self._ask("GET", path, None, query or {})

    def get_text(self, *path: str) -> str:
        """Return the text that is at a path. It may be anything that a device sent.

        Raises:
            CommandError: the centre can't be reached, or refuses.
        """
        return self._send("GET", path, None, {}).decode(errors="replace")

    def bytes_of(
        self, *path: str, method: str = "GET", limit_bytes: int = ANSWER_LIMIT_BYTES
    ) -> bytes:
        """Return the bytes that are at a path, or that are the answer to a POST of nothing.

        Raises:
            CommandError: the centre can't be reached, refuses, or sends more than the limit.
        """
        return self._send(method, path, None, {}, limit_bytes)

    def post(self, *path: str, body: Mapping[str, object]) -> Any:  # noqa: ANN401  # as `get`
        """Send a request and return the answer.

        Raises:
            CommandError: the centre can't be reached, or refuses.
        """
        return self._ask("POST", path, body, {})

    def put(
        self, *path: str, body: Mapping[str, object], query: Mapping[str, str] | None = None
    ) -> Any:  # noqa: ANN401  # as `get`
        """Put something at a path, instead of what is there, and return the answer.

        Raises:
            CommandError: the centre can't be reached, or refuses.
        """
        return self._ask("PUT", path, body, query or {})

    def delete(self, *path: str, query: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401  # as `get`
        """Remove what is at a path, and return the answer.

        Raises:
            CommandError: the centre can't be reached, or refuses.
        """
        return self._ask("DELETE", path, None, query or {})

    def _ask(
        self,
        method: str,
        path: tuple[str, ...],
        body: Mapping[str, object] | None,
        query: Mapping[str, str],
    ) -> Any:  # noqa: ANN401  # as `get`
        raw = self._send(method, path, body, query)
        try:
            return json.loads(raw or b"null")
        except ValueError as error:
            raise self._unreachable("what answers there is not a centre") from error

    def _send(
        self,
        method: str,
        path: tuple[str, ...],
        body: Mapping[str, object] | None,
        query: Mapping[str, str],
        limit_bytes: int = ANSWER_LIMIT_BYTES,
    ) -> bytes:
        where = "/" + "/".join(quote(part, safe="") for part in path)
        try:
            with self._client.stream(method, where, json=body, params=query) as answer:
                raw = bytearray()
                for piece in answer.iter_bytes():
                    raw += piece
                    if len(raw) > limit_bytes:
                        raise self._unreachable("its answer has no end")
        except httpx.HTTPError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise CommandError(
                    f"the CA does not fit the centre at {self.url}",
                    "CA_MISMATCH: its certificate is not of this CA, or is for another address",
                    "say where the fleet's CA is: --ca or SKERRY_CA",
                    ExitCode.UNREACHABLE,
                ) from error
            raise self._unreachable(str(error) or type(error).__name__) from error
        if answer.is_success:
            return bytes(raw)
        try:
            content = json.loads(bytes(raw) or b"null")
        except ValueError as error:
            raise self._unreachable("what answers there is not a centre") from error
        raise _refused(answer.status_code, content)

    def _unreachable(self, why: str) -> CommandError:
        return CommandError(
            f"no answer from the centre at {self.url}",
            f"UNREACHABLE: {why}",
            "check that it runs (skerry up) and the address: --centre or SKERRY_CENTRE",
            ExitCode.UNREACHABLE,
        )


def _refused(status: int, content: object) -> CommandError:
    if status == 401:  # noqa: PLR2004  # unauthorized; a token was sent, so it is a wrong one
        return CommandError(
            "that token is not this fleet's",
            "TOKEN_UNKNOWN",
            "say where the right one is: --token-file or SKERRY_TOKEN_FILE",
            ExitCode.NOT_ALLOWED,
        )
    said = content if isinstance(content, dict) else {}
    return CommandError(
        str(said.get("error", f"the centre answered {status}")),
        str(said.get("reason", "REFUSED")),
        str(said.get("next", "see the centre's log")),
        _EXITS.get(status, ExitCode.BAD),
    )


def _running(places: Home) -> str:
    try:
        where = json.loads(places.running.read_text(encoding="utf-8"))
        return str(where["plain_url"] or where["url"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandError(
            f"no centre runs on {places.path}",
            "UNREACHABLE: nothing says where it listens",
            f"start it: skerry up --home {places.path}; or name another: --centre URL",
            ExitCode.UNREACHABLE,
        ) from error


def _usable(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise CommandError(
            f"not the address of a centre: {url[:200]!r}",
            "USAGE: it is no http or https URL",
            "write it like https://centre.example:8443: --centre or SKERRY_CENTRE",
            ExitCode.USAGE,
        )
    return url.rstrip("/")


def _token(path: Path) -> str:
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        token = ""
    if not _TOKEN.match(token):  # and is never repeated: what it is may be another secret
        raise CommandError(
            f"no operator token in {path}",
            "TOKEN_MISSING",
            "say where it is: --token-file or SKERRY_TOKEN_FILE",
            ExitCode.NOT_ALLOWED,
        )
    return token


def _trust(connection: Connection) -> ssl.SSLContext | bool:
    if urlsplit(connection.url).scheme != "https" or connection.ca is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(connection.ca))
    except (OSError, ssl.SSLError) as error:
        raise CommandError(
            f"{connection.ca} is no certificate",
            "CA_UNREADABLE",
            "say where the fleet's CA is: --ca or SKERRY_CA",
            ExitCode.USAGE,
        ) from error
