"""How the machine is now: memory, disk, temperature. Blocking: a disk that hangs is asked, too."""

from pathlib import Path

import psutil

from agent.state import Vitals


def available_bytes() -> int:
    """Return the memory that can be had without swapping."""
    return int(psutil.virtual_memory().available)


def vitals(home: Path) -> Vitals:
    """Measure it; the disk is the one that the home is on."""
    memory = psutil.virtual_memory()
    disk = psutil.disk_usage(str(home))
    return Vitals(
        memory_used_bytes=memory.total - memory.available,
        memory_total_bytes=memory.total,
        disk_free_bytes=disk.free,
        disk_total_bytes=disk.total,
        temperature_c=_temperature(),
    )


def _temperature() -> float | None:
    """Return the hottest sensor; None where the kernel shows none."""
    found = [each.current for group in psutil.sensors_temperatures().values() for each in group]
    return round(max(found), 1) if found else None
