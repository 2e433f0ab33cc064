"""What a model's process can't do, tried from inside of it; and by which mechanism."""

import ctypes
import ctypes.util
import os
import platform
import struct
from pathlib import Path

import pytest

from agent.workers import seccomp
from agent.workers.landlock import abi
from agent.workers.values import Launch
from tests.agent.delegate.attacks import ATTACKS, BY_A_DRIVER_TOO, attacked, made_in, table

SUCCEEDED = "SUCCEEDED"


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    return made_in(tmp_path_factory.mktemp("attacked") / "model")


@pytest.mark.real("gcc")
@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="another's memory is only for root to read at all")
async def test_no_attack_from_inside_a_worker_succeeds(launch: Launch, tmp_path: Path) -> None:
    """Each would, without the sandbox; the real worker and its kin go on."""
    done = await attacked(launch, tmp_path)
    print(table(done))  # noqa: T201  # the figure

    assert {SUCCEEDED} == set(done["nothing"].values())
    filtered = platform.machine() in seccomp.ARCHITECTURES
    if abi() and filtered:
        assert SUCCEEDED not in done["all"].values()
        got = {name for name, came in done["a worker"].items() if came == SUCCEEDED}
        assert got <= BY_A_DRIVER_TOO
        assert "became ready" not in done["a worker"].values()
        assert "secret" == (tmp_path / "target").read_text()
        assert not (tmp_path / "new").exists()
    # What one mechanism lets through, another one must stop: each is seen to do its part.
    for column, stops in {
        "every kernel's": {"memory", "disk", "memory-of-the-parent", "tensors-of-another"},
        "landlock": {"read-a-key", "write-the-ledger", "write-outside", "kill-the-parent", "exec"},
        "seccomp": set(ATTACKS) - {"read-a-key"},
    }.items():
        came = {name for name in stops if done[column][name] == SUCCEEDED}
        assert not came, column


@pytest.mark.parametrize(
    ("machine", "token"), [("x86_64", 0xC000003E), ("aarch64", 0xC00000B7), ("armv7l", 0x40000028)]
)
@pytest.mark.skipif(ctypes.util.find_library("seccomp") is None, reason="libseccomp is not here")
def test_the_numbers_are_libseccomp_s(machine: str, token: int) -> None:
    """On each architecture whose table we have, by its own resolver."""
    library = ctypes.CDLL(ctypes.util.find_library("seccomp"))
    column = list(seccomp.ARCHITECTURES).index(machine)
    theirs = {}
    for name in seccomp.CALLS:
        number = library.seccomp_syscall_resolve_name_arch(token, name.encode())
        theirs[name] = number if number >= 0 else None
    assert theirs == {name: numbers[column] for name, numbers in seccomp.CALLS.items()}
    assert token == seccomp.ARCHITECTURES[machine]


def run(code: bytes, number: int, *arguments: int, machine: str = "x86_64") -> int:
    """Run a filter as the kernel does (the few instructions it has); return its verdict."""
    data = struct.pack("=IIQ", number, seccomp.ARCHITECTURES[machine], 0)
    data += struct.pack("=6Q", *(*arguments, *(0,) * 6)[:6])
    at, value = 0, 0
    while True:
        kind, matched, other, constant = struct.unpack_from("=HBBI", code, 8 * at)
        at += 1
        match kind:
            case 0x20:
                [value] = struct.unpack_from("=I", data, constant)
            case 0x54:
                value &= constant
            case 0x15:
                at += matched if value == constant else other
            case 0x06:
                return int(constant)
            case _:
                raise AssertionError(f"instruction {kind:#x}")


@pytest.mark.parametrize("machine", list(seccomp.ARCHITECTURES))
@pytest.mark.parametrize("drives", [False, True])
def test_the_filter_lets_through_what_is_listed_and_nothing_else(
    machine: str, *, drives: bool
) -> None:
    """Every number there is, on each architecture; those with bounds within them only."""
    code = seccomp.program(machine, process=77, drives=drives)
    assert len(code) // 8 < 4096  # BPF_MAXINSNS
    column = list(seccomp.ARCHITECTURES).index(machine)
    allowed = {number for number in range(1000) if _allows(code, machine, number)}
    listed = {numbers[column] for numbers in seccomp.CALLS.values()} - {None}
    assert allowed <= listed

    def allows(name: str, *arguments: int) -> bool:
        number = seccomp.CALLS[name][column]
        return number is not None and _allows(code, machine, number, *arguments)

    assert allows("clone", 0x00010F00)
    assert not allows("clone", 17)  # fork
    assert allows("tgkill", 77, 78, 6)
    assert not allows("tgkill", 1, 1, 9)
    assert allows("prlimit64", 0, 9, 0, 4096)
    assert not allows("prlimit64", 0, 9, 4096)
    assert not allows("prlimit64", 0, 9, 1 << 32) or machine == "armv7l"
    assert allows("openat", 0, 0, os.O_RDONLY | os.O_CLOEXEC)
    assert drives == allows("openat", 0, 0, os.O_RDWR)
    assert drives == allows("openat", 0, 0, os.O_CREAT)
    assert allows("ioctl", 1, 0x5401)
    assert not allows("ioctl", 1, 0x8901)
    assert not allows("fcntl", 1, 8, 1)
    assert drives == allows("socket", 16, 3)
    assert not allows("socket", 2, 1)
    assert not allows("prctl", 1, 0)
    assert 0x80000000 == run(code, 1, machine="armv7l" if machine != "armv7l" else "x86_64")


def _allows(code: bytes, machine: str, number: int, *arguments: int) -> bool:
    return run(code, number, *arguments, machine=machine) == 0x7FFF0000
