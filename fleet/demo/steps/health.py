"""How the fleet is: each device says so itself, again after all that happened to it."""

from datetime import datetime
from typing import Any

from fleet.demo.crew import ClaimError
from fleet.demo.stage import Stage
from fleet.demo.steps.rolling import check_answers
from fleet.demo.steps.setting import BAD, GOOD
from fleet.demo.wait import until

_CLAIM = "health"
_LIMIT_S = 20.0
_WENT_BACK = "SkerryRolloutRolledBack"
_WATCHED_S = 2.0
"""Each must be heard so much later: what was under way when the step began shows nothing."""


async def health(stage: Stage) -> str:
    """Watch until each device was heard a while later: it is ok, serves, and says how fast.

    Nobody was refused to the end, and of the rollout that went back there is one alert.
    """
    before = {each["name"]: _heard(each) for each in await _devices(stage)}

    async def well() -> list[dict[str, Any]] | None:
        stage.check_load(_CLAIM)
        devices = await _devices(stage)
        fine = [
            _is_fine(each) and _heard(each) >= before[each["name"]] + _WATCHED_S for each in devices
        ]
        return devices if all(fine) else None

    async def told() -> list[dict[str, Any]] | None:
        alerts = (await stage.look(_CLAIM, "alerts", rule=_WENT_BACK))["alerts"]
        return alerts or None

    stage.devices = await until(
        stage, _CLAIM, well, f"not every device is heard, ok and on {GOOD}", limit_s=_LIMIT_S
    )
    alerts = await until(
        stage, _CLAIM, told, f"there is no alert of {BAD}, which went back", limit_s=_LIMIT_S
    )
    if len(alerts) != 1:
        titles = "; ".join(alert["title"] for alert in alerts)
        raise ClaimError(
            _CLAIM, f"one rollout went back, and {len(alerts)} alerts say so: {titles}"
        )
    heard = stage.load.take()
    check_answers(stage, _CLAIM, heard, dict.fromkeys(heard, (GOOD,)))
    asked = sum(each["numbers"]["requests"] for each in stage.devices)
    slowest = max(each["numbers"]["p99_s"] for each in stage.devices)
    return (
        f"{len(stage.devices)} devices are ok on {GOOD}; each says so every second: "
        f"{asked} requests in the last one, p99 at most {1000 * slowest:.1f} ms; one alert says "
        f"that {BAD} went back"
    )


async def _devices(stage: Stage) -> list[dict[str, Any]]:
    found = await stage.look(_CLAIM, "devices")
    stage.as_of = found["as_of"]
    return list(found["devices"])


def _heard(device: dict[str, Any]) -> float:
    """Return when a device was last heard, by the centre's clock."""
    return datetime.fromisoformat(device["heard_at"]).timestamp()


def _is_fine(device: dict[str, Any]) -> bool:
    """Say whether a device is ok, serves the good version, and has answered lately."""
    serves = [bundle["version"] for bundle in device["serves"]]
    numbers = device["numbers"]
    told = numbers is not None and numbers["requests"] and numbers["p99_s"] is not None
    return bool(device["state"]["word"] == "ok" and serves == [GOOD] and told)
