"""Fixtures of the agent's tests: real models on disk, and a device's loop."""

import asyncio
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import pytest

from agent.ledger import Ledger, open_ledger
from models.card import Tensor
from models.values import Datatype
from tests.agent.inline import Inline
from tests.agent.looped import Device, World
from tests.agent.packages import (
    DENSE_INPUTS,
    DENSE_OUTPUTS,
    Package,
    decides,
    dense_net,
    packaged,
    quantized,
)


@pytest.fixture(scope="session")
def dense_content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return quantized(dense_net((64, 32, 10)), 64, tmp_path_factory.mktemp("dense"))


@pytest.fixture
def dense(dense_content: bytes, tmp_path: Path) -> Package:
    """A small int8 net, int8 [1, 64] to int8 [1, 10], version 1.0.0."""
    return packaged(dense_content, tmp_path / "dense", inputs=DENSE_INPUTS, outputs=DENSE_OUTPUTS)


@pytest.fixture(scope="session")
def another_content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return quantized(dense_net((64, 32, 10), seed=8), 64, tmp_path_factory.mktemp("another"))


@pytest.fixture
def another(another_content: bytes, tmp_path: Path) -> Package:
    """A net of the same shape as `dense` that has learned something else, and decides."""
    folder = tmp_path / "another"
    made = packaged(another_content, folder, inputs=DENSE_INPUTS, outputs=DENSE_OUTPUTS)
    return decides(made)


@pytest.fixture
def jarvis(tmp_path: Path) -> Package:
    """A published streaming wake word: int8 [1, 3, 40] to uint8 [1, 1], with state."""
    content = (files("pymicro_wakeword") / "models/hey_jarvis.tflite").read_bytes()
    return packaged(
        content,
        tmp_path / "jarvis",
        inputs=(Tensor(name="input", datatype=Datatype.INT8, shape=(1, 3, 40)),),
        outputs=(Tensor(name="output", datatype=Datatype.UINT8, shape=(1, 1)),),
    )


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    asyncio.get_running_loop().set_default_executor(Inline())
    opened = open_ledger(tmp_path / "ledger.db", fleet="f", device="d-1")
    yield opened
    opened.close()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def device(tmp_path: Path, world: World) -> AsyncIterator[Device]:
    asyncio.get_running_loop().set_default_executor(Inline())
    made = Device(tmp_path / "ledger.db", world)
    yield made
    made.ledger.close()
