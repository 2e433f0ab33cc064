"""`/api/v1/devices/{device}/commands`: what is asked of a device, and what it answers.

The answer itself is put at `/answers/{command}` by the device, over TLS with its
certificate; all else is for operators.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from agent.wire import v1
from fleet.api.access import peer_of
from fleet.api.parts import Parts
from fleet.api.refusals import answers
from fleet.api.wish import Wish
from fleet.clock import written
from fleet.store import commands, devices

_LINES = 200
_LINES_LIMIT = 100_000
_UNPACKED_LIMIT_BYTES = 64 * 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS

Status = Literal["waiting", "done", "failed", "refused", "expired"]


class CommandWish(Wish):
    """What a device should do."""

    verb: v1.Verb = Field(description="Agents of this version do `logs`, and refuse the others.")
    lines: int = Field(
        _LINES, ge=1, le=_LINES_LIMIT, description="Of `logs`: how many, from the newest back."
    )
    valid_s: int = Field(
        600, ge=10, le=86400, description="For how long it may be carried out: it may be away."
    )
    reason: str = Field("", max_length=1000, description="Why, for the audit.")


class CommandShown(BaseModel):
    """What was asked of a device, and how that ended."""

    id: str
    device: str
    verb: v1.Verb
    actor: str
    issued_at: str
    expires_at: str
    status: Status = Field(description="`waiting`: nothing was heard yet; `expired`: nor will be.")
    answered_at: str | None
    problem: v1.Problem | None = Field(description="Why it is not done, by the device's word.")
    answer_bytes: int | None = Field(description="Of its long answer, packed; null: there is none.")


def routes(parts: Parts, operator: Callable[..., Awaitable[str]]) -> APIRouter:
    """Return the routes for operators."""
    router = APIRouter(prefix="/api/v1/devices", tags=["devices"])

    @router.post(
        "/{device}/commands",
        operation_id="askDevice",
        status_code=202,
        responses=answers(401, 404, 409, body=True),
    )
    def ask(
        device: str, wish: CommandWish, actor: Annotated[str, Depends(operator)]
    ) -> CommandShown:
        """Ask something of a device. It is asked when it is connected, as long as that is valid."""
        parameters = {"lines": str(wish.lines)} if wish.verb is v1.Verb.LOGS else {}
        asked = parts.commands.ask(
            device, wish.verb, parameters, valid_s=wish.valid_s, actor=actor, reason=wish.reason
        )
        return _shown(asked, parts.clock())

    @router.get(
        "/{device}/commands/{command}",
        operation_id="getCommand",
        responses=answers(401, 404, 409),
    )
    def one(device: str, command: str) -> CommandShown:
        """Show what was asked, and how that ended. The newest 256 that ended are kept."""
        with parts.store.read() as connection:
            found = devices.named(connection, device)
            return _shown(commands.held(connection, found.id, command), parts.clock())

    @router.get(
        "/{device}/commands/{command}/answer",
        operation_id="getCommandAnswer",
        response_class=Response,
        responses={
            **answers(401, 404, 409),
            200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}},
        },
    )
    def answer(device: str, command: str) -> Response:
        """Return the long answer to a command: of `logs`, the lines, oldest first."""
        with parts.store.read() as connection:
            found = devices.named(connection, device)
            packed = commands.answer(connection, found.id, command)
        return Response(
            packed, media_type="application/x-ndjson", headers={"Content-Encoding": "gzip"}
        )

    return router


def answering(parts: Parts) -> APIRouter:
    """Return the route for the device that was asked."""
    router = APIRouter(tags=["joining"])

    @router.put(
        "/answers/{command}",
        operation_id="putAnswer",
        status_code=204,
        response_class=Response,
        responses=answers(403, 404, 409, body=True),
    )
    async def put(command: str, request: Request) -> Response:
        """Take a device's long answer to an open command, gzip. It shows its certificate."""
        device = peer_of(request)
        if device is None:
            raise HTTPException(403, "devices answer here, and show their certificate")
        packed = await request.body()
        if not await asyncio.to_thread(_is_packed, packed):
            raise HTTPException(400, "an answer comes as gzip, whole, of at most 64 MiB unpacked")
        if not await asyncio.to_thread(_keep, parts, device, command, packed):
            raise HTTPException(409, f"{command[:80]} is over, or was answered")
        return Response(status_code=204)

    return router


def _keep(parts: Parts, device: str, command: str, packed: bytes) -> bool:
    now = written(parts.clock())
    with parts.store.write() as connection:
        return commands.keep_answer(connection, device, command, packed, now=now)


def _is_packed(packed: bytes) -> bool:
    """Say whether bytes are one whole gzip member, which unpacks to no more than is allowed."""
    reader = zlib.decompressobj(_GZIP)
    room, rest = _UNPACKED_LIMIT_BYTES, packed
    try:
        while not reader.eof and rest:
            piece = reader.decompress(rest, 1 << 20)
            room -= len(piece)
            if room < 0:
                return False
            rest = reader.unconsumed_tail
    except zlib.error:
        return False
    return reader.eof and not reader.unused_data


def _shown(asked: commands.Asked, now: datetime) -> CommandShown:
    status: Status = "waiting" if written(now) < asked.expires_at else "expired"
    if asked.result is not None:
        status = asked.result.status.value
    return CommandShown(
        id=asked.id,
        device=asked.device,
        verb=asked.verb,
        actor=asked.actor,
        issued_at=asked.issued_at,
        expires_at=asked.expires_at,
        status=status,
        answered_at=asked.answered_at,
        problem=None if asked.result is None else asked.result.problem,
        answer_bytes=None if asked.result is None else asked.answer_bytes,
    )
