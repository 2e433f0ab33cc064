"""Whether the machine slows itself down, for heat or a weak supply. Blocking.

A Raspberry Pi's firmware says it in bits, of which the lowest four are of now: under-voltage,
frequency capped, throttled, soft temperature limit (`vcgencmd get_throttled`, by sysfs since
Linux 4.20). Intel's and AMD's kernels count it per core. Others say nothing of it.
"""

from pathlib import Path

_FIRMWARE = "devices/platform/soc/soc:firmware/get_throttled"
_COUNTS = "devices/system/cpu/cpu*/thermal_throttle/core_throttle_count"
_NOW = 0xF


class Throttling:
    """Looks once a period; what is counted is compared with the look before."""

    def __init__(self, sysfs: Path = Path("/sys")) -> None:
        self._sysfs = sysfs
        self._counted = self._count()

    def look(self) -> bool | None:
        """Return whether it slowed down since the last look; None where the kernel doesn't say."""
        try:
            return bool(int((self._sysfs / _FIRMWARE).read_text(), 16) & _NOW)
        except (OSError, ValueError):
            pass
        before, self._counted = self._counted, self._count()
        if before is None or self._counted is None:
            return None
        return self._counted > before

    def _count(self) -> int | None:
        try:
            counts = [int(each.read_text()) for each in self._sysfs.glob(_COUNTS)]
        except (OSError, ValueError):
            return None
        return sum(counts) if counts else None
