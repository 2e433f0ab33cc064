"""Messages that arrived and wait for their batch. On the loop only.

QoS 1 is bounded by our Receive Maximum: the broker keeps what isn't confirmed.
QoS 0 is bounded here: what doesn't fit is dropped and counted (health may be lost).
"""

import asyncio
from collections import deque

from paho.mqtt.client import MQTTMessage


class Backlog:
    """Put on arrival, take in batches."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._messages: deque[MQTTMessage] = deque()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._batch_limit = 0
        self.dropped = 0

    def put(self, message: MQTTMessage) -> None:
        """Keep a message, or drop it when it may be lost and there is no room."""
        if message.qos == 0 and len(self._messages) >= self._limit:
            self.dropped += 1
            return
        self._messages.append(message)
        self._arrived.set()
        if len(self._messages) >= self._batch_limit:
            self._full.set()

    @property
    def oldest(self) -> float | None:
        """When the first of those that wait arrived, in loop time; None: none waits."""
        return self._messages[0].timestamp if self._messages else None

    async def take(self, limit: int, wait_s: float) -> list[MQTTMessage]:
        """Return the next batch: `limit` messages, or what has come `wait_s` after the first."""
        self._batch_limit = limit
        await self._arrived.wait()
        try:
            async with asyncio.timeout(wait_s):
                await self._full.wait()
        except TimeoutError:
            pass
        batch = [self._messages.popleft() for _ in range(min(limit, len(self._messages)))]
        if not self._messages:
            self._arrived.clear()
        if len(self._messages) < limit:
            self._full.clear()
        return batch
