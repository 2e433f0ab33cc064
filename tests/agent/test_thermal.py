"""An accelerator's temperature is read where the kernel shows it, and never invented."""

from pathlib import Path

import pytest

from agent.thermal import accelerator_c


def put(sysfs: Path, name: str, text: str) -> None:
    (sysfs / name).parent.mkdir(parents=True, exist_ok=True)
    (sysfs / name).write_text(text)


def zone(sysfs: Path, number: int, kind: str, text: str) -> None:
    put(sysfs, f"class/thermal/thermal_zone{number}/type", f"{kind}\n")
    put(sysfs, f"class/thermal/thermal_zone{number}/temp", text)


def test_coral_s_driver_says_it_of_each_of_its_devices(tmp_path: Path) -> None:
    """The hottest counts."""
    put(tmp_path, "class/apex/apex_0/temp", "48550\n")
    put(tmp_path, "class/apex/apex_1/temp", "61300\n")

    assert 61.3 == accelerator_c(tmp_path)


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("gpu-thermal", 71.0),
        ("GPU-therm", 71.0),
        ("npu_thermal", 71.0),
        ("bigcore0-thermal", None),
        ("cpu-thermal", None),
        ("x86_pkg_temp", None),
    ],
)
def test_a_thermal_zone_counts_by_its_name(tmp_path: Path, kind: str, found: float | None) -> None:
    """The CPU's own temperature is not an accelerator's."""
    zone(tmp_path, 0, "cpu-thermal", "90000\n")
    zone(tmp_path, 1, kind, "71000\n")

    assert found == accelerator_c(tmp_path)


@pytest.mark.parametrize("text", ["", "hot", "9" * 5000, "\xff\n", "48.5", "-274000", "1000001"])
def test_what_is_no_number_is_no_temperature(tmp_path: Path, text: str) -> None:
    """Whatever a driver writes there, some 64 bytes of it are read, and nobody falls."""
    put(tmp_path, "class/apex/apex_0/temp", text)

    assert accelerator_c(tmp_path) is None


def test_an_accelerator_that_sleeps_says_nothing(tmp_path: Path) -> None:
    """A file that can't be read, or a zone that is going away, is None."""
    (tmp_path / "class/apex/apex_0/temp").mkdir(parents=True)
    zone(tmp_path, 0, "npu", "40000")
    (tmp_path / "class/thermal/thermal_zone0/temp").unlink()

    assert accelerator_c(tmp_path) is None
    assert accelerator_c(tmp_path / "nowhere") is None
