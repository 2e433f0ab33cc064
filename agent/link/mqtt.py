"""The link over MQTT 5: paho without its thread, one fresh client a connection.

Rules:
- `clean_start=False` and a session of a day: what the centre says meanwhile is kept.
- A message that arrived is acknowledged by hand, when its reader says it is durable.
- Nothing waits in paho: a publish fails at once when there is no connection. What
  must not be lost is in the ledger.
- One client object a connection, so that nothing of a broken one is sent again.
- A connection that breaks is tried again with full jitter; one that lasted resets it.

Sockets are watched by the event loop; only connecting (name lookup, TCP, TLS)
blocks, and does so in a thread.
"""

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.backoff import full_jitter_s
from agent.ports import (
    Arrived,
    Connected,
    Greeting,
    LinkDownError,
    LinkEvent,
    LinkRefusedError,
    Lost,
)
from agent.wire.limits import PACKET_LIMIT_BYTES
from agent.wire.topics import DEVICE_READS, RETAINED, Kind, Topic

if TYPE_CHECKING:
    from paho.mqtt.client import SocketLike

_SESSION_EXPIRY_S = 86400
_RECEIVE_MAXIMUM = 16
"""Messages the broker may send before the first is acknowledged: there are four topics."""
_INFLIGHT = 20
_CONNECT_LIMIT_S = 10.0
_LASTED_S = 30.0
"""A connection that stood this long was a good one: the next wait is a short one."""
_GOODBYE_LIMIT_S = 2.0
_NO_MATCHING_SUBSCRIBERS = 0x10  # MQTT 5.0, 3.4.2.1

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the broker is. `tls` is None only on loopback."""

    host: str
    port: int
    tls: ssl.SSLContext | None


class MqttLink:
    """A device's link to its broker."""

    def __init__(
        self,
        address: Address,
        *,
        fleet: str,
        device: str,
        keepalive_s: Callable[[], float] = lambda: 120.0,
        reconnect_cap_s: Callable[[], float] = lambda: 60.0,
    ) -> None:
        self._address, self._device = address, device
        self._topics = {kind: str(Topic(fleet, device, kind)) for kind in Kind}
        self._kinds = {self._topics[kind]: kind for kind in DEVICE_READS}
        self._keepalive_s, self._reconnect_cap_s = keepalive_s, reconnect_cap_s
        self._events: asyncio.Queue[LinkEvent] = asyncio.Queue()
        self._connection: _Connection | None = None
        self._early: list[Arrived] = []
        self._closed = False

    async def run(self, greet: Callable[[], Awaitable[Greeting]]) -> None:
        """Connect and reconnect until cancelled."""
        loop = asyncio.get_running_loop()
        attempt = 0
        while not self._closed:
            began = loop.time()
            why = await self._once(await greet())
            attempt = 0 if loop.time() - began > _LASTED_S else attempt + 1
            wait_s = full_jitter_s(attempt, random.random(), cap_s=self._reconnect_cap_s())  # noqa: S311  # not a secret
            await _log.ainfo("link lost", why=why, retry_s=round(wait_s, 2))
            await asyncio.sleep(wait_s)

    async def _once(self, greeting: Greeting) -> str:
        """Hold one connection for as long as it stands; return why it ended."""
        self._early.clear()
        connection = _Connection(self._address, self._device, self._arrived)
        try:
            await connection.open(
                self._topics[Kind.PRESENCE], greeting.death, round(self._keepalive_s())
            )
            await connection.subscribe([self._topics[kind] for kind in DEVICE_READS])
            await connection.publish(
                self._topics[Kind.PRESENCE], greeting.birth, qos=1, retain=True
            )
        except LinkDownError as error:
            connection.drop()
            return str(error)
        except LinkRefusedError as error:
            await connection.leave()
            return f"refused: {error}"
        except BaseException:
            connection.drop()
            raise
        self._connection = connection
        self._events.put_nowait(Connected())
        for arrived in self._early:  # what the session held came before its birth was said
            self._events.put_nowait(arrived)
        try:
            why = await connection.stand()
        finally:
            self._connection = None
            connection.drop()
        self._events.put_nowait(Lost(reason=why))
        return why

    async def next_event(self) -> LinkEvent:
        """Wait for what happens next."""
        return await self._events.get()

    async def publish(self, kind: Kind, payload: bytes) -> bool:
        """Give a message to the broker; see the port."""
        if self._connection is None:
            raise LinkDownError("not connected")
        qos = 0 if kind is Kind.HEALTH else 1
        return await self._connection.publish(
            self._topics[kind], payload, qos=qos, retain=kind in RETAINED
        )

    async def close(self, death: bytes) -> None:
        """Publish the death and disconnect."""
        self._closed = True
        connection = self._connection
        if connection is None:
            return
        try:
            async with asyncio.timeout(_GOODBYE_LIMIT_S):
                await self.publish(Kind.PRESENCE, death)
        except (LinkDownError, LinkRefusedError, TimeoutError):
            pass  # the will says it for us
        else:
            await connection.leave()

    def _arrived(self, topic: str, payload: bytes, acknowledge: Callable[[], None]) -> None:
        kind = self._kinds.get(topic)
        if kind is None:
            acknowledge()  # not ours to read; it must not come again
            return
        arrived = Arrived(kind=kind, payload=payload, acknowledge=acknowledge)
        if self._connection is None:
            self._early.append(arrived)
        else:
            self._events.put_nowait(arrived)


class _Connection:
    """One connection, from TCP to its end. Everything but connecting happens on the loop."""

    def __init__(
        self,
        address: Address,
        client_id: str,
        arrived: Callable[[str, bytes, Callable[[], None]], None],
    ) -> None:
        self._address = address
        self._arrived = arrived
        self._loop = asyncio.get_running_loop()
        self._socket: SocketLike | None = None
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._granted: asyncio.Future[None] = self._loop.create_future()
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        self._slots = asyncio.Semaphore(_INFLIGHT)
        self._limit_bytes = PACKET_LIMIT_BYTES
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5, manual_ack=True
        )
        client.connect_timeout = _CONNECT_LIMIT_S
        client.max_inflight_messages_set(_INFLIGHT)
        if address.tls is not None:
            client.tls_set_context(address.tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write

    async def open(self, will_topic: str, will: bytes, keepalive_s: int) -> None:
        """Connect and wait for the broker's word.

        Raises:
            LinkDownError: no network, no broker, no trust, or refused.
        """
        self._client.will_set(will_topic, will, qos=1, retain=True)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = _SESSION_EXPIRY_S
        properties.ReceiveMaximum = _RECEIVE_MAXIMUM
        properties.MaximumPacketSize = PACKET_LIMIT_BYTES

        def connect() -> MQTTErrorCode:
            return self._client.connect(
                self._address.host,
                self._address.port,
                keepalive=max(10, min(keepalive_s, 0xFFFF)),
                clean_start=False,
                properties=properties,
            )

        try:
            code = await asyncio.to_thread(connect)
        except (OSError, ValueError) as error:  # TLS and name errors are OSErrors too
            raise LinkDownError(f"{type(error).__name__}: {error}") from error
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkDownError(paho.error_string(code))
        found = self._client.socket()
        if found is None:
            raise LinkDownError("the connection was closed at once")
        self._socket = found
        self._loop.add_reader(found, self._readable)
        if self._client.want_write():
            self._loop.add_writer(found, self._writable)
        await self._within(self._granted)

    async def subscribe(self, topics: list[str]) -> None:
        """Subscribe and wait until it is granted.

        Raises:
            LinkDownError: the connection broke.
            LinkRefusedError: the broker won't have it.
        """
        options = SubscribeOptions(qos=1)
        code, mid = self._client.subscribe([(topic, options) for topic in topics])
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise LinkDownError(paho.error_string(code))
        await self._within(self._expect(mid))

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> bool:
        """Send a message; with QoS 1 wait for the broker's PUBACK: whether anybody hears it.

        Raises:
            LinkDownError: the connection broke.
            LinkRefusedError: the broker won't have it.
        """
        if len(topic) + len(payload) + 64 > self._limit_bytes:
            raise LinkRefusedError(f"{len(payload)} bytes; the broker takes {self._limit_bytes}")
        async with self._slots:
            if self._ended.done():
                raise LinkDownError(self._ended.result())
            sent = self._client.publish(topic, payload, qos=qos, retain=retain)
            if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise LinkDownError(paho.error_string(sent.rc))
            if not qos:
                return True
            try:
                return await self._expect(sent.mid)
            finally:
                self._waiting.pop(sent.mid, None)

    async def stand(self) -> str:
        """Keep the connection alive until it ends; return why it did."""
        while not self._ended.done():
            await asyncio.wait([self._ended], timeout=1.0)
            if not self._ended.done():
                self._ping()
        return self._ended.result()

    async def leave(self) -> None:
        """Disconnect in order, so that the will is not said."""
        self._client.disconnect()
        try:
            async with asyncio.timeout(_GOODBYE_LIMIT_S):
                await asyncio.shield(self._ended)
        except TimeoutError:
            pass
        self.drop()

    def drop(self) -> None:
        """Let go of the socket. Idempotent."""
        self._end("dropped")
        self._client.on_disconnect = None
        self._client._reset_sockets()  # noqa: SLF001  # the only door to closing without a goodbye

    def _expect(self, mid: int) -> asyncio.Future[bool]:
        return self._waiting.setdefault(mid, self._loop.create_future())

    async def _within(self, answer: asyncio.Future[Any]) -> None:
        """Wait for an answer of the broker while keeping the connection alive."""
        try:
            async with asyncio.timeout(_CONNECT_LIMIT_S):
                await answer
        except TimeoutError:
            raise LinkDownError("the broker doesn't answer") from None

    def _ping(self) -> None:
        self._check(self._client.loop_misc())

    def _readable(self) -> None:
        # TLS may hold decrypted bytes that no readiness of the socket will announce.
        while True:
            self._check(self._client.loop_read())
            found = self._client.socket()
            if not isinstance(found, ssl.SSLSocket) or not found.pending():
                return

    def _writable(self) -> None:
        self._check(self._client.loop_write())

    def _check(self, code: MQTTErrorCode) -> None:
        if code not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN):
            self._end(paho.error_string(code))

    def _end(self, why: str) -> None:
        """Stop watching the socket and fail whoever waits. Idempotent."""
        self._unwatch()
        if not self._ended.done():
            self._ended.set_result(why)
        awaited: list[asyncio.Future[Any]] = [self._granted, *self._waiting.values()]
        for waiting in awaited:
            if not waiting.done():
                waiting.set_exception(LinkDownError(why))
                waiting.exception()  # seen: nobody may be waiting

    def _unwatch(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket = None

    # paho's callbacks, all on the loop's thread

    def _on_socket_close(self, _client: paho.Client, _user: object, _sock: "SocketLike") -> None:
        self._unwatch()  # before it is closed: its number may be another's the next moment

    def _on_connect(
        self,
        _client: paho.Client,
        _user: object,
        _flags: object,
        code: ReasonCode,
        properties: object,
    ) -> None:
        if code.is_failure:
            self._end(f"the broker refused: {code}")
            return
        self._limit_bytes = min(
            PACKET_LIMIT_BYTES, getattr(properties, "MaximumPacketSize", PACKET_LIMIT_BYTES)
        )
        if not self._granted.done():
            self._granted.set_result(None)

    def _on_disconnect(
        self,
        _client: paho.Client,
        _user: object,
        _flags: object,
        code: ReasonCode,
        _properties: object,
    ) -> None:
        self._end(str(code))

    def _on_subscribe(
        self,
        _client: paho.Client,
        _user: object,
        mid: int,
        codes: list[ReasonCode],
        _properties: object,
    ) -> None:
        self._answer(mid, next((code for code in codes if code.is_failure), None), heard=True)

    def _on_publish(
        self, _client: paho.Client, _user: object, mid: int, code: ReasonCode, _properties: object
    ) -> None:
        heard = code.value != _NO_MATCHING_SUBSCRIBERS
        self._answer(mid, code if code.is_failure else None, heard=heard)

    def _answer(self, mid: int, failure: ReasonCode | None, *, heard: bool) -> None:
        waiting = self._waiting.get(mid)
        if waiting is None or waiting.done():
            return
        if failure is None:
            waiting.set_result(heard)
        else:
            waiting.set_exception(LinkRefusedError(str(failure)))
            waiting.exception()

    def _on_message(self, client: paho.Client, _user: object, message: paho.MQTTMessage) -> None:
        mid, qos = message.mid, message.qos

        def acknowledge() -> None:
            if self._socket is not None:
                client.ack(mid, qos)

        self._arrived(message.topic, bytes(message.payload), acknowledge)

    def _on_register_write(self, _client: paho.Client, _user: object, sock: "SocketLike") -> None:
        if self._socket is not None:  # None: still connecting, in a thread; `open` sees to it
            self._loop.add_writer(sock, self._writable)

    def _on_unregister_write(
        self, _client: paho.Client, _user: object, _sock: "SocketLike"
    ) -> None:
        if self._socket is not None:
            self._loop.remove_writer(self._socket)
