"""`/api/v1/commands`, `/api/v1/devices/{device}/commands`: what devices are asked, and answer.

The answer itself is put at `/answers/{command}` by the device, over TLS with its
certificate; all else is for operators.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from agent.wire import v1
from fleet.api.access import peer_of
from fleet.api.glance import Glance
from fleet.api.parts import Parts
from fleet.api.refusals import answers
from fleet.api.search import FIELD_WORDS, SELECTOR_WORDS, parse
from fleet.api.wish import Wish
from fleet.clock import written
from fleet.commands import TOGETHER
from fleet.rollouts.errors import PlanError, PlanReason
from fleet.selector import EVERYTHING, TEXT_LIMIT
from fleet.store import commands as asked_store
from fleet.store import devices as stored
from fleet.store.errors import NotFoundError

_LINES = 200
_IDS_LIMIT = 4096
_LINES_LIMIT = 100_000
_UNPACKED_LIMIT_BYTES = 64 * 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS

Status = Literal["waiting", "done", "failed", "refused", "expired"]


class CommandWish(Wish):
    """What a device should do."""

    verb: v1.Verb = Field(description="A device's owner may refuse any of them.")
    lines: int = Field(
        _LINES, ge=1, le=_LINES_LIMIT, description="Of `logs`: how many, from the newest back."
    )
    valid_s: int = Field(
        600, ge=10, le=86400, description="For how long it may be carried out: it may be away."
    )
    reason: str = Field("", max_length=1000, description="Why, for the audit.")


class CommandsWish(CommandWish):
    """What several devices should do: those that match all of it, and at least one part is said."""

    selector: str = Field("", max_length=TEXT_LIMIT, description=SELECTOR_WORDS)
    field: str = Field("", max_length=TEXT_LIMIT, description=FIELD_WORDS)


class CommandShown(BaseModel):
    """What was asked of a device, and how that ended."""

    id: str
    device: str
    name: str = Field(description="What people call the device.")
    verb: v1.Verb
    actor: str
    issued_at: str
    expires_at: str
    status: Status = Field(description="`waiting`: nothing was heard yet; `expired`: nor will be.")
    answered_at: str | None
    problem: v1.Problem | None = Field(description="Why it is not done, by the device's word.")
    answer: dict[str, str] = Field(
        description="Its short answer: of `doctor`, `benchmark` and `self-test` the `verdict`, `ok`"
        " or `wrong`, and a `summary`."
    )
    answer_bytes: int | None = Field(description="Of its long answer, packed; null: there is none.")


class CommandPage(BaseModel):
    """What was asked, the newest first."""

    as_of: str
    commands: list[CommandShown]
    before: int | None = Field(description="Where the next page begins; null: this is the last.")


class CommandsAsked(BaseModel):
    """What each of some devices was asked."""

    commands: list[CommandShown]


def routes(parts: Parts, operator: Callable[..., Awaitable[str]], glance: Glance) -> APIRouter:
    """Return the routes for operators."""
    router = APIRouter(prefix="/api/v1", tags=["devices"])

    @router.get("/commands", operation_id="listCommands", responses=answers(401, 404, 409))
    def every(
        *,
        device: Annotated[str, Query(description="Only of this one.", max_length=256)] = "",
        commands: Annotated[
            str, Query(description="Only these, with commas between.", max_length=_IDS_LIMIT)
        ] = "",
        before: Annotated[
            int | None, Query(description="Where the page before ended.", ge=0, lt=1 << 63)
        ] = None,
        limit: Annotated[int, Query(ge=1, le=TOGETHER)] = TOGETHER,
    ) -> CommandPage:
        """List what was asked of devices, the newest first. The newest 256 that ended are kept."""
        with parts.store.read() as connection:
            found = asked_store.latest(
                connection,
                limit=limit + 1,
                before=before,
                device=stored.named(connection, device).id if device else None,
                ids=[each for each in commands.split(",") if each],
            )
        now, shown = parts.clock(), found[:limit]
        return CommandPage(
            as_of=written(now),
            commands=[_shown(each, now) for each in shown],
            before=shown[-1].position if len(found) > limit else None,
        )

    @router.post(
        "/commands",
        operation_id="askDevices",
        status_code=202,
        responses=answers(401, 404, 409, body=True),
    )
    def ask_some(wish: CommandsWish, actor: Annotated[str, Depends(operator)]) -> CommandsAsked:
        """Ask the same of all devices that match, 100 at most: each that is away, when it is back.

        Where more match, nobody is asked.
        """
        found = _matching(glance, wish)
        if not found:
            raise NotFoundError("device", wish.selector or wish.field)
        return CommandsAsked(commands=ask(found, wish, actor))

    def ask(names: Sequence[str], wish: CommandWish, actor: str) -> list[CommandShown]:
        parameters = {"lines": str(wish.lines)} if wish.verb is v1.Verb.LOGS else {}
        asked = parts.commands.ask(
            names, wish.verb, parameters, valid_s=wish.valid_s, actor=actor, reason=wish.reason
        )
        return [_shown(each, parts.clock()) for each in asked]

    @router.post(
        "/devices/{device}/commands",
        operation_id="askDevice",
        status_code=202,
        responses=answers(401, 404, 409, body=True),
    )
    def ask_one(
        device: str, wish: CommandWish, actor: Annotated[str, Depends(operator)]
    ) -> CommandShown:
        """Ask something of a device. It is asked when it is connected, as long as that is valid."""
        [asked] = ask([device], wish, actor)
        return asked

    @router.get(
        "/devices/{device}/commands/{command}",
        operation_id="getCommand",
        responses=answers(401, 404, 409),
    )
    def one(device: str, command: str) -> CommandShown:
        """Show what was asked, and how that ended. The newest 256 that ended are kept."""
        with parts.store.read() as connection:
            found = stored.named(connection, device)
            return _shown(asked_store.held(connection, found.id, command), parts.clock())

    @router.get(
        "/devices/{device}/commands/{command}/answer",
        operation_id="getCommandAnswer",
        response_class=Response,
        responses={
            **answers(401, 404, 409),
            200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}},
        },
    )
    def answer(device: str, command: str) -> Response:
        """Return the long answer to a command: of `logs` the lines, the oldest first."""
        with parts.store.read() as connection:
            found = stored.named(connection, device)
            packed = asked_store.answer(connection, found.id, command)
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


def _matching(glance: Glance, wish: CommandsWish) -> list[str]:
    """Return the devices that are meant, by id: all, or more than may be asked."""
    if not (wish.selector.strip() or wish.field.strip()):
        raise PlanError(
            PlanReason.SELECTOR_MALFORMED, f"nobody is named; to reach everybody, say: {EVERYTHING}"
        )
    wanted = parse(wish.selector, wish.field)
    seen = glance.look()
    found = wanted.among(seen.every, seen.at, limit=TOGETHER + 1)
    return [each.device.id for each, _ in found]


def _keep(parts: Parts, device: str, command: str, packed: bytes) -> bool:
    now = written(parts.clock())
    with parts.store.write() as connection:
        return asked_store.keep_answer(connection, device, command, packed, now=now)


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


def _shown(asked: asked_store.Asked, now: datetime) -> CommandShown:
    status: Status = "waiting" if written(now) < asked.expires_at else "expired"
    if asked.result is not None:
        status = asked.result.status.value
    return CommandShown(
        id=asked.id,
        device=asked.device,
        name=asked.name,
        verb=asked.verb,
        actor=asked.actor,
        issued_at=asked.issued_at,
        expires_at=asked.expires_at,
        status=status,
        answered_at=asked.answered_at,
        problem=None if asked.result is None else asked.result.problem,
        answer={} if asked.result is None else dict(asked.result.answer),
        answer_bytes=None if asked.result is None else asked.answer_bytes,
    )
