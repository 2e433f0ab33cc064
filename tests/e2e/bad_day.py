"""A bad day: five troubles at once on two sites, how soon each is seen, and in which words.

    python -P -m tests.e2e.bad_day --wait 720      (make bad-day)

A centre with its broker and the agents of six devices are real processes, and so are three of
the troubles: a site's agents are stopped, so that nobody says goodbye, as behind a cut cable; a
model's workers are killed as often as they come; a real disk of 48 MB is filled. Nobody has an
hour for drift, nor a machine that is hot at will: the agents of two devices end, and doubles
speak in their place (`Double`), with their certificates, in documents of the wire.

Then all is mended, and it is measured how soon each device is ok again, and its alert over.
`skerry device show` and `skerry alert ls` draw the two documents that are asked for.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil

from agent.wire import codec, v1
from agent.wire.topics import Kind, Topic
from fleet.alerts.rules import BY_NAME
from fleet.health.tellings import KEPT
from models.card import DriftReference
from models.layout import Layout
from tests.conformance.peer import Will
from tests.e2e.cable.client import clock
from tests.e2e.scene import Centre, Device, Row, pause, until
from tests.e2e.wares import build, packed

PERIOD_S = 10.0
"""Of health: the default is 60 s; each trouble but the cut site then takes 50 s longer."""

LOOK_S = 5.0
"""How often the centre looks at its rules."""

SLACK_S = 60.0
DISK_BYTES = 48 * 1024 * 1024
_LEFT_BYTES = 2 * 1024 * 1024  # of 48: below the 5 % that are nearly full
_HOUR_OF_REQUESTS = 1000
_TICK_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What happens to a device, and what is to be seen of it.

    `told_s`: until the centre can know of it. `reasons`: any of them is its reason code.
    """

    name: str
    device: str
    rule: str
    reasons: frozenset[str]
    told_s: float = PERIOD_S

    @property
    def due_s(self) -> float:
        """Within how many seconds its alert is to be open."""
        return self.told_s + BY_NAME[self.rule].holds_s + LOOK_S

    @property
    def over_s(self) -> float:
        """How long after it was mended its alert may last."""
        return BY_NAME[self.rule].clears_s + SLACK_S


TROUBLES = (
    Trouble(
        name="site cut off",
        device="lerwick-1",
        rule="SkerrySiteCut",
        reasons=frozenset({"DISCONNECTED", "SILENT"}),
        told_s=180.0,  # one and a half keepalives, after which the broker says it is gone
    ),
    Trouble(
        name="crash loop",
        device="porto-1",
        rule="SkerryCrashLoop",
        reasons=frozenset({"WORKER_CRASHED", "QUARANTINED"}),
    ),
    Trouble(
        name="disk filling",
        device="porto-2",
        rule="SkerryDiskFilling",
        reasons=frozenset({"DISK_NEARLY_FULL"}),
    ),
    Trouble(
        name="model drifting",
        device="porto-3",
        rule="SkerryModelDrifting",
        reasons=frozenset({"DRIFTING"}),
    ),
    Trouble(
        name="throttling",
        device="porto-4",
        rule="SkerryThrottling",
        reasons=frozenset({"THROTTLED"}),
    ),
)
NAMES = ("lerwick-1", "lerwick-2", "porto-1", "porto-2", "porto-3", "porto-4")


@dataclass(slots=True)
class Sighting:
    """After how many seconds a trouble was seen, and seen no more; None: not within the time."""

    device_s: float | None = None
    alert_s: float | None = None
    well_s: float | None = None
    over_s: float | None = None
    device_says: str = ""
    alert_says: str = ""


def complaints(
    seen: Mapping[str, Sighting], alerts: Iterable[Row], *, waited_s: float
) -> list[str]:
    """Return what is not as it should be: each trouble seen and over, one alert each, no other."""
    found = []
    opened = Counter(each["rule"] for each in alerts)
    for trouble in TROUBLES:
        sighting = seen[trouble.name]
        if sighting.device_s is None:
            found.append(f"{trouble.name}: {trouble.device} never said so")
        if sighting.alert_s is None:
            found.append(f"{trouble.name}: no alert within {trouble.due_s + SLACK_S:.0f} s")
        elif opened[trouble.rule] != 1:
            found.append(f"{trouble.name}: {opened[trouble.rule]} alerts of {trouble.rule}")
        if sighting.well_s is None:
            found.append(f"{trouble.name}: {trouble.device} is not ok again")
        elif sighting.over_s is None and trouble.over_s <= waited_s:
            found.append(f"{trouble.name}: its alert is not over after {waited_s:.0f} s")
    wanted = {trouble.rule for trouble in TROUBLES}
    found += [f"an alert about something else: {rule}" for rule in sorted(opened.keys() - wanted)]
    return found


class Double:
    """Speaks for a device whose agent has ended: what that said last, with what is changed."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._peer = device.peer()
        tables = device.centre.store("reported", "presence", "health")
        mine = {
            table: next(row for row in rows if row["device"] == device.id)
            for table, rows in tables.items()
        }
        self._reported = codec.decode(bytes(mine["reported"]["document"]), v1.Reported)
        self._health = codec.decode(bytes(mine["health"]["document"]), v1.Health)
        self._agent_version = str(mine["presence"]["agent_version"])
        self._session = int(mine["presence"]["session"]) + 1
        self._next = 0.0
        self.throttled = False
        self.drift: list[tuple[v1.DriftSketch, ...]] = []

    def begin(self) -> None:
        """Come, as an agent would that was started again."""
        fleet, device, session = self._reported.fleet, self._device.id, self._session
        topic = str(Topic(fleet, device, Kind.PRESENCE))
        death = codec.encode(v1.Death(fleet=fleet, device=device, session=session))
        self._peer.connect(clean=True, will=Will(topic=topic, payload=death))
        assert self._peer.connected, self._peer.why_not
        birth = v1.Birth(
            fleet=fleet,
            device=device,
            session=session,
            agent_version=self._agent_version,
            at=_now(),
            facts={},
        )
        self._say(Kind.PRESENCE, birth)
        self._say(Kind.REPORTED, replace(self._reported, session=self._session))

    def go_on(self) -> None:
        """Say how it is once a period; of drift that waits, an hour with each document."""
        self._peer.pump_once()
        if self.drift or clock() >= self._next:
            self._next = clock() + PERIOD_S
            told = self.drift.pop() if self.drift else ()
            (deployment,) = self._health.deployments
            health = replace(
                self._health,
                session=self._session,
                at=_now(),
                period_s=PERIOD_S,
                throttled=self.throttled,
                deployments=(replace(deployment, drift=told),),
            )
            self._say(Kind.HEALTH, health)

    def leave(self) -> None:
        """Go without a word."""
        self._peer.vanish()

    def _say(self, kind: Kind, document: v1.Birth | v1.Reported | v1.Health) -> None:
        topic = str(Topic(self._reported.fleet, self._device.id, kind))
        code = self._peer.publish(topic, codec.encode(document), retain=kind is not Kind.HEALTH)
        assert code < 0x80, f"the broker refuses {kind} of {self._device.name}: {code:#x}"


def one_bin(references: Sequence[DriftReference]) -> tuple[v1.DriftSketch, ...]:
    """Return an hour in which each request was in the last bin: a lens that looks into a lamp."""
    return tuple(
        v1.DriftSketch(
            subject=each.subject,
            counts=(*(0 for _ in each.shares[:-1]), _HOUR_OF_REQUESTS, 0),
        )
        for each in references
    )


def as_ever(references: Sequence[DriftReference]) -> tuple[v1.DriftSketch, ...]:
    """Return an hour of requests that are spread as the card has it."""
    return tuple(
        v1.DriftSketch(
            subject=each.subject,
            counts=(*(round(share * _HOUR_OF_REQUESTS) for share in each.shares), 0),
        )
        for each in references
    )


class Day:
    """The fleet of the day, what is done to it, and what was seen."""

    def __init__(
        self, centre: Centre, devices: Mapping[str, Device], references: Sequence[DriftReference]
    ) -> None:
        self._centre, self._devices, self._references = centre, devices, references
        self._doubles = {name: Double(devices[name]) for name in ("porto-3", "porto-4")}
        self._crashing = False
        self.seen = {trouble.name: Sighting() for trouble in TROUBLES}
        self.begun = self.mended = 0.0

    def prepare(self) -> None:
        """Let the doubles take over, and wait until all are ok and nothing is wrong."""
        for double in self._doubles.values():
            double.begin()

        def well() -> bool:
            self._tick()
            return not self.alerts() and all(
                self._state(name)["word"] == "ok" for name in self._devices
            )

        until(well, limit_s=120, what="a fleet in which all is well")

    def harm(self) -> None:
        """Let all of it happen at once."""
        self.begun = clock()
        for name in ("lerwick-1", "lerwick-2"):
            self._signal(name, signal.SIGSTOP)
        self._crashing = True
        disk = self._devices["porto-2"].home.parent
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        (disk / "filler").write_bytes(bytes(free - _LEFT_BYTES))
        self._doubles["porto-3"].drift = [one_bin(self._references)]
        self._doubles["porto-4"].throttled = True

    def mend(self) -> None:
        """Undo all of it: the bundle that crashed gives way to another, as its alert advises."""
        self._crashing = False
        self.mended = clock()
        self._resume()
        (self._devices["porto-2"].home.parent / "filler").unlink()
        self._doubles["porto-3"].drift = [as_ever(self._references) for _ in range(KEPT)]
        self._doubles["porto-4"].throttled = False
        self._centre.roll("2.0.0", self._devices["porto-1"])

    def look(self) -> None:
        """Note what is seen for the first time."""
        self._tick()
        alerts = {each["rule"]: each for each in self.alerts() if each["open"]}
        for trouble in TROUBLES:
            noted, state = self.seen[trouble.name], self._state(trouble.device)
            alert = alerts.get(trouble.rule)
            if noted.device_s is None and state["reason"] in trouble.reasons:
                noted.device_s, noted.device_says = clock() - self.begun, state["sentence"]
            if noted.alert_s is None and alert is not None:
                noted.alert_s, noted.alert_says = clock() - self.begun, alert["title"]
            if self.mended:
                if noted.well_s is None and state["word"] == "ok":
                    noted.well_s = clock() - self.mended
                if noted.over_s is None and noted.alert_s is not None and alert is None:
                    noted.over_s = clock() - self.mended

    def alerts(self) -> list[Row]:
        """Return all there ever were."""
        return list(self._centre.ask("GET", "/api/v1/alerts?state=all")["alerts"])

    def close(self) -> None:
        """Leave nothing stopped, and nobody who speaks."""
        self._resume()
        for double in self._doubles.values():
            double.leave()

    def _tick(self) -> None:
        pause(_TICK_S)
        for double in self._doubles.values():
            double.go_on()
        if self._crashing:
            for pid in self._devices["porto-1"].workers():
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).kill()

    def _state(self, name: str) -> Row:
        state: Row = self._centre.device(self._devices[name])["state"]
        return state

    def _resume(self) -> None:
        for name in ("lerwick-1", "lerwick-2"):
            self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: int) -> None:
        if self._devices[name].alive():
            agent = psutil.Process(self._devices[name].pid)
            for each in (agent, *agent.children(recursive=True)):
                each.send_signal(number)


@contextmanager
def day(folder: Path) -> Iterator[tuple[Centre, Day]]:
    """Start a centre and six devices, on two sites, all with `digits:1.0.0`."""
    old, new = build()
    with ExitStack() as until_end:
        centre = Centre(folder)
        until_end.callback(_kill, centre)
        centre.start()
        layout = Layout.create(folder / "bundles")
        for model, version in ((old, "1.0.0"), (new, "2.0.0")):
            centre.publish(layout, packed(model, version, layout, key=centre.key))
        disk = until_end.enter_context(_disk(folder / "disk"))
        devices = {}
        for name in NAMES:
            home = (disk if name == "porto-2" else folder) / name
            devices[name] = device = Device(centre, name, home)
            until_end.callback(_kill, device)
            joined = device.join(centre.token("--site", name.partition("-")[0]))
            assert joined.returncode == 0, joined.stderr
            device.start()
            device.online()
            often = centre.skerry("device", "set", name, "--health-period", f"{PERIOD_S:g}")
            assert often.returncode == 0, often.stderr
            centre.deliver("1.0.0", device)
        for name in ("porto-3", "porto-4"):
            until(lambda: _has_felt(centre, devices[name]), what=f"health of {name}")  # noqa: B023  # asked at once
            assert devices[name].end() == 0, devices[name].tail()
        made = Day(centre, devices, old.prepared.card.drift)
        until_end.callback(made.close)
        yield centre, made


def _has_felt(centre: Centre, device: Device) -> bool:
    """Say whether a device has told how what it serves is."""
    told = [row for row in centre.store("health")["health"] if row["device"] == device.id]
    return any(codec.decode(bytes(row["document"]), v1.Health).deployments for row in told)


def _kill(program: Centre | Device) -> None:
    if program.alive():
        program.end(signal.SIGKILL)


@contextmanager
def _disk(folder: Path) -> Iterator[Path]:
    """Mount a small file system."""
    folder.mkdir()
    options = ("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "skerry-bad-day", str(folder))
    mounted = subprocess.run(["/bin/mount", *options], check=False, capture_output=True, text=True)
    if mounted.returncode != 0:
        sys.exit(f"no disk can be mounted here ({mounted.stderr.strip()}): run it as root")
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", "-l", str(folder)], check=True)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251  # a device's own clock


def table(seen: Mapping[str, Sighting], opened: Mapping[str, int], wait_s: float) -> Iterator[str]:
    """Draw what was seen: a row a trouble, and the words below."""
    yield (
        f"{'TROUBLE':<16} {'ON THE DEVICE':>13} {'AN ALERT':>9} {'DUE':>6} {'ALERTS':>6} "
        f"{'OK AGAIN':>9} {'OVER':>7} {'CLEARS':>7}"
    )
    for trouble in TROUBLES:
        noted, clears_s = seen[trouble.name], BY_NAME[trouble.rule].clears_s
        over = "not yet" if noted.over_s is None and trouble.over_s > wait_s else _s(noted.over_s)
        yield (
            f"{trouble.name:<16} {_s(noted.device_s):>13} {_s(noted.alert_s):>9} "
            f"{_s(trouble.due_s):>6} {opened.get(trouble.rule, 0):>6} {_s(noted.well_s):>9} "
            f"{over:>7} {_s(clears_s):>7}"
        )
    yield ""
    for trouble in TROUBLES:
        noted = seen[trouble.name]
        yield f"{trouble.name:<16} {noted.alert_says}"
        yield f"{'':<16} {trouble.device}: {noted.device_says}"


def _s(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.0f} s"


def main() -> int:
    """Have a bad day; 0 when each trouble was seen, with one alert each and no other."""
    parser = argparse.ArgumentParser(description="Let five things go wrong at once.")
    parser.add_argument(
        "--wait", type=float, default=720.0, help="seconds for alerts to end (drift: 3600)"
    )
    wait_s: float = parser.parse_args().wait
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and leave no process behind

    def tell(line: str) -> None:
        print(line, flush=True)  # noqa: T201  # progress, for whoever waits

    with tempfile.TemporaryDirectory() as name, day(Path(name)) as (centre, made):
        made.prepare()
        tell(f"{len(NAMES)} devices are ok; now all goes wrong.")
        made.harm()
        limit_s = max(trouble.due_s for trouble in TROUBLES) + SLACK_S
        _look_until(
            made,
            lambda: all(None not in (each.device_s, each.alert_s) for each in made.seen.values()),
            limit_s,
        )
        tell(centre.skerry("alert", "ls").stdout)
        made.mend()
        tell("All is mended.")
        _look_until(made, lambda: _is_over(made.seen, wait_s), wait_s)
        alerts = made.alerts()
    opened = Counter(each["rule"] for each in alerts)
    for line in table(made.seen, opened, wait_s):
        tell(line)
    found = complaints(made.seen, alerts, waited_s=wait_s)
    for line in found:
        tell(line)
    return 1 if found else 0


def _look_until(made: Day, enough: Callable[[], bool], limit_s: float) -> None:
    begun = clock()
    while not enough() and clock() < begun + limit_s:
        made.look()


def _is_over(seen: Mapping[str, Sighting], wait_s: float) -> bool:
    return all(
        seen[trouble.name].well_s is not None
        and (seen[trouble.name].over_s is not None or trouble.over_s > wait_s)
        for trouble in TROUBLES
    )


if __name__ == "__main__":
    sys.exit(main())
