"""A machine that slows itself down says so, in the two ways that kernels have."""

from pathlib import Path

import pytest

from agent.throttling import Throttling

FIRMWARE = "devices/platform/soc/soc:firmware/get_throttled"
CORE = "devices/system/cpu/cpu{}/thermal_throttle/core_throttle_count"


def put(sysfs: Path, name: str, text: str) -> None:
    (sysfs / name).parent.mkdir(parents=True, exist_ok=True)
    (sysfs / name).write_text(text)


@pytest.mark.parametrize(
    ("bits", "now"),
    [("0", False), ("4", True), ("1", True), ("50005", True), ("50000", False)],
)
def test_a_board_s_firmware_says_what_is_now(tmp_path: Path, bits: str, now: bool) -> None:  # noqa: FBT001  # a row of a table
    """Not what was since it started: those bits stay for ever."""
    put(tmp_path, FIRMWARE, f"{bits}\n")
    assert now is Throttling(tmp_path).look()


def test_counts_are_compared_with_the_look_before(tmp_path: Path) -> None:
    """Of all cores together; and one that vanishes is no answer."""
    put(tmp_path, CORE.format(0), "7\n")
    put(tmp_path, CORE.format(1), "0\n")
    throttling = Throttling(tmp_path)
    assert throttling.look() is False
    put(tmp_path, CORE.format(1), "1\n")
    assert throttling.look() is True
    assert throttling.look() is False
    put(tmp_path, CORE.format(1), "none\n")
    assert throttling.look() is None


def test_a_machine_that_does_not_say_is_not_thought_cool(tmp_path: Path) -> None:
    """None, never False."""
    assert Throttling(tmp_path).look() is None
