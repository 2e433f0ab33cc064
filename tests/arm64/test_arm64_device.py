"""A mixed fleet: an emulated ARM64 container and an x86-64 process get the same models."""

import io
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from fleet.demo import digits
from k3s.render import STATE_USER
from models import bundle as bundles
from models.build.pack import About, Prepared, pack
from models.build.quantize import quantize
from models.layout import Layout
from models.values import ModelRef
from tests.arm64.lab import Image, run
from tests.e2e.scene import Centre, Device, Row, until

pytestmark = [
    pytest.mark.arm64,
    pytest.mark.real("mosquitto"),
    pytest.mark.slow,
    pytest.mark.timeout(3000),
]

EMULATED_LIMIT_S = 400.0
"""For what takes two seconds on its own processor."""
PROBES = 60
IMPORTS = """
import sys, time
began = time.perf_counter()
import agent.cli, agent.run
print(f"{time.perf_counter() - began:.2f} {len(sys.modules)}")
"""


class ArmDevice(Device):
    """One agent in a container of its own; its home is a volume."""

    def __init__(self, centre: Centre, image: Image) -> None:
        self.container = f"skerry-{os.urandom(3).hex()}"
        super().__init__(centre, self.container, centre.folder / self.container)
        self.home.mkdir(mode=0o700)
        os.chown(self.home, STATE_USER, STATE_USER)
        self._image = image
        self._words = image.command(
            f"--name={self.container}", f"--volume={self.home}:/var/lib/skerry"
        )

    def join_by(self, token: str) -> str:
        """Join as `docker run … IMAGE join URL` does, with the token in the environment."""
        words = [*self._words[:-1], f"--env=SKERRY_TOKEN={token}", self._words[-1]]
        return run(*words, "join", str(self.centre.where["url"]), "--name", self.name)

    def start(self, *, ready: bool = True) -> None:
        self.start_as(*self._words, "run", "--listen", f"127.0.0.1:{self.port}")
        if ready:
            until(self._listening, limit_s=EMULATED_LIMIT_S, what=f"{self.name} listening")

    def inside(self, *words: str) -> str:
        """Run a command in the running container, as `docker exec` would."""
        return self._image.podman("exec", self.container, *words)

    def main(self) -> psutil.Process:
        """Return the agent's supervisor, as the host sees it: an emulator that runs it."""
        pid = self._image.podman("inspect", "--format={{.State.Pid}}", self.container)
        return psutil.Process(int(pid))

    def remove(self) -> None:
        self._image.podman("rm", "--force", "--ignore", "--time=5", self.container)
        if self.process is not None:
            self.process.wait(30)


@dataclass(frozen=True, slots=True)
class Ware:
    """One model of the fleet, and how a client speaks to it."""

    prepared: Prepared
    dtype: str

    @property
    def name(self) -> str:
        return self.prepared.card.ref.name

    def probes(self) -> list[bytes]:
        drawn = random.Random(5)  # noqa: S311  # test data
        if self.dtype == "|i1":
            return [drawn.randbytes(64) for _ in range(PROBES)]
        rows = [[drawn.random() for _ in range(64)] for _ in range(PROBES)]
        return [np.array(row, "<f4").tobytes() for row in rows]

    def ask(self, device: Device) -> NDArray[np.float64]:
        """Return a device's answers to all probes."""
        connection = HTTPConnection("127.0.0.1", device.port, timeout=60)
        size = 10 * np.dtype(self.dtype).itemsize
        answers = []
        try:
            for probe in self.probes():
                header = {"Inference-Header-Content-Length": "0"}
                connection.request("POST", f"/v2/models/{self.name}/infer", probe, header)
                answer = connection.getresponse()
                body = answer.read()
                assert answer.status == 200, body
                answers.append(np.frombuffer(body[-size:], self.dtype).astype(np.float64))
        finally:
            connection.close()
        return np.array(answers)


@pytest.fixture(scope="module")
def wares() -> tuple[Ware, ...]:
    """Train one model, and pack it as int8 and as float32."""
    content = digits.load()
    trained = digits.train(content, seed=7, iterations=15)
    rows = _npz(content.train_rows[:100, None])
    about = About(task="image-classification", licence="BSD-3-Clause")
    files = {
        ("digits", "|i1"): quantize(trained, "int8", calibration=rows),
        ("digits-float", "<f4"): trained,
    }
    return tuple(
        Ware(pack([file], ModelRef(name, "1.0.0"), about=about, rows=rows), dtype)
        for (name, dtype), file in files.items()
    )


def _npz(rows: NDArray[np.float32]) -> bytes:
    archive = io.BytesIO()
    np.savez(archive, pixels=rows)
    return archive.getvalue()


@pytest.fixture
def centre(tmp_path: Path, wares: tuple[Ware, ...]) -> Iterator[Centre]:
    """A running centre that has both models."""
    made = Centre(tmp_path)
    made.start()
    layout = Layout.create(tmp_path / "bundles")
    for ware in wares:
        bundle = ware.prepared.write(layout)
        bundles.sign(layout, bundle, made.key)
        made.publish(layout, bundle)
    yield made
    made.dismiss()


@pytest.fixture
def arm(centre: Centre, image: Image) -> Iterator[ArmDevice]:
    made = ArmDevice(centre, image)
    yield made
    made.remove()


@pytest.fixture
def native(centre: Centre) -> Iterator[Device]:
    made = centre.make_device()
    yield made
    made.dismiss()


def roll(centre: Centre, ware: Ware, *devices: Device) -> None:
    """Roll a model out, and wait until it is over everywhere."""
    wish = {"bundle": f"{ware.name}:1.0.0", "deployment": ware.name, "policy": "all-at-once"}
    started = centre.ask("POST", "/api/v1/rollouts", {**wish, "targets": [d.id for d in devices]})

    def over() -> Row | None:
        for device in devices:
            assert device.alive(), device.tail()
        told = centre.ask("GET", f"/api/v1/rollouts/{started['id']}")
        return told if told["state"] == "done" else None

    until(over, limit_s=EMULATED_LIMIT_S, what=f"{ware.name} everywhere")


def memory(supervisor: psutil.Process) -> list[tuple[str, float]]:
    """Return who takes how many megabytes (RSS): the supervisor, and each worker."""
    workers = [
        child
        for child in supervisor.children(recursive=True)
        if "agent.workers.child" in child.cmdline()
    ]
    named = [("supervisor", supervisor), *(("worker", worker) for worker in workers)]
    return [(name, process.memory_info().rss / 1e6) for name, process in named]


def test_an_arm64_device_joins_a_centre_and_answers_as_its_card_allows(
    centre: Centre,
    arm: ArmDevice,
    native: Device,
    wares: tuple[Ware, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It answers within each card's tolerance of x86-64; then alone, from its volume."""
    said = [arm.join_by(centre.token()).strip()]
    arm.start()
    native.start()
    for ware in wares:
        roll(centre, ware, arm, native)

    facts = centre.device(arm)["facts"]
    assert "aarch64" == facts["skerry/architecture"]
    said += [f"{name} = {facts[name]}" for name in sorted(facts)]
    answers = {}
    for ware in wares:
        theirs, ours = ware.ask(arm), ware.ask(native)
        answers[ware.name] = theirs
        (tolerance,) = ware.prepared.card.golden.tolerances
        apart = np.abs(theirs - ours)
        said.append(
            f"{ware.name}: {int((apart.max(axis=1) > 0).sum())} of {PROBES} answers differ from "
            f"x86-64, at most by {apart.max():.3g} (mean {apart.mean():.3g}; the card allows "
            f"{tolerance.largest:.3g}, mean {tolerance.mean:.3g}); "
            f"top-1 differs in {int((theirs.argmax(axis=1) != ours.argmax(axis=1)).sum())}"
        )
        assert apart.max() <= tolerance.largest
        assert apart.mean() <= tolerance.mean
    status = json.loads(arm.inside("skerry-agent", "status", "-o", "json"))
    assert {ware.name for ware in wares} == {each["name"] for each in status["deployments"]}
    said += arm.inside("skerry-agent", "doctor").splitlines()  # it exits with 1 at any finding
    assert '"serving"' in arm.inside("skerry-agent", "logs")
    said.append(
        f"import of the supervisor, emulated: {arm.inside('python', '-c', IMPORTS)}".strip()
    )
    for label, process in (("arm64", arm.main()), ("x86-64", psutil.Process(native.pid))):
        told = ", ".join(f"{who} {size:.0f} MB" for who, size in memory(process))
        said.append(f"RSS {label}{' in its emulator' if label == 'arm64' else ''}: {told}")

    assert 0 == native.end()
    assert 0 == arm.end()
    assert 0 == centre.end()
    arm.start()
    for ware in wares:
        until(
            lambda name=ware.name: _ready(arm, name),  # type: ignore[misc]  # bound now, not later
            limit_s=EMULATED_LIMIT_S,
            what=f"{ware.name} without a centre",
        )
        assert (answers[ware.name] == ware.ask(arm)).all()
    assert 0 == arm.end()
    with capsys.disabled():
        print("", *said, sep="\n")  # noqa: T201  # figures to watch


def _ready(device: Device, name: str) -> bool:
    connection = HTTPConnection("127.0.0.1", device.port, timeout=20)
    try:
        connection.request("GET", f"/v2/models/{name}/ready")
        answer = connection.getresponse()
        answer.read()
        return answer.status == 200
    finally:
        connection.close()
