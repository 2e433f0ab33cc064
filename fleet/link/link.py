"""The centre's link: documents of devices into the inbox, what the store wants into the broker.

Rules.
- A message is confirmed to the broker after the inbox has committed its batch. A
  crash anywhere before brings the same messages again; committing them again
  changes nothing and acknowledges them again.
- Publishing is level-triggered: everything above the position that the broker's
  own retained marker names. A marker that is missing, of another store, or ahead
  of the store means that the broker has lost its memory (or the store has), and
  everything is published again, at a limited rate. A wake-up only means: look now.
- The stream comes through a shared subscription where the broker `shares`, so that
  replicas can divide the work. Those bring no retained documents, so at start, and
  whenever the broker has lost our session, `reported` and `presence` are also read
  once through an ordinary subscription. (An ordinary stream brings them by itself.)
- Nothing that a device sends can end the link: what can't be read is refused,
  counted and confirmed.
- One replica publishes. Two would be correct (the same bytes), only wasteful.
"""

import asyncio
import json
import random
import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from paho.mqtt.client import MQTTMessage

from agent.wire import v1
from agent.wire.codec import encode
from agent.wire.reasons import Reason
from agent.wire.topics import (
    DEVICE_WRITES,
    RETAINED,
    Kind,
    Topic,
    every_device,
    marker,
)
from fleet.broker.address import Address
from fleet.link.backlog import Backlog
from fleet.link.intake import Refusal, admit
from fleet.link.pace import Pace, full_jitter
from fleet.link.paho_loop import BrokenError, Connection
from fleet.ports import BrokerError, Inbox, InboxBusyError, Outgoing, Publication, Received

_FAILURE = 0x80  # MQTT 5: reason codes from here on are failures
_MARKER_LIMIT_BYTES = 1024
_LOG_AGAIN_S = 60.0

log = structlog.get_logger("fleet.link")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the link has done so far. `dropped`: health sent with QoS 0 that found no room."""

    connections: int
    received: int
    committed: int
    published: int
    dropped: int
    refused: Mapping[Reason, int]


class Link:
    """`run()` until cancelled; `wake()` when the store changed (a hint that carries no input).

    `tls` is needed for a `mqtts://` address: the context shows a certificate
    whose common name is `centre`. `client_id` is the session's name at the
    broker: the same after a restart, so that nothing queued meanwhile is lost.
    `shared` is the broker's `shares`.
    """

    def __init__(
        self,
        *,
        fleet: str,
        url: str,
        tls: ssl.SSLContext | None,
        inbox: Inbox,
        outgoing: Outgoing,
        shared: bool = True,
        client_id: str = "centre",
        pace: Pace | None = None,
    ) -> None:
        self._fleet = fleet
        self._address = Address.parse(url)
        self._tls = tls
        self._inbox = inbox
        self._outgoing = outgoing
        self._shared = shared
        self._stream = [
            f"$share/centre/{name}" if shared else name
            for name in (every_device(fleet, kind) for kind in DEVICE_WRITES)
        ]
        self._client_id = client_id
        self._pace = pace or Pace()
        self._woken = asyncio.Event()
        self._connection: Connection | None = None
        self._backlog = self._empty()
        self._marker: asyncio.Future[bytes] | None = None
        self._retained_seen = 0.0
        self._has_read_retained = False
        self._refused: Counter[Reason] = Counter()
        self._logged: dict[Reason, float] = {}
        self._connections = self._received = self._committed = self._published = 0
        self._dropped = 0
        self._committing: float | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a session with the broker now."""
        return self._connection is not None

    def counts(self) -> Counts:
        """Return what has been done so far."""
        return Counts(
            connections=self._connections,
            received=self._received,
            committed=self._committed,
            published=self._published,
            dropped=self._dropped + self._backlog.dropped,
            refused=dict(self._refused),
        )

    def lag_s(self) -> float:
        """Return for how long the oldest message that came has not been committed."""
        since = self._backlog.oldest if self._committing is None else self._committing
        return 0.0 if since is None else max(0.0, asyncio.get_running_loop().time() - since)

    def wake(self) -> None:
        """Look at the store now."""
        self._woken.set()

    async def tell(self, topic: str, payload: bytes) -> None:
        """Publish something of the centre's own, once, and return when the broker has it.

        Raises:
            BrokerError: there is no connection, or the broker does not take it.
        """
        connection = self._connection
        if connection is None:
            raise BrokerError("the centre has no connection to its broker")
        try:
            code = await connection.publish(topic, payload, retain=False)
        except BrokenError as error:
            raise BrokerError(str(error)) from error
        if code >= _FAILURE:
            raise BrokerError(f"the broker refused {topic} with reason {code}")

    async def run(self) -> None:
        """Connect, ingest, publish; come back with full jitter whenever the connection breaks.

        Runs until cancelled. Whatever is not a broken connection or a busy
        store is a defect, and ends it.
        """
        attempt = 0
        while True:
            before = self._connections
            try:
                await self._live_once()
            except* BrokenError as group:
                log.warning("link broken", broker=str(self._address), why=_first(group))
            attempt = 0 if self._connections > before else attempt + 1
            wait_s = full_jitter(
                attempt,
                first_s=self._pace.reconnect_first_s,
                cap_s=self._pace.reconnect_cap_s,
                draw=random.random(),  # noqa: S311  # jitter, not a secret
            )
            await asyncio.sleep(wait_s)

    async def _live_once(self) -> None:
        self._dropped += self._backlog.dropped
        # Message numbers belong to a connection: what is left of the last one comes again.
        self._backlog = self._empty()
        self._committing = None
        connection = Connection(
            self._address,
            client_id=self._client_id,
            tls=self._tls,
            receive_maximum=self._pace.receive_maximum,
            keepalive_s=self._pace.keepalive_s,
            on_message=self._arrived,
        )
        try:
            had_session = await self._open(connection)
            self._connection = connection
            self._connections += 1
            log.info("link up", broker=str(self._address), had_session=had_session)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_end_with(connection), name="link-end")
                tasks.create_task(connection.upkeep(), name="link-upkeep")
                tasks.create_task(self._ingest(connection), name="link-ingest")
                tasks.create_task(self._publish(connection), name="link-publish")
                if self._shared and not (had_session and self._has_read_retained):
                    tasks.create_task(self._read_retained(connection), name="link-retained")
        finally:
            self._connection = None
            await connection.close()

    async def _open(self, connection: Connection) -> bool:
        try:
            async with asyncio.timeout(self._pace.connect_limit_s):
                had_session = await connection.open()
                await connection.subscribe(self._stream)
        except TimeoutError as error:
            raise BrokenError(f"{self._address} didn't answer in time") from error
        return had_session

    def _arrived(self, message: MQTTMessage) -> None:
        if message.retain:
            self._retained_seen = asyncio.get_running_loop().time()
        topic = _topic(message)
        if topic == marker(self._fleet):
            if self._marker is not None and not self._marker.done() and message.retain:
                self._marker.set_result(bytes(message.payload))
            if message.qos and self._connection is not None:
                self._connection.ack(message)
            return
        self._received += 1
        self._backlog.put(message, topic)

    def _empty(self) -> Backlog:
        return Backlog(self._pace.backlog_limit, self._pace.topic_limit)

    # -- in: devices to the store

    async def _ingest(self, connection: Connection) -> None:
        backlog = self._backlog
        while True:
            messages = await backlog.take(self._pace.batch_limit, self._pace.batch_wait_s)
            self._committing = messages[0].timestamp
            batch = [document for message in messages if (document := self._admit(message))]
            acks = await self._commit(batch) if batch else ()
            self._tell_acked(connection, acks)
            for message in messages:
                connection.ack(message)
            self._committing = None

    def _admit(self, message: MQTTMessage) -> Received | None:
        outcome = admit(
            self._fleet, _topic(message), bytes(message.payload), retained=message.retain
        )
        if isinstance(outcome, Received):
            return outcome
        self._refuse(outcome)
        return None

    def _refuse(self, refusal: Refusal) -> None:
        self._refused[refusal.reason] += 1
        now = asyncio.get_running_loop().time()
        if now - self._logged.get(refusal.reason, -_LOG_AGAIN_S) >= _LOG_AGAIN_S:
            self._logged[refusal.reason] = now
            log.warning(
                "document refused",
                reason=refusal.reason,
                device=refusal.device,
                why=refusal.message,
                so_far=self._refused[refusal.reason],
            )

    async def _commit(self, batch: Sequence[Received]) -> Sequence[v1.Acked]:
        attempt = 0
        while True:
            try:
                acks = await self._inbox.commit(batch)
            except InboxBusyError as error:
                log.warning("store busy", why=str(error), documents=len(batch))
                wait_s = min(self._pace.busy_cap_s, self._pace.busy_first_s * 2.0**attempt)
                attempt = min(attempt + 1, 32)
                await asyncio.sleep(wait_s)
            else:
                self._committed += len(batch)
                return acks

    def _tell_acked(self, connection: Connection, acks: Sequence[v1.Acked]) -> None:
        """Send what is acknowledged, without waiting for the broker's word.

        One that is lost is due again: the device says its events until it is told.
        And waiting would stop rumqttd for good: with its window of unconfirmed
        messages full, it doesn't even send us its confirmations.
        """
        latest = {(acked.device, acked.ledger): acked for acked in acks}
        for acked in latest.values():
            topic = Topic(self._fleet, acked.device, Kind.ACKED)
            _ = connection.publish(str(topic), encode(acked), retain=True)
        if connection.unanswered > self._pace.backlog_limit:
            raise BrokenError("the broker confirms nothing that it is told")

    async def _read_retained(self, connection: Connection) -> None:
        kinds = (Kind.REPORTED, Kind.SITE_REPORTED, Kind.PRESENCE)
        filters = [every_device(self._fleet, kind) for kind in kinds]
        loop = asyncio.get_running_loop()
        self._retained_seen = loop.time()
        await connection.subscribe(filters)
        while (rest := self._retained_seen + self._pace.quiet_s - loop.time()) > 0:  # noqa: ASYNC110  # it ends by nothing happening
            await asyncio.sleep(rest)
        await connection.unsubscribe(filters)
        self._has_read_retained = True

    # -- out: the store to devices

    async def _publish(self, connection: Connection) -> None:
        position = await self._position(connection)
        loop = asyncio.get_running_loop()
        while True:
            self._woken.clear()
            while page := await self._outgoing.after(position, self._pace.publish_limit):
                started = loop.time()
                await self._put(connection, page)
                position = page[-1].position
                await self._mark(connection, position)
                await asyncio.sleep(started + len(page) / self._pace.publish_per_s - loop.time())
            try:
                async with asyncio.timeout(self._pace.look_again_s):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def _position(self, connection: Connection) -> int:
        """Return the position up to which the broker has everything, by its own marker."""
        self._marker = asyncio.get_running_loop().create_future()
        topic = marker(self._fleet)
        await connection.subscribe([topic], qos=0)
        try:
            async with asyncio.timeout(self._pace.marker_wait_s):
                raw = await self._marker
        except TimeoutError:
            raw = b""
        await connection.unsubscribe([topic])
        position = _read_marker(raw, self._outgoing.store_id)
        if position is None or position > await self._outgoing.head():
            log.info("publishing everything again", why="no marker of this store on the broker")
            return 0
        return position

    async def _put(self, connection: Connection, page: Sequence[Publication]) -> None:
        sent = [
            connection.publish(
                str(publication.topic),
                publication.payload,
                retain=publication.topic.kind in RETAINED,
                expiry_s=publication.expiry_s,
            )
            for publication in page
        ]
        for publication, future in zip(page, sent, strict=True):
            if (code := await future) >= _FAILURE:
                # Its access rules or its quota: going on would leave a gap behind the marker.
                raise BrokenError(f"the broker refused {publication.topic} with reason {code}")
        self._published += len(page)

    async def _mark(self, connection: Connection, position: int) -> None:
        raw = json.dumps({"store": self._outgoing.store_id, "position": position}).encode()
        if (code := await connection.publish(marker(self._fleet), raw, retain=True)) >= _FAILURE:
            raise BrokenError(f"the broker refused the marker with reason {code}")


async def _end_with(connection: Connection) -> None:
    raise BrokenError(await connection.ended())


def _topic(message: MQTTMessage) -> str:
    try:
        return message.topic
    except (
        UnicodeDecodeError
    ):  # a broker that lets it through; refused like any topic that isn't ours
        return ""


def _read_marker(raw: bytes, store_id: str) -> int | None:
    if len(raw) > _MARKER_LIMIT_BYTES:
        return None
    try:
        held = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(held, dict) or held.get("store") != store_id:
        return None
    position = held.get("position")
    return position if type(position) is int and position >= 0 else None


def _first(group: BaseExceptionGroup[BrokenError]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
