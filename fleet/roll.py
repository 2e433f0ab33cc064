"""Who is in the fleet, and all that is known of each: read once, then kept in memory.

Reading every document of 100,000 devices takes 20 s; those that one minute brings, three. So the
roll asks the store which part of which device was written since (`fleet.store.touched`), and reads
these parts alone. What it holds is what reading everything anew would give (a test compares them).

One roll serves everybody who looks at the whole fleet: the executor, the pages, alerts, metrics.
It reads in transactions of its own, so that it never holds what was not committed. Blocking.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import Any

from sqlalchemy import Connection

from fleet.inventory import Inventory
from fleet.known import Known, known_among, read
from fleet.store import desired, devices, drift, health, presence, reported, touched
from fleet.store.engine import Store
from fleet.store.touched import Part

EPOCH = 0
"""The epoch of a fleet that never lost its store."""

_AT_ONCE = 500
"""Ids in one query: an engine bounds them."""


PATIENCE_S = 5.0
"""How long somebody who asks waits for the first reading: what they use has patience, too."""


class RollUnreadError(Exception):
    """The centre is still reading its fleet: so many devices, of so many."""

    def __init__(self, read: int, devices: int) -> None:
        super().__init__(f"the centre has just begun: it has read {read:,} of {devices:,} devices")


class Roll:
    """Keeps what the store holds of every device of a fleet."""

    def __init__(self, store: Store, fleet: str) -> None:
        self.fleet = fleet
        self._store = store
        self._lock = threading.Lock()
        self._number = -1
        self._progress = (0, 0)
        self._known: dict[str, Known] = {}
        self._called: tuple[Known, ...] = ()
        self._inventory: Inventory | None = None

    def call(self, *, patience_s: float | None = PATIENCE_S) -> Sequence[Known]:
        """Return what is known of every device now, by name, then id.

        Of whom nothing was written since the last call, it is the very same value.

        Args:
            patience_s: how long to wait while somebody else reads the fleet for the first time;
                None: as long as it takes.

        Raises:
            RollUnreadError: the fleet is still being read for the first time.
        """
        with self._read(patience_s):
            return self._called

    def inventory(self, *, patience_s: float | None = PATIENCE_S) -> Inventory:
        """Return the fleet as the store last saw it, as the value that planning reads.

        Raises:
            RollUnreadError: as `call`.
        """
        with self._read(patience_s):
            if self._inventory is None:
                targets = tuple(each.heard.target for each in self._called)
                self._inventory = Inventory(fleet=self.fleet, targets=targets, epoch=EPOCH)
            return self._inventory

    @contextmanager
    def _read(self, patience_s: float | None) -> Iterator[None]:
        """Read what was written since, and let nobody else until the block ends."""
        wait_s = -1 if patience_s is None or self._number >= 0 else patience_s
        if not self._lock.acquire(timeout=wait_s):
            raise RollUnreadError(*self._progress)
        try:
            self._read_on()
            yield
        finally:
            self._lock.release()

    def _read_on(self) -> None:
        with self._store.read() as connection:
            number = touched.head(connection)
            if number == self._number:
                return
            if self._number < 0:
                self._read_all(connection)
            else:
                self._read_since(connection)
        self._number = number
        self._called = tuple(self._known.values())
        self._inventory = None

    def _read_all(self, connection: Connection) -> None:
        every = devices.every(connection)
        for start in range(0, len(every), _AT_ONCE):
            self._progress = (start, len(every))
            for each in known_among(connection, every[start : start + _AT_ONCE]):
                self._known[each.device.id] = each

    def _read_since(self, connection: Connection) -> None:
        parts: dict[str, dict[str, Any]] = {}
        written = sorted(touched.since(connection, self._number), key=lambda each: each[1])
        for part, group in groupby(written, key=lambda each: each[1]):
            ids = [device for device, _ in group]
            for start in range(0, len(ids), _AT_ONCE):
                some = ids[start : start + _AT_ONCE]
                found = _found(connection, part, some)
                for device in some:
                    if device in found:
                        parts.setdefault(device, {})[_FIELDS[part]] = found[device]
        joined = False
        for device, fields in parts.items():
            before = self._known.get(device)
            if before is not None:
                self._known[device] = replace(before, **fields)
            elif "device" in fields:  # one that was there wrote no other part before it joined
                self._known[device] = Known(**fields)
                joined = True
        if joined:
            order = sorted(self._known.items(), key=lambda each: (each[1].device.name, each[0]))
            self._known = dict(order)


_FIELDS: Mapping[Part, str] = {
    Part.DEVICE: "device",
    Part.PRESENCE: "seen",
    Part.REPORTED: "told",
    Part.DESIRED: "wanted",
    Part.HEALTH: "feels",
    Part.DRIFT: "drifts",
}


def _found(connection: Connection, part: Part, ids: Sequence[str]) -> Mapping[str, object]:
    """Return this part of these devices, by device."""
    match part:
        case Part.DEVICE:
            return {each.id: each for each in devices.among(connection, ids)}
        case Part.PRESENCE:
            return presence.among(connection, ids)
        case Part.REPORTED:
            return {each.document.device: each for each in reported.among(connection, ids)}
        case Part.DESIRED:
            return {each.target: read(each) for each in desired.among(connection, ids)}
        case Part.HEALTH:
            return {each.document.device: each for each in health.among(connection, ids)}
        case Part.DRIFT:
            drifts = drift.among(connection, ids)
            return {device: drifts.get(device, ()) for device in ids}
