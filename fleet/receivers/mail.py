"""A mail: the letter, and the talk with the server in a thread that can be ended from outside.

Blocking reads end when the server says something, and a server may say a byte now and then for
ever. So whoever waits for the thread cuts its line: what it reads or writes then fails at once.
"""

import smtplib
import socket
import ssl
from contextlib import suppress
from datetime import datetime
from email.message import EmailMessage
from typing import BinaryIO

from fleet.alerts.messages import Message
from fleet.receivers.configured import Mail, ReceiverError, secret
from fleet.receivers.trust import trusting, untrusted

REPLIES_LIMIT_BYTES = 64 * 1024
"""Of all that a server says about one mail."""


class Line:
    """A connection, held by the thread that uses it and cut by whoever waits for it."""

    def __init__(self) -> None:
        self._held: socket.socket | None = None
        self._over = False

    def hold(self, connection: socket.socket) -> None:
        """Let a connection be cut; one that comes too late is cut here."""
        self._held = connection.dup()  # TLS takes over the other one
        if self._over:
            self.cut()

    def cut(self) -> None:
        """End the connection, and every one that is held later. Never blocks."""
        self._over = True
        if self._held is not None:
            with suppress(OSError):  # the other side was sooner
                self._held.shutdown(socket.SHUT_RDWR)
            self._held.close()


class _Replies:
    """What a server says, up to a limit."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = REPLIES_LIMIT_BYTES

    def readline(self, size: int) -> bytes:
        found = self._file.readline(size)
        self._left -= len(found)
        if self._left < 0:
            raise OSError(f"it says more than {REPLIES_LIMIT_BYTES} bytes")
        return found

    def close(self) -> None:
        self._file.close()


class _Bounded(smtplib.SMTP):
    """A server whose line can be cut, and who is not listened to for ever.

    With a `context` it speaks TLS from the first byte.
    """

    def __init__(
        self, way: Mail, limit_s: float, line: Line, context: ssl.SSLContext | None
    ) -> None:
        self._line = line
        self._context = context
        super().__init__(way.host, way.port, timeout=limit_s)

    def connect(
        self,
        host: str = "localhost",
        port: int = 0,
        source_address: object = None,  # noqa: ARG002  # nobody gives one
    ) -> tuple[int, bytes]:
        made = socket.create_connection((host, port), self.timeout)
        self._line.hold(made)
        self.sock = made
        if self._context is not None:
            self.sock = self._context.wrap_socket(made, server_hostname=host)
        return self.getreply()

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = _Replies(self.sock.makefile("rb"))
        return super().getreply()


def mail(way: Mail, told: Message, *, date: datetime, limit_s: float, line: Line) -> None:
    """Send one mail. Blocking, each step within the limit, until the line is cut.

    Raises:
        ReceiverError: the server has not taken it for everybody.
    """
    try:
        letter = _letter(way, told, date)
        context = trusting(way.ca)
        with _Bounded(way, limit_s, line, context if way.security == "tls" else None) as server:
            if way.security == "starttls":
                server.starttls(context=context)
            if way.user is not None and way.password_file is not None:
                server.login(way.user, secret(way.password_file).decode())
            refused = server.send_message(letter)
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise ReceiverError(f"the server does not take it: {_plain(error)}"[:300]) from error
    if refused:
        raise ReceiverError(f"the server does not take it for {', '.join(refused)}"[:300])


def _letter(way: Mail, told: Message, date: datetime) -> EmailMessage:
    letter = EmailMessage()
    # `=?` begins a word that would be decoded: a device's name could then end the header's line.
    letter["Subject"] = told.subject.replace("=?", "= ?")
    letter["From"] = way.sender
    letter["To"] = ", ".join(way.to)
    letter["Date"] = date
    letter["Message-ID"] = f"<{told.id}@{way.sender.partition('@')[2]}>"
    letter["Auto-Submitted"] = "auto-generated"
    letter.set_content(told.text)
    return letter


def _plain(error: Exception) -> str:
    """Return what a server said, in words; never what was said to it."""
    if why := untrusted(error):
        return why
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"it answered {error.smtp_code} to the password"
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        return f"it answered {error.smtp_code} {text}"
    return str(error) or type(error).__name__
