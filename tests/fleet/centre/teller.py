"""Another centre, as far as it tells: `python -m tests.fleet.centre.teller STORE FILE`."""

import asyncio
import sys
from pathlib import Path

from fleet import clock
from fleet.receivers.delivery import Delivery
from fleet.store.engine import Store


async def _publish(topic: str, payload: bytes) -> None:
    raise RuntimeError(f"no receiver of this file is told by MQTT: {topic}, {len(payload)} bytes")


async def tell(store: Store, file: Path) -> None:
    """Tell whoever a file names, and anew at every line that comes in."""
    made = Delivery(fleet="north-sea", store=store, clock=clock.now, file=file, publish=_publish)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(made.run())
        while await asyncio.to_thread(sys.stdin.readline):
            made.wake()


if __name__ == "__main__":
    asyncio.run(tell(Store.open(Path(sys.argv[1])), Path(sys.argv[2])))
