"""How the fleet is: what a person sees of each device, and that it is so."""

import asyncio

from fleet.demo.crew import ClaimError
from fleet.demo.stage import Stage
from fleet.demo.steps.setting import GOOD
from fleet.demo.wait import until

_CLAIM = "health"


async def health(stage: Stage) -> str:
    """Show each device: its version, runtime, latency quantiles, and when it was last heard."""

    async def well() -> dict[str, dict[str, object]] | None:
        devices = (await stage.look(_CLAIM, "devices"))["devices"]
        seen = {each["name"]: each for each in devices}
        fine = [
            each
            for each in devices
            if each["state"]["word"] == "ok"
            and [bundle["version"] for bundle in each["serves"]] == [GOOD]
            and each["numbers"]
            and each["numbers"]["requests"]
        ]
        return seen if len(fine) == len(stage.agents) else None

    await until(stage, _CLAIM, well, "not every device is ok, serves, and says how fast")
    async with asyncio.TaskGroup() as tasks:
        shown = [
            tasks.create_task(stage.crew.run(_CLAIM, stage.skerry(*words)), name=" ".join(words))
            for words in (("fleet", "status"), ("device", "ls"))
        ]
    stage.screens = [task.result() for task in shown]
    listed = stage.screens[-1]
    for agent in stage.agents:
        row = next((line for line in listed.splitlines() if agent.name in line.split()), "")
        if GOOD not in row:
            raise ClaimError(_CLAIM, f"`skerry device ls` says of {agent.name}: {row!r}")
    return f"{len(stage.agents)} devices are ok on {GOOD}: their numbers of the last second"
