"""The scene: a centre with its broker, three versions of a model, and devices that joined.

Every step runs the commands a person would type. One whose claim isn't so
raises `ClaimError` with the step's name.
"""

import asyncio
import json
import shutil
import sys
from pathlib import Path

from fleet.demo.crew import ClaimError, free_port
from fleet.demo.stage import Agent, Stage
from fleet.demo.wait import LIMIT_S, until
from models import durable

BAD, GOOD = "3.0.0", "2.0.0"
VERSIONS = ("1.0.0", GOOD, BAD)

_ON_TFLITE = 2
_LOSS = 0.01  # a point: the budget of `pack`
_CHANCE = 0.2  # ten classes: a tenth, and some luck
_RECONNECT_CAP_S = 2
_HEALTH_PERIOD_S = 1


async def centre(stage: Stage) -> str:
    """Make the fleet's keys and start the centre with its broker."""
    await stage.crew.run("centre", stage.skerry("trust", "init"))
    stage.centre_argv = stage.skerry(
        "up",
        "--listen",
        f"127.0.0.1:{free_port()}",
        "--plain",
        f"127.0.0.1:{free_port(stage.options.port)}",
        "--broker-port",
        str(free_port()),
        "-o",
        "json",
    )
    stage.centre = await open_centre(stage, "centre")
    secured = stage.centre["broker_url"].startswith("mqtts:")
    return f"{stage.centre['plain_url']}, " + (
        "Mosquitto with a certificate per device"
        if secured
        else "embedded broker without access rules (install mosquitto for them)"
    )


async def open_centre(stage: Stage, claim: str) -> dict[str, str]:
    """Start the centre, wait until it is ready, and return where it is.

    Raises:
        ClaimError: it did not become ready.
    """
    log = stage.options.folder / "centre.log"
    before = log.stat().st_size if log.exists() else 0
    child = await stage.crew.start("centre", stage.centre_argv)

    async def said() -> dict[str, str] | None:
        for line in child.log.read_bytes()[before:].decode(errors="replace").splitlines():
            if line.startswith('{"schema": "skerry.centre/'):
                return dict(json.loads(line))
        return None

    return await until(stage, claim, said, "the centre did not become ready")


async def models(stage: Stage) -> str:
    """Train a digits classifier, quantize it, measure each version on the held-back rows."""
    durable.make_directory(stage.models)
    argv: list[str | Path] = [sys.executable, "-P", "-m", "fleet.demo.build", stage.models]
    if stage.options.tflite_python is not None:
        argv.append(stage.options.tflite_python)
    printed = await stage.crew.run("models", argv, limit_s=LIMIT_S)
    stage.accuracies = json.loads(printed.splitlines()[-1])
    early, good, bad = (list(stage.accuracies[version].values()) for version in VERSIONS)
    best = max(stage.accuracies["float32"].values())
    if min(good) < best - _LOSS:
        raise ClaimError("models", f"{GOOD} answers only {min(good):.1%} of the rows rightly")
    if max(early) >= min(good):
        raise ClaimError("models", f"{GOOD} is no better than {VERSIONS[0]}")
    if bad[0] < best - _LOSS or (bad[1:] and bad[1] > _CHANCE):
        raise ClaimError("models", f"{BAD} is not as bad as it should be: {bad}")
    forms = {VERSIONS[0]: "int8", GOOD: "int8", BAD: "dynamic range"}
    return (
        f"digits, rightly answered on {' / '.join(stage.accuracies['float32'])}: float "
        f"{_shares(stage, 'float32')}; "
        + "; ".join(f"{version} {forms[version]} {_shares(stage, version)}" for version in VERSIONS)
    )


async def bundles(stage: Stage) -> str:
    """Pack each version with its card and golden vectors, and sign it."""
    other = stage.options.tflite_python
    key: list[str | Path] = ["--key", stage.centre_home / "trust" / "bundle.key"]
    also: list[str | Path] = ["--also", other] if other else []
    special: dict[str, list[str | Path]] = {
        VERSIONS[0]: [*also, *key],
        GOOD: [*also, *key, "--before", stage.models / "float32.tflite"],
        BAD: ["--allow-runtime", "tflite-runtime", *key],
    }
    folders = {version: stage.bundles / version for version in VERSIONS}
    if other is None:
        # Damaged before it is signed: see the end.
        special[BAD], folders[BAD] = [], stage.bundles / "undamaged"
    async with asyncio.TaskGroup() as tasks:
        for version, more in special.items():
            argv = stage.skerry(
                *("model", "pack", stage.models / f"{version}.tflite"),
                *("--name", "digits", "--version", version),
                *("--task", "image-classification", "--licence", "BSD-3-Clause"),
                *("--labels", stage.models / "labels.txt"),
                *("--inputs", stage.models / "rows.npz"),
                *("--evaluate", stage.models / "rows.npz", "--dataset", "digits, held back"),
                *("--out", folders[version]),
                *more,
            )
            tasks.create_task(stage.crew.run("bundles", argv, limit_s=LIMIT_S), name=version)
    packed = f"digits {', '.join(VERSIONS)} packed with golden vectors, and signed"
    if other is not None:
        return f"{packed}; {BAD} by a person's word that tflite-runtime may try it"
    damaging: list[str | Path] = [sys.executable, "-P", "-m", "fleet.demo.damage"]
    await stage.crew.run("bundles", [*damaging, folders[BAD], stage.bundles / BAD])
    await stage.crew.run("bundles", stage.skerry("model", "sign", stage.bundles / BAD, *key))
    return f"{packed}; the weights of {BAD} were damaged in between"


async def publish(stage: Stage) -> str:
    """Publish the bundles to the centre's registry; let skopeo inspect and copy one."""
    async with asyncio.TaskGroup() as tasks:
        for version in VERSIONS:
            argv = stage.skerry("model", "publish", stage.bundles / version)
            tasks.create_task(stage.crew.run("publish", argv), name=version)
    listed = (await stage.look("publish", "bundles"))["bundles"]
    if sorted(bundle["version"] for bundle in listed) != sorted(VERSIONS):
        raise ClaimError("publish", f"the registry lists {listed}")
    if shutil.which("skopeo") is None:
        return f"{len(listed)} bundles in the registry (skopeo is not installed: not cross-checked)"
    token = (stage.centre_home / "operator.token").read_text().strip()
    image = f"docker://{stage.centre['plain_url'].removeprefix('http://')}/digits:{GOOD}"
    access = ["--tls-verify=false", "--creds", f"operator:{token}"]
    raw = await stage.crew.run("publish", ["skopeo", "inspect", "--raw", *access, image])
    copied = stage.options.folder / "skopeo-copy"
    source = [
        f"--src-{option.removeprefix('--')}" if option[:2] == "--" else option for option in access
    ]
    await stage.crew.run("publish", ["skopeo", "copy", *source, image, f"oci:{copied}:{GOOD}"])
    kept = stage.bundles / GOOD / "blobs" / "sha256"
    for layer in json.loads(raw)["layers"]:
        name = layer["digest"].removeprefix("sha256:")
        if (copied / "blobs" / "sha256" / name).read_bytes() != (kept / name).read_bytes():
            raise ClaimError("publish", f"skopeo copied another {layer['digest']}")
    return f"{len(listed)} bundles in the registry; skopeo copied {GOOD} byte for byte"


async def join(stage: Stage) -> str:
    """Join and start devices, a token for each site; they tell their health every second."""
    stage.agents = _cast(stage)
    async with asyncio.TaskGroup() as tasks:
        for site in {agent.site for agent in stage.agents}:
            tasks.create_task(_join_site(stage, site), name=f"join-{site}")
    for agent in stage.agents:
        await start_agent(stage, agent)

    async def online() -> dict[str, str] | None:
        devices = (await stage.look("join", "devices"))["devices"]
        here = {device["name"]: device["id"] for device in devices if device["online"]}
        return here if len(here) == len(stage.agents) else None

    stage.ids = await until(stage, "join", online, "not every device came online")
    async with asyncio.TaskGroup() as tasks:
        for agent in stage.agents:
            argv = stage.skerry(
                *("device", "set", agent.name),
                *("--health-period", str(_HEALTH_PERIOD_S)),
                *("--reconnect-cap", str(_RECONNECT_CAP_S)),
            )
            tasks.create_task(stage.crew.run("join", argv), name=f"set-{agent.name}")
    return _by_site(stage)


async def start_agent(stage: Stage, agent: Agent) -> None:
    """Run a device's agent."""
    listen = ["--listen", f"127.0.0.1:{agent.port}", "--library", agent.library]
    await stage.crew.start(agent.name, agent.command("run", *listen))


def _shares(stage: Stage, version: str) -> str:
    return " / ".join(f"{value:.1%}" for value in stage.accuracies[version].values())


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


async def _join_site(stage: Stage, site: str) -> None:
    here = [agent for agent in stage.agents if agent.site == site]
    argv = stage.skerry("token", "create", "--site", site, "--uses", str(len(here)))
    token = (await stage.crew.run("join", argv)).strip()
    async with asyncio.TaskGroup() as tasks:
        for agent in here:
            words = ("join", stage.centre["url"], "--token", token, "--name", agent.name)
            task = stage.crew.run("join", agent.command(*words))
            tasks.create_task(task, name=f"join-{agent.name}")
