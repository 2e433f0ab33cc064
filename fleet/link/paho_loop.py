"""One MQTT 5 connection on our event loop: paho without its thread.

A `Connection` lives from CONNECT to its end and is never used again, so nothing
of paho's memory (its queue, its message numbers) outlives the session it
belongs to: what must be said again is said again from the store.

- `clean_start=False` always: otherwise a restarted process wipes what the
  broker kept for it.
- Messages are confirmed by `ack`, after they are committed.
- Name, TCP and TLS block in paho's `connect`, so they run in a thread; from
  then on everything runs on the loop.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.wire.limits import PACKET_LIMIT_BYTES
from fleet.broker.address import Address

SESSION_EXPIRY_S = 86400
"""How long the broker keeps what comes while we are away; later retained documents must do."""

_CLOSE_LIMIT_S = 2.0
_UPKEEP_S = 1.0
_FAILURE = 0x80  # MQTT 5: reason codes from here on are failures


class BrokenError(Exception):
    """The connection is over, or couldn't be made; coming back later may help."""


class Connection:
    """One connection. `on_message` is called on the loop, must be quick and never raise."""

    def __init__(
        self,
        address: Address,
        *,
        client_id: str,
        tls: ssl.SSLContext | None,
        receive_maximum: int,
        keepalive_s: int,
        on_message: Callable[[MQTTMessage], None],
    ) -> None:
        if address.tls and tls is None:
            raise ValueError(f"{address} needs a TLS context")
        self._address = address
        self._receive_maximum = receive_maximum
        self._keepalive_s = keepalive_s
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[bool] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._waiting: dict[tuple[str, int], asyncio.Future[int]] = {}
        self._attached = False
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        if address.tls and tls is not None:
            client.tls_set_context(tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = lambda _client, _userdata, message: on_message(message)
        client.on_publish = lambda _c, _u, mid, reason, _p: self._answer(
            "publish", mid, reason.value
        )
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: self._answer(
            "subscribe", mid, max(reason.value for reason in reasons)
        )
        client.on_unsubscribe = lambda _c, _u, mid, _r, _p: self._answer("unsubscribe", mid, 0)
        client.on_socket_register_write = lambda _c, _u, _s: self._want_write()
        client.on_socket_unregister_write = lambda _c, _u, sock: self._stop_writing(sock.fileno())
        client.on_socket_close = lambda _c, _u, sock: self._detach(sock.fileno())
        self._client = client

    async def open(self) -> bool:
        """Connect; return whether the broker had our session.

        Raises:
            BrokenError: no network, no TLS, refused. Cancellation waits for the blocking part
            to end (paho's own limit of 5 s), so that no socket is left behind.
        """
        connecting = self._loop.run_in_executor(None, self._connect)
        try:
            await asyncio.shield(connecting)
        except asyncio.CancelledError:
            await asyncio.wait([connecting])
            raise
        except (
            OSError,
            ValueError,
        ) as error:  # ssl.SSLError is an OSError, a bad name a ValueError
            raise BrokenError(f"can't connect to {self._address}: {error}") from error
        self._attach()
        try:
            return await self._opened
        finally:
            self._opened.cancel()

    async def ended(self) -> str:
        """Wait until it is over; return why."""
        return await asyncio.shield(self._ended)

    async def upkeep(self) -> None:
        """Keep it alive by pings, and notice when the other side is gone. Until it ends."""
        while not self._ended.done():
            await asyncio.sleep(_UPKEEP_S)
            self._guarded(self._client.loop_misc)

    async def subscribe(self, filters: Sequence[str], *, qos: int = 1) -> None:
        """Subscribe to all filters; a retained document that matches comes each time.

        Raises:
            BrokenError: the broker refused one of them, or the connection is over.
        """
        wanted = [(name, SubscribeOptions(qos=qos)) for name in filters]
        error, mid = self._client.subscribe(wanted)
        code = await self._answered("subscribe", error, mid)
        if code >= _FAILURE:
            raise BrokenError(f"{self._address} refused a subscription with reason {code}")

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """End subscriptions.

        Raises:
            BrokenError: the connection is over.
        """
        error, mid = self._client.unsubscribe(list(filters))
        await self._answered("unsubscribe", error, mid)

    def publish(
        self, topic: str, payload: bytes, *, retain: bool, expiry_s: int | None = None
    ) -> asyncio.Future[int]:
        """Send with QoS 1; the future ends with the broker's reason code (from 128: refused)."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's isn't typed
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        sent = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        return self._awaiting("publish", sent.mid)

    @property
    def unanswered(self) -> int:
        """How much was sent that the broker hasn't confirmed."""
        return len(self._waiting)

    def ack(self, message: MQTTMessage) -> None:
        """Confirm one message of this connection."""
        if not self._ended.done():
            self._client.ack(message.mid, message.qos)

    async def close(self) -> None:
        """Say goodbye if there is somebody to say it to, and release the socket. Idempotent."""
        if self._client.socket() is not None and not self._ended.done():
            self._client.disconnect()
            await asyncio.wait([self._ended], timeout=_CLOSE_LIMIT_S)
        sock = self._client.socket()
        if sock is not None:  # it doesn't read any more: leave without a word
            self._detach(sock.fileno())
            sock.close()
        self._end("closed")

    def _connect(self) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's isn't typed
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        properties.ReceiveMaximum = self._receive_maximum
        properties.MaximumPacketSize = PACKET_LIMIT_BYTES
        self._client.connect(
            self._address.host,
            self._address.port,
            keepalive=self._keepalive_s,
            clean_start=False,
            properties=properties,
        )

    def _attach(self) -> None:
        sock = self._client.socket()
        if sock is None:
            self._end("the connection closed before it was used")
            return
        self._attached = True
        self._loop.add_reader(sock.fileno(), self._read)
        self._want_write()

    def _detach(self, descriptor: int) -> None:
        if self._attached:
            self._attached = False
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)

    def _want_write(self) -> None:
        # Called in the connecting thread too: until attached, the queue just waits.
        sock = self._client.socket()
        if self._attached and sock is not None:
            self._loop.add_writer(sock.fileno(), self._guarded, self._client.loop_write)

    def _stop_writing(self, descriptor: int) -> None:
        if self._attached:
            self._loop.remove_writer(descriptor)

    def _read(self) -> None:
        self._guarded(self._client.loop_read)
        # What TLS has decrypted already makes no socket readable: take it now.
        while isinstance(sock := self._client.socket(), ssl.SSLSocket) and sock.pending():
            self._guarded(self._client.loop_read)

    def _guarded(self, step: Callable[[], MQTTErrorCode]) -> None:
        try:
            outcome = step()
        except Exception as error:  # noqa: BLE001  # paho raises whatever its packet readers meet
            sock = self._client.socket()
            if sock is not None:
                self._detach(sock.fileno())
                sock.close()
            self._end(f"unreadable packet: {error!r}")
        else:
            if outcome not in {MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN}:
                self._end(outcome.name)

    def _on_connect(
        self,
        _client: Client,
        _userdata: object,
        flags: ConnectFlags,
        reason: ReasonCode,
        _p: object,
    ) -> None:
        if self._opened.done():
            return
        if reason.is_failure:
            self._opened.set_exception(BrokenError(f"{self._address} refused us: {reason}"))
        else:
            self._opened.set_result(flags.session_present)

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _p: object,
    ) -> None:
        self._end(str(reason))

    def _end(self, why: str) -> None:
        if not self._ended.done():
            self._ended.set_result(why)
        broken = BrokenError(f"the connection to {self._address} is over: {why}")
        if not self._opened.done():
            self._opened.set_exception(broken)
            self._opened.exception()  # as below
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(broken)
                future.exception()  # whoever waits sees it; nobody has to

    def _awaiting(self, what: str, mid: int | None) -> asyncio.Future[int]:
        future: asyncio.Future[int] = self._loop.create_future()
        if self._ended.done() or mid is None:
            future.set_exception(BrokenError(f"the connection to {self._address} is over"))
            future.exception()
        else:
            self._waiting[what, mid] = future
        return future

    async def _answered(self, what: str, error: MQTTErrorCode, mid: int | None) -> int:
        return await self._awaiting(what, mid if error == MQTTErrorCode.MQTT_ERR_SUCCESS else None)

    def _answer(self, what: str, mid: int, code: int) -> None:
        future = self._waiting.pop((what, mid), None)
        if future is not None and not future.done():
            future.set_result(code)
