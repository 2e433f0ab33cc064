"""What looking out for alerts costs: `python -m tests.bench.bench_alerts [DEVICES]`."""

import datetime as dt
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Table, insert, select, update

from fleet.clock import written
from fleet.lookout import Lookout
from fleet.roll import Roll
from fleet.store import alerts, touched
from fleet.store.engine import Store
from fleet.store.tables import desired, devices, health, presence, reported, sites
from tests.fleet.deciding.paper import NOW
from tests.fleet.screens.village import FLEET, Villager, settle


def fill(store: Store, count: int, per_site: int = 400) -> None:
    settle(store, (Villager(name="b-0", site="s"),))
    with store.read() as connection:
        rows = {
            table: dict(connection.execute(select(table)).mappings().one())
            for table in (devices, presence, reported, desired, health)
        }
    with store.write() as connection:
        connection.execute(
            insert(sites),
            [
                {"id": f"s-{n}", "name": f"site-{n}", "created_at": "2026-02-26T07:30:00Z"}
                for n in range(count // per_site + 1)
            ],
        )
        for table, row in rows.items():

            def of(
                number: int, row: dict[str, Any] = row, table: Table = table
            ) -> dict[str, object]:
                name = f"d-x{number}"
                changed = {
                    key: value.replace(b'"d-1"', f'"{name}"'.encode())
                    if isinstance(value, bytes)
                    else value
                    for key, value in row.items()
                }
                for key in ("id", "device", "target"):
                    if key in changed:
                        changed[key] = name
                if "position" in changed:
                    changed["position"] = 1000 + number
                if table is devices:
                    changed |= {"name": f"b-{number}", "site": f"s-{number // per_site}"}
                return changed

            connection.execute(insert(table), [of(number) for number in range(1, count)])
        for number in range(1, count):
            for part in touched.Part:
                touched.note(connection, part, f"d-x{number}")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Print what a first look costs, one at a fleet at rest, and one after part of it spoke."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "store.db")
        fill(store, count)
        now = [NOW]
        lookout = Lookout(
            store=store,
            roll=Roll(store, FLEET),
            clock=lambda: now[0],
            connected=lambda: True,
            certificates={},
            changed=lambda: None,
        )

        def measured(what: str) -> None:
            began, spent = time.perf_counter(), time.process_time()
            lookout.look()
            took, cpu = time.perf_counter() - began, time.process_time() - spent
            say(f"{what:<60} {took:6.2f} s, of CPU {cpu:6.2f} s")

        measured(f"{count:,} devices, the first look")
        now[0] += dt.timedelta(seconds=5)
        measured("nothing has changed")
        spoke = count // 6  # in ten seconds of a minute's period
        with store.write() as connection:
            connection.execute(
                update(health)
                .where(health.c.device.in_([f"d-x{n}" for n in range(1, spoke)]))
                .values(received_at=written(now[0]))
            )
            for number in range(1, spoke):
                touched.note(connection, touched.Part.HEALTH, f"d-x{number}")
        now[0] += dt.timedelta(seconds=5)
        measured(f"{spoke:,} have told how they feel: well")
        with store.write() as connection:
            connection.execute(update(presence).values(online=False, since=written(now[0])))
            for number in range(1, count):
                touched.note(connection, touched.Part.PRESENCE, f"d-x{number}")
        now[0] += dt.timedelta(seconds=5)
        measured("every device is gone")
        with store.read() as connection:
            live = alerts.live(connection, now[0])
        cause = live[0].cause
        say(f"{len(live)} alert(s): {cause.devices:,} devices at {cause.places} places")
        now[0] += dt.timedelta(seconds=60)
        measured("and a minute later")
        say(f"resident: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB")
        store.close()


if __name__ == "__main__":
    main()
