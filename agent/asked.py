"""Which commands this device took lately, kept over the agent's end. Blocking.

So few words that a write costs little: no command is carried out by an agent that comes
later, but it says that this one ended over it, and does none a second time.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.wire.v1.checks import check_device, check_fleet, check_name, check_time
from models import durable

REMEMBERED = 64
_LIMIT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A command that was taken; `open` until somebody was told how it ended."""

    fleet: str
    device: str
    id: str
    expires_at: str
    open: bool = True

    def __post_init__(self) -> None:
        check_fleet(self.fleet)
        check_device(self.device)
        check_name(self.id)
        check_time(self.expires_at)


def read(path: Path) -> tuple[Taken, ...]:
    """Return what was taken, the oldest first; nothing, where that can't be read."""
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(_LIMIT_BYTES))
        return tuple(Taken(**each) for each in said)
    except (OSError, ValueError, TypeError, RecursionError):
        return ()


def write(path: Path, taken: Iterable[Taken]) -> None:
    """Keep what was taken.

    Raises:
        OSError: it could not be written; what was kept is as it was.
    """
    durable.write(path, json.dumps([asdict(each) for each in taken]).encode())
