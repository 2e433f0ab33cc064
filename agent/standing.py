"""How one deployment stands, for who is at the device: on its page and by `status`. Pure."""

from dataclasses import dataclass

from agent.state import Compared, Record, Serving
from agent.wire import v1, words
from agent.wire.phases import Phase
from agent.wire.windows import waits_for_window


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is wanted, how far that has come and what is in its way, and what serves meanwhile.

    `workers` are those that were chosen, `answering` those that answer now, and `short` says
    why those are fewer; of a candidate in the shadow, so many requests were `compared` of those
    `to_compare`. None: there is no such thing now, or no agent that knows.
    """

    name: str
    wanted: str
    revision: int
    phase: Phase
    reason: str | None
    serves: str | None
    workers: int | None
    answering: int | None = None
    short: str | None = None
    short_because: str | None = None
    compared: int | None = None
    agreed: int | None = None
    to_compare: int | None = None
    waits_until: str | None = None

    @property
    def so_far(self) -> str:
        """How far its candidate in the shadow is, in words; empty where there is none."""
        if self.compared is None or self.agreed is None or self.to_compare is None:
            return ""
        return words.compared(self.compared, self.agreed, self.to_compare)


def standing(
    record: Record, serving: Serving | None = None, seen: Compared | None = None
) -> Standing:
    """Return how a deployment stands, with what only the running agent knows of it."""
    current, asked = record.current, record.wanted.settings.shadow
    shadow = seen if record.phase is Phase.SHADOWING else None
    if serving and current and serving.digest != current.digest:
        serving = None  # of what served before
    short = serving.short if serving else None
    return Standing(
        name=record.name,
        wanted=named(record.wanted.bundle),
        revision=record.wanted.revision,
        phase=record.phase,
        reason=record.problem.reason if record.problem else None,
        serves=named(current.deployment.bundle) if current else None,
        workers=current.workers if current else None,
        answering=serving.workers if serving else None,
        short=short.reason if short else None,
        short_because=short.message if short else None,
        compared=shadow.requests if shadow else None,
        agreed=shadow.agreed if shadow else None,
        waits_until=_window(record),
        to_compare=asked.requests if shadow and asked else None,
    )


def _window(record: Record) -> str | None:
    """Return when the window opens that it waits for."""
    problem = record.problem
    if problem is None or not waits_for_window(record.phase, problem.reason):
        return None
    return problem.parameters.get("opens")


def named(bundle: v1.BundleRef) -> str:
    """Return a bundle's name and version as people and commands write them."""
    return f"{bundle.name}:{bundle.version}"
