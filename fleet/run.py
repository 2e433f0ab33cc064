"""The centre, composed: trust, store, broker, link, registry, API, page. Knows all it needs.

Starts in the order in which things need each other, says where they are, and
ends gracefully on SIGTERM and SIGINT: requests finish, the broker is stopped
last. One centre runs on a home: a second one is refused by a lock, which the
kernel releases however the first one ends.
"""

import asyncio
import fcntl
import json
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from fleet import clock
from fleet.api.access import Access
from fleet.api.app import bounded, create
from fleet.api.listener import Listener, bind, server_context
from fleet.api.parts import Alerting, Content, Parts
from fleet.broker import mosquitto
from fleet.broker.choose import choose
from fleet.broker.settings import BrokerSettings, TlsFiles
from fleet.chronicle import Chronicle
from fleet.commands import Commands
from fleet.execute import Executor
from fleet.identity.authority import Authority, ends_of, server_names
from fleet.identity.errors import TrustMissingError
from fleet.identity.join import Reachable
from fleet.identity.places import Home
from fleet.link.link import Link
from fleet.lookout import Lookout
from fleet.metrics.scrape import Line, Sources, with_metrics
from fleet.metrics.tally import Tally
from fleet.page.front import with_page
from fleet.page.pulse import Pulse
from fleet.ports import Broker, BrokerError
from fleet.receivers.delivery import Delivery
from fleet.roll import Roll
from fleet.store.doors import StoreInbox, StoreOutgoing
from fleet.store.engine import Store
from fleet.tuning import Tuner
from models import durable
from models.keys import SigningKey, load_public
from models.layout import Layout

if TYPE_CHECKING:
    from fleet.export import Export

SCHEMA = "skerry.centre/1"
_COLLECTORS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_WILDCARDS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104  # told apart here, not bound to

log = structlog.get_logger("fleet")


class StartError(Exception):
    """The centre can't start as asked; `reason` is a code, `next_step` what to do."""

    def __init__(self, message: str, reason: str, next_step: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.next_step = next_step


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the centre is asked to be.

    `host` and `port` are where devices and operators reach it over TLS; `plain_port`
    is one on loopback without TLS, for the operator's own machine. `advertise` is
    the name devices are told to dial, by default `host`. `broker` is None (choose),
    `mosquitto`, `embedded`, or a URL.
    """

    home: Path
    host: str = "127.0.0.1"
    port: int = 8443
    plain_port: int | None = None
    advertise: str | None = None
    broker: str | None = None
    broker_port: int = 8883


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where the parts of a running centre are."""

    fleet: str
    url: str
    plain_url: str | None
    broker_url: str
    home: str
    pid: int

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps({"schema": SCHEMA, **asdict(self)})


def run(options: Options, ready: Callable[[Where], None]) -> None:
    """Run a centre until it is told to stop; `ready` is called once everything answers.

    Raises:
        StartError: the home is in use, or the options don't fit together.
        TrustMissingError: the home has no keys.
        SchemaTooNewError: a newer Skerry wrote the store.
        AddressInUseError: somebody listens there already.
        BrokerError: no broker can do what is asked.
    """
    home = Home(options.home)
    with ExitStack() as stack:
        if not home.path.is_dir():
            raise TrustMissingError(f"there is no {home.path}")
        stack.enter_context(_only_one(home))
        authority = Authority.load(home.path)
        public_host = _public_host(options)
        store = Store.open(home.store)
        stack.callback(store.close)
        content = Content(
            layout=Layout.create(home.registry), keys=[load_public(home.bundle_public)]
        )
        # Bound first: a port in use is told before a broker is started.
        sockets = [stack.enter_context(bind(options.host, options.port))]
        if options.plain_port is not None:
            sockets.append(stack.enter_context(bind("127.0.0.1", options.plain_port)))
        centre = _Centre(
            home=home,
            authority=authority,
            store=store,
            content=content,
            broker=_broker(options, home, authority, public_host),
            public_host=public_host,
        )
        # Threads that still use the store are waited for before it is closed.
        asyncio.run(centre.run(sockets, ready))


class _Centre:
    """One running centre."""

    def __init__(
        self,
        *,
        home: Home,
        authority: Authority,
        store: Store,
        content: Content,
        broker: Broker,
        public_host: str,
    ) -> None:
        self._home = home
        self._authority = authority
        self._store = store
        self._content = content
        self._broker = broker
        self._public_host = public_host

    async def run(self, sockets: list[socket.socket], ready: Callable[[Where], None]) -> None:
        """Start everything, serve until a signal, end everything."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await self._broker.start()
        try:
            await self._serve(sockets, ready, stop)
        finally:
            await self._broker.stop()

    async def _serve(
        self,
        sockets: list[socket.socket],
        ready: Callable[[Where], None],
        stop: asyncio.Event,
    ) -> None:
        loop = asyncio.get_running_loop()
        fleet = self._authority.fleet

        def changed() -> None:  # in a thread; the link lives on the loop
            _call(loop, link.wake)

        key = SigningKey.load(self._home.desired_key)
        store = self._store
        export = _exporting(fleet)
        chronicle = Chronicle(store, export=export)
        roll = Roll(store, fleet)
        executor = Executor(
            roll=roll,
            store=store,
            key=key,
            clock=clock.now,
            changed=changed,
            connected=lambda: link.connected,
            chronicle=chronicle,
        )
        tally = Tally()
        tuner = Tuner(fleet=fleet, store=store, key=key, clock=clock.now, changed=changed)
        link = Link(
            fleet=fleet,
            url=self._broker.centre_url,
            tls=_client_context(self._home, self._broker.centre_url),
            inbox=StoreInbox(
                self._store, clock.now, executor.wake, tally.commits, heard=chronicle.heard
            ),
            outgoing=StoreOutgoing(self._store, fleet, clock.now),
            shared=self._broker.shares,
        )
        where = self._where(sockets)
        commands = Commands(
            fleet=fleet,
            store=store,
            key=key,
            clock=clock.now,
            changed=changed,
            answers_at=where.url,
        )
        delivery = Delivery(
            fleet=fleet,
            store=store,
            clock=clock.now,
            file=self._home.receivers,
            publish=link.tell,
        )
        lookout = Lookout(
            store=store,
            roll=roll,
            clock=clock.now,
            connected=lambda: link.connected,
            certificates=ends_of(self._home),
            changed=lambda: _call(loop, delivery.wake),
        )
        alerting = Alerting(lookout=lookout, delivery=delivery)
        parts = self._parts(
            roll,
            executor,
            tuner,
            commands,
            alerting=alerting,
            where=where,
            connected=lambda: link.connected,
        )
        pulse = Pulse(store)
        api = create(parts)
        line = Line(
            connected=lambda: link.connected,
            counts=link.counts,
            lag_s=link.lag_s,
            listeners=lambda: pulse.listeners,
        )
        sources = Sources.of(parts, self._home, api.state.glance, tally, line)
        api = with_metrics(api, parts.access, sources)
        app = sources.traffic.around(bounded(with_page(api, parts, pulse)))
        listeners = [Listener(app, server_context(self._home))]
        listeners += [Listener(app) for _ in sockets[1:]]
        async with asyncio.TaskGroup() as tasks:
            serving = [
                tasks.create_task(listener.serve(sockets=[bound]), name=f"listener {number}")
                for number, (listener, bound) in enumerate(zip(listeners, sockets, strict=True))
            ]
            working = [
                tasks.create_task(self._broker.watch(), name="broker"),
                tasks.create_task(link.run(), name="link"),
                tasks.create_task(executor.run(), name="executor"),
                tasks.create_task(pulse.run(), name="pulse"),
                tasks.create_task(lookout.run(), name="lookout"),
                tasks.create_task(delivery.run(), name="delivery"),
                tasks.create_task(sources.watch.run(), name="watch"),
            ]
            for listener in listeners:
                await listener.ready.wait()
            written = (where.to_json() + "\n").encode()
            await asyncio.to_thread(durable.write, self._home.running, written)
            try:
                ready(where)
                await stop.wait()
            finally:
                self._home.running.unlink(missing_ok=True)
            await pulse.close()
            for listener in listeners:
                listener.should_exit = True
            await asyncio.wait(serving)
            for task in working:
                task.cancel()
        if export is not None:
            await asyncio.to_thread(export.close)

    def _where(self, sockets: list[socket.socket]) -> Where:
        ports = [bound.getsockname()[1] for bound in sockets]
        return Where(
            fleet=self._authority.fleet,
            url=_url("https", self._public_host, ports[0]),
            plain_url=_url("http", "127.0.0.1", ports[1]) if len(ports) > 1 else None,
            broker_url=self._broker.url,
            home=str(self._home.path.resolve()),
            pid=os.getpid(),
        )

    def _parts(
        self,
        roll: Roll,
        executor: Executor,
        tuner: Tuner,
        commands: Commands,
        *,
        alerting: Alerting,
        where: Where,
        connected: Callable[[], bool],
    ) -> Parts:
        return Parts(
            access=Access(_operator_token(self._home)),
            authority=self._authority,
            store=self._store,
            roll=roll,
            content=self._content,
            executor=executor,
            tuner=tuner,
            commands=commands,
            alerting=alerting,
            reachable=Reachable(broker_url=where.broker_url, registry_url=where.url),
            clock=clock.now,
            connected=connected,
        )


@contextmanager
def _only_one(home: Home) -> Iterator[None]:
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartError(
                f"a centre runs on {home.path} already",
                "HOME_IN_USE",
                "stop that one, or give this one a home of its own: --home",
            ) from error
        yield
    finally:
        os.close(descriptor)


def _public_host(options: Options) -> str:
    host = options.advertise or options.host
    if host in _WILDCARDS:
        raise StartError(
            f"devices can't dial {host or 'an empty name'}",
            "ADVERTISE_MISSING",
            "say the name or address they reach this machine by: --advertise",
        )
    names = server_names(Home(options.home))
    if host not in names:
        raise StartError(
            f"the server certificate is not for {host}, so devices would refuse it",
            "NAME_NOT_CERTIFIED",
            f"advertise one of its names ({', '.join(sorted(names))}), or begin a new home:"
            f" skerry trust init --host {host}",
        )
    return host


def _broker(options: Options, home: Home, authority: Authority, public_host: str) -> Broker:
    if options.broker == "mosquitto" and mosquitto.find() is None:
        raise BrokerError("Mosquitto isn't installed: apt install mosquitto")
    names = (None, "mosquitto", "embedded")
    return choose(
        BrokerSettings(
            fleet=authority.fleet,
            home=home.broker,
            host=options.host,
            port=options.broker_port,
            public_host=public_host,
            tls=TlsFiles(ca=home.ca, certificate=home.server, key=home.server_key),
            url=options.broker if options.broker not in names else None,
            embedded=options.broker == "embedded",
        )
    )


def _client_context(home: Home, url: str) -> ssl.SSLContext | None:
    """Return the centre's own side of TLS to the broker, where it speaks TLS."""
    if not url.startswith("mqtts:"):
        return None
    context = ssl.create_default_context(cafile=str(home.ca))
    context.load_cert_chain(home.centre, home.centre_key)
    return context


def _exporting(fleet: str) -> "Export | None":
    """Return what sends spans to the collector that the environment names; None: it names none.

    What can't be sent from here is said in the log: it is no reason not to run.
    """
    if not any(os.environ.get(name) for name in _COLLECTORS):
        return None
    try:
        from fleet.export import Export  # noqa: PLC0415  # an extra of its own
    except ImportError as error:
        why, next_step = f"{error.name} is not installed", "pip install 'skerry[fleet,otel]'"
    else:
        try:
            return Export(fleet)
        except ValueError as error:
            why, next_step = str(error), "see what OpenTelemetry says of its OTEL_ variables"
    log.warning("no spans are exported", why=why, next_step=next_step)
    return None


def _call(loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(wake)


def _operator_token(home: Home) -> str:
    try:
        token = home.operator_token.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise TrustMissingError(f"no operator token in {home.operator_token}") from error
    if not token:
        raise TrustMissingError(f"{home.operator_token} is empty")
    return token


def _url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
