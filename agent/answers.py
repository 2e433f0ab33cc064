"""What operators ask of this device: carried out, one thing at a time, and answered.

Rules:
- A command was judged (`agent.inbox`) before it comes here. One that came too late is not
  carried out, one that this agent doesn't know is refused; both are said.
- It may come again while it is valid: what was taken lately is not taken twice.
- Nothing of it is durable. A command over which the agent died is answered by nobody, and
  expires; whoever asked may ask again.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

import structlog

from agent.backoff import full_jitter_s
from agent.errors import StepError
from agent.ports import Link, LinkDownError, LinkRefusedError
from agent.state import text
from agent.wire import codec, v1
from agent.wire.reasons import Reason
from agent.wire.topics import Kind

Work = Callable[[Mapping[str, str]], Awaitable[str]]
"""Carries out a command with these parameters; returns the digest of the answer that it sent.

May raise `StepError`, with the reason; or `OSError`, when no process can be made.
"""

_WAITING_LIMIT = 16
_REMEMBERED = 64
_AGAIN_CAP_S = 5.0

_log = structlog.get_logger()


class Answers:
    """Takes commands, and says how each ended."""

    def __init__(self, works: Mapping[v1.Verb, Work], *, clock: Callable[[], str]) -> None:
        self._works, self._clock = works, clock
        self._asked: deque[v1.Command] = deque(maxlen=_WAITING_LIMIT)
        self._taken: deque[str] = deque(maxlen=_REMEMBERED)
        self._woken = asyncio.Event()

    def take(self, command: v1.Command) -> None:
        """Take a command, unless it came before. Of too many the oldest is given up."""
        if command.id not in self._taken:
            self._taken.append(command.id)
            self._asked.append(command)
            self._woken.set()

    async def run(self, link: Link) -> None:
        """Carry out what was asked until cancelled."""
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
                await self._tell(link, result, until=command.expires_at)

    async def _answer(self, command: v1.Command) -> v1.Result:
        now, work = self._clock(), self._works.get(command.verb)
        # Both are RFC 3339 in UTC: they sort as text.
        if now >= command.expires_at:
            why = f"it was for until {command.expires_at}; it is {now} on this device"
            return self._ended(command, v1.ResultStatus.EXPIRED, Reason.COMMAND_EXPIRED, why)
        if work is None:
            why = f"this agent doesn't do {command.verb}"
            return self._ended(command, v1.ResultStatus.REFUSED, Reason.COMMAND_NOT_ALLOWED, why)
        try:
            blob = await work(command.parameters)
        except StepError as error:
            return self._ended(command, v1.ResultStatus.FAILED, error.reason, text(error))
        except OSError as error:
            return self._ended(command, v1.ResultStatus.FAILED, Reason.INTERNAL, text(error))
        return v1.Result(
            fleet=command.fleet,
            device=command.target,
            id=command.id,
            status=v1.ResultStatus.DONE,
            at=self._clock(),
            blob=blob,
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
            problem=v1.Problem(reason=reason, message=why),
        )

    async def _tell(self, link: Link, result: v1.Result, *, until: str) -> None:
        """Say how a command ended, as long as somebody may wait for that."""
        attempt = 0
        while True:
            try:
                await link.publish(Kind.RESULT, codec.encode(result))
            except LinkRefusedError as error:
                await _log.awarning("result not taken", id=result.id, message=text(error))
                return
            except LinkDownError:
                if self._clock() >= until:
                    return
                wait_s = full_jitter_s(attempt, random.random(), cap_s=_AGAIN_CAP_S)  # noqa: S311  # not a secret
                attempt += 1
                await asyncio.sleep(wait_s)
            else:
                return
