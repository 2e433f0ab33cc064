"""How the fleet is: each device says so itself, once more after all that happened to it."""

from typing import Any

from fleet.demo.stage import Stage
from fleet.demo.steps.rolling import check_answers
from fleet.demo.steps.setting import GOOD
from fleet.demo.wait import until

_CLAIM = "health"
_LIMIT_S = 20.0


async def health(stage: Stage) -> str:
    """Wait until each device was heard once more: it is ok, serves, and says how fast.

    Nobody was refused to the end.
    """
    before = {each["name"]: each["heard_at"] for each in await _devices(stage)}

    async def well() -> list[dict[str, Any]] | None:
        stage.check_load(_CLAIM)
        devices = await _devices(stage)
        fine = [_is_fine(each) and each["heard_at"] > before[each["name"]] for each in devices]
        return devices if all(fine) else None

    stage.devices = await until(
        stage, _CLAIM, well, f"not every device is heard, ok and on {GOOD}", limit_s=_LIMIT_S
    )
    heard = stage.load.take()
    check_answers(stage, _CLAIM, heard, dict.fromkeys(heard, (GOOD,)))
    asked = sum(each["numbers"]["requests"] for each in stage.devices)
    slowest = max(each["numbers"]["p99_s"] for each in stage.devices)
    return (
        f"{len(stage.devices)} devices are ok on {GOOD}; each says so every second: "
        f"{asked} requests in the last one, p99 at most {1000 * slowest:.1f} ms"
    )


async def _devices(stage: Stage) -> list[dict[str, Any]]:
    found = await stage.look(_CLAIM, "devices")
    stage.as_of = found["as_of"]
    return list(found["devices"])


def _is_fine(device: dict[str, Any]) -> bool:
    """Say whether a device is ok, serves the good version, and has answered lately."""
    serves = [bundle["version"] for bundle in device["serves"]]
    numbers = device["numbers"]
    told = numbers is not None and numbers["requests"] and numbers["p99_s"] is not None
    return bool(device["state"]["word"] == "ok" and serves == [GOOD] and told)
