"""A broker that someone else runs, by URL. We neither start nor watch nor stop it.

Its access rules are theirs to set: `fleet.broker.mosquitto_files` shows the
ones we generate. Whether it keeps devices apart is not known here.
"""

import asyncio

from fleet.broker.address import Address
from fleet.ports import BrokerError


class External:
    """The `Broker` port over an address."""

    isolates = False  # not known, so not promised
    shares = True  # MQTT 5 says so
    alive = True  # the link says whether it answers

    def __init__(self, url: str) -> None:
        try:
            self._address = Address.parse(url)
        except ValueError as error:
            raise BrokerError(str(error)) from error

    @property
    def url(self) -> str:
        """Where devices connect."""
        return str(self._address)

    @property
    def centre_url(self) -> str:
        """The same."""
        return str(self._address)

    async def start(self) -> None:
        """Nothing to start."""

    async def watch(self) -> None:
        """Wait until cancelled: it is not ours to restart."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Nothing to stop."""
