"""What the centre may ask of this device: its owner's word, in a file of its home. Blocking.

The file names what is allowed or not, as `{"benchmark": false}`; what it doesn't name is as
by default, so that an agent which learns another command allows it only if it gives nothing
away. It is read anew for each command: nobody has to tell a running agent. One that can't be
read, or refuses what is no command here, allows nothing: whoever wrote it meant to keep
something to themselves.

Light on purpose: neither pydantic nor a log is loaded.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from agent.wire.v1.command import Verb
from models import durable

ALLOWED: Mapping[Verb, bool] = MappingProxyType(
    {Verb.LOGS: True, Verb.DOCTOR: True, Verb.BENCHMARK: True, Verb.SELF_TEST: True}
)
"""Unless the owner says otherwise. What would give inputs away is not allowed by itself."""

_LIMIT_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which commands are carried out. `problem` is why the owner's word can't be read."""

    allowed: Mapping[Verb, bool] = field(default_factory=lambda: ALLOWED)
    problem: str = ""

    def allows(self, verb: Verb) -> bool:
        """Say whether a command is carried out."""
        return self.allowed[verb]

    def words(self) -> str:
        """Return what may be asked, in a few words."""
        why = ": the policy can't be read" if self.problem else ""
        return ", ".join(verb for verb in Verb if self.allowed[verb]) or f"nothing{why}"


def read(path: Path) -> Policy:
    """Return what the owner allows; nothing, where that can't be read."""
    try:
        said = _said(path)
        _check_refused(said)
    except (OSError, ValueError, RecursionError) as error:
        return Policy(allowed=dict.fromkeys(Verb, False), problem=f"{path}: {error}"[:250])
    return Policy(allowed={verb: said.get(verb, ALLOWED[verb]) for verb in Verb})


def change(path: Path, wanted: Mapping[Verb, bool]) -> Policy:
    """Allow or refuse some commands from now on; the others stay as they are.

    Raises:
        OSError: it could not be written, and is as it was.
    """
    try:
        said = _said(path)
    except (ValueError, RecursionError):  # damaged: what is said now is what is known of it
        said = dict.fromkeys(Verb, False)
    durable.write(path, json.dumps({**said, **wanted}).encode())
    return read(path)


def _said(path: Path) -> dict[str, bool]:
    try:
        with path.open("rb") as file:
            raw = file.read(_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return {}
    said = json.loads(raw) if len(raw) <= _LIMIT_BYTES else None
    if not isinstance(said, dict) or not all(isinstance(each, bool) for each in said.values()):
        raise ValueError('it is not like {"benchmark": false}')
    return said


def _check_refused(said: Mapping[str, bool]) -> None:
    """Raise where a name that is refused is no command: it may be one that is misspelt."""
    refused = sorted(name for name, allowed in said.items() if not allowed and name not in ALLOWED)
    if refused:
        raise ValueError(f"{refused[0][:60]!r} is no command; there are {', '.join(Verb)}")
