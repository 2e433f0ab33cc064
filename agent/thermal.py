"""How hot an accelerator is, where the kernel says so without a vendor's library. Blocking.

Coral's driver for PCIe has a file for each of its devices (`/sys/class/apex/apex_0/temp`). Boards
have thermal zones, whose type names what is measured: `gpu-thermal`, `npu_thermal`. All are in
thousandths of a degree. A Coral on USB, and most others, say nothing.
"""

import re
from pathlib import Path

_APEX = "class/apex/apex_*/temp"
_ZONES = "class/thermal/thermal_zone*"
_ACCELERATOR = re.compile(r"(gpu|npu|tpu|vpu|apex)", re.IGNORECASE)
_MOST = 250_000  # drivers write absurd numbers where nothing is measured
_READ_BYTES = 64  # a name or a number; nothing longer is either


def accelerator_c(sysfs: Path = Path("/sys")) -> float | None:
    """Return the hottest accelerator's temperature; None where the kernel shows none."""
    places = [
        *sysfs.glob(_APEX),
        *(
            zone / "temp"
            for zone in sysfs.glob(_ZONES)
            if _ACCELERATOR.search(_text(zone / "type"))
        ),
    ]
    found = [degrees for place in places if (degrees := _degrees(place)) is not None]
    return max(found, default=None)


def _degrees(place: Path) -> float | None:
    try:
        thousandths = int(_text(place))
    except ValueError:
        return None
    return round(thousandths / 1000, 1) if abs(thousandths) <= _MOST else None


def _text(place: Path) -> str:
    try:
        with place.open("rb") as file:
            return file.read(_READ_BYTES).decode(errors="replace").strip()
    except OSError:
        return ""
