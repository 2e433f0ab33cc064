"""Looks at the fleet for who scrapes: beside the scrapes, and only while there are any.

Rules:
- A scrape never waits for a look, but for the first: it gets what the last one found, and
  `skerry_fleet_look_timestamp_seconds` says how old that is.
- The look at the devices is the one that the page has (`fleet.page.glance`), so that a fleet is
  looked at once for everybody, and a large one not without pause.
- A store that can't be read now leaves what was found before; its age then grows.
"""

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from cryptography import x509
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import OperationalError

from fleet.api.glance import Glance
from fleet.clock import written
from fleet.identity.places import Home
from fleet.metrics.census import Census
from fleet.metrics.courses import Courses
from fleet.metrics.families import Sheet
from fleet.metrics.slots import Key
from fleet.metrics.tally import Tally
from fleet.roll import RollUnreadError
from fleet.store.engine import Store
from fleet.store.tables import audit, bundles, devices

PERIOD_S = 5.0
"""Between two looks; half of the shortest scrape interval in common use."""

IDLE_S = 300.0
"""Without a scrape for so long, nobody looks: five of the longest interval in common use."""

FIRST_S = 2.0
"""How long a scrape waits for the first look: of Prometheus's own patience (10 s) little."""

_BUNDLES_KNOWN = 1000
_WITHIN = {"7d": timedelta(days=7), "30d": timedelta(days=30)}

log = structlog.get_logger("fleet.metrics")


class Watch:
    """`run()` until cancelled; `sheets()` is what is known now."""

    def __init__(
        self,
        *,
        glance: Glance,
        store: Store,
        home: Home,
        clock: Callable[[], datetime],
        tally: Tally,
    ) -> None:
        self._glance = glance
        self._store = store
        self._home = home
        self._clock = clock
        self._tally = tally
        self._census = Census(tally.named)
        self._courses = Courses(tally.named)
        self._audited: Counter[Key] = Counter()
        self._audited_to: int | None = None
        self._sheets: tuple[Sheet, ...] = ()
        self._asked = 0.0
        self._wanted = asyncio.Event()
        self._fresh = asyncio.Event()

    async def run(self) -> None:
        """Look while somebody scrapes."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wanted.wait()
            if loop.time() - self._asked > IDLE_S:
                self._wanted.clear()
                self._fresh.clear()
                continue
            try:
                self._sheets = await asyncio.to_thread(self._look)
            except RollUnreadError:
                continue  # the fleet is large, and the centre has just begun: nothing is known yet
            except OperationalError as error:
                log.warning("the store can't be read for metrics now", why=str(error.orig))
            self._fresh.set()
            await asyncio.sleep(PERIOD_S)

    async def sheets(self) -> Sequence[Sheet]:
        """Return what the last look found."""
        self._asked = asyncio.get_running_loop().time()
        self._wanted.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                await self._fresh.wait()
        return self._sheets

    @property
    def overflow(self) -> Mapping[str, int]:
        """How often something found no slot."""
        return self._courses.overflow

    def _look(self) -> tuple[Sheet, ...]:
        judged = [(known.heard, told) for known, told in self._glance.look().every]
        now = self._clock()
        with self._store.read() as connection:
            published = _published(connection)
            counted, lost = self._census.take(judged, now, list(published.values()))
            self._tally.know(published, lost)
            moving = self._courses.look(connection, now)
            kept = self._kept(connection, now)
        return counted, moving, kept, self._places()

    def _kept(self, connection: Connection, now: datetime) -> Sheet:
        """Count what only the store knows, by queries that read one column."""
        expiring: Mapping[Key, float] = {
            (within,): connection.execute(
                select(func.count()).where(devices.c.certificate_expires_at < written(now + span))
            ).scalar_one()
            for within, span in _WITHIN.items()
        }
        last = connection.execute(select(func.coalesce(func.max(audit.c.number), 0))).scalar_one()
        if self._audited_to is None:  # what was before the centre began is no event of this process
            self._audited_to = last
        new = (
            select(audit.c.action, func.count())
            .where(audit.c.number > self._audited_to, audit.c.number <= last)
            .group_by(audit.c.action)
        )
        self._audited.update({(row[0],): row[1] for row in connection.execute(new)})
        self._audited_to = last
        return {
            "skerry_fleet_certificates_expiring": expiring,
            "skerry_audit_events_total": dict(self._audited),
        }

    def _places(self) -> Sheet:
        log_of = self._home.store.with_name(f"{self._home.store.name}-wal")
        return {
            "skerry_store_size_bytes": {(): sum(map(_size, (self._home.store, log_of)))},
            "skerry_store_free_bytes": {(): shutil.disk_usage(self._home.path).free},
            "skerry_trust_expiry_timestamp_seconds": {
                (role,): ends
                for role, path in (
                    ("ca", self._home.ca),
                    ("server", self._home.server),
                    ("centre", self._home.centre),
                )
                if (ends := _ends(path)) is not None
            },
        }


def _published(connection: Connection) -> Mapping[str, Key]:
    """Return bundles by digest, the newest first: name and version."""
    query = (
        select(bundles.c.digest, bundles.c.name, bundles.c.version)
        .order_by(bundles.c.published_at.desc())
        .limit(_BUNDLES_KNOWN)
    )
    return {row.digest: (row.name, row.version) for row in connection.execute(query)}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _ends(path: Path) -> float | None:
    """Return when a certificate ends; None: it can't be read, which `skerry doctor` explains."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None
    return certificate.not_valid_after_utc.timestamp()
