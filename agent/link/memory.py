"""A broker and links in memory, for a simulated world. They sit the same suite as the real."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

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


class MemoryBroker:
    """Retained messages, wills and sessions, as in MQTT 5. `log` is all that devices published.

    Nobody is subscribed to what devices say while `centre_listens` is False.
    """

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.log: list[tuple[str, bytes]] = []
        self.centre_listens = True
        self.open = asyncio.Event()
        self.open.set()
        self._links: dict[str, MemoryLink] = {}

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Say something to devices, as the centre does. What is too large for one is dropped."""
        if retain:
            self.retained[topic] = payload
        for link in self._links.values():
            link.deliver(topic, payload)

    def cut(self) -> None:
        """Break every connection: wills are said, sessions stay."""
        for link in list(self._links.values()):
            link.break_off()

    def stop(self) -> None:
        """Break every connection and take no more until `start`."""
        self.open.clear()
        self.cut()

    def start(self) -> None:
        """Take connections again."""
        self.open.set()

    def enter(self, device: str, link: "MemoryLink") -> None:
        """Know a device's link from now on; its session lives as long as this broker."""
        self._links[device] = link

    def take(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Take what a device says."""
        self.log.append((topic, payload))
        if retain:
            self.retained[topic] = payload


class MemoryLink:
    """A device's link to a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker, *, fleet: str, device: str) -> None:
        self._broker, self._device = broker, device
        self._topics = {kind: str(Topic(fleet, device, kind)) for kind in Kind}
        self._kinds = {self._topics[kind]: kind for kind in DEVICE_READS}
        self._events: asyncio.Queue[LinkEvent] = asyncio.Queue()
        self._session: deque[tuple[str, bytes]] = deque()
        self._will: bytes | None = None
        self._broken = asyncio.Event()
        self._closed = False

    async def run(self, greet: Callable[[], Awaitable[Greeting]]) -> None:
        """Connect and reconnect until cancelled."""
        while not self._closed:
            await self._broker.open.wait()
            greeting = await greet()
            self._broken.clear()
            self._will = greeting.death
            self._broker.enter(self._device, self)
            await self.publish(Kind.PRESENCE, greeting.birth)
            self._events.put_nowait(Connected())
            for topic in self._kinds:
                if topic in self._broker.retained:
                    self._hand_over(topic, self._broker.retained[topic])
            for topic, payload in list(self._session):
                self._hand_over(topic, payload, queued=True)
            try:
                await self._broken.wait()
            finally:
                self.break_off()
            self._events.put_nowait(Lost(reason="cut"))

    async def next_event(self) -> LinkEvent:
        """Wait for what happens next."""
        return await self._events.get()

    async def publish(self, kind: Kind, payload: bytes) -> bool:
        """Give a message to the broker; see the port."""
        if self._will is None:
            raise LinkDownError("not connected")
        if len(payload) > PACKET_LIMIT_BYTES:
            raise LinkRefusedError(f"{len(payload)} bytes")
        self._broker.take(self._topics[kind], payload, retain=kind in RETAINED)
        await asyncio.sleep(0)
        return self._broker.centre_listens

    async def close(self, death: bytes) -> None:
        """Say the death and disconnect."""
        self._closed = True
        if self._will is not None:
            await self.publish(Kind.PRESENCE, death)
            self._will = None
            self._broken.set()

    def deliver(self, topic: str, payload: bytes) -> None:
        """Hand over what the broker has for this device, now or at the next connection."""
        if topic not in self._kinds or len(payload) > PACKET_LIMIT_BYTES:
            return
        self._session.append((topic, payload))
        if self._will is not None:
            self._hand_over(topic, payload, queued=True)

    def break_off(self) -> None:
        """Lose the connection: the broker says the will."""
        if self._will is not None:
            self._broker.take(self._topics[Kind.PRESENCE], self._will, retain=True)
            self._will = None
            self._broken.set()

    def _hand_over(self, topic: str, payload: bytes, *, queued: bool = False) -> None:
        if len(payload) > PACKET_LIMIT_BYTES:
            return

        def acknowledge() -> None:
            if queued and self._will is not None and (topic, payload) in self._session:
                self._session.remove((topic, payload))

        self._events.put_nowait(
            Arrived(kind=self._kinds[topic], payload=payload, acknowledge=acknowledge)
        )
