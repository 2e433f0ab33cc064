"""What operators ask of this device: carried out, one thing at a time, and answered.

Rules:
- A command was judged (`agent.inbox`) before it comes here. One that came too late is not
  carried out; one that the device's owner doesn't allow, that this agent doesn't know, or that
  would disturb an update is refused. All of it is said.
- It may come again while it is valid: what was taken lately is not taken twice, not after a
  restart either.
- Nothing is carried out later by another agent. Which commands were taken is kept
  (`agent.asked`), and the next agent says of those that were not answered that it can't know.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from agent import asked
from agent.asked import Taken
from agent.backoff import full_jitter_s
from agent.errors import StepError
from agent.policy import Policy
from agent.ports import Link, LinkDownError, LinkRefusedError
from agent.state import text
from agent.wire import codec, v1
from agent.wire.reasons import Reason
from agent.wire.topics import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A command was carried out: a short answer, and the digest of the long one that was sent.

    `problem` is why the long one could not be sent: the short one still says the essence.
    """

    answer: Mapping[str, str] = field(default_factory=dict)
    blob: str | None = None
    problem: v1.Problem | None = None


Work = Callable[[Mapping[str, str]], Awaitable[Done]]
"""Carries out a command with these parameters.

May raise `StepError`, with the reason; or `OSError`, when no process can be made.
"""

_WAITING_LIMIT = 16
_AGAIN_CAP_S = 5.0
_REFUSING = frozenset({Reason.COMMAND_NOT_ALLOWED, Reason.UPDATE_UNDER_WAY})

_log = structlog.get_logger()


class Answers:
    """Takes commands, and says how each ended. What it took is kept at `path`."""

    def __init__(
        self,
        works: Mapping[v1.Verb, Work],
        *,
        path: Path,
        policy: Callable[[], Policy],
        clock: Callable[[], str],
    ) -> None:
        self._works, self._path, self._policy, self._clock = works, path, policy, clock
        self._asked: deque[v1.Command] = deque()
        self._taken = {each.id: each for each in asked.read(path)}
        self._left = [each for each in self._taken.values() if each.open]
        self._writing = asyncio.Lock()
        self._woken = asyncio.Event()

    async def take(self, command: v1.Command) -> None:
        """Take a command, unless it came before. Of too many the oldest is given up."""
        if command.id in self._taken:
            return
        self._taken[command.id] = Taken(
            fleet=command.fleet,
            device=command.target,
            id=command.id,
            expires_at=command.expires_at,
        )
        self._asked.append(command)
        if len(self._asked) > _WAITING_LIMIT:
            await self._over(self._asked.popleft().id)
        else:
            await self._keep()
        self._woken.set()

    async def run(self, link: Link) -> None:
        """Say what was left unanswered; then carry out what is asked, until cancelled."""
        while self._left:
            left = self._left.pop(0)
            if self._clock() < left.expires_at:
                await self._end(link, _interrupted(left, self._clock()), until=left.expires_at)
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._asked:
                command = self._asked.popleft()
                result = await self._answer(command)
                await _log.ainfo(
                    "command",
                    verb=command.verb,
                    id=command.id,
                    status=result.status,
                    message=result.problem.message if result.problem else "",
                )
                await self._end(link, result, until=command.expires_at)

    async def _answer(self, command: v1.Command) -> v1.Result:
        now, work = self._clock(), self._works.get(command.verb)
        # Both are RFC 3339 in UTC: they sort as text.
        if now >= command.expires_at:
            why = f"it was for until {command.expires_at}; it is {now} on this device"
            return self._ended(command, v1.ResultStatus.EXPIRED, Reason.COMMAND_EXPIRED, why)
        if work is None:
            why = f"this agent doesn't do {command.verb}"
            return self._ended(command, v1.ResultStatus.REFUSED, Reason.COMMAND_NOT_ALLOWED, why)
        policy = await asyncio.to_thread(self._policy)
        if not policy.allows(command.verb):
            why = policy.problem or f"its owner does not allow {command.verb}: skerry-agent policy"
            return self._ended(command, v1.ResultStatus.REFUSED, Reason.COMMAND_NOT_ALLOWED, why)
        try:
            done = await work(command.parameters)
        except StepError as error:
            refused = error.reason in _REFUSING
            status = v1.ResultStatus.REFUSED if refused else v1.ResultStatus.FAILED
            return self._ended(command, status, error.reason, text(error))
        except Exception as error:  # noqa: BLE001  # a defect of ours must not stop what serves
            await _log.aexception("command failed", verb=command.verb, id=command.id)
            why = text(f"{type(error).__name__}: {error}")
            return self._ended(command, v1.ResultStatus.FAILED, Reason.INTERNAL, why)
        return v1.Result(
            fleet=command.fleet,
            device=command.target,
            id=command.id,
            status=v1.ResultStatus.FAILED if done.problem else v1.ResultStatus.DONE,
            at=self._clock(),
            answer=done.answer,
            blob=done.blob,
            problem=done.problem,
        )

    def _ended(
        self, command: v1.Command, status: v1.ResultStatus, reason: str, why: str
    ) -> v1.Result:
        return v1.Result(
            fleet=command.fleet,
            device=command.target,
            id=command.id,
            status=status,
            at=self._clock(),
            problem=v1.Problem(reason=reason, message=text(why)),
        )

    async def _end(self, link: Link, result: v1.Result, *, until: str) -> None:
        """Say how a command ended, as long as somebody may wait for that; then it is over."""
        attempt = 0
        while True:
            try:
                await link.publish(Kind.RESULT, codec.encode(result))
                break
            except LinkRefusedError as error:
                await _log.awarning("result not taken", id=result.id, message=text(error))
                break
            except LinkDownError:
                if self._clock() >= until:
                    break
                wait_s = full_jitter_s(attempt, random.random(), cap_s=_AGAIN_CAP_S)  # noqa: S311  # not a secret
                attempt += 1
                await asyncio.sleep(wait_s)
        await self._over(result.id)

    async def _over(self, command: str) -> None:
        if command in self._taken:
            self._taken[command] = replace(self._taken[command], open=False)
        await self._keep()

    async def _keep(self) -> None:
        """Keep what was taken. A disk that is full stops no command: it may be asked about that."""
        while len(self._taken) > asked.REMEMBERED:
            del self._taken[next(iter(self._taken))]
        async with self._writing:
            try:
                await asyncio.to_thread(asked.write, self._path, tuple(self._taken.values()))
            except OSError as error:
                await _log.awarning("commands not kept", message=text(error))


def _interrupted(left: Taken, now: str) -> v1.Result:
    why = "the agent ended before it had answered"
    return v1.Result(
        fleet=left.fleet,
        device=left.device,
        id=left.id,
        status=v1.ResultStatus.FAILED,
        at=now,
        problem=v1.Problem(reason=Reason.COMMAND_INTERRUPTED, message=why),
    )
