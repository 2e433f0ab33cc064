"""A small fleet beside its served centre, in a test's own time: for rollouts as people see them."""

import asyncio
import datetime as dt
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx

from agent.wire import facts
from agent.wire.phases import Phase
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.store.engine import Store
from tests.fleet.centre import parties
from tests.fleet.centre.parties import NOW
from tests.fleet.centre.served import OPERATOR, TOKEN, Served, serving
from tests.fleet.screens.conftest import Village

FLEET = "north-sea"
HERE = ("d-1", "d-2", "d-3", "d-4")
AWAY = "d-5"
OLD = {**parties.FACTS, facts.RUNTIME: "tflite", facts.RUNTIME_VERSION: "2.14.0"}


class Tide:
    """The centre's clock, moved by hand."""

    def __init__(self) -> None:
        self._now = NOW

    def __call__(self) -> dt.datetime:
        """Return the time now."""
        return self._now

    def rise(self, seconds: float) -> None:
        """Let time pass."""
        self._now += dt.timedelta(seconds=seconds)


@dataclass(frozen=True, kw_only=True)
class Quay:
    """Five devices, the last one offline; the fourth is of another class."""

    people: Village
    served: Served
    tide: Tide

    async def look(self) -> None:
        """Let the executor see what was said."""
        await asyncio.to_thread(self.served.executor.advance)

    async def say(
        self,
        *ids: str,
        phase: Phase = Phase.COMMITTED,
        reason: str | None = None,
        numbers: Mapping[str, str] | None = None,
    ) -> None:
        """Let devices report how far they are with what is wanted of them, and be heard."""
        parties.say(self.served.store, FLEET, *ids, phase=phase, reason=reason, numbers=numbers)
        await self.look()

    async def come(self, *ids: str) -> None:
        """Let devices connect, and be seen."""
        parties.come(self.served.store, FLEET, *ids)
        await self.look()

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and be noticed."""
        self.tide.rise(seconds)
        await self.look()

    async def start(self, version: str = "1.0.0", *words: str, to: str = "all") -> str:
        """Start a rollout by the command, and return its id."""
        ended = await self.people.skerry(
            "rollout",
            "start",
            f"digits:{version}",
            "--to",
            to,
            "--reason",
            "night",
            "--yes",
            *words,
        )
        assert (0, "") == (ended.code, ended.err)
        found = re.search(r"started (r-\w+)", ended.out)
        assert found is not None
        await self.look()
        return found[1]

    async def serve_all(self, version: str = "1.0.0") -> None:
        """Bring a version to everybody who is here."""
        await self.start(version, "--policy", "all-at-once")
        await self.say(*HERE)

    async def ask(self, path: str = "", *, of: str | None = None) -> Any:  # noqa: ANN401  # JSON
        """Return what the API says of a rollout; of none: the list."""
        which = "" if of is None else f"/{of}"
        async with httpx.AsyncClient(base_url=self.served.plain, trust_env=False) as client:
            answer = await client.get(f"/api/v1/rollouts{which}{path}", headers=OPERATOR)
            return answer.json()

    async def tell(self, word: str, body: dict[str, object], *, of: str) -> httpx.Response:
        """Say a word over the API."""
        async with httpx.AsyncClient(base_url=self.served.plain, trust_env=False) as client:
            where = f"/api/v1/rollouts/{of}/{word}"
            answer = await client.post(where, json=body, headers=OPERATOR)
        await self.look()
        return answer


@asynccontextmanager
async def quay_of(home: Home, store: Store, folder: Path) -> AsyncIterator[Quay]:
    """Serve the fleet until the block ends."""
    parties.add_devices(store, [*HERE[:3], AWAY])
    parties.add_devices(store, [HERE[3]], OLD)
    parties.add_bundles(store, "1.0.0", "1.1.0")
    parties.come(store, FLEET, *HERE[:3])
    parties.come(store, FLEET, HERE[3], known=OLD)
    token = folder / "token"
    token.write_text(TOKEN)
    tide = Tide()
    async with serving(home, Authority.load(home.path), store, tide) as served:
        people = Village(url=served.plain, home=home, store=store, token=token)
        yield Quay(people=people, served=served, tide=tide)
