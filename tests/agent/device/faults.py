"""The table step x fault: each step of a change is hit by each fault, from outside, for real.

    python -m tests.agent.device.faults            (make faults; as root, for it mounts disks)

A device serves one version and is told another. When its own log, or its ledger, says
that a step has begun, a fault is done to it a random while later: to its processes by
signals, to its disk by filling or failing it, to its ledger by writing over it or
locking it. The fault goes after some seconds, and an agent that has ended is started
again, as a service manager does. All the while somebody asks for answers.

Asked of each: does the old or the new version answer after each start, does the change
come to an end when the fault is gone, in how many transitions, and what was told of it?
"""

import argparse
import http.client
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent.perform.floor import START_LIMIT_S
from agent.wire.phases import Phase
from tests.agent.device.outside import Life, Progress, Subject, subject

LASTS_S = 2.5
"""So long a fault lasts that does not end by itself."""

TRANSITIONS_LIMIT = 40

GOOD = ("1.0.0", "2.0.0", "4.0.0")
"""In turn, so that the next one is never in the store already."""

BAD = "3.0.0"
"""Its worker is killed whenever it is on trial."""

REFUSED_LIMIT = 3
"""Only the request over which a worker dies is refused: on trial a bad one dies twice or thrice."""

DISK_BYTES = 48 * 1024 * 1024

SERVED_BY_IT = frozenset({"probation", "commit"})
"""Steps in which the newest worker answers: what is done to it costs the request under way."""

STEPS = ("fetch", "verify", "stage", "test", "activate", "probation", "commit", "roll-back")


@dataclass
class Disk:
    """A file system of its own for the device's home."""

    image: Path
    mounted: Path

    def make(self) -> None:
        with self.image.open("wb") as file:
            file.truncate(DISK_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(self.image))
        self.mounted.mkdir()
        self.mount()

    def mount(self) -> None:
        _run("mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.mounted))

    def unmount(self) -> None:
        _run("umount", str(self.mounted))

    def fail(self) -> None:
        """Let the kernel find an error in it: it becomes read-only, open files or not."""
        source = _run("findmnt", "--noheadings", "--output", "SOURCE", str(self.mounted)).strip()
        Path(f"/sys/fs/ext4/{Path(source).name}/trigger_fs_error").write_text("1")

    def repair(self) -> None:
        """What a technician does; nobody may use it meanwhile."""
        self.unmount()
        subprocess.run(
            ["/usr/sbin/e2fsck", "-p", "-f", str(self.image)], check=False, capture_output=True
        )
        self.mount()


def _run(*words: str) -> str:
    env = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    return subprocess.run(words, check=True, capture_output=True, text=True, env=env).stdout


@dataclass
class Scene:
    """A device on its disk, the life of its agent now, and how a fault goes away."""

    device: Subject
    disk: Disk
    life: Life
    step: str
    end: list[Callable[[], None]] = field(default_factory=list)
    needs_nobody: bool = False
    settles_s: float = 60


def kill_agent(scene: Scene) -> None:
    """SIGKILL to the agent."""
    scene.life.kill()


def kill_child(scene: Scene) -> None:
    """SIGKILL to what works for the step: the fetching child, or the newest worker."""
    for child in _workers(scene):
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def hang_child(scene: Scene) -> None:
    """SIGSTOP to the same; it goes on after a while, as what waits for hardware does."""
    for child in _workers(scene):
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGSTOP)
            scene.end.append(lambda child=child: _go_on(child))  # type: ignore[misc]


def hang_child_for_good(scene: Scene) -> None:
    """SIGSTOP to the same, and it never goes on: only the deadline of its step ends it."""
    for child in _workers(scene):
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGSTOP)
    scene.settles_s += START_LIMIT_S


def _go_on(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGCONT)


def _workers(scene: Scene) -> list[int]:
    """Return the fetching children; else the newest worker, if there are two or more."""
    fetching = [each.pid for each in scene.life.children("agent.fetch")]
    workers = sorted(each.pid for each in scene.life.children("agent.workers.child"))
    alone = scene.step in SERVED_BY_IT or len(workers) > 1  # else it is the one that serves
    return fetching or workers[-1:] * alone


def fill_disk(scene: Scene) -> None:
    """ENOSPC: somebody else takes all room that there is."""
    hog = scene.disk.mounted / "hog"
    with suppress(OSError), hog.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(64 * 1024))
    scene.end.append(lambda: hog.unlink(missing_ok=True))


def fail_disk(scene: Scene) -> None:
    """EROFS: the kernel finds an error and makes the file system read-only."""
    scene.disk.fail()
    scene.needs_nobody = True  # to be mended
    scene.end.append(scene.disk.repair)


def corrupt_ledger(scene: Scene) -> None:
    """The agent dies, and there are bytes of others in the ledger and in its log."""
    scene.life.kill()
    scene.life.process.wait()
    for name in ("ledger.db", "ledger.db-wal"):
        path = scene.device.home.path / name
        if path.exists():
            with path.open("r+b") as file:
                file.write(b"what a dying card makes of it" * 40)


def lock_ledger(scene: Scene) -> None:
    """Somebody else holds the ledger: it can't be written."""
    database = sqlite3.connect(
        scene.device.home.path / "ledger.db", isolation_level=None, check_same_thread=False
    )
    with suppress(sqlite3.OperationalError):
        database.execute("PRAGMA busy_timeout=2000")
        database.execute("BEGIN EXCLUSIVE")
    scene.end.append(database.close)


FAULTS: dict[str, Callable[[Scene], None]] = {
    "agent killed": kill_agent,
    "child killed": kill_child,
    "child hangs": hang_child,
    "child hangs for good": hang_child_for_good,
    "disk full": fill_disk,
    "disk read-only": fail_disk,
    "ledger corrupt": corrupt_ledger,
    "ledger locked": lock_ledger,
}


WITHOUT = frozenset(
    (step, "child hangs for good") for step in ("fetch", "verify", "stage", "commit")
)
"""What is not tried: a fetch may take an hour, and the others have no child that could hang."""


@dataclass
class Asker:
    """Asks the device for answers, as a client does, and remembers which version gave them."""

    answered: list[str] = field(default_factory=list)
    refused: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def ask(self, port: int) -> None:
        tensor = {"name": "x", "shape": [1, 64], "datatype": "INT8", "data": [0] * 64}
        body = json.dumps({"inputs": [tensor]})
        while not self._stop.wait(0.05):
            try:
                with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as line:
                    line.request("POST", "/v2/models/digits/infer", body)
                    answer = line.getresponse()
                    said = json.loads(answer.read())
            except (OSError, ValueError, http.client.HTTPException):
                continue  # the agent is gone: nobody there to refuse it
            if answer.status == 200:
                self.answered.append(said["model_version"])
            else:
                self.refused += 1

    @contextmanager
    def asking(self, life: Life) -> Iterator[None]:
        """Ask while the block lasts, from when the agent says where it serves."""
        thread = threading.Thread(target=self._when_it_serves, args=(life,))
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            self._stop.clear()

    def _when_it_serves(self, life: Life) -> None:
        while not self._stop.wait(0.01):
            if life.said and life.port is not None:
                self.ask(life.port)


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of a step under a fault; `wrong` is empty when all held."""

    step: str
    fault: str
    served: str
    settled: str
    transitions: int
    told: str
    wrong: str = ""

    def __str__(self) -> str:
        return f"{self.served}; {self.settled}; {self.transitions} transitions; {self.told or '-'}"


def hit(
    device: Subject, disk: Disk, step: str, fault: str, *, rng: random.Random, old: str
) -> Cell:
    """Do one fault to one step, and look what became of it."""
    bad = step == "roll-back"
    new = BAD if bad else GOOD[(GOOD.index(old) + 1) % len(GOOD)]
    device.lift()
    before = {(event.ledger, event.number) for event in device.events()}
    device.want(new, crashes=bad)
    scene = Scene(device, disk, device.start(), step)
    asker = Asker()
    with asker.asking(scene.life):
        came = _comes_to(scene, step)
        time.sleep(rng.uniform(0, 0.12))  # noqa: TID251  # the moment at which it is hit
        FAULTS[fault](scene)
        with suppress(subprocess.TimeoutExpired):
            scene.life.process.wait(LASTS_S)
        served = _served_without_its_disk(scene) if scene.needs_nobody else []
        for undo in scene.end:
            undo()
    lives = [scene.life]
    while (last := lives[-1]).end(scene.settles_s if len(lives) == 1 else 90) != 0 and len(
        lives
    ) < 4:
        lives.append(device.start())
        with asker.asking(lives[-1]), suppress(subprocess.TimeoutExpired):
            lives[-1].process.wait(90)
    served = [*lives[0].served, *served, *(one for life in lives[1:] for one in life.served)]
    wrong = _judged(
        device, asker, served, lives, {old, new}, came=came, may_refuse=bad or step in SERVED_BY_IT
    )
    events = [event for event in device.events() if event.revision == device.revision]
    news = [each for each in device.events() if (each.ledger, each.number) not in before]
    told = sorted({str(event.reason) for event in news if event.reason})
    return Cell(
        step=step,
        fault=fault,
        served=" ".join(dict.fromkeys(str(version) for version in served)),
        settled=last.ended or f"status {last.process.returncode}",
        transitions=len(events),
        told=", ".join(told),
        wrong=wrong,
    )


def _served_without_its_disk(scene: Scene) -> list[str | None]:
    """Kill the agent while its disk is read-only, and start it there: it must serve."""
    scene.life.kill()
    scene.life.end(30)
    life = scene.device.start()
    life.started.wait(START_LIMIT_S)  # a machine with much to do takes its time
    with suppress(subprocess.TimeoutExpired):
        life.process.wait(4)
    life.kill()
    life.end(30)
    return life.served or [None]


def _comes_to(scene: Scene, step: str) -> bool:
    """Wait until a step has begun; False when it went by unseen."""
    phases = {"verify": Phase.VERIFYING, "probation": Phase.PROBATION}
    deadline = time.monotonic() + 30  # noqa: TID251  # a program without a loop
    while time.monotonic() < deadline and scene.life.process.poll() is None:  # noqa: TID251  # as above
        if step in phases:
            now = scene.device.phase()
            if now == phases[step]:
                return True
            if now in {Phase.COMMITTED, Phase.ROLLED_BACK}:
                return False
            time.sleep(0.002)  # noqa: TID251  # as above
            continue
        with suppress(Exception):
            said = scene.life.steps.get(timeout=0.05)
            if said.get("action") == step:
                return True
    return False


def _judged(  # noqa: PLR0911  # a ladder of complaints, one return each
    device: Subject,
    asker: Asker,
    served: Sequence[str | None],
    lives: Sequence[Life],
    may: set[str],
    *,
    came: bool,
    may_refuse: bool,
) -> str:
    last = lives[-1]
    if not came:
        return "the step was never seen to begin"
    if not served or any(version not in may for version in served):
        return f"it served {served} when it started, and may serve {sorted(may)}"
    if not set(asker.answered) <= may:
        return f"it answered as {sorted(set(asker.answered))}"
    if asker.refused > (REFUSED_LIMIT if may_refuse else 0):
        return f"{asker.refused} requests were refused"
    if last.ended not in {Phase.COMMITTED, Phase.ROLLED_BACK}:
        return f"it did not settle: {last.process.returncode} {last.log[-2:]}"
    if any("Traceback" in line for life in lives for line in life.log):
        return f"a defect: {[line for life in lives for line in life.log if 'Error' in line][-1:]}"
    if sum(event.revision == device.revision for event in device.events()) > TRANSITIONS_LIMIT:
        return "too many transitions"
    return ""


@contextmanager
def device_on_a_disk(folder: Path) -> Iterator[tuple[Subject, Disk]]:
    """Make a device whose home is on a disk of its own, and that serves the first version."""
    disk = Disk(folder / "disk", folder / "mounted")
    disk.make()
    try:
        (folder / "world").mkdir()
        with subject(folder / "world", home=disk.mounted) as device:
            device.want("1.0.0")
            assert device.start().end(60) == 0
            _run("sync", "--file-system", str(disk.mounted))  # as a real join leaves a device
            yield device, disk
    finally:
        disk.unmount()


def table(cells: Sequence[Cell]) -> str:
    """Return them as Markdown: a step a row, a fault a column."""
    names = list(dict.fromkeys(cell.fault for cell in cells))
    by = {(cell.step, cell.fault): cell for cell in cells}
    lines = [["step", *names], ["---"] * (len(names) + 1)]
    for step in dict.fromkeys(cell.step for cell in cells):
        row = [by.get((step, fault)) for fault in names]
        lines.append([step, *("" if cell is None else _short(cell) for cell in row)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _short(cell: Cell) -> str:
    return f"WRONG: {cell.wrong}" if cell.wrong else str(cell)


def run(chosen: Sequence[tuple[str, str]], *, seed: int, tell: Progress) -> list[Cell]:
    """Hit each step with each fault that is chosen."""
    rng = random.Random(seed)  # noqa: S311  # to be the same again
    cells: list[Cell] = []
    with tempfile.TemporaryDirectory() as name, device_on_a_disk(Path(name)) as (device, disk):
        old = "1.0.0"
        for step, fault in chosen:
            cell = hit(device, disk, step, fault, rng=rng, old=old)
            cells.append(cell)
            tell(f"{step} x {fault}: {_short(cell)}")
            old = _serves(device) or old
    return cells


def _serves(device: Subject) -> str | None:
    """Return which version its ledger says it serves."""
    path = device.home.path / "ledger.db"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        (body,) = database.execute("SELECT body FROM deployment").fetchone()
    current = json.loads(body)["current"]
    return None if current is None else str(current["deployment"]["bundle"]["version"])


def main() -> int:
    """Fill the whole table; 0 when nothing is wrong in it."""
    parser = argparse.ArgumentParser(description="Hit each step with each fault.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--step", choices=STEPS, action="append")
    parser.add_argument("--fault", choices=tuple(FAULTS), action="append")
    arguments = parser.parse_args()
    chosen = [
        (step, fault)
        for step in arguments.step or STEPS
        for fault in arguments.fault or FAULTS
        if (step, fault) not in WITHOUT
    ]
    cells = run(chosen, seed=arguments.seed, tell=lambda line: print(line, flush=True))  # noqa: T201
    print(f"\n{table(cells)}")  # noqa: T201
    wrong = [cell for cell in cells if cell.wrong]
    print(f"\n{len(cells) - len(wrong)} of {len(cells)} right")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
