"""`/metrics`: for who shows the scrape token, which opens nothing else, or for an operator.

The scrape token is made from the operator's: who holds that one can make it, nobody can go back,
and a new operator token ends it.
"""

import asyncio
import hmac
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from fleet.api.access import Access
from fleet.api.glance import Glance
from fleet.api.parts import Parts
from fleet.identity.places import Home
from fleet.link.link import Counts
from fleet.metrics.exposition import CONTENT_TYPE, text
from fleet.metrics.families import Sheet
from fleet.metrics.slots import Key
from fleet.metrics.tally import Tally
from fleet.metrics.traffic import Traffic
from fleet.metrics.watch import Watch

PATH = "/metrics"
_PURPOSE = "skerry metrics"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What is asked of the link and the pages at each scrape, on the loop."""

    connected: Callable[[], bool]
    counts: Callable[[], Counts]
    lag_s: Callable[[], float]
    listeners: Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """All that a scrape is made of."""

    watch: Watch
    tally: Tally
    traffic: Traffic
    line: Line

    @classmethod
    def of(cls, parts: Parts, home: Home, glance: Glance, tally: Tally, line: Line) -> Self:
        """Return what a centre's scrapes are made of."""
        watch = Watch(glance=glance, store=parts.store, home=home, clock=parts.clock, tally=tally)
        return cls(watch=watch, tally=tally, traffic=Traffic(), line=line)


def scrape_token(access: Access) -> str:
    """Return the token that opens `/metrics` and nothing else."""
    return access.key_for(_PURPOSE).hex()


def with_metrics(api: FastAPI, access: Access, sources: Sources) -> FastAPI:
    """Return the API with `/metrics`."""
    token = scrape_token(access).encode()

    async def scrape(request: Request) -> Response:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        scrapes = scheme.lower() == "bearer" and hmac.compare_digest(secret.strip().encode(), token)
        if not scrapes and await access.operator(request) is None:
            raise HTTPException(401, "this needs the scrape token", {"WWW-Authenticate": "Bearer"})
        found = [*await sources.watch.sheets(), *_live(sources)]
        return Response(await asyncio.to_thread(text, found), media_type=CONTENT_TYPE)

    api.add_route(PATH, scrape, methods=["GET"], include_in_schema=False)
    return api


def _live(sources: Sources) -> Iterator[Sheet]:
    yield {"skerry_build_info": {(importlib.metadata.version("skerry"),): 1}}
    yield sources.tally.sheet()
    yield sources.traffic.sheet()
    line = sources.line
    counts = line.counts()
    dropped: dict[Key, float] = {("NO_ROOM",): counts.dropped}
    dropped |= {(str(reason),): number for reason, number in counts.refused.items()}
    yield {
        "skerry_mqtt_connected": {(): int(line.connected())},
        "skerry_ingest_lag_seconds": {(): line.lag_s()},
        "skerry_ingest_dropped_total": dropped,
        "skerry_stream_clients": {(): line.listeners()},
        "skerry_metrics_label_overflow_total": _overflow(sources),
    }


def _overflow(sources: Sources) -> Mapping[Key, float]:
    named = {name: slots.overflow for name, slots in sources.tally.named.every().items()}
    parts = (sources.tally, sources.traffic, sources.watch)
    every = named | {name: number for part in parts for name, number in part.overflow.items()}
    return {(name,): number for name, number in every.items()}
