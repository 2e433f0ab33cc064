"""The ways by which a message goes out: each has a deadline, and says in words why it did not.

What a receiver answers is not read, but for its status; no redirect is followed: what is signed
goes where a person said, or nowhere.
"""

import asyncio
import smtplib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from datetime import datetime
from email.message import EmailMessage

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
                await _post(f"{way.url.rstrip('/')}/api/v2/alerts", body, {})
        except TimeoutError as error:
            raise ReceiverError(f"it did not answer within {LIMIT_S:.0f} s") from error

    async def _mail(self, name: str, way: Mail, told: Message) -> None:
        """Send a mail in a thread: one at a time, so that a server that drips holds one."""
        last = self._mailing.get(name)
        if last is not None and not last.done():
            raise ReceiverError("the server has not ended the try before")
        loop = asyncio.get_running_loop()
        trying = loop.run_in_executor(self._threads, mail, way, told, self._clock())
        self._mailing[name] = trying
        trying.add_done_callback(_seen)
        await asyncio.shield(trying)

    async def _hook(self, way: Webhook, told: Message) -> None:
        key = await asyncio.to_thread(secret, way.secret_file)
        timestamp = written(self._clock())
        headers = {
            "Skerry-Timestamp": timestamp,
            "Skerry-Delivery": told.id,
            "Skerry-Signature": signature(key, timestamp, told.id, told.document),
        }
        await _post(way.url, told.document, headers)


def _seen(trying: asyncio.Future[None]) -> None:
    """Look at how a try ended that nobody waits for any more."""
    if not trying.cancelled():
        trying.exception()


async def _post(url: str, body: bytes, headers: dict[str, str]) -> None:
    headers = {"Content-Type": "application/json", "User-Agent": "skerry", **headers}
    try:
        async with (
            httpx.AsyncClient(timeout=LIMIT_S, trust_env=False, follow_redirects=False) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        said = str(error) or type(error).__name__
        raise ReceiverError(f"it can't be reached: {said}"[:300]) from error
    if answer.is_redirect:
        raise ReceiverError(f"it answered {status}: give the address that it leads to")
    if not answer.is_success:
        raise ReceiverError(f"it answered {status}")


def mail(way: Mail, told: Message, date: datetime) -> None:
    """Send one mail. Blocking, each step within the limit.

    Raises:
        ReceiverError: the server has not taken it for everybody.
    """
    letter = EmailMessage()
    letter["Subject"] = told.subject
    letter["From"] = way.sender
    letter["To"] = ", ".join(way.to)
    letter["Date"] = date
    letter["Message-ID"] = f"<{told.id}@{way.sender.partition('@')[2]}>"
    letter["Auto-Submitted"] = "auto-generated"
    letter.set_content(told.text)
    try:
        context = ssl.create_default_context()
        with _server(way, context) as server:
            if way.security == "starttls":
                server.starttls(context=context)
            if way.user is not None and way.password_file is not None:
                server.login(way.user, secret(way.password_file).decode())
            refused = server.send_message(letter)
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise ReceiverError(f"the server does not take it: {_plain(error)}"[:300]) from error
    if refused:
        raise ReceiverError(f"the server does not take it for {', '.join(refused)}"[:300])


def _server(way: Mail, context: ssl.SSLContext) -> smtplib.SMTP:
    if way.security == "tls":
        return smtplib.SMTP_SSL(way.host, way.port, timeout=LIMIT_S, context=context)
    return smtplib.SMTP(way.host, way.port, timeout=LIMIT_S)


def _plain(error: Exception) -> str:
    """Return what a server said, in words; never what was said to it."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"it answered {error.smtp_code} to the password"
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        return f"it answered {error.smtp_code} {text}"
    return str(error) or type(error).__name__
