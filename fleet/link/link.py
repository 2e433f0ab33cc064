"""The centre's link to the broker. Signature first; body follows."""

import ssl

from fleet.ports import Inbox, Outgoing


class Link:
    """`run()` until cancelled; `wake()` when the store changed (a hint that carries no input)."""

    def __init__(
        self,
        *,
        fleet: str,
        url: str,
        tls: ssl.SSLContext | None,
        inbox: Inbox,
        outgoing: Outgoing,
    ) -> None:
        raise NotImplementedError

    @property
    def connected(self) -> bool:
        """Whether there is a session with the broker now."""
        raise NotImplementedError

    def wake(self) -> None:
        """Look at the store again soon."""

    async def run(self) -> None:
        """Connect, ingest, publish; come back with full jitter whenever the connection breaks. Until cancelled."""
