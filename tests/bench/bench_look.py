"""What a look at a large fleet costs: `python -m tests.bench.bench_look [DEVICES]`.

Prints, for a fleet that is seen first, at rest, after ten seconds of its health, after it fell
silent, and after half of it reported something else: how long the look took, of how much CPU, and
the ratio to ten seconds, within which health is to be answered.
"""

import datetime as dt
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fleet.clock import written
from fleet.health.headcount import Headcount
from fleet.roll import Roll
from fleet.store import arrivals
from fleet.store.engine import Store
from tests.bench.bench_alerts import fill, say
from tests.fleet.deciding.paper import NOW
from tests.fleet.screens.village import FLEET

LIMIT_S = 10.0
PERIOD_S = 60.0
_BATCH = 500


def main() -> None:
    """Print what looks cost."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "store.db")
        fill(store, count)
        now = NOW
        roll, headcount = Roll(store, FLEET), Headcount()

        def look() -> None:
            headcount.take((each.heard for each in roll.call()), now)
            headcount.cells()
            headcount.spread()
            headcount.judged()

        def measured(what: str, do: Callable[[], None] = look) -> None:
            began, spent = time.perf_counter(), time.process_time()
            do()
            took, cpu = time.perf_counter() - began, time.process_time() - spent
            say(f"{what:<56} {took:6.2f} s, CPU {cpu:6.2f} s, of 10 s {took / LIMIT_S:5.2f}")

        def inventory() -> None:
            roll.inventory()

        measured(f"{count:,} devices, seen first")
        measured("nothing has changed")
        speaking = int(count * LIMIT_S / PERIOD_S)
        now += dt.timedelta(seconds=10)
        health = {each.device.id: each.feels for each in roll.call()}
        began, spent = time.perf_counter(), time.process_time()
        ids = [f"d-x{number}" for number in range(1, speaking)]
        for start in range(0, len(ids), _BATCH):
            batch = [
                held.document for each in ids[start : start + _BATCH] if (held := health[each])
            ]
            with store.write() as connection:
                arrivals.commit(connection, batch, now=written(now))
        say(
            f"  (to write these {speaking:,}: {time.perf_counter() - began:.2f} s,"
            f" CPU {time.process_time() - spent:.2f} s)"
        )
        measured(f"{speaking:,} have told how they feel: ten seconds' worth")
        told = {each.device.id: each.told for each in roll.call()}
        with store.write() as connection:
            for number in range(1, count // 2):
                report = told[f"d-x{number}"]
                if report is not None:
                    arrivals.commit(connection, [report.document], now=written(now))
        measured(f"{count // 2:,} have reported")
        measured("the same as the value that planning reads", inventory)
        now += dt.timedelta(hours=1)
        measured("nobody has spoken for an hour")
        say(f"resident: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB")
        store.close()


if __name__ == "__main__":
    main()
