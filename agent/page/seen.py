"""What the page is made of: one look at the device, as a value. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.state import Compared, GivenUp, Machine, Record, Serving, Vitals
from agent.wire import v1


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The way to the centre: whether it stands, since when that is so, and why it does not."""

    connected: bool
    since: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one deployment did since the agent began, and what waits there now."""

    requests: int
    errors: int
    restarts: int
    bins: tuple[int, ...]
    seconds: float
    workers: int
    queue: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The device at one moment.

    `reported` is what it says of itself to the centre, `health` its last period. `answering` are
    the deployments whose process lives now, `given_up` those that died too often; `serving` is
    with how many, and `compared` how candidates in their shadows compare so far. `vitals`,
    `past` (the newest first) and what the centre `may_ask` have to be read: None where that did
    not succeed in time.
    """

    at: str
    started: str
    host: str
    reported: v1.Reported
    records: Mapping[str, Record]
    answering: frozenset[str]
    given_up: Mapping[str, GivenUp]
    serving: Mapping[str, Serving]
    compared: Mapping[str, Compared]
    health: v1.Health | None
    vitals: Vitals | None
    past: tuple[v1.Event, ...] | None
    line: Line
    machine: Machine
    outbox: int
    outbox_bytes: int
    may_ask: str | None
