"""The demo's steps, in order: each does one thing, checks its claim and returns a line to print.

Every step runs the commands a person would type. One whose claim isn't so
raises `ClaimError` with the step's name.
"""

import asyncio
import json
import shutil
import struct
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import TypeVar

from fleet.demo import client
from fleet.demo.crew import ClaimError, free_port
from fleet.demo.stage import Agent, Stage
from models import durable

_TOLERANCE = 0.005
"""By how much an accuracy through the wire may miss the card's (share of the held-back rows).

The same file answers a last bit differently on another architecture; three of
540 rows is what that may flip.
"""

Found = TypeVar("Found")

_LIMIT_S = 90.0
_LOOK_AGAIN_S = 0.2
_WAKE_WORD = "hey_jarvis"
_ON_TFLITE = 2

FORMS = {"int8": "digits", "float32": "digits-float", "dynamic-range": "digits-dynamic"}
"""The three forms of the model, and the names they are published under."""

VERSION = "1.0.0"


async def centre(stage: Stage) -> str:
    """Make the fleet's keys and start the centre with its broker."""
    await stage.crew.run("centre", stage.skerry("trust", "init"))
    child = await stage.crew.start(
        "centre",
        stage.skerry(
            "up",
            "--listen",
            "127.0.0.1:0",
            "--plain",
            f"127.0.0.1:{free_port(stage.options.port)}",
            "--broker-port",
            str(free_port()),
            "-o",
            "json",
        ),
    )

    async def said() -> dict[str, str] | None:
        for line in child.log.read_text(errors="replace").splitlines():
            if line.startswith('{"schema": "skerry.centre/'):
                return dict(json.loads(line))
        return None

    stage.centre = await _until(stage, "centre", said, "the centre did not become ready")
    secured = stage.centre["broker_url"].startswith("mqtts:")
    return f"{stage.centre['plain_url']}, " + (
        "Mosquitto with a certificate per device"
        if secured
        else "embedded broker without access rules (install mosquitto for them)"
    )


async def models(stage: Stage) -> str:
    """Train a digits classifier, quantize it twice, measure each form on the held-back rows."""
    durable.make_directory(stage.models)
    argv: list[str | Path] = [sys.executable, "-P", "-m", "fleet.demo.build", stage.models]
    if stage.options.tflite_python is not None:
        argv.append(stage.options.tflite_python)
    printed = await stage.crew.run("models", argv, limit_s=_LIMIT_S)
    stage.accuracies = json.loads(printed.splitlines()[-1])
    worst = min(stage.accuracies["int8"].values())
    if worst < max(stage.accuracies["float32"].values()) - 0.01:  # a point: the budget of `pack`
        raise ClaimError("models", f"int8 answers only {worst:.1%} of the held-back rows rightly")
    return "digits, answered rightly: " + ", ".join(
        f"{form} " + " / ".join(f"{value:.1%}" for value in by_runtime.values())
        for form, by_runtime in stage.accuracies.items()
    )


async def bundles(stage: Stage) -> str:
    """Pack each form with its card and golden vectors, and one published wake word; sign all."""
    other = stage.options.tflite_python
    also: list[str | Path] = ["--also", other] if other else []
    key: list[str | Path] = ["--key", stage.centre_home / "trust" / "bundle.key"]
    async with asyncio.TaskGroup() as tasks:
        for form, name in FORMS.items():
            argv = stage.skerry(
                "model",
                "pack",
                stage.models / f"{form}.tflite",
                "--name",
                name,
                "--version",
                VERSION,
                "--task",
                "image-classification",
                "--licence",
                "BSD-3-Clause",
                "--labels",
                stage.models / "labels.txt",
                "--inputs",
                stage.models / "rows.npz",
                "--evaluate",
                stage.models / "rows.npz",
                "--dataset",
                "digits, held back",
                "--before",
                stage.models / "float32.tflite",
                "--out",
                stage.bundles / name,
                *key,
                *(also if form != "dynamic-range" else []),  # it is right on this machine only
            )
            tasks.create_task(stage.crew.run("bundles", argv, limit_s=_LIMIT_S), name=name)
        argv = stage.skerry(
            "model",
            "pack",
            _wake_word_file(),
            "--name",
            "hey-jarvis",
            "--version",
            "2.0.0",
            "--task",
            "wake-word",
            "--licence",
            "Apache-2.0",
            "--out",
            stage.bundles / "hey-jarvis",
            *key,
            *also,
        )
        tasks.create_task(stage.crew.run("bundles", argv, limit_s=_LIMIT_S), name="wake-word")
    return f"{', '.join(FORMS.values())} {VERSION} and hey-jarvis 2.0.0, packed and signed"


async def publish(stage: Stage) -> str:
    """Publish the bundles to the centre's registry; let skopeo inspect and copy one."""
    names = [*FORMS.values(), "hey-jarvis"]
    for name in names:
        await stage.crew.run("publish", stage.skerry("model", "publish", stage.bundles / name))
    listed = json.loads(
        await stage.crew.run("publish", stage.skerry("bundle", "ls", "-o", "json"))
    )["bundles"]
    if {bundle["name"] for bundle in listed} != set(names):
        raise ClaimError("publish", f"the registry lists {listed}")
    if shutil.which("skopeo") is None:
        return f"{len(names)} bundles in the registry (skopeo is not installed: not cross-checked)"
    token = (stage.centre_home / "operator.token").read_text().strip()
    image = f"docker://{_plain(stage).removeprefix('http://')}/digits:{VERSION}"
    access = ["--tls-verify=false", "--creds", f"operator:{token}"]
    raw = await stage.crew.run("publish", ["skopeo", "inspect", "--raw", *access, image])
    copied = stage.options.folder / "skopeo-copy"
    source = [
        f"--src-{option.removeprefix('--')}" if option[:2] == "--" else option for option in access
    ]
    await stage.crew.run("publish", ["skopeo", "copy", *source, image, f"oci:{copied}:{VERSION}"])
    kept = stage.bundles / "digits" / "blobs" / "sha256"
    for layer in json.loads(raw)["layers"]:
        name = layer["digest"].removeprefix("sha256:")
        if (copied / "blobs" / "sha256" / name).read_bytes() != (kept / name).read_bytes():
            raise ClaimError("publish", f"skopeo copied another {layer['digest']}")
    return (
        f"{len(names)} bundles in the registry; skopeo inspected digits and copied it byte for byte"
    )


async def join(stage: Stage) -> str:
    """Start six devices, each joined by one command with a one-time token."""
    stage.agents = _cast(stage)
    async with asyncio.TaskGroup() as tasks:
        for agent in stage.agents:
            tasks.create_task(_join(stage, agent), name=f"join-{agent.name}")
    for agent in stage.agents:
        await stage.crew.start(
            agent.name,
            [
                *_skerry_agent(agent, "run"),
                "--home",
                agent.home,
                "--listen",
                f"127.0.0.1:{agent.port}",
                "--library",
                agent.library,
            ],
        )

    async def online() -> bool | None:
        shown = await stage.crew.run("join", stage.skerry("device", "ls", "-o", "json"))
        here = [device for device in json.loads(shown)["devices"] if device["online"]]
        return len(here) == len(stage.agents) or None

    await _until(stage, "join", online, "not every device came online")
    return _by_site(stage)


async def deploy(stage: Stage) -> str:
    """Roll digits out to every device, all at once (waves come next)."""
    started = json.loads(
        await stage.crew.run(
            "deploy",
            stage.skerry(
                "rollout", "start", f"digits:{VERSION}", "--to", "all", "--policy", "all-at-once",
                "--reason", "demo", "-o", "json",
            ),
        )
    )  # fmt: skip

    async def ended() -> dict[str, object] | None:
        shown = await stage.crew.run(
            "deploy", stage.skerry("rollout", "show", started["id"], "-o", "json")
        )
        rollout: dict[str, object] = json.loads(shown)
        return rollout if rollout["state"] in ("done", "failed") else None

    rollout = await _until(stage, "deploy", ended, "the rollout did not end")
    if rollout["state"] != "done":
        raise ClaimError("deploy", _refusals(stage, rollout["targets"]))
    return (
        f"digits {VERSION} serves on {len(stage.agents)} devices: each ran its golden vectors first"
    )


async def infer(stage: Stage) -> str:
    """Ask every device for every held-back row; compare what it answers with the card."""
    rows, answers = await _held_back(stage)

    def ask(agent: Agent) -> float:
        try:
            endpoint = client.describe(agent.port, "digits")
            given = client.top1(endpoint, rows)
        except (client.AnswerError, OSError) as error:
            raise ClaimError("infer", f"{agent.name}: {error}") from error
        right = sum(one == other for one, other in zip(given, answers, strict=True))
        return right / len(answers)

    async with asyncio.TaskGroup() as tasks:
        asked = {
            agent.name: tasks.create_task(asyncio.to_thread(ask, agent), name=f"ask-{agent.name}")
            for agent in stage.agents
        }
    seen = {name: task.result() for name, task in asked.items()}
    stage.answered += len(rows) * len(seen)
    for agent in stage.agents:
        card = next(
            value for runtime, value in stage.accuracies["int8"].items() if agent.library in runtime
        )
        if abs(seen[agent.name] - card) > _TOLERANCE:
            raise ClaimError(
                "infer", f"{agent.name} answered {seen[agent.name]:.1%}; its card says {card:.1%}"
            )
    worst, best = min(seen.values()), max(seen.values())
    return (
        f"{stage.answered:,} requests, 0 failed; accuracy through the wire "
        f"{worst:.1%} to {best:.1%}, as the card says"
    )


STEPS: tuple[tuple[str, Callable[[Stage], Awaitable[str]]], ...] = (
    ("centre", centre),
    ("models", models),
    ("bundles", bundles),
    ("publish", publish),
    ("join", join),
    ("deploy", deploy),
    ("infer", infer),
)


def _refusals(stage: Stage, targets: object) -> str:
    """Say who doesn't serve it and why, one line a reason."""
    reasons: dict[str, list[str]] = {}
    for target in targets if isinstance(targets, list) else []:
        if target["state"] != "committed":
            reasons.setdefault(str(target.get("reason")), []).append(target["target"])
    return "; ".join(
        f"{len(devices)} of {len(stage.agents)} devices ended with {reason} ({devices[0]} …)"
        for reason, devices in reasons.items()
    )


def _plain(stage: Stage) -> str:
    return str(stage.centre["plain_url"])


def _cast(stage: Stage) -> list[Agent]:
    """Name the devices: two sites, and two devices on the older runtime where there is one."""
    folder, count = stage.options.folder / "agents", stage.options.devices
    other = stage.options.tflite_python
    first_on_tflite = count - _ON_TFLITE if other is not None else count
    agents: list[Agent] = []
    for number in range(count):
        site = "porto" if number < (count + 1) // 2 else "lerwick"
        name = f"{site}-{sum(agent.site == site for agent in agents) + 1}"
        on_tflite = number >= first_on_tflite and other is not None
        agents.append(
            Agent(
                name=name,
                site=site,
                home=folder / name,
                port=free_port(),
                python=other if on_tflite and other else Path(sys.executable),
                library="tflite" if on_tflite else "litert",
            )
        )
    return agents


def _by_site(stage: Stage) -> str:
    sites = {agent.site: 0 for agent in stage.agents}
    runtimes = {agent.library: 0 for agent in stage.agents}
    for agent in stage.agents:
        sites[agent.site] += 1
        runtimes[agent.library] += 1
    return (
        f"{len(stage.agents)} devices joined: "
        + ", ".join(f"{site} {count}" for site, count in sites.items())
        + "; "
        + ", ".join(f"{count} on {library}" for library, count in runtimes.items())
    )


def _skerry_agent(agent: Agent, *words: str) -> list[str | Path]:
    return [agent.python, "-P", "-m", "agent", *words]


async def _join(stage: Stage, agent: Agent) -> None:
    token = await stage.crew.run("join", stage.skerry("token", "create", "--site", agent.site))
    await stage.crew.run(
        "join",
        [
            *_skerry_agent(agent, "join"),
            stage.centre["url"],
            "--token",
            token.strip(),
            "--name",
            agent.name,
            "--home",
            agent.home,
        ],
    )


async def _held_back(stage: Stage) -> tuple[list[bytes], list[int]]:
    """Return the held-back rows as the int8 model takes them (by its card), and the answers."""
    shown = await stage.crew.run(
        "infer", stage.skerry("bundle", "show", f"digits:{VERSION}", "-o", "json")
    )
    quantization = json.loads(shown)["card"]["inputs"][0]["quantization"]
    scale, zero_point = quantization["scale"], quantization["zero_point"]
    content = json.loads((stage.models / "rows.json").read_text())
    rows = [
        struct.pack(
            f"{len(row)}b",
            *(max(-128, min(127, round(pixel / scale) + zero_point)) for pixel in row),
        )
        for row in content["rows"]
    ]
    return rows, content["answers"]


def _wake_word_file() -> Path:
    """Return the published wake word: Apache-2.0, in the wheel of `pymicro-wakeword`."""
    found = distribution("pymicro-wakeword").locate_file(
        f"pymicro_wakeword/models/{_WAKE_WORD}.tflite"
    )
    return Path(str(found))


async def _until(
    stage: Stage, claim: str, look: Callable[[], Awaitable[Found | None]], otherwise: str
) -> Found:
    """Look again and again until something is found.

    Raises:
        ClaimError: nothing was within the limit, or a child has ended meanwhile.
    """
    try:
        async with asyncio.timeout(_LIMIT_S):
            while (found := await look()) is None:
                stage.crew.check_alive(claim)
                await asyncio.sleep(_LOOK_AGAIN_S)
    except TimeoutError:
        raise ClaimError(claim, f"{otherwise} within {_LIMIT_S:g} s") from None
    return found
