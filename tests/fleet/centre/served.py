"""A centre's API on real sockets, with its executor: what tests over HTTP and of commands need."""

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx

from fleet.api.access import Access
from fleet.api.app import bounded, create
from fleet.api.listener import Listener, bind, server_context
from fleet.api.parts import Alerting, Content, Parts
from fleet.chronicle import Chronicle
from fleet.commands import Commands
from fleet.execute import Executor
from fleet.identity.authority import Authority
from fleet.identity.join import Reachable
from fleet.identity.places import Home
from fleet.link.link import Counts
from fleet.lookout import Lookout
from fleet.metrics.scrape import Line, Sources, with_metrics
from fleet.metrics.tally import Tally
from fleet.page.front import with_page
from fleet.page.pulse import Pulse
from fleet.receivers.delivery import Delivery
from fleet.roll import Roll
from fleet.store.engine import Store
from fleet.tuning import Tuner
from models.keys import SigningKey, load_public
from models.layout import Layout

TOKEN = "t" * 43
NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
NOTHING = Counts(connections=0, received=0, committed=0, published=0, dropped=0, refused={})
OPERATOR = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Served:
    """A centre's API on two ports."""

    url: str
    plain: str
    home: Home
    authority: Authority
    store: Store
    executor: Executor
    alerting: Alerting
    published: list[tuple[str, bytes]]
    """What was put on the broker, of the centre's own."""
    tally: Tally

    def client(self, certificate: tuple[Path, Path] | None = None) -> httpx.AsyncClient:
        context = ssl.create_default_context(cafile=str(self.home.ca))
        if certificate is not None:
            context.load_cert_chain(*certificate)
        return httpx.AsyncClient(base_url=self.url, verify=context, trust_env=False)


@asynccontextmanager
async def serving(
    home: Home,
    authority: Authority,
    store: Store,
    clock: Callable[[], dt.datetime] = lambda: NOW,
    connected: Callable[[], bool] = lambda: True,
    *,
    pages: bool = False,
) -> AsyncIterator[Served]:
    """Serve a home's store until the block ends; `clock` and the broker are the centre's."""
    roll = Roll(store, authority.fleet)
    executor = Executor(
        roll=roll,
        store=store,
        key=SigningKey.load(home.desired_key),
        clock=clock,
        changed=lambda: None,
        connected=connected,
        chronicle=Chronicle(store),
    )
    loop = asyncio.get_running_loop()
    published: list[tuple[str, bytes]] = []

    async def publish(topic: str, payload: bytes) -> None:
        published.append((topic, payload))

    def changed() -> None:
        loop.call_soon_threadsafe(delivery.wake)

    delivery = Delivery(
        fleet=authority.fleet, store=store, clock=clock, file=home.receivers, publish=publish
    )
    lookout = Lookout(
        store=store,
        roll=roll,
        clock=clock,
        connected=connected,
        certificates={},
        changed=changed,
    )
    alerting = Alerting(lookout=lookout, delivery=delivery)
    parts = Parts(
        access=Access(TOKEN),
        authority=authority,
        store=store,
        roll=roll,
        content=Content(
            layout=Layout.create(home.registry), keys=[load_public(home.bundle_public)]
        ),
        executor=executor,
        tuner=Tuner(
            fleet=authority.fleet,
            store=store,
            key=SigningKey.load(home.desired_key),
            clock=clock,
            changed=lambda: None,
        ),
        commands=Commands(
            fleet=authority.fleet,
            store=store,
            key=SigningKey.load(home.desired_key),
            clock=clock,
            changed=lambda: None,
            answers_at="https://c:8443",
        ),
        alerting=alerting,
        reachable=Reachable(broker_url="mqtts://c:8883", registry_url="https://c:8443"),
        clock=clock,
        connected=connected,
    )
    pulse, tally, api = Pulse(store), Tally(), create(parts)
    line = Line(
        connected=connected,
        counts=lambda: NOTHING,
        lag_s=lambda: 0.0,
        listeners=lambda: pulse.listeners,
    )
    sources = Sources.of(parts, home, api.state.glance, tally, line)
    api = with_metrics(api, parts.access, sources)
    app = sources.traffic.around(bounded(with_page(api, parts, pulse) if pages else api))
    with bind("127.0.0.1", 0) as tls, bind("127.0.0.1", 0) as plain:
        listeners = [
            (Listener(app, server_context(home)), tls),
            (Listener(app), plain),
        ]
        async with asyncio.TaskGroup() as tasks:
            for number, (each, bound) in enumerate(listeners):
                tasks.create_task(each.serve(sockets=[bound]), name=f"listener {number}")
            working = [
                tasks.create_task(executor.run(), name="executor"),
                tasks.create_task(pulse.run(), name="pulse"),
                tasks.create_task(delivery.run(), name="delivery"),
                tasks.create_task(sources.watch.run(), name="watch"),
            ]
            for each, _ in listeners:
                await each.ready.wait()
            yield Served(
                url=f"https://127.0.0.1:{tls.getsockname()[1]}",
                plain=f"http://127.0.0.1:{plain.getsockname()[1]}",
                home=home,
                authority=authority,
                store=store,
                executor=executor,
                alerting=alerting,
                published=published,
                tally=tally,
            )
            await pulse.close()
            for task in working:
                task.cancel()
            for each, _ in listeners:
                each.should_exit = True
