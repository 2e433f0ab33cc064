"""When, and how fast, this device brings what it needs: its windows, its rate, its line.

The line is one: with a rate, downloads take turns on it. What should serve and
can't start (`urgently`) waits neither for a window nor for its turn.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext

from agent.patience import Patience
from agent.ports import Supply, Terms
from agent.windows import downloads
from agent.wire import v1
from agent.wire.phases import Happening

Progress = Callable[[Happening], Awaitable[None]]


class Downloads:
    """Fetches by the settings that are desired now; remembers what waits for the line."""

    def __init__(
        self,
        supply: Supply,
        patience: Patience,
        *,
        desired: Callable[[], v1.Desired | None],
        clock: Callable[[], str],
    ) -> None:
        self._supply, self._patience = supply, patience
        self._desired, self._clock = desired, clock
        self._line = asyncio.Lock()
        self._lacking: dict[str, v1.Problem] = {}

    @property
    def rate_bytes_per_s(self) -> int | None:
        """What may come in a second; None: as much as can."""
        desired = self._desired()
        return desired.settings.download_rate_bytes_per_s if desired else None

    @property
    def lacking(self) -> Mapping[str, v1.Problem]:
        """What was seen to need a download while there could be none, and why there couldn't."""
        return dict(self._lacking)

    def look(self) -> tuple[v1.Problem | None, float | None]:
        """Return why nothing may be downloaded now, and the loop time to look again.

        When something may be, what waited for that is let go, a little spread.
        """
        desired, now_s = self._desired(), asyncio.get_running_loop().time()
        if desired is None:
            return None, None
        found = downloads(desired.settings, desired.issued_at, self._clock())
        if found.shut is None:
            for name in self._lacking if desired.settings.download_windows else ():
                self._patience.released(name, now_s)
            self._lacking.clear()
        return found.shut, None if found.look_again_s is None else now_s + found.look_again_s

    def lacks(self, name: str, shut: v1.Problem) -> None:
        """Remember that it takes a download, and that there can be none now."""
        self._lacking[name] = shut

    def forget(self, name: str) -> None:
        """Something else is wanted under a name: what that takes is not known yet."""
        self._lacking.pop(name, None)

    def forget_all(self) -> None:
        """Look again at all of it: a stick may have brought it."""
        self._lacking.clear()

    async def fetch(
        self, bundle: v1.BundleRef, shut: v1.Problem | None, progress: Progress, *, served: bool
    ) -> None:
        """Bring a bundle, or, where `shut` says why, see that it is all here.

        Raises:
            StepError: with the reason; that of `shut`, if it takes a download.
        """
        rate_bytes_per_s = self.rate_bytes_per_s
        terms = Terms(served=served, rate_bytes_per_s=rate_bytes_per_s, shut=shut)
        async with self._line if rate_bytes_per_s and shut is None else nullcontext():
            await self._supply.fetch(bundle, terms, progress)

    async def fetch_urgently(self, bundle: v1.BundleRef) -> None:
        """Bring what should serve and can't start without it.

        Raises:
            StepError: with the reason.
        """
        terms = Terms(served=True, rate_bytes_per_s=self.rate_bytes_per_s)
        await self._supply.fetch(bundle, terms, unheard)


async def unheard(_: Happening) -> None:
    """Of what serves already, nobody asks how far it has come."""
