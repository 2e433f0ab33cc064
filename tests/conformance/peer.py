"""A client of a broker for tests: paho, pumped by hand, without a thread or a loop."""

import select
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from fleet.broker.address import Address

LIMIT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    topic: str
    payload: bytes
    retain: bool = True


class Peer:
    """One client, known to the broker by `name`; it may connect again and again."""

    def __init__(
        self, address: Address, name: str, *, tls: ssl.SSLContext | None = None, username: str = ""
    ) -> None:
        self.name = name
        self.messages: list[MQTTMessage] = []
        self.session_present = False
        self.why_not: str | None = None
        self._address = address
        self._tls = tls
        self._username = username
        self._client: Client | None = None
        self._answers: dict[tuple[str, int], list[int]] = {}
        self._acking = True

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected()

    def connect(
        self,
        *,
        clean: bool = False,
        will: Will | None = None,
        ack: bool = True,
        limit_s: float = LIMIT_S,
    ) -> "Peer":
        """Connect, with a session that lasts; `connected` says whether the broker agreed."""
        self.vanish()
        self._acking = ack
        client = Client(
            CallbackAPIVersion.VERSION2,
            self.name,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        if self._tls is not None:
            client.tls_set_context(self._tls)
        if self._username:
            client.username_pw_set(self._username, "")
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        connack: list[tuple[bool, str | None]] = []
        client.on_connect = lambda _c, _u, flags, reason, _p: connack.append(
            (flags.session_present, str(reason) if reason.is_failure else None)
        )
        client.on_message = self._on_message
        client.on_publish = lambda _c, _u, mid, reason, _p: self._note(
            "publish", mid, [reason.value]
        )
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: self._note(
            "subscribe", mid, [reason.value for reason in reasons]
        )
        client.on_unsubscribe = lambda _c, _u, mid, _r, _p: self._note("unsubscribe", mid, [0])
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's isn't typed
        properties.SessionExpiryInterval = 300
        properties.ReceiveMaximum = 1000
        self._client = client
        self.why_not = None
        try:
            client.connect(
                self._address.host,
                self._address.port,
                keepalive=60,
                clean_start=clean,
                properties=properties,
            )
        except OSError as error:  # TLS said no
            self.why_not = str(error)
            self.vanish()
            return self
        self.until(lambda: bool(connack) or client.socket() is None, limit_s=limit_s, must=False)
        if not connack or connack[0][1] is not None:
            self.why_not = connack[0][1] if connack else "no CONNACK"
            self.vanish()
            return self
        self.session_present = connack[0][0]
        return self

    def subscribe(self, *filters: str, qos: int = 1) -> list[int]:
        _, mid = self.client.subscribe([(each, SubscribeOptions(qos=qos)) for each in filters])
        assert mid is not None
        return self._answer("subscribe", mid)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        expiry_s: int | None = None,
    ) -> int:
        """Publish with QoS 1 and return the broker's reason code."""
        return self._answer("publish", self.send(topic, payload, retain=retain, expiry_s=expiry_s))[
            0
        ]

    def send(
        self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None
    ) -> int:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's isn't typed
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        return self.client.publish(topic, payload, qos=1, retain=retain, properties=properties).mid

    @property
    def client(self) -> Client:
        assert self._client is not None
        return self._client

    def payloads(self) -> list[bytes]:
        return [bytes(message.payload) for message in self.messages]

    def topics(self) -> list[str]:
        return [message.topic for message in self.messages]

    def until(
        self, happened: Callable[[], bool], *, limit_s: float = LIMIT_S, must: bool = True
    ) -> None:
        """Let messages flow until something happened."""
        pump([self], happened, limit_s=limit_s, must=must)

    def leave(self) -> None:
        """Say goodbye, so that the will is forgotten."""
        if self._client is not None and self._client.socket() is not None:
            self._client.disconnect()
            self.until(lambda: self.client.socket() is None)
        self._client = None

    def vanish(self) -> None:
        """Cut the connection without a word."""
        if self._client is not None:
            sock = self._client.socket()
            if sock is not None:
                sock.close()
            self._client = None

    def pump_once(self) -> None:
        sock = self._client.socket() if self._client is not None else None
        if self._client is None or sock is None:
            return
        readable, writable, _ = select.select(
            [sock], [sock] if self._client.want_write() else [], [], 0
        )
        if writable:
            self._client.loop_write()
        if readable:
            self._client.loop_read()
            while isinstance(rest := self._client.socket(), ssl.SSLSocket) and rest.pending():
                self._client.loop_read()
        self._client.loop_misc()

    def _on_message(self, client: Client, _userdata: object, message: MQTTMessage) -> None:
        self.messages.append(message)
        if self._acking:
            client.ack(message.mid, message.qos)

    def _note(self, what: str, mid: int, codes: list[int]) -> None:
        self._answers[what, mid] = codes

    def _answer(self, what: str, mid: int) -> list[int]:
        self.until(lambda: (what, mid) in self._answers or self.client.socket() is None)
        return self._answers.pop((what, mid), [0xFF])


def pump(
    peers: Sequence[Peer],
    happened: Callable[[], bool],
    *,
    limit_s: float = LIMIT_S,
    must: bool = True,
) -> None:
    """Let messages of several peers flow until something happened."""
    deadline = time.monotonic() + limit_s  # noqa: TID251  # real sockets, real time
    while not happened():
        if time.monotonic() > deadline:  # noqa: TID251  # as above
            assert not must, f"it didn't happen within {limit_s} s"
            return
        for peer in peers:
            peer.pump_once()
        select.select([], [], [], 0.002)
