"""100,000 devices, hostile to labels in every way that a fleet can be: still few series."""

import datetime as dt
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import httpx2 as httpx
import pytest
from sqlalchemy import Table, insert

from agent.wire import codec, v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from fleet.clock import written
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.metrics.families import FAMILIES, SERIES_LIMIT
from fleet.ports import FromDevice
from fleet.rollouts.states import RolloutState
from fleet.store import tables
from fleet.store.engine import Store
from tests.fleet.centre.parties import NOW
from tests.fleet.centre.served import TOKEN, serving
from tests.fleet.metrics.test_metrics_scraped import SCRAPER, numbers
from tests.fleet.screens.village import FLEET, keep, waiting

pytestmark = [pytest.mark.slow, pytest.mark.lab, pytest.mark.timeout(1500)]

DEVICES = 100_000
SITES, BUNDLES, ACCELERATORS, ROLLOUTS = 400, 60, 11, 30
AGAIN = 5_000
AT = written(NOW - dt.timedelta(seconds=20))
BOUNDS = tuple(range(-90, 24, 2))
SCRAPE_LIMIT_S = 10.0
"""What a Prometheus waits for unless it is told otherwise."""


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def bundle(number: int) -> v1.BundleRef:
    return v1.BundleRef(digest=digest(number), name=f"model-{number % 9}", version=f"1.{number}.0")


def report(device: str, number: int) -> v1.Reported:
    serves = bundle(number % BUNDLES)
    slow = v1.Condition(type="slow", reason=Reason.ACCELERATOR_FALLBACK, since=AT)
    return v1.Reported(
        fleet=FLEET,
        device=device,
        session=1,
        deployments=(
            v1.ReportedDeployment(
                name="digits",
                revision=1,
                digest=serves.digest,
                phase=Phase.COMMITTED,
                conditions=(slow,) if number % 7 == 0 else (),
                active=v1.Active(
                    revision=1,
                    bundle=serves,
                    variant=serves.digest,
                    runtime="litert 2",
                    accelerator=f"npu-{number % ACCELERATORS}",
                ),
            ),
        ),
    )


def health(device: str, number: int) -> v1.Health:
    return v1.Health(
        fleet=FLEET,
        device=device,
        session=1,
        at=AT,
        period_s=60,
        deployments=(
            v1.DeploymentHealth(
                name="digits",
                revision=1,
                digest=digest(number % BUNDLES),
                requests=60,
                errors=3,
                latency=v1.LatencySketch(count=57, buckets=dict.fromkeys(BOUNDS, 1)),
            ),
        ),
    )


def events(device: str, number: int) -> Iterator[v1.Event]:
    reasons = tuple(Reason)
    for place, kind in enumerate(v1.EventKind, start=1):
        if kind is not v1.EventKind.HEALTH:
            yield v1.Event(
                fleet=FLEET,
                device=device,
                ledger="l",
                number=place,
                kind=kind,
                at=AT,
                deployment=f"name-{number % 500}",
                digest=digest(number % BUNDLES),
                phase=(Phase.ROLLED_BACK, Phase.REFUSED)[number % 2],
                reason=reasons[number % len(reasons)],
                parameters={"what": "quarantined", "shadow_compared": "9", "shadow_agreed": "8"},
            )


def said_by(device: str, number: int) -> list[FromDevice]:
    return [report(device, number), health(device, number), *events(device, number)]


def settle(store: Store, ids: Sequence[str]) -> None:
    with store.write() as connection:
        sites = [
            {"id": f"s-{number}", "name": f"site-{number}", "created_at": AT}
            for number in range(SITES)
        ]
        connection.execute(insert(tables.sites), sites)
        for first in range(0, len(ids), 5000):
            some = list(enumerate(ids))[first : first + 5000]
            rows: dict[Table, list[dict[str, object]]] = {
                tables.devices: [
                    {
                        "id": device,
                        "name": f"cam-{device}",
                        "site": f"s-{number % SITES}",
                        "labels": {},
                        "facts": {},
                        "serial": str(number),
                        "certificate_expires_at": AT,
                        "joined_at": AT,
                    }
                    for number, device in some
                ],
                tables.presence: [
                    {
                        "device": device,
                        "session": 1,
                        "online": number % 10 > 0,
                        "since": AT,
                        "agent_version": "1",
                        "facts": {},
                    }
                    for number, device in some
                ],
                tables.reported: [
                    {
                        "device": device,
                        "session": 1,
                        "document": codec.encode(report(device, number)),
                        "received_at": AT,
                    }
                    for number, device in some
                ],
                tables.health: [
                    {
                        "device": device,
                        "number": 1,
                        "late": False,
                        "document": codec.encode(health(device, number)),
                        "received_at": AT,
                    }
                    for number, device in some
                ],
            }
            for table, values in rows.items():
                connection.execute(insert(table), list(values))
        connection.execute(
            insert(tables.bundles),
            [
                {
                    "digest": bundle(number).digest,
                    "name": bundle(number).name,
                    "version": bundle(number).version,
                    "card": b"{}",
                    "published_at": AT,
                }
                for number in range(BUNDLES)
            ],
        )
    states = tuple(RolloutState)
    for number in range(ROLLOUTS):
        made = replace(waiting(), id=f"r-{number}", state=states[number % len(states)])
        keep(store, made, AT)


async def test_a_hundred_thousand_devices_have_few_series_and_scrapes_do_not_wait(
    home: Home, authority: Authority, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """The look takes as long as it takes; every scrape answers within Prometheus's patience."""
    ids = [f"d-{number:06d}" for number in range(DEVICES)]
    began = time.perf_counter()
    settle(store, ids)
    said = [f"settled in {time.perf_counter() - began:.0f} s"]
    async with (
        serving(home, authority, store, clock=lambda: NOW, pages=True) as served,
        httpx.AsyncClient(
            base_url=served.plain, headers=SCRAPER, trust_env=False, timeout=60
        ) as client,
    ):
        counted_s = 0.0
        for number, device in enumerate(ids):
            batch: list[FromDevice] = [
                report(device, number),
                health(device, number),
                *events(device, number),
            ]
            before = time.perf_counter()
            served.tally.commits(batch, 0.01)
            counted_s += time.perf_counter() - before
        said.append(f"counting: {counted_s / DEVICES * 1e6:.0f} us a device with its 10 documents")
        for number in range(100):
            await client.get(f"/api/v1/nothing-{number}")
        took_s: list[float] = []
        began = time.perf_counter()
        while True:
            before = time.perf_counter()
            answer = await client.get("/metrics")
            took_s.append(time.perf_counter() - before)
            found = numbers(answer.text)
            if "skerry_fleet_devices" in found:
                break
        said.append(f"the first look took {time.perf_counter() - began:.0f} s")
        for number, device in enumerate(ids[:AGAIN]):  # now that the look has given the names
            served.tally.commits([replace(health(device, number), told=1)], 0.01)
        before = time.perf_counter()
        answer = await client.get("/metrics")
        said.append(f"a scrape after it {time.perf_counter() - before:.2f} s")
        found = numbers(answer.text)

    series = sum(map(len, found.values()))
    by_family = sorted(
        ((sum(len(v) for k, v in found.items() if k.startswith(each.name)), each.name)
         for each in FAMILIES),
        reverse=True,
    )  # fmt: skip
    said.append(f"{len(took_s)} scrapes meanwhile, the slowest {max(took_s):.1f} s")
    said.append(f"{series} series, {len(answer.content) >> 10} KiB; largest {by_family[:5]}")
    with capsys.disabled():
        print("\n  " + "\n  ".join(said))  # noqa: T201  # what was measured is for people
    assert TOKEN not in answer.text
    assert sum(found["skerry_fleet_devices"].values()) == DEVICES
    assert series <= SERIES_LIMIT
    assert max(took_s) < SCRAPE_LIMIT_S
