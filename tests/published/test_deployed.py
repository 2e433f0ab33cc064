"""Twenty published models are deployed, and answer over the wire what the raw interpreter does."""

import json
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from models import bundle as bundles
from models.build.pack import Prepared
from models.keys import SigningKey
from models.layout import Layout
from models.values import DISTRIBUTIONS
from tests.e2e.scene import Centre, Device

ROOT = Path(__file__).parents[2]
RAW = Path(__file__).parent / "raw.py"
FRESH = 20
PYTHONS = {"litert": Path(sys.executable), "tflite": ROOT / ".venv-tflite/bin/python"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real("mosquitto", "tflite"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def centre(
    tmp_path_factory: pytest.TempPathFactory, packed: dict[str, Prepared]
) -> Iterator[Centre]:
    """A centre that has all of them in its registry."""
    running = Centre(tmp_path_factory.mktemp("published"))
    try:
        running.start()
        layout = Layout.create(running.folder / "bundles")
        key = SigningKey.load(running.home / "trust" / "bundle.key")
        for prepared in packed.values():
            made = prepared.write(layout)
            bundles.sign(layout, made, key)
            running.publish(layout, made)
        yield running
    finally:
        running.dismiss()


@pytest.mark.parametrize("library", sorted(PYTHONS))
def test_each_answers_the_raw_interpreter_s_bytes(
    library: str, centre: Centre, packed: dict[str, Prepared], tmp_path: Path
) -> None:
    """On either runtime all twenty commit, and 20 fresh inputs each come back byte for byte."""
    names = sorted(packed)
    for half in (names[:10], names[10:]):  # a device has up to 16 deployments
        device = Device(centre, f"{library}-{half[0]}"[:40], tmp_path / half[0])
        assert device.join(centre.token()).returncode == 0
        where = ("--home", device.home, "--listen", f"127.0.0.1:{device.port}")
        device.start_as(PYTHONS[library], "-P", "-m", "agent", "run", *where)
        try:
            device.online()
            for name in half:
                wish = {"bundle": f"{name}:1.0.0", "deployment": name, "targets": [device.id]}
                centre.ask("POST", "/api/v1/rollouts", {**wish, "policy": "all-at-once"})
            for name in half:
                told = centre.settled(device, "1.0.0", name=name)
                assert told["active"]["runtime"].startswith(DISTRIBUTIONS[library])
                (content,) = packed[name].files.values()
                asked, expected = _raw(content, library, tmp_path)
                answered = [_ask(device, name, inputs) for inputs in asked]

                assert answered == expected, name
        finally:
            device.dismiss()


def _raw(content: bytes, library: str, folder: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Let the raw interpreter answer fresh inputs; tensors as hexadecimal."""
    model = folder / "raw.tflite"
    model.write_bytes(content)
    said = subprocess.run(
        [PYTHONS[library], "-P", RAW, library, model, str(FRESH)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(said.stdout.splitlines()[-1])
    return found["inputs"], found["outputs"]


def _ask(device: Device, name: str, inputs: list[str]) -> list[str]:
    connection = HTTPConnection("127.0.0.1", device.port, timeout=30)
    try:
        connection.request("GET", f"/v2/models/{name}")
        tensors = json.loads(connection.getresponse().read())["inputs"]
        raw = [bytes.fromhex(each) for each in inputs]
        head = json.dumps(
            {
                "inputs": [
                    {
                        "name": tensor["name"],
                        "shape": [max(1, size) for size in tensor["shape"]],
                        "datatype": tensor["datatype"],
                        "parameters": {"binary_data_size": len(part)},
                    }
                    for tensor, part in zip(tensors, raw, strict=True)
                ],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        connection.request(
            "POST",
            f"/v2/models/{name}/infer",
            head + b"".join(raw),
            {"Inference-Header-Content-Length": str(len(head))},
        )
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body[:300]
        length = int(answer.headers["Inference-Header-Content-Length"])
        outputs, place = [], length
        for output in json.loads(body[:length])["outputs"]:
            size = output["parameters"]["binary_data_size"]
            outputs.append(body[place : place + size].hex())
            place += size
        return outputs
    finally:
        connection.close()
