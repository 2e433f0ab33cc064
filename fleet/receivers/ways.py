"""The ways by which a message goes out: each has a deadline, and says in words why it did not.

What a receiver answers is not read, but for its status; no redirect is followed: what is signed
goes where a person said, or nowhere.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from datetime import datetime
from functools import partial
from pathlib import Path

import httpx2 as httpx

from fleet.alerts.alert import Alert
from fleet.alerts.messages import Message, for_alertmanager, message, signature
from fleet.clock import written
from fleet.ports import BrokerError
from fleet.receivers.configured import (
    Alertmanager,
    Mail,
    Mqtt,
    Receiver,
    ReceiverError,
    Webhook,
    secret,
)
from fleet.receivers.mail import Line, mail
from fleet.receivers.trust import trusting, untrusted

LIMIT_S = 10.0
"""For one message, all in all."""

Publish = Callable[[str, bytes], Awaitable[None]]


class Ways:
    """Sends. `publish` puts bytes on a topic of the centre's broker; `threads` are for mail."""

    def __init__(
        self,
        *,
        fleet: str,
        clock: Callable[[], datetime],
        publish: Publish,
        threads: Executor,
    ) -> None:
        self._fleet = fleet
        self._clock = clock
        self._publish = publish
        self._threads = threads
        self._mailing: dict[str, asyncio.Future[None]] = {}

    async def tell(self, receiver: Receiver, alert: Alert) -> None:
        """Tell one receiver the last news of an alert.

        Raises:
            ReceiverError: it has not taken it, as far as can be known.
        """
        if isinstance(receiver.way, Alertmanager):
            await self.tell_all(receiver.way, [alert])
            return
        told = message(alert, fleet=self._fleet, receiver=receiver.name)
        try:
            async with asyncio.timeout(LIMIT_S):
                match receiver.way:
                    case Webhook():
                        await self._hook(receiver.way, told)
                    case Mail():
                        await self._mail(receiver.name, receiver.way, told)
                    case Mqtt():
                        topic = f"skerry/v1/{self._fleet}/centre/alert"
                        await self._publish(topic, told.document)
        except TimeoutError as error:
            raise ReceiverError(f"it did not answer within {LIMIT_S:.0f} s") from error
        except BrokerError as error:
            raise ReceiverError(str(error)) from error

    async def tell_all(self, way: Alertmanager, alerts: Sequence[Alert]) -> None:
        """Tell an Alertmanager all that is open, and what was lately.

        Raises:
            ReceiverError: it has not taken it.
        """
        body = for_alertmanager(alerts, fleet=self._fleet, now=self._clock())
        try:
            async with asyncio.timeout(LIMIT_S):
                await _post(f"{way.url.rstrip('/')}/api/v2/alerts", body, {}, way.ca)
        except TimeoutError as error:
            raise ReceiverError(f"it did not answer within {LIMIT_S:.0f} s") from error

    async def _mail(self, name: str, way: Mail, told: Message) -> None:
        """Send a mail in a thread: one at a time, and none outlasts the limit."""
        last = self._mailing.get(name)
        if last is not None and not last.done():
            raise ReceiverError("the server has not ended the try before")
        loop, line = asyncio.get_running_loop(), Line()
        send = partial(mail, way, told, date=self._clock(), limit_s=LIMIT_S, line=line)
        trying = loop.run_in_executor(self._threads, send)
        self._mailing[name] = trying
        trying.add_done_callback(_seen)
        try:
            await asyncio.shield(trying)
        finally:
            line.cut()  # whoever waits no more leaves no thread behind

    async def _hook(self, way: Webhook, told: Message) -> None:
        key = await asyncio.to_thread(secret, way.secret_file)
        timestamp = written(self._clock())
        headers = {
            "Skerry-Timestamp": timestamp,
            "Skerry-Delivery": told.id,
            "Skerry-Signature": signature(key, timestamp, told.id, told.document),
        }
        await _post(way.url, told.document, headers, way.ca)


def _seen(trying: asyncio.Future[None]) -> None:
    """Look at how a try ended that nobody waits for any more."""
    if not trying.cancelled():
        trying.exception()


async def _post(url: str, body: bytes, headers: dict[str, str], ca: Path | None) -> None:
    checks = await asyncio.to_thread(trusting, ca)
    headers = {"Content-Type": "application/json", "User-Agent": "skerry", **headers}
    try:
        async with (
            httpx.AsyncClient(
                verify=checks, timeout=LIMIT_S, trust_env=False, follow_redirects=False
            ) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        said = str(error) or type(error).__name__
        why = untrusted(error) or f"it can't be reached: {said}"
        raise ReceiverError(why[:300]) from error
    if answer.is_redirect:
        raise ReceiverError(f"it answered {status}: give the address that it leads to")
    if not answer.is_success:
        raise ReceiverError(f"it answered {status}")
