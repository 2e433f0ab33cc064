"""What only the running agent knows of what serves, written down for `status`, which looks beside.

How many workers answer, why not more, and how far a candidate in its shadow is: none of it must
outlive the process, so none of it is in the ledger. The file means nothing when no agent runs, or
another one than wrote it, whose disk can't be written: it says whose it is.
It is written when something changed, a comparison that counts all the time at most once in
`EACH_S`: that costs an SD card two writes a minute. A disk that can't be written keeps nobody from
serving.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.state import Compared, Serving
from agent.wire import v1
from models import durable
from models.errors import ModelError

EACH_S = 30.0
_FIRST_S = 1.0
"""Between the first change after a rest and what is written: what comes with it goes along."""

_REST_S = 5.0
"""After a write: workers that die in turn cost no more."""

_LIMIT_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Glimpse:
    """What answers, and how candidates compare so far, by deployment; `by` whom it is known."""

    serving: Mapping[str, Serving]
    compared: Mapping[str, Compared]
    by: str = ""


class Glimpses:
    """Writes the latest, until cancelled."""

    def __init__(self, path: Path, look: Callable[[], Glimpse]) -> None:
        self._path, self._look = path, look
        self._woken = asyncio.Event()
        self._woken.set()

    def wake(self) -> None:
        """Something may have changed."""
        self._woken.set()

    async def run(self) -> None:
        """Write what changed."""
        loop = asyncio.get_running_loop()
        last, counted_at = None, loop.time()
        while True:
            await self._wait()
            await asyncio.sleep(_FIRST_S)
            self._woken.clear()
            now = self._look()
            other = last is None or last.serving != now.serving
            counts = last is not None and last.compared != now.compared
            if not other and not (counts and loop.time() - counted_at >= EACH_S):
                continue
            if await asyncio.to_thread(self._write, render(now)):
                last, counted_at = now, loop.time()
            await asyncio.sleep(_REST_S)

    async def _wait(self) -> None:
        """Wait until something may have changed; what is compared changes all the time."""
        try:
            async with asyncio.timeout(EACH_S if self._look().compared else None):
                await self._woken.wait()
        except TimeoutError:
            return

    def _write(self, content: bytes) -> bool:
        try:
            durable.write(self._path, content, mode=0o600)
        except (ModelError, OSError):
            return False  # the ledger says what is wrong with the disk
        return True


def render(glimpse: Glimpse) -> bytes:
    """Return the content of the file."""
    found: dict[str, dict[str, Any]] = {
        name: {
            "revision": each.revision,
            "digest": each.digest,
            "workers": each.workers,
            "short": each.short and {"reason": each.short.reason, "message": each.short.message},
        }
        for name, each in glimpse.serving.items()
    }
    for name, seen in glimpse.compared.items():
        found.setdefault(name, {})["compared"] = [seen.requests, seen.agreed]
    return json.dumps({"by": glimpse.by, "deployments": found}).encode()


def read(path: Path) -> Glimpse:
    """Return what was written last; nothing where that can't be read. Blocking."""
    serving, compared, by = {}, {}, ""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LIMIT_BYTES))
        by = str(found["by"])
        for name, each in found["deployments"].items():
            if "workers" in each:
                short = each["short"]
                serving[name] = Serving(
                    revision=int(each["revision"]),
                    digest=str(each["digest"]),
                    workers=int(each["workers"]),
                    short=v1.Problem(**short) if short else None,
                )
            if "compared" in each:
                requests, agreed = map(int, each["compared"])
                compared[name] = Compared(requests=requests, agreed=agreed)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return Glimpse(serving=serving, compared=compared, by=by)
