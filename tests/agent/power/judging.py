"""What must be true of a device after a power cut, asked of every image that one may leave.

- The ledger opens and is not put aside. It holds what it held when its last transaction
  returned before the cut, or what the one under way then made of it: exactly that.
- Nothing the centre was told is unknown to it: events and sessions are numbered on, the
  generation that was reported is held, and a revision that was reported settled is.
- The store opens, and what its index names is whole.
- What the ledger says serves, or is to serve again, or was verified, is whole in the store,
  each byte of it: something serves at the next start.

The ledger's files and the store are judged apart, each different one once, and then every
image by the pair it is made of.
"""

import shutil
import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.ledger import open_ledger
from agent.ledger_file import LedgerError
from agent.state import Record
from agent.wire.phases import SETTLED, Phase
from models import bundle
from models.errors import ModelError
from models.layout import Layout
from models.values import Digest
from tests.agent.device.mortal import NAME
from tests.agent.device.world import DEVICE, FLEET
from tests.agent.power.disk import Disk, Files
from tests.agent.power.program import content_of
from tests.agent.power.recording import Marked, Operation, Recording, Synced

LEDGER = "ledger.db"
STORE = "store"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What the ledger of an image says; `wrong` when it says nothing."""

    wrong: str = ""
    content: str = ""
    id: str = ""
    told: int = 0
    session: int = 0
    generation: int = 0
    record: Record | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Which bundles are whole in the store of an image; `wrong` when it can't be used."""

    wrong: str = ""
    whole: frozenset[str] = frozenset()


@dataclass(slots=True)
class Image:
    """What a cut may leave, and after how many operations at the earliest and the latest."""

    files: Files
    cuts: list[int] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    store: Store = field(default_factory=Store)
    wrong: str = ""


@dataclass(slots=True)
class Judgement:
    """Every different image, and how many there were of what."""

    disk: Disk
    images: list[Image] = field(default_factory=list)
    operations: int = 0
    built: int = 0
    ledgers: int = 0
    stores: int = 0

    @property
    def broken(self) -> list[Image]:
        return [each for each in self.images if each.wrong]


def without(recording: Recording, taken: Callable[[Synced], bool]) -> Recording:
    """Return a recording of a device that had left out some syncs."""
    left: list[Operation] = []
    places: list[int] = []
    for each in recording.operations:
        places.append(len(left))
        if not isinstance(each, Synced):
            left.append(each)
        elif not taken(each):
            since = places[each.since] if each.since < len(places) else len(left)
            left.append(replace(each, since=since))
    return Recording(recording.before, recording.contents, left)


class Judge:
    """Looks at images, in a folder of its own."""

    def __init__(self, folder: Path, bundles: Mapping[str, str]) -> None:
        """Take `bundles`, of which the versions by digest are known."""
        self._folder, self._bundles = folder, bundles
        self._ledgers: dict[Files, Ledger] = {}
        self._stores: dict[Files, Store] = {}

    def judge(self, recording: Recording, *, until: str | None = None) -> Judgement:
        """Build every image of a recording and judge each different one; stop at a harm."""
        disk = Disk(recording)
        judgement = Judgement(disk)
        judgement.operations = sum(not isinstance(each, Marked) for each in recording.operations)
        promises = _Promises(recording)
        images: dict[Files, Image] = {}
        found: list[Image] = []
        ledgers, stores = set(), set()
        for count, operation in enumerate((None, *recording.operations)):
            if operation is not None:
                disk.do(operation)
            if not isinstance(operation, Marked):
                built = list(disk.images())
                judgement.built += len(built)
                found = [images.setdefault(each, Image(each)) for each in set(built)]
            for image in found:
                if not image.cuts:
                    judgement.images.append(image)
                    mine, rest = _parts(image.files)
                    ledgers.add(mine)
                    stores.add(rest)
                    image.ledger = self._ledger(disk, mine)
                    image.store = self._store(disk, rest)
                    image.wrong = image.ledger.wrong or image.store.wrong or self._pair(image)
                image.cuts.append(count)
                image.wrong = image.wrong or promises.broken_by(image.ledger, count)
                if until is not None and image.wrong == until:
                    return judgement
        judgement.ledgers, judgement.stores = len(ledgers), len(stores)
        return judgement

    def materialise(self, disk: Disk, files: Files, home: Path) -> None:
        """Write an image."""
        home.mkdir(parents=True)
        for path, digest in files:
            if digest:
                (home / path).write_bytes(disk.content(digest))
            else:
                (home / path).mkdir()

    def _ledger(self, disk: Disk, files: Files) -> Ledger:
        if files not in self._ledgers:
            home = self._folder / "image"
            self.materialise(disk, files, home)
            self._ledgers[files] = _look_at_ledger(home / LEDGER)
            shutil.rmtree(home)
        return self._ledgers[files]

    def _store(self, disk: Disk, files: Files) -> Store:
        if files not in self._stores:
            home = self._folder / "image"
            self.materialise(disk, files, home)
            self._stores[files] = _look_at_store(home / STORE, frozenset(self._bundles))
            shutil.rmtree(home)
        return self._stores[files]

    def _pair(self, image: Image) -> str:
        record = image.ledger.record
        if record is None:
            return ""
        for why, digest in _needed(record):
            if digest not in image.store.whole:
                return f"{why} {self._bundles[digest]} and the store has no such bundle"
        return ""


def _needed(record: Record) -> Iterator[tuple[str, str]]:
    if record.current is not None:
        yield "it should serve", record.current.digest
    if record.previous is not None and record.phase in {Phase.PROBATION, Phase.ROLLING_BACK}:
        yield "it may go back to", record.previous.digest
    if record.phase in {Phase.STAGING, Phase.TESTING, Phase.ACTIVATING}:
        yield "it has verified", record.wanted.bundle.digest


def _parts(files: Files) -> tuple[Files, Files]:
    """Return the ledger's files, and the store's."""
    ledger = tuple(each for each in files if each[0].startswith(LEDGER))
    store = tuple(each for each in files if each[0].split("/")[0] == STORE)
    return ledger, store


def _look_at_ledger(path: Path) -> Ledger:
    try:
        ledger = open_ledger(path, fleet=FLEET, device=DEVICE)
    except LedgerError as error:
        return Ledger(wrong=f"the ledger does not open: {error}")
    try:
        if ledger.moved_aside is not None:
            return Ledger(wrong="the ledger is damaged")
        held = ledger.held("desired")
        return Ledger(
            content=content_of(ledger._database),
            id=ledger.id,
            told=ledger.told,
            session=ledger.session,
            generation=held.held.order.generation if held else 0,
            record=ledger.records.get(NAME),
        )
    except sqlite3.DatabaseError:
        return Ledger(wrong="the ledger is damaged")
    finally:
        ledger.close()


def _look_at_store(path: Path, bundles: frozenset[str]) -> Store:
    try:
        layout = Layout.create(path)
        for each in layout.entries():
            if not layout.has_whole(each.digest):
                return Store(wrong="the index names what is not there")
    except ModelError as error:
        return Store(wrong=f"the store does not open: {error}".replace(f"{path}/", ""))
    return Store(whole=frozenset(each for each in bundles if _whole(layout, Digest(each))))


def _whole(layout: Layout, digest: Digest) -> bool:
    try:
        bundle.read(layout, digest)
    except ModelError:
        return False
    return True


class _Promises:
    """What was promised by when."""

    def __init__(self, recording: Recording) -> None:
        self._durable: list[tuple[int, str]] = []
        self._told: list[tuple[int, dict[str, Any]]] = []
        for at, each in enumerate(recording.operations):
            if isinstance(each, Marked) and "durable" in each.said:
                self._durable.append((at, each.said["durable"]))
            elif isinstance(each, Marked) and "told" in each.said:
                self._told.append((at, each.said))

    def broken_by(self, ledger: Ledger, cut: int) -> str:
        """Return which promise of before the cut a ledger does not keep."""
        if ledger.wrong:
            return ledger.wrong
        done = bisect_left(self._durable, cut, key=lambda each: each[0])
        may_hold = {content for _, content in self._durable[max(0, done - 1) : done + 1]}
        if done and ledger.content not in may_hold:
            return "the ledger has lost what it had written, or has half of it"
        for at, said in self._told:
            if at < cut and (why := _forgotten(ledger, said)):
                return why
        return ""


def _forgotten(ledger: Ledger, said: dict[str, Any]) -> str:
    match said["told"]:
        case "event":
            if said["ledger"] != ledger.id or ledger.told < said["number"]:
                return f"event {said['number']} was told, and its number is free again"
        case "session":
            if said["session"] > ledger.session:
                return f"session {said['session']} was told, and its number is free again"
        case "reported":
            if said["generation"] > ledger.generation:
                return f"generation {said['generation']} was told, and is not held"
            for revision, phase in said["deployments"]:
                if _behind(ledger.record, revision, Phase(phase)):
                    return f"revision {revision} was told to be {phase}, and is no longer"
        case unknown:
            raise ValueError(unknown)
    return ""


def _behind(record: Record | None, revision: int, phase: Phase) -> bool:
    if record is None or record.wanted.revision < revision:
        return True
    return record.wanted.revision == revision and phase in SETTLED and not record.settled
