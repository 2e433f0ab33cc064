"""What the centre needs from the world, as small ports. Pure: values and `Protocol`s, no I/O.

- `Broker`: the thing devices connect to (Mosquitto as a child, the embedded one, any by URL).
- `Inbox`: where documents of devices are committed (the store).
- `Outgoing`: what the store wants published (the store).
- `Bundles`: who has to know that a bundle was published (the store).

The store is the truth and the broker a cache of it. `Outgoing` therefore is
level-triggered: it is asked for all that changed above a *position*, a number
that the store raises with every change. The link keeps the position up to which
everything is on the broker in a retained marker *on that broker*: a broker that
lost its memory, or went back to an older copy of it, says so by its marker, and
gets exactly what it lacks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.wire import v1
from agent.wire.topics import Topic
from models.bundle import Bundle

FromDevice = v1.Reported | v1.SiteReported | v1.Birth | v1.Death | v1.Health | v1.Event | v1.Result
"""The documents a device writes."""


class BrokerError(Exception):
    """The broker can't be started or used as asked; the message says why and what to do."""


class InboxBusyError(Exception):
    """The store can't commit now (locked, disk full): nothing of the batch counts."""


class RefTakenError(Exception):
    """A name and version already stand for another digest: versions are never reused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One document of a device. Its topic and its own fields agree: the link has checked.

    `retained`: read from the broker's memory at start, so the store may have it already.
    """

    topic: Topic
    document: FromDevice
    retained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What one topic should hold: the exact bytes, kept as they were signed.

    `position` is that of the topic's latest change. Whether it is retained
    follows from the topic's kind (`agent.wire.topics.RETAINED`). An empty payload
    clears a retained topic (a device that was removed). `expiry_s` is for
    commands: the broker drops them when they are void.
    """

    position: int
    topic: Topic
    payload: bytes
    expiry_s: int | None = None


class Inbox(Protocol):
    """Where documents of devices are committed."""

    async def commit(self, batch: Sequence[Received]) -> Sequence[v1.Acked]:
        """Commit the whole batch in order in one transaction, and say what is acknowledged by it.

        Idempotent: after a broken connection the same documents come again, and
        the same answer is due (an event that was committed before is
        acknowledged again). The link publishes the answers, and only then
        confirms the messages to the broker. A batch that holds a document about
        an unknown device, a stale death or an older report commits the rest.

        Raises:
            InboxBusyError: nothing was committed; the same batch comes again.
        """
        ...


class Outgoing(Protocol):
    """What the store wants published to devices. All methods only read: idempotent."""

    @property
    def store_id(self) -> str:
        """The store's own id, made with it: a marker left by another store counts as missing."""
        ...

    async def head(self) -> int:
        """Return the highest position given out; 0 in a new store."""
        ...

    async def after(self, position: int, limit: int) -> Sequence[Publication]:
        """Return at most `limit` publications with a position above `position`, in rising order.

        A retained topic at most once, with its present content: one that changes
        again moves to the end. Of commands, those that are open.
        """
        ...


class Bundles(Protocol):
    """Who has to know that a bundle was published."""

    async def admit(self, bundle: Bundle, *, by: str) -> None:
        """Remember a verified bundle; `by` published it (for the audit). Idempotent.

        Raises:
            RefTakenError: its name and version stand for another digest.
        """
        ...


class Broker(Protocol):
    """The broker that devices connect to, and its life.

    `start`, then `watch` as a task of its own while it is used, then `stop`.
    """

    @property
    def url(self) -> str:
        """Where devices connect: `mqtts://host:port`, or `mqtt://127.0.0.1:port` (no identity)."""
        ...

    @property
    def centre_url(self) -> str:
        """Where the centre connects; over TLS with a certificate whose common name is `centre`."""
        ...

    @property
    def isolates(self) -> bool:
        """Whether it keeps devices out of each other's topics by their certificates."""
        ...

    @property
    def shares(self) -> bool:
        """Whether replicas of the centre can share the stream by a shared subscription."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it runs, as far as this process knows (one by URL: not known, so True)."""
        ...

    async def start(self) -> None:
        """Start it and return when it accepts connections. Not idempotent.

        Raises:
            BrokerError: the program is missing or too old, the port is in use, the files are wrong.
        """
        ...

    async def watch(self) -> None:
        """Keep it running until cancelled: restart it with back-off when it dies."""
        ...

    async def stop(self) -> None:
        """Stop it and release what `start` took. Idempotent."""
        ...
