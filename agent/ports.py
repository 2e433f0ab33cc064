"""What the agent needs of the world, each as small as it can be. One conformance suite a port.

`Link` is the way to the centre, `Supply` is where bundles come from, `Floor` is
where models serve. Nothing behind a port remembers anything the ledger needs.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent.state import Compared, GivenUp, Installed, Measured, Serving, Throughput
from agent.wire import v1
from agent.wire.phases import Happening
from agent.wire.topics import Kind


class LinkDownError(Exception):
    """There is no connection, or it broke before the broker had the message: say it again later."""


class LinkRefusedError(Exception):
    """The broker won't take this message: too large, or not allowed. Saying it again is no use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What a connection begins and ends with: `birth` as it stands, `death` if it breaks."""

    birth: bytes
    death: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A connection stands: subscribed, and the birth is with the broker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The connection is gone, and why."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A message. `acknowledge` when what it says is durable; until then it may come again."""

    kind: Kind
    payload: bytes
    acknowledge: Callable[[], None]


LinkEvent = Connected | Lost | Arrived


class Link(Protocol):
    """The way to the centre. It keeps nothing: what must not be lost is said again by its owner."""

    async def run(self, greet: Callable[[], Awaitable[Greeting]]) -> None:
        """Connect, and again whenever it breaks, for ever. `greet` is asked each time."""

    async def next_event(self) -> LinkEvent:
        """Wait for what happens next, in order."""

    async def publish(self, kind: Kind, payload: bytes) -> bool:
        """Give a message to the broker, and return when it has it (health: QoS 0). Not idempotent.

        Returns whether anybody is subscribed to it, as far as the broker says: MQTT 5's
        «no matching subscribers» is False, and one that says nothing of it counts as True.

        Raises:
            LinkDownError: not connected, or the connection broke meanwhile.
            LinkRefusedError: the broker refused it.
        """

    async def close(self, death: bytes) -> None:
        """Say goodbye if connected, and disconnect. Idempotent; never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms a bundle is brought.

    `served`: it has served here, so it fits. `rate_bytes_per_s` is what may come from the
    network; None: as much as can. `shut` is why nothing may.
    """

    served: bool = False
    rate_bytes_per_s: int | None = None
    shut: v1.Problem | None = None


class Supply(Protocol):
    """Bundles: from the registry into the device's own store, checked."""

    async def fetch(
        self,
        bundle: v1.BundleRef,
        terms: Terms,
        progress: Callable[[Happening], Awaitable[None]],
    ) -> None:
        """Bring a bundle into the store, what is missing of it, and verify it. Idempotent.

        `progress` hears FETCHED when all bytes are here. Returning means verified. What
        rotted in the store is replaced.

        Raises:
            StepError: with the reason.
        """

    async def stage(self, deployment: v1.Deployment) -> tuple[Installed, ...]:
        """Return the ways it can serve here, the likeliest first, at least one.

        Idempotent, needs no network.

        Raises:
            StepError: with the reason.
        """

    async def collect(self, keep: Collection[str]) -> None:
        """Free the store of bundles that nothing needs. Idempotent."""


class Floor(Protocol):
    """Where models serve. A name is served by one revision, or none."""

    @property
    def runtime(self) -> str:
        """What models run on here, as reports name it."""

    def serving(self) -> Mapping[str, Serving]:
        """What answers now, by name."""

    def given_up(self) -> Mapping[str, GivenUp]:
        """What died too often and is not started again until it is activated anew, by name."""

    @property
    def hardware(self) -> str:
        """What a choice among ways to serve depends on, as one text."""

    @property
    def cores(self) -> int:
        """Processors that models may use."""

    async def test(self, candidate: Installed) -> Measured:
        """Start the candidate apart, with its golden vectors, measure and close it.

        Nothing else changes.

        Raises:
            StepError: with the reason.
        """

    async def shadow(self, candidate: Installed, wanted: v1.ShadowSettings) -> Compared:
        """Start the candidate apart, and compare its answers to live requests with the incumbent's.

        Returns once it agrees. Who asks notices nothing. Nothing else changes.

        Raises:
            StepError: SHADOW_DISAGREED, SHADOW_INCONCLUSIVE; or why it could not be compared.
        """

    async def pace(self, way: Installed, counts: Sequence[int]) -> Sequence[Throughput]:
        """Start as many workers as the largest count apart, as memory allows; measure each count.

        All are closed. Nothing else changes.

        Raises:
            StepError: with the reason; not one was ready.
        """

    async def activate(self, installed: Installed) -> None:
        """Start it beside what serves, switch when it is ready, drain the other. Idempotent.

        With fewer workers than chosen where no more can be started: `serving` says so.

        Raises:
            StepError: with the reason; what served goes on serving.
        """

    def renumber(self, deployment: v1.Deployment) -> None:
        """Let what serves under a name go on under this revision's number. Idempotent."""

    async def close(self, name: str) -> None:
        """Let nothing serve under a name, after draining. Idempotent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts of one deployment's revision over some time; `drift` by subject and bin."""

    deployment: str
    revision: int
    digest: str
    requests: int
    errors: int
    restarts: int
    latency: v1.LatencySketch
    drift: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


class Counter(Protocol):
    """Where requests are counted."""

    def take(self) -> Sequence[Tally]:
        """Return the counts since the last call, and begin again."""

    def compared(self) -> Mapping[str, Compared]:
        """Return how each candidate that is in the shadow now compares so far, by name."""
