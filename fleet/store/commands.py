"""What was asked of devices, and how that ended: few at a time, kept for a while.

A command is open until its device has answered, or its time is over. It has a
*position* like a desired document has: the link publishes what is open above one.
A long answer comes by HTTP before its result comes over MQTT, and waits here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Row, Select, delete, func, insert, or_, select, update

from agent.wire import codec, v1
from agent.wire.reasons import Reason
from fleet.store import changes
from fleet.store.errors import NotFoundError, TooManyError
from fleet.store.tables import commands, devices
from models.values import digest_of

KEPT = 256
"""Ended commands, those that ended last: an answer has at most a megabyte, so they fill no disk."""

OPEN = 1000
"""Commands that are neither answered nor over: who asks for more waits for none of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A command. `result` is None until its device has said how it ended.

    `name` is what people call the device; `position` orders all that was ever asked.
    """

    id: str
    position: int
    device: str
    name: str
    verb: v1.Verb
    parameters: Mapping[str, str]
    actor: str
    issued_at: str
    expires_at: str
    result: v1.Result | None = None
    answered_at: str | None = None
    answer_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outstanding:
    """A command that its device shall get: the envelope, until when, and its position."""

    position: int
    device: str
    envelope: bytes
    expires_at: str


def ask(connection: Connection, command: v1.Command, envelope: bytes, *, actor: str) -> None:
    """Keep a command that its device shall get; forget the oldest of those that ended.

    Raises:
        TooManyError: too many are open.
    """
    still = commands.c.result.is_(None) & (commands.c.expires_at > command.issued_at)
    count = select(func.count()).select_from(commands).where(still)
    if connection.execute(count).scalar_one() >= OPEN:
        raise TooManyError(
            f"{OPEN} commands are open, and their devices have not answered",
            "wait until they are over; a shorter --valid would have helped",
        )
    connection.execute(
        insert(commands).values(
            id=command.id,
            device=command.target,
            verb=command.verb.value,
            parameters=dict(command.parameters),
            actor=actor,
            issued_at=command.issued_at,
            expires_at=command.expires_at,
            envelope=envelope,
            position=changes.next_position(connection),
        )
    )
    ended = or_(commands.c.result.is_not(None), commands.c.expires_at <= command.issued_at)
    ended_at = func.coalesce(commands.c.answered_at, commands.c.expires_at)
    newest = (
        select(commands.c.id)
        .where(ended)
        .order_by(ended_at.desc(), commands.c.position.desc())
        .limit(KEPT)
    )
    connection.execute(delete(commands).where(ended, commands.c.id.not_in(newest)))


def held(connection: Connection, device: str, command: str) -> Asked:
    """Return what was asked of a device under this id.

    Raises:
        NotFoundError: nothing, or it is forgotten.
    """
    return _asked(_row(connection, device, command))


def latest(
    connection: Connection,
    *,
    limit: int,
    before: int | None = None,
    device: str | None = None,
    ids: Sequence[str] = (),
) -> Sequence[Asked]:
    """Return what was asked, the newest first.

    Args:
        connection: to read with.
        limit: how many at most.
        before: only what was asked before this position.
        device: only of this one, by its id.
        ids: only these; empty: all.
    """
    query = _commands().order_by(commands.c.position.desc()).limit(limit)
    if before is not None:
        query = query.where(commands.c.position < before)
    if device is not None:
        query = query.where(commands.c.device == device)
    if ids:
        query = query.where(commands.c.id.in_(ids))
    return [_asked(row) for row in connection.execute(query)]


def newest(connection: Connection, verb: v1.Verb, devices: Sequence[str]) -> Mapping[str, Asked]:
    """Return what each of these devices, a hundred or so, was last asked of a kind, if it was."""
    last = (
        select(func.max(commands.c.position))
        .where(commands.c.verb == verb.value, commands.c.device.in_(devices))
        .group_by(commands.c.device)
    )
    query = _commands().where(commands.c.position.in_(last))
    return {row.device: _asked(row) for row in connection.execute(query)}


def outstanding(
    connection: Connection, position: int, *, now: str, limit: int
) -> Sequence[Outstanding]:
    """Return what is open above a position, in the order in which it was asked."""
    query = (
        select(commands)
        .where(
            commands.c.position > position,
            commands.c.result.is_(None),
            commands.c.expires_at > now,
        )
        .order_by(commands.c.position)
        .limit(limit)
    )
    return [
        Outstanding(
            position=row.position,
            device=row.device,
            envelope=row.envelope,
            expires_at=row.expires_at,
        )
        for row in connection.execute(query)
    ]


def keep_answer(
    connection: Connection, device: str, command: str, answer: bytes, *, now: str
) -> bool:
    """Keep the long answer to an open command; say whether it was open. Idempotent.

    Raises:
        NotFoundError: this device was never asked that.
    """
    _row(connection, device, command)
    kept = connection.execute(
        update(commands)
        .where(commands.c.id == command, commands.c.result.is_(None), commands.c.expires_at > now)
        .values(answer=answer)
    )
    return kept.rowcount == 1


def answer(connection: Connection, device: str, command: str) -> bytes:
    """Return the long answer to a command, as the device packed it.

    Raises:
        NotFoundError: it was not asked, or has no long answer (yet).
    """
    row = _row(connection, device, command)
    if row.result is None or row.answer is None:
        raise NotFoundError("answer", command)
    return bytes(row.answer)


def end(connection: Connection, result: v1.Result, *, now: str) -> None:
    """Keep how a command ended, once. A device that speaks of another's, or of none, is not heard.

    A result whose answer did not come here, or came as other bytes, is a failure.
    """
    try:
        row = _row(connection, result.device, result.id)
    except NotFoundError:
        return
    came = None if row.answer is None else digest_of(bytes(row.answer))
    if result.blob != came:
        why = f"the device names the answer {result.blob}; what came is {came}"
        problem = v1.Problem(reason=Reason.DIGEST_MISMATCH, message=why)
        failed = v1.ResultStatus.FAILED
        result = replace(result, status=failed, blob=None, problem=result.problem or problem)
    done = result.status is v1.ResultStatus.DONE
    connection.execute(
        update(commands)
        .where(commands.c.id == result.id, commands.c.result.is_(None))
        .values(result=codec.encode(result), answered_at=now, **({} if done else {"answer": None}))
    )


def _commands() -> Select[*tuple[object, ...]]:
    return select(commands, devices.c.name).join(devices, commands.c.device == devices.c.id)


def _row(connection: Connection, device: str, command: str) -> Row[*tuple[object, ...]]:
    query = _commands().where(commands.c.id == command, commands.c.device == device)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFoundError("command", command)
    return row


def _asked(row: Row[*tuple[object, ...]]) -> Asked:
    return Asked(
        id=row.id,
        position=row.position,
        device=row.device,
        name=row.name,
        verb=v1.Verb(row.verb),
        parameters=row.parameters,
        actor=row.actor,
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        result=None if row.result is None else codec.decode(row.result, v1.Result),
        answered_at=row.answered_at,
        answer_bytes=None if row.answer is None else len(row.answer),
    )
