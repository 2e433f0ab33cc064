"""`/metrics` of the centre: who may scrape, what it says, and that any reader can read it."""

import asyncio
import random
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2 as httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from structlog.testing import capture_logs

from agent.wire import codec, v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from agent.wire.topics import Kind, Topic
from fleet.api.access import Access
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.link.intake import admit
from fleet.metrics import watch
from fleet.metrics.families import FAMILIES, FORBIDDEN_LABELS
from fleet.metrics.scrape import scrape_token
from fleet.metrics.tally import Tally
from fleet.ports import Received
from fleet.rollouts.policy import Gate
from fleet.rollouts.states import TargetState, WaveState
from fleet.store.engine import Store
from tests.fleet.centre.parties import NOW, add_bundles
from tests.fleet.centre.served import OPERATOR, TOKEN, Served, serving
from tests.fleet.screens.village import (
    BEFORE,
    FLEET,
    NEW,
    OLD,
    VILLAGE,
    Villager,
    keep,
    settle,
    waiting,
)

SCRAPER = {"Authorization": f"Bearer {scrape_token(Access(TOKEN))}"}
NASTY = 'a "quoted" \\ back\nslash \t\x00\r 日本 é ￿ \U0001f41f {x="y"} # HELP \ud800'


@asynccontextmanager
async def centre(
    home: Home, authority: Authority, store: Store, *, pages: bool = False
) -> AsyncIterator[tuple[Served, httpx.AsyncClient]]:
    async with (
        serving(home, authority, store, clock=lambda: NOW, pages=pages) as served,
        httpx.AsyncClient(base_url=served.plain, headers=SCRAPER, trust_env=False) as client,
    ):
        yield served, client


def numbers(written: str) -> Mapping[str, Mapping[tuple[str, ...], float]]:
    """Return every sample by its name and its label values, as Prometheus's own parser reads it."""
    order = {each.name: (*each.labels, "le") for each in FAMILIES}
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(written):
        for sample in family.samples:
            labels = order.get(family.name, order.get(f"{family.name}_total", ()))
            key = tuple(sample.labels[each] for each in labels if each in sample.labels)
            assert key not in found.setdefault(sample.name, {}), f"twice: {sample}"
            found[sample.name][key] = sample.value
    return found


def linter(written: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", "check", "metrics"],  # noqa: S607  # wherever it is installed
        input=written,
        text=True,
        capture_output=True,
        check=False,
        timeout=30,
    )


async def scrape(client: httpx.AsyncClient) -> Mapping[str, Mapping[tuple[str, ...], float]]:
    answer = await client.get("/metrics")
    assert 200 == answer.status_code
    return numbers(answer.text)


def health(
    device: str = "d-1", *, requests: int = 100, errors: int = 0, at: int = 0, session: int = 1
) -> v1.Health:
    good = requests - errors
    return v1.Health(
        fleet=FLEET,
        device=device,
        session=session,
        at=f"2026-03-01T11:00:{at:02d}Z",
        period_s=60,
        deployments=(
            v1.DeploymentHealth(
                name="digits",
                revision=1,
                digest=OLD.digest,
                requests=requests,
                errors=errors,
                latency=v1.LatencySketch(count=good, buckets={-46: good} if good else {}),
            ),
        ),
    )


def report(device: str = "d-1", accelerator: str = "edgetpu") -> v1.Reported:
    active = v1.Active(
        revision=1, bundle=OLD, variant=OLD.digest, runtime="litert 2", accelerator=accelerator
    )
    return v1.Reported(
        fleet=FLEET,
        device=device,
        session=1,
        deployments=(
            v1.ReportedDeployment(
                name="digits",
                revision=1,
                digest=OLD.digest,
                phase=Phase.COMMITTED,
                active=active,
            ),
        ),
    )


def event(number: int, kind: v1.EventKind = v1.EventKind.PHASE, **fields: object) -> v1.Event:
    given: dict[str, object] = {
        "fleet": FLEET,
        "device": "d-1",
        "ledger": "l",
        "number": number,
        "kind": kind,
        "at": "2026-03-01T11:00:00Z",
        "deployment": "digits",
        "digest": NEW.digest,
        **fields,
    }
    return v1.Event(**given)  # type: ignore[arg-type]


async def test_only_who_has_a_token_scrapes_and_the_scrape_token_opens_nothing_else(
    home: Home, authority: Authority, store: Store
) -> None:
    """A Prometheus must not be able to roll anything out; an operator may look."""
    async with centre(home, authority, store, pages=True) as (_, client):
        statuses = {
            (who, path): (await client.get(path, headers=headers)).status_code
            for who, headers in {
                "stranger": {"Authorization": "Bearer wrong"},
                "scraper": SCRAPER,
                "operator": OPERATOR,
            }.items()
            for path in ("/metrics", "/api/v1/fleet", "/v2/")
        }

    assert {
        ("stranger", "/metrics"): 401,
        ("stranger", "/api/v1/fleet"): 401,
        ("stranger", "/v2/"): 401,
        ("scraper", "/metrics"): 200,
        ("scraper", "/api/v1/fleet"): 401,
        ("scraper", "/v2/"): 401,
        ("operator", "/metrics"): 200,
        ("operator", "/api/v1/fleet"): 200,
        ("operator", "/v2/"): 200,
    } == statuses


async def test_a_store_that_cannot_be_read_leaves_what_was_found_before(
    home: Home, authority: Authority, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape has the old numbers, and the centre goes on until the store is mended."""
    monkeypatch.setattr(watch, "PERIOD_S", 0.05)
    settle(store)

    def rename(old: str, new: str) -> None:
        with store.write() as connection:
            connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    async with centre(home, authority, store) as (served, client):
        before = await scrape(client)
        with capture_logs() as said:
            await asyncio.to_thread(rename, "audit", "gone")
            while not said:
                await scrape(client)
        served.tally.commits([health()], 0.01)
        meanwhile = await scrape(client)
        await asyncio.to_thread(rename, "gone", "audit")
        settle(store, (Villager(name="new", site="new"),), first=90)
        after = meanwhile
        while ("ok", "new") not in after["skerry_fleet_devices"]:
            after = await scrape(client)

    assert "the store can't be read for metrics now" == said[0]["event"]
    assert before["skerry_fleet_devices"] == meanwhile["skerry_fleet_devices"]
    assert 1 == meanwhile["skerry_mqtt_messages_total"]["health",]
    assert 10 == sum(after["skerry_fleet_devices"].values())


def test_a_bundle_that_lost_its_name_begins_again_at_zero() -> None:
    """What was counted under it is forgotten with it, and does not become a part of other."""
    tally = Tally()
    told = event(1, phase=Phase.REFUSED, reason=Reason.GOLDEN_MISMATCH, digest=None)
    tally.commits([told, health()], 0.01)
    key = ("digits", "unknown")
    assert 1 == tally.sheet()["skerry_model_golden_failures_total"][key]

    lost = tally.named.bundles.settle([(f"new-{number}", "1") for number in range(30)])
    tally.know({}, lost)

    sheet = tally.sheet()
    assert [key] == list(lost)
    assert key not in sheet["skerry_model_golden_failures_total"]
    assert {} == sheet["skerry_inference_requests_total"]
    assert {} == sheet["skerry_inference_latency_seconds"]


@pytest.mark.real("promtool")
async def test_a_village_is_counted_and_promtool_has_nothing_to_say(
    home: Home, authority: Authority, store: Store
) -> None:
    """Each state, what serves, who is silent, rollouts; names and types as the rules want them."""
    settle(store)
    add_bundles(store, "1.4.0", "1.5.0")
    keep(store, waiting(), "2026-03-01T11:50:00Z")
    async with centre(home, authority, store) as (served, client):
        served.tally.commits([report(), health(), event(1, phase=Phase.ROLLED_BACK)], 0.02)
        answer = await client.get("/metrics")
    found = numbers(answer.text)
    linted = await asyncio.to_thread(linter, answer.text)

    devices = found["skerry_fleet_devices"]
    assert len(VILLAGE) == sum(devices.values())
    assert (3, 1, 0) == tuple(
        devices[key] for key in (("ok", "porto"), ("offline", "lerwick"), ("unknown", "porto"))
    )
    assert {("digits", "1.4.0", "cpu"): 7} == found["skerry_fleet_devices_serving"]
    assert {("1h",): 2, ("1d",): 2, ("7d",): 1} == found["skerry_fleet_devices_silent"]
    assert {("whole",): 1, ("partly",): 1, ("cut",): 0} == found["skerry_sites"]
    assert 1 == found["skerry_rollout_info"]["r-41", "digits", "1.5.0", "paused"]
    assert 1 == found["skerry_rollout_devices"]["r-41", "refused"]
    assert {("r-41",): 1} == found["skerry_rollout_wave"]
    assert found["skerry_trust_expiry_timestamp_seconds"].keys() == {
        ("ca",),
        ("server",),
        ("centre",),
    }
    assert 0 == found["skerry_model_golden_failures_total"]["digits", "1.5.0"]
    assert (0, "") == (linted.returncode, linted.stderr)
    listed = {each.name for each in FAMILIES}
    ours = {name for name in found if name.startswith("skerry_")}
    assert ours <= {*listed} | {
        f"{each}_{part}" for each in listed for part in ("bucket", "sum", "count")
    }


async def test_a_cut_site_is_counted_whoever_names_the_sites(
    home: Home, authority: Authority, store: Store
) -> None:
    """Also one that is too small for a name of its own; one whose devices left long ago is none."""
    away: dict[str, Any] = {"leaves": True}  # three days ago
    villagers = [Villager(name=f"a-{n}", site=f"big-{n // 3}") for n in range(180)]
    villagers += [Villager(name=f"b-{n}", site="small", **away) for n in range(2)]
    villagers += [Villager(name="c", site="alone", **away)]
    settle(store, tuple(villagers))
    async with centre(home, authority, store) as (_, client):
        found = await scrape(client)

    assert "small" not in {site for _, site in found["skerry_fleet_devices"]}
    assert {("whole",): 60, ("partly",): 1, ("cut",): 1} == found["skerry_sites"]


async def test_a_gate_says_what_it_sees_and_what_it_wants(
    home: Home, authority: Authority, store: Store
) -> None:
    """Of the last wave of which any target came to an end; one without a gate weighs nothing."""
    made = waiting()
    first, second = made.waves
    gate = Gate(success_percent=90, error_percent=5)
    good, bad = (
        replace(each, state=state)
        for each, state in zip(
            made.targets, (TargetState.COMMITTED, TargetState.REFUSED), strict=True
        )
    )
    weighed = replace(first, gate=gate, state=WaveState.SOAKING)
    later = replace(second, gate=replace(gate, success_percent=50), targets=())
    keep(store, replace(made, id="r-1", targets=(good, bad), waves=(weighed, later)), BEFORE)
    begun = replace(later, state=WaveState.RUNNING)
    keep(store, replace(made, id="r-2", targets=(good, bad), waves=(weighed, begun)), BEFORE)
    keep(store, replace(made, id="r-3", waves=(replace(weighed, gate=None), later)), BEFORE)
    async with centre(home, authority, store) as (_, client):
        found = await scrape(client)

    gates = [("r-1", "wave 1"), ("r-2", "wave 1")]
    assert dict.fromkeys(gates, 0.5) == found["skerry_rollout_gate_observed_ratio"]
    assert dict.fromkeys(gates, 0.9) == found["skerry_rollout_gate_wanted_ratio"]


async def test_what_found_no_room_on_devices_is_counted(
    home: Home, authority: Authority, store: Store
) -> None:
    """By how many events a device summed up, once; there is a zero before."""
    told = event(9, kind=v1.EventKind.FOLDED, first=2, count=40, reason=Reason.OUTBOX_FULL)
    async with centre(home, authority, store) as (served, client):
        before = await scrape(client)
        served.tally.commits([told, told], 0.01)
        found = await scrape(client)

    assert {(): 0} == before["skerry_device_events_folded_total"]
    assert {(): 40} == found["skerry_device_events_folded_total"]


async def test_what_is_said_twice_is_counted_once(
    home: Home, authority: Authority, store: Store
) -> None:
    """A broken connection brings documents again, in any order; a newer one counts."""
    add_bundles(store, "1.4.0")
    first, second = health(at=1, errors=3), health(at=2)
    told = event(7, kind=v1.EventKind.REFUSED, reason=Reason.SIGNATURE_INVALID)
    async with centre(home, authority, store) as (served, client):
        served.tally.commits([report(), first, second, told], 0.01)
        served.tally.commits([first, second, told, event(6)], 0.01)
        found = await scrape(client)

    served_there = ("digits", "1.4.0", "edgetpu")
    assert {(*served_there, "ok"): 197, (*served_there, "error"): 3} == found[
        "skerry_inference_requests_total"
    ]
    assert {served_there: 197} == found["skerry_inference_latency_seconds_count"]
    assert 1 == found["skerry_device_refusals_total"]["SIGNATURE_INVALID",]
    assert 0 == found["skerry_device_refusals_total"]["STALE_GENERATION",]
    assert {("refused",): 1} == found["skerry_device_events_total"]
    assert 4 == found["skerry_mqtt_messages_total"]["health",]


async def test_latency_is_binned_at_the_sketch_s_own_bounds(
    home: Home, authority: Authority, store: Store
) -> None:
    """What is below a bound is counted exactly, so a quantile is off by one bin at the most."""
    dice = random.Random(4)  # noqa: S311  # made-up latencies
    from agent.sketch import Sketch  # noqa: PLC0415  # the device's side

    sketch, times = Sketch(), [dice.lognormvariate(-4, 0.5) for _ in range(5000)]
    for each in times:
        sketch.add(each)
    told = health()
    (deployment,) = told.deployments
    document = v1.Health(
        fleet=FLEET,
        device="d-1",
        session=1,
        at=told.at,
        period_s=60,
        deployments=(
            v1.DeploymentHealth(
                name="digits",
                revision=1,
                digest=deployment.digest,
                requests=5000,
                errors=0,
                latency=sketch.to_wire(),
            ),
        ),
    )
    async with centre(home, authority, store) as (served, client):
        served.tally.commits([document], 0.01)
        found = await scrape(client)

    buckets = {
        float(le): count
        for (*_, le), count in found["skerry_inference_latency_seconds_bucket"].items()
    }
    (total,) = found["skerry_inference_latency_seconds_sum"].values()
    assert buckets.pop(float("inf")) == 5000
    assert {le: sum(each <= le * 1.000001 for each in times) for le in buckets} == buckets
    assert total == pytest.approx(sum(times), rel=0.05)


async def test_every_nasty_character_of_a_name_survives_the_real_parser(
    home: Home, authority: Authority, store: Store
) -> None:
    """Nobody's name breaks a scrape: it is escaped, and one that no reader could take is other."""
    settle(
        store,
        (
            Villager(name="a", site=NASTY.replace("\ud800", "")),
            Villager(name="b", site="x" * 64_000),
            Villager(name="c", site="other"),
        ),
    )
    async with centre(home, authority, store) as (served, client):
        for number in range(300):
            name = f"n{number}"
            back = event(number + 1, phase=Phase.ROLLED_BACK, digest=None, deployment=name)
            served.tally.commits([back], 0.01)
        found = await scrape(client)

    sites = {site for _, site in found["skerry_fleet_devices"]}
    assert {NASTY.replace("\ud800", ""), "other"} == sites
    assert 2 == found["skerry_fleet_devices"]["ok", "other"]
    assert 0 < found["skerry_metrics_label_overflow_total"]["site",]
    assert len(found["skerry_device_rollbacks_total"]) <= 101
    assert 299 == sum(found["skerry_device_rollbacks_total"].values())  # one gave way
    assert 0 == found["skerry_metrics_label_overflow_total"]["finished",]


async def test_whatever_a_device_calls_its_accelerator_is_one_label_that_is_read_back(
    home: Home, authority: Authority, store: Store
) -> None:
    """As it comes over the wire; a flood of names is few series, and the scrape stays one."""
    add_bundles(store, "1.4.0")
    names = [NASTY.replace("\ud800", ""), "", "x" * 256, *(f"chip {n}\n" for n in range(50))]
    topic = str(Topic(FLEET, "d-1", Kind.REPORTED))
    async with centre(home, authority, store) as (served, client):
        await scrape(client)  # from now on bundles have their names
        for number, name in enumerate(names):
            came = admit(FLEET, topic, codec.encode(report(accelerator=name)))
            assert isinstance(came, Received)
            assert isinstance(came.document, v1.Reported)
            served.tally.commits([came.document, health(at=number)], 0.01)
        found = await scrape(client)

    counted = found["skerry_inference_requests_total"]
    accelerators = {accelerator for *_, accelerator, _ in counted}
    assert {names[0], "unknown", "other"} < accelerators
    assert len(accelerators) <= 7
    assert 100 * len(names) == sum(counted.values())


async def test_a_prometheus_that_hangs_or_is_not_there_changes_nothing(
    home: Home, authority: Authority, store: Store
) -> None:
    """It asks and never reads, says half of its question, goes away: others are answered."""
    settle(store)
    question = f"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: {SCRAPER['Authorization']}\r\n"
    async with centre(home, authority, store) as (served, client):
        host, port = served.plain.removeprefix("http://").split(":")
        hanging = [await asyncio.open_connection(host, int(port)) for _ in range(40)]
        for number, (_, writer) in enumerate(hanging):
            writer.write(f"{question}{chr(13) + chr(10) if number % 2 else ''}".encode())
        for _, writer in hanging[:10]:
            writer.transport.abort()
        async with asyncio.timeout(20):
            found = await scrape(client)
            fleet = await client.get("/api/v1/fleet", headers=OPERATOR)
        for _, writer in hanging:
            writer.transport.abort()

    assert 200 == fleet.status_code
    assert len(VILLAGE) == sum(found["skerry_fleet_devices"].values())


async def test_a_route_is_counted_by_its_pattern(
    home: Home, authority: Authority, store: Store
) -> None:
    """Whoever asks for a thousand paths makes no series; a refusal is counted as one."""
    settle(store)
    async with centre(home, authority, store, pages=True) as (_, client):
        for number in range(60):
            await client.get(f"/nowhere/{number}")
        await client.get("/api/v1/devices/nobody", headers=OPERATOR)
        await client.get("/api/v1/devices/porto-cam-01", headers=OPERATOR)
        found = await scrape(client)

    routes = found["skerry_http_requests_total"]
    assert 60 == sum(count for (route, *_), count in routes.items() if route == "other")
    assert 1 == routes["/api/v1/devices/{device}", "GET", "404"]
    assert 1 == routes["/api/v1/devices/{device}", "GET", "200"]
    assert 2 == found["skerry_http_request_duration_seconds_count"]["/api/v1/devices/{device}",]


def test_no_metric_has_a_label_of_an_individual() -> None:
    """Populations only: one series a device would be a Prometheus that dies."""
    assert not FORBIDDEN_LABELS & {label for each in FAMILIES for label in each.labels}
    assert len({each.name for each in FAMILIES}) == len(FAMILIES)
