"""The agent as a whole: made, wired and run until told to stop. No other file knows all of it.

What should serve is started first and needs nothing but this machine; only then
come the link and what is desired anew. Importing this loads no numpy, no
runtime and no cryptography: those live in children.
"""

import asyncio
import base64
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent import facts as facts_module
from agent import policy as policies
from agent import scrub
from agent.alone import alone, signature
from agent.answers import Answers
from agent.children.converse import converse
from agent.clock import clock
from agent.diagnosis import Diagnosis, Subject
from agent.errors import PersonError
from agent.glimpse import Glimpse, Glimpses
from agent.health import Pulse
from agent.heed import Heed
from agent.home import Home
from agent.identity import Identity, load
from agent.inbox import Inbox
from agent.ledger import Ledger, open_ledger
from agent.ledger_file import LedgerDamagedError, LedgerError
from agent.link.mqtt import MqttLink
from agent.meter import Meter
from agent.notify import Notice
from agent.outbox import Outbox
from agent.page.front import Front
from agent.page.look import Onlooker, working
from agent.page.seen import Work
from agent.perform.floor import WorkerFloor
from agent.perform.supply import Origin, StoreSupply
from agent.plan import CONDEMNING
from agent.ports import Connected, Greeting, Link, Lost
from agent.reconcile import Reconciler
from agent.report import Reporter, Self
from agent.serving.oip import OipApplication
from agent.serving.server import ListenError, serve
from agent.serving.values import Happening, WorkerEvent
from agent.state import Machine, Note, text
from agent.upkeep import Upkeep
from agent.wire import codec, v1
from agent.wire.reasons import Reason
from models import durable
from models.delegate import Delegate

_VERIFY_LIMIT_S = 60.0
_SCRUB_LIMIT_S = 86400.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How one agent is started."""

    home: Path
    host: str
    port: int
    library: str | None = None
    delegates: tuple[Delegate, ...] = ()
    socket: Path | None = None


async def run(settings: RunSettings) -> None:
    """Run the agent until SIGTERM or SIGINT.

    Raises:
        PersonError: it can't start, and what to do about it.
    """
    home = Home(settings.home)
    identity = load(home)
    address = identity.broker()
    durable.make_directory(home.path, mode=0o700)
    # Heard from before anybody can know whom to tell: unheard, this signal would end us.
    with _nudged_by_signal() as nudged, alone(home.lock):
        machine = await facts_module.machine(settings.library, settings.delegates, _unusable)
        try:
            ledger = open_ledger(
                home.ledger, fleet=identity.answer.fleet, device=identity.answer.device
            )
        except LedgerError as error:
            raise PersonError(
                "the agent can't start",
                error.reason,
                str(error),
                f"look at {home.ledger} and the disk it is on",
                code=1,
            ) from error
        try:
            device = _Device(settings, identity, machine, ledger, nudged)
            link = MqttLink(
                address,
                fleet=identity.answer.fleet,
                device=identity.answer.device,
                keepalive_s=lambda: max(60.0, 2 * device.wanted_settings.health_period_s),
                reconnect_cap_s=lambda: device.wanted_settings.reconnect_cap_s,
            )
            await device.run(link)
        finally:
            ledger.close()


def _unusable(refused: facts_module.Refused) -> None:
    _log.warning(
        "accelerator not usable",
        accelerator=refused.delegate.accelerator,
        reason=refused.reason,
        message=refused.message,
    )


class _Device:
    """One running agent: what it is made of, and who wakes whom."""

    def __init__(
        self,
        settings: RunSettings,
        identity: Identity,
        machine: Machine,
        ledger: Ledger,
        nudged: asyncio.Event,
    ) -> None:
        self._settings, self._identity, self._machine = settings, identity, machine
        self._ledger, self._nudged, self._signature = ledger, nudged, signature()
        answer = identity.answer
        self._who = Self(
            fleet=answer.fleet,
            device=answer.device,
            agent_version=facts_module.agent_version(),
            accelerator=text("+".join(machine.accelerators[1:]), 64) or "cpu",
        )
        home = self._home = Home(settings.home)
        self._supply = StoreSupply(
            home,
            Origin(
                registry_url=answer.registry_url,
                keys=identity.keys("bundle"),
                credentials=identity.credentials,
            ),
            machine,
        )
        self._floor = WorkerFloor(home.store, machine, self._on_worker)
        self._meter = Meter(self._floor)
        self._told: asyncio.Queue[Note] = asyncio.Queue()
        self._wakes: list[Callable[[], None]] = []
        self._diagnosis = Diagnosis(
            Subject(
                home=home,
                credentials=identity.credentials,
                host=settings.host,
                port=settings.port,
                library=settings.library,
                delegates=settings.delegates,
            ),
            records=lambda: dict(ledger.records),
            steps=lambda: self._reconciler.under_way(),  # noqa: PLW0108  # made after this one
            examine=lambda way, measures: self._floor.examine(way, measures=measures),
            clock=clock,
        )
        self._answers = Answers(
            self._diagnosis.works(),
            path=home.asked,
            policy=lambda: policies.read(home.policy),
            clock=clock,
        )
        self._inbox = Inbox(
            ledger,
            self._verify,
            fleet=answer.fleet,
            device=answer.device,
            clock=clock,
            changed=self._changed,
            asked=self._answers.take,
        )
        self._reconciler = Reconciler(
            ledger,
            self._supply,
            self._floor,
            self._meter,
            desired=lambda: self._inbox.desired,
            clock=clock,
            changed=self._changed,
        )

    @property
    def wanted_settings(self) -> v1.DeviceSettings:
        """The device's settings as desired now."""
        desired = self._inbox.desired
        return desired.settings if desired else v1.DeviceSettings()

    async def run(self, link: Link) -> None:
        """Serve, reconcile and report until told to stop; then leave in order."""
        outbox = Outbox(self._ledger, link)
        reporter = Reporter(
            self._who,
            self._ledger,
            link,
            look=lambda: (self._inbox.desired, self._inbox.last_error or self._forgetful()),
            serving=self._floor.serving,
        )
        pulse = Pulse(
            self._who,
            self._ledger,
            self._meter,
            home=self._settings.home,
            clock=clock,
            settings=lambda: self.wanted_settings,
            say=outbox.say,
        )
        onlooker = Onlooker(
            self._machine,
            self._ledger,
            self._floor,
            home=self._settings.home,
            clock=clock,
            reported=reporter.document,
            health=lambda: pulse.latest,
        )
        glimpses = Glimpses(self._home.glimpse, self._glimpse)
        self._wakes = [
            *(self._reconciler.wake, outbox.wake, reporter.wake, pulse.wake, glimpses.wake)
        ]
        self._wakes.append(self._diagnosis.wake)
        self._note_boot()
        heed = Heed(
            self._ledger,
            self._home,
            self._changed,
            judge=self._inbox.judge,
            brought=self._reconciler.hurry,
            rotten=self._reconciler.rotten,
        )
        await heed.look()  # before anything new could be begun
        stop = asyncio.Event()
        ended: BaseExceptionGroup[ListenError | LedgerDamagedError] | None = None
        with _stopped_by_signals(stop):
            try:
                async with self._floor.board, asyncio.TaskGroup() as group:
                    names = [name for name, each in self._ledger.records.items() if each.current]
                    self._floor.expect(names)
                    run, notice = _Runner(group), Notice.of_this_process()
                    run("notice", notice.run())
                    run("serve", self._serve(onlooker))
                    run("chronicle", self._chronicle())
                    run("heed", heed.run(self._nudged))
                    run("glimpse", glimpses.run())
                    stopping = group.create_task(stop.wait(), name="stop")
                    booting = group.create_task(self._reconciler.boot(), name="boot")
                    await asyncio.wait([stopping, booting], return_when=asyncio.FIRST_COMPLETED)
                    notice.ready()
                    run("reconcile", self._reconciler.run())
                    run("link", link.run(self._greet))
                    run("inbox", self._listen(link, outbox, reporter, onlooker))
                    run("outbox", outbox.run())
                    run("answers", self._answers.run(link))
                    run("report", reporter.report())
                    run("health", pulse.run())
                    run("upkeep", Upkeep(self._scrub, self._reconciler.rotten).run())
                    await stopping
                    notice.stopping()
                    await link.close(self._death())
                    booting.cancel()
                    run.cancel()
            except* (ListenError, LedgerDamagedError) as errors:
                ended = errors
        if ended is not None:
            # Outside the block: Pythons before 3.11.4 wrap what is raised in an `except*`.
            raise _said_to_a_person(ended) from ended
        await _log.ainfo("stopped")

    async def _serve(self, onlooker: Onlooker) -> None:
        oip = OipApplication(self._floor.board, version=self._who.agent_version)

        def listening(addresses: tuple[str, ...]) -> None:
            _log.info("serving", addresses=list(addresses), device=self._who.device)

        await serve(
            Front(onlooker.look, oip, self._work),
            host=self._settings.host,
            port=self._settings.port,
            unix_path=self._settings.socket,
            on_listening=listening,
        )

    def _glimpse(self) -> Glimpse:
        serving, compared = self._floor.serving(), self._floor.compared()
        return Glimpse(serving=serving, compared=compared, by=self._signature)

    def _work(self) -> Mapping[str, Work]:
        return working(self._meter, self._floor.board, list(self._ledger.records))

    async def _listen(
        self, link: Link, outbox: Outbox, reporter: Reporter, onlooker: Onlooker
    ) -> None:
        while True:
            event = await link.next_event()
            if isinstance(event, Connected):
                await _log.ainfo("connected", session=self._ledger.session)
                onlooker.connected()
                outbox.start_over()
                reporter.start_over()
                self._reconciler.hurry()
            elif isinstance(event, Lost):
                onlooker.lost(event.reason)
            else:
                ledger = self._ledger.id
                await self._inbox.take(event)
                if self._ledger.id != ledger:
                    outbox.start_over()  # what waits has other numbers now

    async def _chronicle(self) -> None:
        """Write what workers did into the ledger."""
        while True:
            note = await self._told.get()
            try:
                await asyncio.to_thread(self._ledger.tell, note, at=clock())
            except LedgerError as error:
                await _log.awarning("not recorded", message=text(error))
            self._changed()

    async def _greet(self) -> Greeting:
        session = await asyncio.to_thread(self._ledger.next_session)
        birth = v1.Birth(
            fleet=self._who.fleet,
            device=self._who.device,
            session=session,
            agent_version=self._who.agent_version,
            at=clock(),
            facts=facts_module.facts(self._machine, ledger=self._ledger.id),
        )
        return Greeting(birth=codec.encode(birth), death=self._death())

    def _death(self) -> bytes:
        session = max(1, self._ledger.session)
        return codec.encode(
            v1.Death(fleet=self._who.fleet, device=self._who.device, session=session)
        )

    async def _verify(self, payload_type: str, envelope: bytes) -> bytes:
        job = {
            "envelope": base64.b64encode(envelope).decode(),
            "payload_type": payload_type,
            "keys": self._identity.keys("desired"),
        }
        done = await converse("agent.verify", job, deadline_s=_VERIFY_LIMIT_S)
        return base64.b64decode(done["payload"])

    async def _scrub(self) -> scrub.Found:
        job = {"store": str(self._home.store), "rate_bytes_per_s": scrub.RATE_BYTES_PER_S}
        return scrub.Found.from_json(await converse("agent.scrub", job, deadline_s=_SCRUB_LIMIT_S))

    def _forgetful(self) -> v1.Problem | None:
        why = self._ledger.forgetful
        return v1.Problem(reason=Reason.LEDGER_UNWRITABLE, message=text(why)) if why else None

    def _note_boot(self) -> None:
        aside, why = self._ledger.moved_aside, self._ledger.forgetful
        reason = Reason.LEDGER_CORRUPT if aside else Reason.LEDGER_UNWRITABLE if why else None
        message = f"the damaged ledger is kept as {aside.name}" if aside else text(why)
        if reason is not None:
            _log.error("ledger lost", reason=reason, message=message)
        self._told.put_nowait(
            Note(
                kind=v1.EventKind.BOOT,
                reason=reason,
                message=message,
                parameters={
                    "agent_version": self._who.agent_version,
                    **facts_module.machine_boot(),
                },
            )
        )

    def _on_worker(self, event: WorkerEvent) -> None:
        if event.kind in {Happening.CRASHED, Happening.STUCK}:
            of_itself = event.reason in CONDEMNING
            self._meter.died(event.deployment, event.revision, of_itself=of_itself)
        record = self._ledger.records.get(event.deployment)
        self._told.put_nowait(
            Note(
                kind=v1.EventKind.WORKER,
                deployment=event.deployment,
                revision=event.revision,
                digest=event.bundle_digest,
                reason=event.reason,
                message=text(event.message),
                parameters={"what": event.kind},
                trace_id=record.trace_of(event.revision) if record else None,
            )
        )
        self._reconciler.wake()

    def _changed(self) -> None:
        for wake in self._wakes:
            wake()


def _said_to_a_person(
    ended: BaseExceptionGroup[ListenError | LedgerDamagedError],
) -> PersonError:
    error: BaseException = ended
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ListenError):
        return PersonError(
            "the agent can't listen",
            "LISTEN",
            str(error),
            "choose another with --listen HOST:PORT, or stop the other program",
            code=1,
        )
    return PersonError(
        "the agent can't go on",
        Reason.LEDGER_CORRUPT,
        str(error),
        "start it again: it moves the damaged ledger aside and begins a new one",
        code=1,
    )


class _Runner:
    """Starts named tasks in a group, and cancels exactly those."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: list[asyncio.Task[None]] = []

    def __call__(self, name: str, work: "asyncio._CoroutineLike[None]") -> None:
        self._tasks.append(self._group.create_task(work, name=name))

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()


@contextmanager
def _nudged_by_signal() -> Iterator[asyncio.Event]:
    loop, nudged = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, nudged.set)
    try:
        yield nudged
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


@contextmanager
def _stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
