"""Messages that arrived and wait for their batch. On the loop only.

QoS 1 is bounded by our Receive Maximum: the broker keeps what isn't confirmed.
QoS 0 is bounded here: what doesn't fit is dropped and counted (health may be lost). Of one
topic only some may wait, so that who says far too much crowds out nobody else.
"""

import asyncio
from collections import Counter, deque

from paho.mqtt.client import MQTTMessage


class Backlog:
    """Put on arrival, take in batches."""

    def __init__(self, limit: int, topic_limit: int) -> None:
        self._limit = limit
        self._topic_limit = topic_limit
        self._messages: deque[tuple[MQTTMessage, str]] = deque()
        self._waiting: Counter[str] = Counter()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._batch_limit = 0
        self.dropped = 0

    def put(self, message: MQTTMessage, topic: str) -> None:
        """Keep a message, or drop it when it may be lost and there is no room."""
        full = len(self._messages) >= self._limit or self._waiting[topic] >= self._topic_limit
        if message.qos == 0 and full:
            self.dropped += 1
            return
        self._messages.append((message, topic))
        self._waiting[topic] += 1
        self._arrived.set()
        if len(self._messages) >= self._batch_limit:
            self._full.set()

    @property
    def oldest(self) -> float | None:
        """When the first of those that wait arrived, in loop time; None: none waits."""
        return self._messages[0][0].timestamp if self._messages else None

    async def take(self, limit: int, wait_s: float) -> list[MQTTMessage]:
        """Return the next batch: `limit` messages, or what has come `wait_s` after the first."""
        self._batch_limit = limit
        await self._arrived.wait()
        try:
            async with asyncio.timeout(wait_s):
                await self._full.wait()
        except TimeoutError:
            pass
        batch = []
        for _ in range(min(limit, len(self._messages))):
            message, topic = self._messages.popleft()
            batch.append(message)
            self._waiting[topic] -= 1
        self._waiting += Counter()  # forget whom nothing waits of
        if not self._messages:
            self._arrived.clear()
        if len(self._messages) < limit:
            self._full.clear()
        return batch
