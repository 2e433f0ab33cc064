"""The rollouts: a first version for all, a better one by waves, and a bad one that goes back.

From the second on, clients ask every device all the time. What they may be
answered is known: each device's answers of each version, asked for when it was
known to serve it.
"""

import asyncio
import json
from collections.abc import Collection, Mapping
from http.client import HTTPException
from typing import Any

from fleet.demo.client import Answer, AnswerError, Endpoint, ask_all, describe
from fleet.demo.crew import ClaimError
from fleet.demo.ledger import read
from fleet.demo.load import Heard, Load, check_no_failure
from fleet.demo.stage import Agent, Stage
from fleet.demo.steps.setting import BAD, GOOD, VERSIONS
from fleet.demo.wait import until

FIRST = VERSIONS[0]

_TOLERANCE = 0.005
"""By how much an accuracy through the wire may miss the measured one (share of the held-back rows).

The same file answers a last bit differently on another architecture; three of
540 rows is what that may flip.
"""

_PROBES = 24
_ENOUGH = 10  # answers of each device before and after what is shown
_SOAK_S = 1
_ROLLOUT_S = 60.0
_ENDED = ("done", "rolled-back", "failed", "aborted", "superseded", "paused")
_ACTIVE = ("probation", "committed", "rolling-back", "rolled-back")
"""Phases of a revision that serves, or has served."""


async def deploy(stage: Stage) -> str:
    """Roll the first version out to every device, all at once; ask each for every row."""
    rollout = await _roll(stage, "deploy", FIRST, "--policy", "all-at-once")
    if rollout["state"] != "done":
        raise ClaimError("deploy", _ended_otherwise(rollout))
    right = await _measure(stage, "deploy", FIRST)
    return (
        f"digits {FIRST} serves on {len(stage.agents)} devices, each by its golden vectors first; "
        f"{stage.given:,} answers, {right}"
    )


async def waves(stage: Stage) -> str:
    """Roll a better version out, a canary of each class first, while clients never stop asking."""
    endpoints = {agent.name: await _described(agent, "waves") for agent in stage.agents}
    rows, _ = stage.held_back()
    stage.load = Load(endpoints, rows[:_PROBES], asyncio.get_running_loop().time)
    await enough(stage, "waves", [agent.name for agent in stage.agents])
    rollout = await _roll(stage, "waves", GOOD, "--policy", "careful", "--soak", str(_SOAK_S))
    if rollout["state"] != "done" or any(wave["state"] != "passed" for wave in rollout["waves"]):
        raise ClaimError("waves", _ended_otherwise(rollout))
    classes = {target["class_name"] for target in rollout["targets"]}
    sizes = [wave["targets"] for wave in rollout["waves"]]
    if sizes[0] != len(classes) or sum(sizes) != len(stage.agents):
        raise ClaimError("waves", f"{len(classes)} classes, and waves of {sizes}")
    right = await _measure(stage, "waves", GOOD)
    await enough(stage, "waves", [agent.name for agent in stage.agents])
    heard = stage.load.take()
    count = check_answers(stage, "waves", heard, dict.fromkeys(heard, (FIRST, GOOD)))
    return (
        f"{FIRST} -> {GOOD} in waves of {', '.join(map(str, sizes))}, a canary of each class "
        f"first; {right}; {count:,} requests meanwhile, 0 failed"
    )


async def bad_model(stage: Stage) -> str:
    """Roll out a model that a canary's golden vectors refuse: all are back by themselves."""
    claim = "bad model"
    rollout = await _roll(stage, claim, BAD, "--policy", "careful", "--soak", str(_SOAK_S))
    cause = rollout["cause"] or {"code": "nothing", "parameters": {}}
    if (rollout["state"], cause["code"]) != ("rolled-back", "CANARY_FAILED"):
        raise ClaimError(claim, _ended_otherwise(rollout))
    told = cause["parameters"]
    canaries = {each["name"] for each in rollout["targets"] if each["wave"] == 1}
    refused, why = told["target"], told["cause"]
    if refused not in canaries or why != "GOLDEN_MISMATCH":
        raise ClaimError(claim, f"{refused} failed with {why}; canaries were {sorted(canaries)}")
    other = stage.options.tflite_python
    if other is not None and "tflite" not in told["class_name"]:
        raise ClaimError(claim, f"{refused} is of the class {told['class_name']}")
    activated = await _who_activated(stage, claim, rollout["bundle"]["digest"])
    if not activated <= canaries - {refused}:
        raise ClaimError(claim, f"{', '.join(sorted(activated - canaries) or [refused])} served it")
    await _check_as_before(stage, claim)
    await enough(stage, claim, [agent.name for agent in stage.agents])
    heard = stage.load.take()
    allowed = {name: (GOOD, BAD) if name in activated else (GOOD,) for name in heard}
    count = check_answers(stage, claim, heard, allowed)
    bad = stage.accuracies[BAD]
    what = (
        f"right on {bad[next(iter(bad))]:.1%} of the rows here, {list(bad.values())[-1]:.1%} there"
        if other is not None
        else "no tflite-runtime here, so its weights were damaged before it was signed"
    )
    who = f"only {', '.join(sorted(activated))}" if activated else "nobody"
    return (
        f"{BAD} ({what}): {refused} ({told['class_name']}) refused it by its golden vectors, "
        f"all are back on {GOOD} by themselves; {who} ever served it; {count:,} requests "
        "meanwhile, 0 failed"
    )


async def enough(stage: Stage, claim: str, names: Collection[str]) -> None:
    """Wait until each of these devices has answered some more."""
    before = stage.load.count()

    async def answered() -> bool | None:
        now = stage.load.count()
        return all(now[name] >= before[name] + _ENOUGH for name in names) or None

    await until(stage, claim, answered, "not every device answers")


def check_answers(
    stage: Stage,
    claim: str,
    heard: Mapping[str, Heard],
    allowed: Mapping[str, Collection[str]],
    *,
    forgiven: Collection[str] = (),
) -> int:
    """Check what clients were answered, by device; count it, and return how much it was.

    Args:
        stage: whose count of inferences grows.
        claim: what is at stake.
        heard: what clients were answered.
        allowed: the versions that may have answered on each device.
        forgiven: devices whose failures are somebody else's to judge.

    Raises:
        ClaimError: a request failed, was not answered, or by the wrong version or with other
            values than that device's own of that version.
    """
    for name, one in heard.items():
        if name not in forgiven:
            check_no_failure(claim, name, one.failed)
        for place, answer in one.answers:
            known = stage.answers.get(answer.version, {}).get(name)
            if answer.version not in allowed[name] or (known and known[place] != answer):
                raise ClaimError(
                    claim, f"{name} gave an answer of {answer.version} that is not one of its own"
                )
    count = sum(one.answered for one in heard.values())
    stage.given += count
    return count


async def answers_of(stage: Stage, claim: str, agent: Agent) -> list[Answer]:
    """Ask a device for the probes.

    Raises:
        ClaimError: it doesn't answer.
    """
    rows, _ = stage.held_back()
    return await _asked(agent, claim, rows[:_PROBES])


async def _roll(stage: Stage, claim: str, version: str, *words: str) -> dict[str, Any]:
    """Start a rollout to all and return it when it has ended."""
    argv = stage.skerry(
        *("rollout", "start", f"digits:{version}", "--to", "all", *words),
        *("--reason", f"the demo's {claim}", "--yes", "-o", "json"),
    )
    started = json.loads(await stage.crew.run(claim, argv))
    last: dict[str, Any] = {}

    async def ended() -> dict[str, Any] | None:
        nonlocal last
        stage.check_load(claim)  # whatever comes of the rollout, that is a failed claim already
        last = await stage.look(claim, "rollouts", started["id"])
        return last if last["state"] in _ENDED else None

    try:
        return await until(stage, claim, ended, "the rollout did not end", limit_s=_ROLLOUT_S)
    except ClaimError as error:
        why = [each["sentence"] for each in last.get("because", ())]
        raise ClaimError(claim, "\n".join([str(error), *why, *await _told(stage)])) from error


async def _told(stage: Stage) -> list[str]:
    """Return what devices say is wrong, as far as anybody can be asked."""
    try:
        devices = (await stage.look("", "devices"))["devices"]
    except ClaimError:
        return []
    return [
        f"{device['name']}: {each['last_error']['reason']}: {each['last_error']['message']}"
        for device in devices
        for each in device["deployments"]
        if each["last_error"]
    ]


async def _measure(stage: Stage, claim: str, version: str) -> str:
    """Ask every device for every held-back row; compare with what was measured of the file.

    Keeps what each device answers to the probes. Returns what share was right.
    """
    rows, right = stage.held_back()
    seen = []
    async with asyncio.TaskGroup() as tasks:
        asked = {
            agent: tasks.create_task(_asked(agent, claim, rows), name=f"ask-{agent.name}")
            for agent in stage.agents
        }
    for agent, task in asked.items():
        given = task.result()
        share = sum(
            answer.largest == label for answer, label in zip(given, right, strict=True)
        ) / len(right)
        measured = next(
            value
            for runtime, value in stage.accuracies[version].items()
            if agent.library in runtime
        )
        wrong = {answer.version for answer in given} - {version}
        if wrong or abs(share - measured) > _TOLERANCE:
            raise ClaimError(
                claim,
                f"{agent.name} serves {', '.join(wrong) or version} and is right on {share:.1%}; "
                f"{version} was measured at {measured:.1%}",
            )
        stage.answers.setdefault(version, {})[agent.name] = given[:_PROBES]
        stage.given += len(given)
        seen.append(share)
    low, high = f"{min(seen):.1%}", f"{max(seen):.1%}"
    return f"{low if low == high else f'{low} to {high}'} right, as measured"


async def _check_as_before(stage: Stage, claim: str) -> None:
    """Check that everybody reports and answers the good version, byte for byte."""

    async def back() -> bool | None:
        devices = (await stage.look(claim, "devices"))["devices"]
        served = [[bundle["version"] for bundle in device["serves"]] for device in devices]
        return served == [[GOOD]] * len(stage.agents) or None

    await until(stage, claim, back, f"not every device reports {GOOD}")
    for agent in stage.agents:
        if await answers_of(stage, claim, agent) != stage.answers[GOOD][agent.name]:
            raise ClaimError(claim, f"{agent.name} answers otherwise than {GOOD} did")
        stage.given += _PROBES


async def _who_activated(stage: Stage, claim: str, digest: str) -> set[str]:
    """Return the devices whose own events say that a bundle served there."""
    found = set()
    for agent in stage.agents:
        page = await asyncio.to_thread(read, agent.home)
        for event in (await events_of(stage, claim, agent, page.ledger))[0]:
            if event["digest"] == digest and event["phase"] in _ACTIVE:
                found.add(agent.name)
    return found


async def events_of(
    stage: Stage, claim: str, agent: Agent, of: str, *, beyond: int = 0
) -> tuple[list[dict[str, Any]], int]:
    """Return what the centre has of a device's ledger: the events, and what it has acknowledged."""
    found: list[dict[str, Any]] = []
    while True:
        after = str(found[-1]["number"] if found else beyond)
        where = ("devices", stage.ids[agent.name], "events")
        page = await stage.look(claim, *where, ledger=of, after=after)
        if not page["events"]:
            return found, int(page["acked"].get(of, 0))
        found += page["events"]


async def _described(agent: Agent, claim: str) -> Endpoint:
    try:
        return await asyncio.to_thread(describe, agent.port, "digits")
    except (AnswerError, OSError, HTTPException) as error:
        raise ClaimError(claim, f"{agent.name}: {error}") from error


async def _asked(agent: Agent, claim: str, rows: list[bytes]) -> list[Answer]:
    endpoint = await _described(agent, claim)
    try:
        return await asyncio.to_thread(ask_all, endpoint, rows)
    except (AnswerError, OSError, HTTPException) as error:
        raise ClaimError(claim, f"{agent.name}: {error}") from error


def _ended_otherwise(rollout: Mapping[str, Any]) -> str:
    """Say how a rollout ended that should have ended otherwise, and who said why."""
    told = [f"{rollout['id']} is {rollout['state']}"]
    if rollout["cause"]:
        told.append(rollout["cause"]["sentence"])
    told += [
        f"{target['name']} {target['state']}: {target['reason']}"
        for target in rollout["targets"]
        if target["reason"]
    ]
    return "; ".join(told)
